//! Uploads that go on: after a break, after a kill, and not where that would be wrong.

use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use kiln::digest::Digest;

use super::*;
use crate::support::faults::{Fault, Faults, Rule};
use crate::support::kiln::Kiln;
use crate::support::skip;

/// Bytes of a chunk where the test says so; else it is [`USUAL`].
const CHUNK: u64 = 1 << 20;
const USUAL: u64 = 64 << 20;

/// Documents, and what else is no layer.
const SMALL: u64 = 1 << 16;

fn chunked(folder: &Path) -> Registries {
    let chunk = NonZeroU64::new(CHUNK);
    Registries::load(Options { chunk, ..settings(folder) }).unwrap()
}

/// An image of one layer that is a tar of noise, so that it takes little time to make.
fn large(store: &Store, length: usize, seed: u8) -> AnyImage {
    let mut tar = tar::Builder::new(Vec::with_capacity(length + 2048));
    let mut header = tar::Header::new_ustar();
    header.set_size(length as u64);
    header.set_mode(0o644);
    header.set_path("large").unwrap();
    header.set_cksum();
    let mut content = noise(length);
    content[0] = seed;
    tar.append(&header, &*content).unwrap();
    let tar = tar.into_inner().unwrap();
    let digest = store.put(&tar).unwrap();
    let layer = Layer {
        diff_id: DiffId(digest.0),
        digest,
        size: tar.len() as u64,
        compression: Compression::None,
    };
    AnyImage::Image(assemble(ImageConfig::scratch(&amd64()), &[layer]).unwrap())
}

fn layer_of(image: &AnyImage) -> Layer {
    image.images()[0].layers()[0].clone()
}

/// The records of uploads in a store.
fn remembered(store: &Store) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(store.root().join("records/uploads")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} does not come");
}

/// Begins a push and ends it, as a kill does, while the third chunk is on its way; the record
/// stays.
async fn broken_push(image: &AnyImage, to: &Reference, here: &Here, proxy: &Faults) {
    let rule = Rule { method: "PATCH", part: "", skip: 2, times: 1, fault: Fault::Hang };
    proxy.set(rule);
    let (image, to, at) = (image.clone(), to.clone(), chunked(here.path()));
    let store = Store::open(here.store.root()).unwrap();
    let pushing =
        tokio::spawn(
            async move { push(&image, &to, &store, &at, &Progress::silent()).await.map(drop) },
        );
    until("the third chunk", || proxy.asked().iter().any(|asked| asked.hit)).await;
    pushing.abort();
    assert!(pushing.await.unwrap_err().is_cancelled());
}

