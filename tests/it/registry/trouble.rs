//! Every kind of trouble at every request of a push and of a pull, before a real registry.

use futures_util::{StreamExt as _, stream};

use super::*;
use crate::support::faults::{Fault, Faults, Rule};

/// Bytes of a request, so that a few MiB are several.
const CHUNK: u64 = 1 << 20;

/// Cases that run at once: most of their time is waits.
const AT_ONCE: usize = 16;

/// What may pass.
const PASSING: [Fault; 9] = [
    Fault::Answer("429 Too Many Requests", "Retry-After: 1", "slow down"),
    Fault::Answer("500 Internal Server Error", "X: y", "oh"),
    Fault::Answer("502 Bad Gateway", "X: y", "<html>"),
    Fault::Answer("503 Service Unavailable", "Retry-After: 0", ""),
    Fault::Lost,
    Fault::Reset,
    Fault::ResetHalf,
    Fault::Cut,
    Fault::Silence,
];

/// What is final.
const FINAL: [Fault; 4] = [
    Fault::Answer("400 Bad Request", "X: y", SAID),
    Fault::Answer("403 Forbidden", "X: y", SAID),
    Fault::Answer("404 Not Found", "X: y", SAID),
    Fault::Answer("413 Payload Too Large", "X: y", SAID),
];
const SAID: &str = r#"{"errors":[{"code":"ODD","message":"the very words"}]}"#;

/// The requests of a push of one layer in three chunks: method, part of the path, and how many
/// like it come before.
const PUSH: [(&str, &str, usize); 11] = [
    ("GET", "/v2/", 0),
    ("GET", "/manifests/", 0),
    ("HEAD", "/blobs/", 0),
    ("POST", "/blobs/uploads/", 0),
    ("POST", "/blobs/uploads/", 1),
    ("PATCH", "/blobs/uploads/", 0),
    ("PATCH", "/blobs/uploads/", 1),
    ("PATCH", "/blobs/uploads/", 2),
    ("PUT", "/blobs/uploads/", 1),
    ("PUT", "/manifests/", 0),
    ("GET", "/manifests/", 1),
];

/// Those of a pull.
const PULL: [(&str, &str, usize); 4] =
    [("GET", "/v2/", 0), ("GET", "/manifests/", 0), ("GET", "/blobs/", 0), ("GET", "/blobs/", 1)];

fn chunked(folder: &Path) -> Registries {
    let chunk = std::num::NonZeroU64::new(CHUNK);
    Registries::load(Options { chunk, ..settings(folder) }).unwrap()
}

fn cases(
    places: &'static [(&'static str, &'static str, usize)],
    faults: &'static [Fault],
    times: &'static [usize],
) -> impl Iterator<Item = Rule> {
    places.iter().flat_map(move |&(method, part, skip)| {
        faults.iter().flat_map(move |&fault| {
            times.iter().map(move |&times| Rule { method, part, skip, times, fault })
        })
    })
}