async fn check_there(image: &AnyImage, at: &Reference, here: &Here, what: &str) {
    let into = here.other(&format!("check {what}"));
    let pulled = pull(at, &Want::All, &into, &anonymous(here.path()), &Progress::silent()).await;
    assert_eq!(pulled.unwrap().digest(), image.digest(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_push_goes_on_where_the_last_one_was_ended() {
    let (registry, here) = (TestRegistry::start(None), here());
    let proxy = Faults::before(&registry.addr, false);
    let image = large(&here.store, 5 << 20, 1);
    let to = name(format!("{}/app:1", proxy.addr));
    broken_push(&image, &to, &here, &proxy).await;
    let [record] = &remembered(&here.store)[..] else { panic!("one record") };
    assert_eq!(record.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let (before, silent) = (proxy.sent(), Progress::silent());
    push(&image, &to, &here.store, &chunked(here.path()), &silent).await.unwrap();
    let again = proxy.sent() - before;
    let size = layer_of(&image).size;
    assert!(again <= size - 2 * CHUNK + SMALL, "{again} of {size}");
    let asked = proxy.asked();
    let asked = asked.iter().filter(|one| one.method == "GET" && one.path.contains("/uploads/"));
    assert_eq!(asked.count(), 1, "where it is");
    assert!(remembered(&here.store).is_empty());
    check_there(&image, &to, &here, "resumed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_wrongly_does_no_harm() {
    let here = here();
    let image = large(&here.store, 3 << 20, 1);
    let other = large(&here.store, 3 << 20, 2);
    let silent = Progress::silent();
    for case in ["forgotten", "other content", "garbage", "elsewhere", "nobody"] {
        let registry = TestRegistry::start(None);
        let proxy = Faults::before(&registry.addr, false);
        let to = name(format!("{}/app:1", proxy.addr));
        broken_push(&other, &to, &here, &proxy).await;
        let new = TestRegistry::start(None);
        let [record] = &remembered(&here.store)[..] else { panic!("one record") };
        let mut text = std::fs::read(record).unwrap();
        std::fs::remove_file(record).unwrap();
        match case {
            "forgotten" => proxy.moved(&new.addr),
            "garbage" => text.truncate(text.len() / 2),
            "elsewhere" => text = br#"{"url":"http://registry.invalid/v2/x"}"#.to_vec(),
            "nobody" => text = br#"{"url":"http://127.0.0.1:1/v2/x"}"#.to_vec(),
            // The session holds two chunks of another blob of the same size.
            _ => {}
        }
        let key = format!("{} {}/app", layer_of(&image).digest, proxy.addr);
        here.store.set_record_bytes("uploads", &Digest::of(key.as_bytes()), &text).unwrap();
        let at = chunked(here.path());
        let pushed = push(&image, &to, &here.store, &at, &silent).await;
        assert_eq!(pushed.unwrap().digest(), image.digest(), "{case}");
        assert!(remembered(&here.store).is_empty(), "{case}");
        check_there(&image, &to, &here, case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pushes_of_one_blob_keep_apart() {
    let (registry, here) = (TestRegistry::start(None), here());
    let proxy = Faults::before(&registry.addr, false);
    let image = large(&here.store, 6 << 20, 1);
    let to = name(format!("{}/app:1", proxy.addr));
    // The first one waits in the middle; the second one comes and ends.
    let rule = Rule { method: "PATCH", part: "", skip: 2, times: 1, fault: Fault::Silence };
    proxy.set(rule);
    let silent = Progress::silent();
    let (first, second) = (chunked(here.path()), chunked(here.path()));
    let store = Store::open(here.store.root()).unwrap();
    let (first, second) = tokio::join!(push(&image, &to, &here.store, &first, &silent), async {
        until("the third chunk", || proxy.asked().iter().any(|asked| asked.hit)).await;
        push(&image, &to, &store, &second, &silent).await
    });
    assert_eq!(first.unwrap().digest(), image.digest());
    assert_eq!(second.unwrap().digest(), image.digest());
    assert!(remembered(&here.store).is_empty());
    check_there(&image, &to, &here, "two").await;
}

/// Kills a push of the program in the middle, pushes again, and gives the layer's size, and the
/// bytes that both pushes sent.
async fn kill_and_push_again(registry: &TestRegistry, whole: bool) -> (u64, u64) {
    let kiln = Kiln::new();
    let proxy = Faults::before(&registry.addr, whole);
    let image = large(&kiln.store(), 150 << 20, 1);
    let to = format!("{}/app:1", proxy.addr);
    kiln.store().keep(&name(&to), &image).unwrap();
    // The second chunk is on its way, and gets no answer.
    let fault = if whole { Fault::Hang } else { Fault::HangHalf };
    proxy.set(Rule { method: "PATCH", part: "", skip: 1, times: 1, fault });
    let mut killed = kiln.args(["push", &to]).command;
    let mut killed = killed.stderr(Stdio::null()).spawn().unwrap();
    until("the second chunk", || proxy.sent() > USUAL + USUAL / 3).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let said = kiln.ok(&format!("push {to}")).stderr;
    assert!(!said.contains("_state"), "{said}");
    let here = here();
    check_there(&image, &name(format!("{}/app:1", registry.addr)), &here, "killed").await;
    assert!(remembered(&kiln.store()).is_empty());
    (layer_of(&image).size, proxy.sent())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_sends_one_chunk_again() {
    // Where a front end takes requests whole, docker-registry has whole chunks.
    let registry = TestRegistry::start(None);
    let (size, sent) = kill_and_push_again(&registry, true).await;
    assert!(sent <= size + USUAL + SMALL, "{sent} of {size}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_to_docker_registry_alone_begins_anew() {
    // A session in which a request broke off is lost to this version of it (2.8).
    let registry = TestRegistry::start(None);
    let (size, sent) = kill_and_push_again(&registry, false).await;
    assert!(sent > size && sent <= size + 2 * USUAL + SMALL, "{sent} of {size}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_keeps_parts_of_requests_gets_none_of_them_again() {
    let Some(program) = kiln::env::path("KILN_TEST_DISTRIBUTION") else {
        return skip("KILN_TEST_DISTRIBUTION is not set; tests/run builds that registry");
    };
    let registry = TestRegistry::of(&program, "", |_| String::new());
    let (size, sent) = kill_and_push_again(&registry, false).await;
    assert!(sent <= size + USUAL + SMALL, "{sent} of {size}");

    // Breaks in every chunk, and lost answers: what has arrived is not sent again.
    let here = here();
    let image = large(&here.store, 5 << 19, 1);
    let size = layer_of(&image).size;
    for fault in [Fault::ResetHalf, Fault::Lost, Fault::Cut] {
        for skip in 0..3 {
            let proxy = Faults::before(&registry.addr, false);
            proxy.set(Rule { method: "PATCH", part: "", skip, times: 1, fault });
            let to = name(format!("{}/part{fault:?}{skip}:1", proxy.addr).to_lowercase());
            let at = chunked(here.path());
            push(&image, &to, &here.store, &at, &Progress::silent()).await.unwrap();
            let sent = proxy.sent();
            assert!(sent <= size + SMALL, "{fault:?} {skip}: {sent} of {size}");
            check_there(&image, &to, &here, &format!("{fault:?}{skip}")).await;
        }
    }
}

/// A registry in memory that takes chunks, with a way of its own.
async fn taking_chunks(way: &'static str) -> Server {
    #[derive(Default)]
    struct Held {
        files: HashMap<String, Vec<u8>>,
        sessions: Vec<Vec<u8>>,
        patches: usize,
    }
    let held: Mutex<Held> = Mutex::default();
    Server::start(move |request| {
        let mut held = held.lock().unwrap();
        let path = request.path.split('?').next().unwrap_or_default().to_owned();
        // The address changes with each answer; an old one knows nothing.
        let address = |number: usize, length: usize| format!("/v2/app/up/{number}/{length}");
        let place = path.strip_prefix("/v2/app/up/").and_then(|rest| {
            let (number, length) = rest.split_once('/')?;
            Some((number.parse::<usize>().ok()?, length.parse::<usize>().ok()?))
        });
        match (request.method.as_str(), place) {
            ("POST", _) => {
                held.sessions.push(Vec::new());
                let at = address(held.sessions.len() - 1, 0);
                let least = if way == "minimum" { "1500000" } else { "0" };
                let headers = [("Location", &*at), ("OCI-Chunk-Min-Length", least)];
                answer("202 Accepted", &headers, b"")
            }
            ("GET", Some((number, _))) => {
                let mut length = held.sessions[number].len();
                if way == "stuck" {
                    length = length.min(usize::try_from(CHUNK).unwrap());
                }
                let range = match way {
                    "too much" => "0-3999999999".to_owned(),
                    _ => format!("0-{}", length.max(1) - 1),
                };
                let at = address(number, length);
                answer("204 No Content", &[("Location", &*at), ("Range", &*range)], b"")
            }
            ("PATCH", Some((number, length))) => {
                held.patches += 1;
                let first = held.patches == 1;
                match way {
                    "404" => return answer("404 Not Found", &[], b""),
                    "405" => return answer("405 Method Not Allowed", &[], b""),
                    "501" => return answer("501 Not Implemented", &[], b""),
                    "too much" if first => {
                        return answer("416 Range Not Satisfiable", &[], b"");
                    }
                    "never" => return answer("416 Range Not Satisfiable", &[], b""),
                    "stuck" if held.sessions[number].len() != length => {
                        return answer("416 Range Not Satisfiable", &[], b"");
                    }
                    "misplaced" if first => {
                        // Another request has left something there.
                        held.sessions[number].push(request.body[0]);
                        return answer("416 Range Not Satisfiable", &[], b"");
                    }
                    _ => {}
                }
                assert_eq!(held.sessions[number].len(), length, "{way}");
                let range = format!("{length}-{}", length + request.body.len() - 1);
                if request.header("content-range") != Some(&*range) {
                    return answer("416 Range Not Satisfiable", &[], b"");
                }
                let taken = match way {
                    "half" => request.body.len().div_ceil(2),
                    "nothing" => 0,
                    _ => request.body.len(),
                };
                held.sessions[number].extend_from_slice(&request.body[..taken]);
                let mut length = length + taken;
                if way == "stuck" {
                    length = length.min(usize::try_from(CHUNK).unwrap());
                }
                let (at, range) = (address(number, length), format!("0-{}", length.max(1) - 1));
                let headers = [("Location", &*at), ("Range", &*range)];
                let headers = if way == "silent" { &headers[..1] } else { &headers };
                answer("202 Accepted", headers, b"")
            }
            ("PUT", Some((number, length))) => {
                assert_eq!(held.sessions[number].len(), length, "{way}");
                let mut bytes = std::mem::take(&mut held.sessions[number]);
                bytes.extend_from_slice(&request.body);
                let digest = BlobDigest::of(&bytes).to_string();
                if !request.path.ends_with(&digest.replace(':', "%3A")) {
                    return answer("400 Bad Request", &[], b"digest");
                }
                held.files.insert(format!("/v2/app/blobs/{digest}"), bytes);
                answer("201 Created", &[], b"")
            }
            ("PUT", None) => {
                let digest = BlobDigest::of(&request.body);
                held.files.insert(format!("/v2/app/manifests/{digest}"), request.body.clone());
                answer("201 Created", &[], b"")
            }
            _ if path == "/v2/" => answer("200 OK", &[], b""),
            _ => match held.files.get(&path) {
                Some(bytes) => answer("200 OK", &[], bytes),
                None => answer("404 Not Found", &[], b""),
            },
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_have_ways_of_their_own() {
    let here = here();
    let image = large(&here.store, 5 << 19, 1);
    let size = usize::try_from(layer_of(&image).size).unwrap();
    let chunk = usize::try_from(CHUNK).unwrap();
    let rest = size - 2 * chunk;
    for (way, expected) in [
        ("plain", vec![chunk, chunk, rest]),
        ("silent", vec![chunk, chunk, rest]),
        ("minimum", vec![1_500_000, size - 1_500_000]),
        ("404", vec![chunk]),
        ("405", vec![chunk]),
        ("501", vec![chunk]),
        ("too much", vec![chunk, chunk, chunk, rest]),
        ("misplaced", vec![chunk, chunk, chunk, chunk, rest]),
        ("nothing", vec![chunk, chunk]),
        ("never", vec![chunk; 3]),
        ("stuck", vec![chunk; 5]),
        ("half", vec![]),
    ] {
        let server = taking_chunks(way).await;
        let to = name(format!("{}/app:1", server.addr));
        let at = chunked(here.path());
        let pushed = push(&image, &to, &here.store, &at, &Progress::silent()).await;
        assert_eq!(pushed.unwrap().digest(), image.digest(), "{way}");
        let seen = server.seen();
        let bodies = |method: &str| {
            let of = seen.iter().filter(|seen| seen.method == method);
            of.map(|seen| seen.body.len()).collect::<Vec<_>>()
        };
        if way != "half" {
            assert_eq!(bodies("PATCH"), expected, "{way}");
        }
        let whole = ["404", "405", "501", "nothing", "never", "stuck"].contains(&way);
        assert_eq!(bodies("PUT").contains(&size), whole, "{way}: {:?}", bodies("PUT"));
    }
}

/// KiB of memory that the bytes of a push take at most, whatever the size of the layer.
const LIMIT: u64 = 16 << 10;

#[test]
fn a_push_in_chunks_over_tls_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = certificate(folder.path());
    let http = format!(
        ", tls: {{certificate: \"{}\", key: \"{}\"}}",
        certificate.display(),
        key.display()
    );
    let registry = TestRegistry::configured(&http, |_| String::new());
    let kiln = Kiln::new();
    let image = large(&kiln.store(), 200 << 20, 1);
    let to = format!("{}/app:1", registry.addr);
    kiln.store().keep(&name(&to), &image).unwrap();
    drop(image);
    let push = || {
        let (output, peak) = kiln.peak(&["push", "--insecure", &registry.addr, &to]);
        output.success();
        peak
    };
    // The second time all is there, and the program's own pages are what counts.
    let (peak, own) = (push(), push());
    assert!(peak < own + LIMIT, "{peak} KiB, {own} when nothing moves");
}