/// Runs all cases and fails if one of them gives a complaint.
async fn all_well<T, F: Future<Output = Option<String>>>(
    cases: impl Iterator<Item = T>,
    run: impl FnMut(T) -> F,
) {
    let complaints = stream::iter(cases).map(run).buffer_unordered(AT_ONCE);
    let complaints: Vec<String> = complaints.filter_map(|said| async { said }).collect().await;
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_survives_trouble_at_every_request() {
    let (registry, here) = (TestRegistry::start(None), here());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(5 << 19)]));
    let size = image.images()[0].layers()[0].size;
    assert_eq!(size.div_ceil(CHUNK), 3);
    let small = image.images()[0].config_raw().bytes.len() + image.raw().bytes.len();
    let push_one = async |(number, rule): (usize, Rule)| {
        let proxy = Faults::before(&registry.addr, false);
        proxy.set(rule);
        let to = name(format!("{}/push{number}:1", proxy.addr));
        let at = chunked(here.path());
        let pushed = push(&image, &to, &here.store, &at, &Progress::silent()).await;
        let Ok(pushed) = pushed else { return Some(format!("{rule:?}: {pushed:?}")) };
        let hit = proxy.asked().iter().filter(|asked| asked.hit).count();
        // A session in which a request broke off is lost to this registry, and all that was in
        // it; otherwise no more than what the faults hit goes out again.
        let again = match rule.fault {
            Fault::Lost | Fault::ResetHalf | Fault::Cut => size,
            _ => CHUNK,
        };
        let most = size + (again + CHUNK) * rule.times as u64 + 5 * small as u64;
        let there = name(format!("{}/push{number}:1", registry.addr));
        let found = resolve(&there, &amd64(), &anonymous(here.path()), &Progress::silent()).await;
        let right = [pushed.digest(), found.unwrap().raw.digest] == [image.digest(); 2];
        (!right || hit != rule.times || proxy.sent() > most).then(|| {
            format!("{rule:?}: {right}, {hit} hit, {} of at most {most} bytes", proxy.sent())
        })
    };
    all_well(cases(&PUSH, &PASSING, &[1, 3]).enumerate(), push_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_survives_trouble_at_every_request() {
    let (registry, here) = (TestRegistry::start(None), here());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(2 << 20)]));
    let from = name(format!("{}/app:1", registry.addr));
    let silent = Progress::silent();
    push(&image, &from, &here.store, &anonymous(here.path()), &silent).await.unwrap();
    let pull_one = async |(number, rule): (usize, Rule)| {
        let proxy = Faults::before(&registry.addr, false);
        proxy.set(rule);
        let into = here.other(&format!("pull{number}"));
        let from = name(format!("{}/app:1", proxy.addr));
        let at = anonymous(here.path());
        let pulled = pull(&from, &Want::One(amd64()), &into, &at, &Progress::silent()).await;
        let Ok(pulled) = pulled else { return Some(format!("{rule:?}: {pulled:?}")) };
        let hit = proxy.asked().iter().filter(|asked| asked.hit).count();
        let right = pulled.digest() == image.digest();
        (!right || hit != rule.times).then(|| format!("{rule:?}: {right}, {hit} hit"))
    };
    all_well(cases(&PULL, &PASSING, &[1, 3]).enumerate(), pull_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_final_and_say_why() {
    let (registry, here) = (TestRegistry::start(None), here());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(5 << 19)]));
    let silent = Progress::silent();
    let from = name(format!("{}/app:1", registry.addr));
    push(&image, &from, &here.store, &anonymous(here.path()), &silent).await.unwrap();
    let one = async |(number, rule, pulls): (usize, Rule, bool)| {
        let proxy = Faults::before(&registry.addr, false);
        proxy.set(rule);
        let at = chunked(here.path());
        let ended = if pulls {
            let into = here.other(&format!("refused{number}"));
            let from = name(format!("{}/app:1", proxy.addr));
            let want = Want::One(amd64());
            pull(&from, &want, &into, &at, &Progress::silent()).await.err()
        } else {
            let to = name(format!("{}/refused{number}:1", proxy.addr));
            push(&image, &to, &here.store, &at, &Progress::silent()).await.err()
        };
        let said = ended.map(|error| error.to_string()).unwrap_or_default();
        let asked = proxy.asked();
        let mut hits = asked.iter().filter(|asked| asked.hit);
        // An answer to HEAD has no words.
        let mute = hits.clone().any(|asked| asked.method == "HEAD") && said.contains("layer sha");
        let words = said.contains("the very words") || mute;
        // The config goes up beside the layer.
        (!words || hits.nth(5).is_some()).then(|| format!("{rule:?}: {asked:?}: {said}"))
    };
    let pushes = cases(&PUSH, &FINAL, &[usize::MAX]).map(|rule| (rule, false));
    let all = pushes.chain(cases(&PULL, &FINAL, &[usize::MAX]).map(|rule| (rule, true)));
    let all = all.enumerate().map(|(number, (rule, pulls))| (number, rule, pulls));
    all_well(all, one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_answers_are_taken_for_what_they_are() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(200_000));
    for way in ["other place", "other size", "416", "no ranges", "longer", "endless", "shorter"] {
        let (of_server, turn) = (Arc::clone(&memory), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            if !of_server.is_layer(request) {
                return of_server.get(request);
            }
            let bytes = of_server.layer_bytes();
            let (all, last) = (bytes.len(), bytes.len() - 1);
            let begin: Option<usize> = request
                .header("range")
                .and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            let turn = turn.fetch_add(1, Ordering::SeqCst);
            let part = |range: String, bytes: &[u8]| {
                answer("206 Partial Content", &[("Content-Range", &range)], bytes)
            };
            match (way, begin) {
                ("longer", _) => answer("200 OK", &[], &[bytes, b"0"].concat()),
                ("shorter", _) => answer("200 OK", &[], &bytes[1..]),
                // How much there is shows at the end only.
                ("endless", _) => [b"HTTP/1.1 200 OK\r\n\r\n", bytes, &[0; 1 << 20]].concat(),
                (_, None) if turn == 0 => {
                    let mut whole = answer("200 OK", &[], bytes);
                    whole.truncate(whole.len() / 2);
                    whole
                }
                // Bytes that must not be taken.
                ("other place", Some(begin)) => {
                    part(format!("bytes {}-{last}/{all}", begin - 1), &bytes[begin - 1..])
                }
                ("other size", Some(begin)) => {
                    part(format!("bytes {begin}-{last}/{}", all + 1), &vec![0; all - begin])
                }
                ("416", Some(_)) => answer("416 Range Not Satisfiable", &[], b""),
                // It breaks off before the place where it was.
                ("no ranges", Some(_)) if turn == 1 => {
                    let mut whole = answer("200 OK", &[], bytes);
                    whole.truncate(whole.len() / 3);
                    whole
                }
                _ => answer("200 OK", &[], bytes),
            }
        })
        .await;
        let into = here.other(way);
        let pulled = pull_app(&server, &here, &into).await;
        let asked = server.seen().iter().filter(|seen| memory.is_layer(seen)).count();
        match way {
            "longer" | "endless" | "shorter" => {
                let error = pulled.unwrap_err();
                assert!(matches!(error, RegistryError::Mismatch { .. }), "{way}: {error}");
                assert_eq!(asked, 1, "{way}");
            }
            _ => {
                pulled.unwrap_or_else(|error| panic!("{way}: {error}"));
                assert!(into.has_blob(&memory.layer.digest, memory.layer.size), "{way}");
                assert_eq!(asked, 3, "{way}");
            }
        }
    }
}
