//! The distribution API against real registries and skopeo, and against servers
//! that fail or lie.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kiln::digest::{BlobDigest, DiffId};
use kiln::image::{AnyImage, History, Image, ImageConfig, MediaType, assemble, assemble_index};
use kiln::layer::{Compression, Layer};
use kiln::platform::Platform;
use kiln::progress::{End, Event, Progress};
use kiln::reference::Reference;
use kiln::registry::{
    Credentials, Kept, Options, Registries, RegistryError, Want, login, logout, pull, push, resolve,
};
use kiln::store::Store;

use crate::support::http::{Request, Server, answer};
use crate::support::registry::{TestRegistry, certificate, oci, skopeo, skopeo_copy, tool};

fn amd64() -> Platform {
    Platform::new("linux", "amd64")
}

/// Settings of this test alone: no credentials of whoever runs it.
fn settings(folder: &Path) -> Options {
    let conf = folder.join("registries.conf");
    if !conf.exists() {
        std::fs::write(&conf, "").unwrap();
    }
    Options {
        auth_file: Some(folder.join("auth.json")),
        registries_conf: Some(conf),
        ..Options::default()
    }
}

fn anonymous(folder: &Path) -> Registries {
    Registries::load(settings(folder)).unwrap()
}

fn with(folder: &Path, host: &str, user: &str, password: &str) -> Registries {
    let credentials = vec![(host.to_owned(), Credentials::password(user, password))];
    Registries::load(Options { credentials, ..settings(folder) }).unwrap()
}

/// A layer of one file.
fn layer(store: &Store, content: &[u8]) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_path("hello").unwrap();
    header.set_cksum();
    tar.append(&header, content).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    gzip.write_all(&tar).unwrap();
    let bytes = gzip.finish().unwrap();
    let digest = store.put(&bytes).unwrap();
    Layer {
        diff_id: DiffId::of(&tar),
        digest,
        size: bytes.len() as u64,
        compression: Compression::Gzip,
    }
}

fn image(store: &Store, platform: &Platform, contents: &[&[u8]]) -> Image {
    let layers: Vec<Layer> = contents.iter().map(|content| layer(store, content)).collect();
    let mut config = ImageConfig::scratch(platform);
    config.config.env.push("A=b".into());
    for _ in &layers {
        config.history.push(History { created_by: Some("COPY".into()), ..History::default() });
    }
    assemble(config, &layers).unwrap()
}

/// Bytes that compress badly.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

struct Here {
    folder: tempfile::TempDir,
    store: Store,
}

fn here() -> Here {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    Here { folder, store }
}

impl Here {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A second, empty store.
    fn other(&self, name: &str) -> Store {
        Store::open(&self.path().join(name)).unwrap()
    }
}

fn name(text: impl AsRef<str>) -> Reference {
    text.as_ref().parse().unwrap()
}

/// A store's blobs, its work under way included.
fn blobs_in(store: &Store) -> usize {
    let count = |path: &str| std::fs::read_dir(store.root().join(path)).unwrap().count();
    count("blobs/sha256") + count("tmp")
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_images_are_read_by_skopeo_and_pulled_back() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let big = noise(3 << 20);
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one", &big]));
    let to = name(format!("{}/team/app:v1", registry.addr));
    let pinned = push(&image, &to, &here.store, &at, &Progress::silent()).await.unwrap();
    assert_eq!(pinned.digest(), image.digest());

    let shown = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{to}")]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["Digest"], image.digest().to_string());
    let layout = here.path().join("copy");
    skopeo_copy(&[], &format!("docker://{to}"), &oci(&layout, "v1"));
    for layer in image.images()[0].layers() {
        let copied = std::fs::read(layout.join("blobs/sha256").join(layer.digest.hex())).unwrap();
        assert_eq!(BlobDigest::of(&copied), layer.digest);
    }

    let other = here.other("other");
    let want = Want::One(amd64());
    let pulled = pull(&to, &want, &other, &at, &Progress::silent()).await.unwrap();
    assert_eq!(pulled.digest(), image.digest());
    assert_eq!(other.image_named(&to).unwrap().digest(), image.digest());
    for layer in image.images()[0].layers() {
        assert!(other.has_blob(&layer.digest, layer.size));
    }
    // By digest, too, and under that name.
    let by_digest = pinned.reference();
    pull(&by_digest, &want, &other, &at, &Progress::silent()).await.unwrap();
    assert_eq!(other.image_named(&by_digest).unwrap().digest(), image.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_moved_again() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one", b"two"]));
    let (first, second) =
        (name(format!("{}/a:1", registry.addr)), name(format!("{}/b:1", registry.addr)));
    push(&image, &first, &here.store, &at, &Progress::silent()).await.unwrap();

    let ends = Arc::new(Mutex::new(HashMap::new()));
    let watch = {
        let (ends, names) = (Arc::clone(&ends), Mutex::new(HashMap::new()));
        Progress::new(move |event| match event {
            Event::Begin { id, name } => drop(names.lock().unwrap().insert(id, name)),
            Event::End { id, end } => {
                let name = names.lock().unwrap().remove(&id).unwrap();
                ends.lock().unwrap().insert(name, end);
            }
            _ => {}
        })
    };
    let cached = |verb: &str| {
        let ends = std::mem::take(&mut *ends.lock().unwrap());
        let of: Vec<_> = ends.iter().filter(|(name, _)| name.starts_with(verb)).collect();
        assert_eq!(of.len(), 2, "{ends:?}");
        assert!(of.iter().all(|(_, end)| **end == End::Cached), "{ends:?}");
    };
    push(&image, &first, &here.store, &at, &watch).await.unwrap();
    cached("push sha256:");
    // Another repository of the same registry: mounted.
    push(&image, &second, &here.store, &at, &watch).await.unwrap();
    cached("push sha256:");
    pull(&second, &Want::One(amd64()), &here.store, &at, &watch).await.unwrap();
    cached("pull sha256:");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_and_platforms() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let silent = Progress::silent();
    let arm = Platform::new("linux", "arm64");
    let images = vec![image(&here.store, &amd64(), &[b"amd"]), image(&here.store, &arm, &[b"arm"])];
    let index = assemble_index(images.clone()).unwrap();
    let to = name(format!("{}/multi:1", registry.addr));
    push(&index, &to, &here.store, &at, &silent).await.unwrap();

    // One platform: the name means its manifest, and the store has all of it.
    let one = here.other("one");
    let pulled = pull(&to, &Want::One(arm.clone()), &one, &at, &silent).await.unwrap();
    assert_eq!(pulled.digest(), images[1].digest());
    assert_eq!(one.image_named(&to).unwrap().digest(), images[1].digest());
    let amd = &images[0].layers()[0];
    assert!(!one.has_blob(&amd.digest, amd.size), "the other platform's layer was fetched");
    // By the index's digest: the name keeps its word, the image is the platform's.
    let pinned = name(format!("{}/multi@{}", registry.addr, index.digest()));
    pull(&pinned, &Want::One(arm.clone()), &one, &at, &silent).await.unwrap();
    assert_eq!(one.image_named(&pinned).unwrap().digest(), index.digest());
    assert_eq!(one.image_for(&pinned, &arm).unwrap().digest(), images[1].digest());

    let all = here.other("all");
    let pulled = pull(&to, &Want::All, &all, &at, &silent).await.unwrap();
    assert_eq!((pulled.digest(), pulled.images().len()), (index.digest(), 2));
    // What was pulled whole can be pushed whole.
    let again = name(format!("{}/again:1", registry.addr));
    let pulled = all.image_named(&to).unwrap();
    assert_eq!(push(&pulled, &again, &all, &at, &silent).await.unwrap().digest(), index.digest());

    // The same registry by its name.
    let by_name = name(to.to_string().replace("127.0.0.1", "localhost"));
    let found = resolve(&by_name, &arm, &at, &silent).await.unwrap();
    assert_eq!((found.raw.digest, found.image.digest()), (index.digest(), images[1].digest()));
    let missing = resolve(&to, &Platform::new("linux", "s390x"), &at, &silent).await.unwrap_err();
    let text = missing.to_string();
    assert!(text.contains("linux/amd64, linux/arm64"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_other_tools() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let silent = Progress::silent();
    let arm = Platform::new("linux", "arm64");
    let images = vec![image(&here.store, &amd64(), &[b"x"]), image(&here.store, &arm, &[b"y"])];
    let index = assemble_index(images.clone()).unwrap();
    let from = name(format!("{}/from:1", registry.addr));
    push(&index, &from, &here.store, &at, &silent).await.unwrap();
    let to = |tag: &str| name(format!("{}/to:{tag}", registry.addr));
    let copy = |options: &[&str], tag: &str| {
        skopeo_copy(options, &format!("docker://{from}"), &format!("docker://{}", to(tag)));
    };
    copy(&["--all", "--format", "v2s2"], "docker");
    copy(&["--all"], "oci");
    copy(&["--dest-compress-format", "zstd"], "zstd");
    copy(&["--format", "v2s2"], "single");

    for (tag, kind, compression) in [
        ("docker", MediaType::DockerList, Compression::Gzip),
        ("oci", MediaType::OciIndex, Compression::Gzip),
        ("zstd", MediaType::OciManifest, Compression::Zstd),
        ("single", MediaType::DockerManifest, Compression::Gzip),
    ] {
        let store = here.other(tag);
        let found = resolve(&to(tag), &amd64(), &at, &silent).await.unwrap();
        assert_eq!(found.raw.media_type, kind, "{tag}");
        let pulled = pull(&to(tag), &Want::One(amd64()), &store, &at, &silent).await.unwrap();
        let layers = pulled.images()[0].layers();
        assert_eq!(layers[0].diff_id, images[0].layers()[0].diff_id, "{tag}");
        assert!(store.has_blob(&layers[0].digest, layers[0].size), "{tag}");
        if tag == "zstd" {
            let bytes = std::fs::read(store.blob_path(&layers[0].digest)).unwrap();
            // skopeo re-compresses only if it must; the media type follows the bytes.
            let magic = bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
            assert_eq!(magic, layers[0].compression == Compression::Zstd);
        } else {
            assert_eq!(layers[0].compression, compression, "{tag}");
        }
        let whole = pull(&to(tag), &Want::All, &store, &at, &silent).await.unwrap();
        assert_eq!(whole.digest(), found.raw.digest, "{tag}");
        // And back again, byte for byte.
        let back = name(format!("{}/back:{tag}", registry.addr));
        push(&whole, &back, &store, &at, &silent).await.unwrap();
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{back}")]);
        assert_eq!(BlobDigest::of(raw.as_bytes()), whole.digest(), "{tag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords() {
    let registry = TestRegistry::start(Some(("me", "secret word")));
    let here = here();
    let host = registry.addr.clone();
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let to = name(format!("{host}/app:1"));

    let nobody = anonymous(here.path());
    let error = push(&image, &to, &here.store, &nobody, &silent).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::Unauthorized { tried, .. } if tried == "no credentials")
    );
    assert!(error.hint().unwrap().contains(&format!("kiln login {host}")));

    let wrong = with(here.path(), &host, "me", "wrong word");
    let error = push(&image, &to, &here.store, &wrong, &silent).await.unwrap_err().to_string();
    assert!(
        error.contains("`me` from the command line") && !error.contains("wrong word"),
        "{error}"
    );

    // Credentials for another port of the same host stay at home.
    let elsewhere = with(here.path(), "127.0.0.1:1", "me", "secret word");
    assert!(push(&image, &to, &here.store, &elsewhere, &silent).await.is_err());

    let right = with(here.path(), &host, "me", "secret word");
    push(&image, &to, &here.store, &right, &silent).await.unwrap();
    let other = here.other("other");
    pull(&to, &Want::One(amd64()), &other, &right, &silent).await.unwrap();

    // A login is kept, found by later commands, and by skopeo.
    let file = here.path().join("auth.json");
    let bad = login(&host, &Credentials::password("me", "no"), &nobody).await.unwrap_err();
    assert!(matches!(bad, RegistryError::Unauthorized { .. }), "{bad}");
    assert!(!file.exists());
    std::fs::write(&file, r#"{"psFormat": "x", "auths": {"other": {"auth": "YTpi"}}}"#).unwrap();
    let kept = login(&host, &Credentials::password("me", "secret word"), &nobody).await.unwrap();
    assert_eq!(kept, Kept::File(file.clone()));
    pull(&to, &Want::One(amd64()), &here.other("third"), &nobody, &silent).await.unwrap();
    let auth = format!("--authfile={}", file.display());
    skopeo(&["inspect", "--tls-verify=false", &auth, &format!("docker://{to}")]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("psFormat") && text.contains("\"other\"") && !text.contains("secret"));

    assert!(logout(&host, &nobody).await.unwrap());
    assert!(!logout(&host, &nobody).await.unwrap());
    let error = resolve(&to, &amd64(), &anonymous(here.path()), &silent).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"other\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let mut registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let to = name(format!("{}/app:1", registry.addr));
    push(&image, &to, &here.store, &at, &silent).await.unwrap();

    let tag = name(format!("{}/app:2", registry.addr));
    let error = resolve(&tag, &amd64(), &at, &silent).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::NotFound { what, .. } if what.ends_with("app:2")),
        "{error}"
    );
    let repository = name(format!("{}/nothing:1", registry.addr));
    let error = resolve(&repository, &amd64(), &at, &silent).await.unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");

    // A layer that neither side has.
    let lost = image.images()[0].layers()[0].digest;
    let new = name(format!("{}/new:1", registry.addr));
    std::fs::remove_file(here.store.blob_path(&lost)).unwrap();
    std::fs::remove_dir_all(registry.data()).unwrap();
    let error = push(&image, &new, &here.store, &at, &silent).await.unwrap_err();
    assert!(error.to_string().contains(&lost.to_string()), "{error}");

    registry.stop();
    let at = anonymous(here.path());
    let error = resolve(&to, &amd64(), &at, &silent).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");

    let error = resolve(&to, &amd64(), &Registries::offline(), &silent).await.unwrap_err();
    assert!(error.to_string().contains("offline"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_layer_is_not_pushed() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(1 << 20)]));
    let layer = &image.images()[0].layers()[0];
    let path = here.store.blob_path(&layer.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let to = name(format!("{}/app:1", registry.addr));
    let error = push(&image, &to, &here.store, &at, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

/// The documents and blobs of one image, served from memory with faults.
struct Memory {
    files: HashMap<String, (String, Vec<u8>)>,
    layer: Layer,
}

impl Memory {
    fn new(store: &Store, contents: &[u8]) -> Arc<Self> {
        let image = image(store, &amd64(), &[contents]);
        let layer = image.layers()[0].clone();
        let mut files = HashMap::new();
        let manifest = image.manifest();
        let kind = manifest.media_type.to_string();
        for selector in ["1".to_owned(), manifest.digest.to_string()] {
            let path = format!("/v2/app/manifests/{selector}");
            files.insert(path, (kind.clone(), manifest.bytes.clone()));
        }
        let config = image.config_raw();
        for (digest, bytes) in [
            (config.digest, config.bytes.clone()),
            (layer.digest, std::fs::read(store.blob_path(&layer.digest)).unwrap()),
        ] {
            let kind = "application/octet-stream".to_owned();
            files.insert(format!("/v2/app/blobs/{digest}"), (kind, bytes));
        }
        Arc::new(Self { files, layer })
    }

    fn is_layer(&self, request: &Request) -> bool {
        request.path.ends_with(&self.layer.digest.to_string())
    }

    fn get(&self, request: &Request) -> Vec<u8> {
        match self.files.get(&request.path) {
            Some((kind, bytes)) => answer("200 OK", &[("Content-Type", kind)], bytes),
            None if request.path == "/v2/" => answer("200 OK", &[], b"{}"),
            None => answer("404 Not Found", &[], b"{}"),
        }
    }

    fn layer_bytes(&self) -> &[u8] {
        &self.files[&format!("/v2/app/blobs/{}", self.layer.digest)].1
    }
}

async fn pull_app(server: &Server, here: &Here, into: &Store) -> Result<AnyImage, RegistryError> {
    let from = name(format!("{}/app:1", server.addr));
    let at = anonymous(here.path());
    pull(&from, &Want::One(amd64()), into, &at, &Progress::silent()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_15_wrong_bytes_leave_nothing() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(100_000));
    for fault in ["flipped", "longer", "manifest", "config"] {
        let memory = Arc::clone(&memory);
        let server = Server::start(move |request| {
            let config = request.path.contains("/blobs/") && !memory.is_layer(request);
            let mut bytes = match memory.files.get(&request.path) {
                Some((_, bytes)) => bytes.clone(),
                None => return memory.get(request),
            };
            match fault {
                "flipped" if memory.is_layer(request) => bytes[5000] ^= 1,
                "longer" if memory.is_layer(request) => bytes.push(0),
                "config" if config => bytes[5] ^= 1,
                _ => {}
            }
            let wrong = format!("sha256:{}", "0".repeat(64));
            let headers: &[(&str, &str)] = match fault {
                "manifest" if request.path.contains("/manifests/") => {
                    &[("Docker-Content-Digest", &wrong)]
                }
                _ => &[],
            };
            answer("200 OK", headers, &bytes)
        })
        .await;
        let into = here.other(fault);
        let before = blobs_in(&into);
        let error = pull_app(&server, &here, &into).await.unwrap_err();
        assert!(matches!(error, RegistryError::Mismatch { .. }), "{fault}: {error}");
        assert_eq!(blobs_in(&into), before, "{fault}");
        assert!(into.names().unwrap().is_empty(), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_22_what_may_pass_is_tried_again() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(200_000));
    for fault in ["503", "cut", "cut without ranges", "429"] {
        let (of_server, turn) = (Arc::clone(&memory), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            if !of_server.is_layer(request) {
                return of_server.get(request);
            }
            let bytes = of_server.layer_bytes();
            let begin: usize = request
                .header("range")
                .and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
                .unwrap_or(0);
            let first = turn.fetch_add(1, Ordering::SeqCst) == 0;
            match fault {
                "503" if first => answer("503 Service Unavailable", &[], b""),
                "429" if first => answer("429 Too Many Requests", &[("Retry-After", "1")], b""),
                "cut" | "cut without ranges" if first => {
                    let mut whole = answer("200 OK", &[], bytes);
                    whole.truncate(whole.len() / 2);
                    whole
                }
                "cut" => {
                    assert!(begin > 0);
                    let range = format!("bytes {begin}-{}/{}", bytes.len() - 1, bytes.len());
                    answer("206 Partial Content", &[("Content-Range", &range)], &bytes[begin..])
                }
                _ => answer("200 OK", &[], bytes),
            }
        })
        .await;
        let into = here.other(fault);
        pull_app(&server, &here, &into).await.unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert!(into.has_blob(&memory.layer.digest, memory.layer.size), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_final() {
    let here = here();
    for (status, headers, body, expected) in [
        ("429 Too Many Requests", vec![("Retry-After", "3600")], "slow down", "wait 3600 s"),
        (
            "403 Forbidden",
            vec![],
            r#"{"errors":[{"code":"DENIED","message":"not\u001b[1m you"}]}"#,
            "not\\u{1b}[1m you",
        ),
        (
            "400 Bad Request",
            vec![],
            r#"{"errors":[{"code":"NAME_INVALID","message":"odd"}]}"#,
            "does not accept the name `app`",
        ),
        (
            "200 OK",
            vec![("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")],
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            "schema version 1",
        ),
        ("200 OK", vec![], "{\"schemaVersion\":2,\"schemaVersion\":2}", "twice"),
        ("302 Found", vec![("Location", "http://registry.example/x")], "", "plain http"),
        ("302 Found", vec![("Location", "/v2/app/manifests/1")], "", "more than 5 redirects"),
        ("401 Unauthorized", vec![], "", "but not how"),
        (
            "401 Unauthorized",
            vec![("WWW-Authenticate", "Bearer realm=\"http://evil.example/token\"")],
            "",
            "plain http",
        ),
    ] {
        let server = Server::start(move |request| {
            if request.path == "/v2/" {
                return answer("200 OK", &[], b"");
            }
            answer(status, &headers, body.as_bytes())
        })
        .await;
        let error = pull_app(&server, &here, &here.store).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{status}: {error}");
    }
    // More than a document may have: reading stops.
    let server = Server::start(|_| answer("200 OK", &[], &vec![b' '; 5 << 20])).await;
    let error = pull_app(&server, &here, &here.store).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

/// A token service and a registry that takes its tokens.
async fn with_tokens(memory: Arc<Memory>, fresh: usize) -> (Server, Server) {
    let issued = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let tokens = Server::start(move |request| {
        if request.path == "/v2/" {
            return answer("404 Not Found", &[], b"");
        }
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let basic = request.header("authorization") == Some("Basic bWU6cHc=");
        let refresh = request.method == "POST" && form.contains("refresh_token=idtoken");
        if !basic && !refresh {
            return answer(
                "401 Unauthorized",
                &[],
                br#"{"details":"incorrect username or password"}"#,
            );
        }
        let turn = count.fetch_add(1, Ordering::SeqCst);
        let name = if refresh { "access_token" } else { "token" };
        answer("200 OK", &[], format!(r#"{{"{name}":"t{turn}","expires_in":60}}"#).as_bytes())
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let used = AtomicUsize::new(0);
    let registry = Server::start(move |request| {
        let latest = issued.load(Ordering::SeqCst);
        let token = latest.checked_sub(1).map(|turn| format!("Bearer t{turn}"));
        let good = token.is_some() && request.header("authorization") == token.as_deref();
        // A token is good for a few requests only.
        if !good || used.fetch_add(1, Ordering::SeqCst) % (fresh + 1) == fresh {
            let challenge = format!(
                r#"Bearer realm="{realm}",service="the registry",scope="repository:app:pull""#
            );
            return answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"");
        }
        memory.get(request)
    })
    .await;
    (registry, tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_23_tokens_are_fetched_and_renewed() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    let (registry, tokens) = with_tokens(Arc::clone(&memory), 2).await;
    let from = name(format!("{}/app:1", registry.addr));
    let into = here.other("tokens");
    let at = with(here.path(), &registry.addr, "me", "pw");
    pull(&from, &Want::One(amd64()), &into, &at, &Progress::silent()).await.unwrap();
    let asked = tokens.seen();
    assert!(asked.iter().filter(|request| request.path.starts_with("/token")).count() >= 2);
    let first = asked.iter().find(|request| request.path.starts_with("/token")).unwrap();
    assert_eq!(first.path, "/token?service=the+registry&scope=repository%3Aapp%3Apull&account=me");
    // The password went to the token service only.
    let basic = |request: &Request| {
        request.header("authorization").is_some_and(|text| text.starts_with("Basic"))
    };
    assert!(!registry.seen().iter().any(basic));

    // An identity token is exchanged with a POST.
    let auths = format!(
        r#"{{"auths": {{"{}": {{"auth": "PHRva2VuPjo=", "identitytoken": "idtoken"}}}}}}"#,
        registry.addr
    );
    std::fs::write(here.path().join("auth.json"), auths).unwrap();
    pull(
        &from,
        &Want::One(amd64()),
        &here.other("id"),
        &anonymous(here.path()),
        &Progress::silent(),
    )
    .await
    .unwrap();
    let posted = tokens.seen().into_iter().find(|request| request.method == "POST").unwrap();
    let form = String::from_utf8(posted.body).unwrap();
    assert!(form.contains("grant_type=refresh_token") && form.contains("client_id=kiln"), "{form}");
    assert!(posted.path == "/token" && !form.contains("idtoken&idtoken"));

    // What the service says when it refuses is not swallowed.
    let wrong = with(here.path(), &registry.addr, "me", "wrong");
    let error = resolve(&from, &amd64(), &wrong, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("incorrect username or password"), "{error}");
    assert!(error.hint().is_some());
    let error =
        login(&registry.addr, &Credentials::password("me", "no"), &wrong).await.unwrap_err();
    assert!(matches!(error, RegistryError::Token { status: 401, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_19_credentials_stay_with_their_registry() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(5000));
    let served = Arc::clone(&memory);
    let elsewhere = Server::start(move |request| served.get(request)).await;
    let target = elsewhere.addr.clone();
    let served = Arc::clone(&memory);
    let registry = Server::start(move |request| {
        if request.header("authorization") != Some("Basic bWU6cHc=") {
            return answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b"");
        }
        if request.path.contains("/blobs/") {
            let location = format!("http://{target}{}", request.path);
            return answer("307 Temporary Redirect", &[("Location", &location)], b"");
        }
        served.get(request)
    })
    .await;
    let from = name(format!("{}/app:1", registry.addr));
    let at = with(here.path(), &registry.addr, "me", "pw");
    let into = here.other("redirected");
    pull(&from, &Want::One(amd64()), &into, &at, &Progress::silent()).await.unwrap();
    let seen = elsewhere.seen();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));

    // A login asked for on the other side is not answered, though the user has one.
    let greedy = Server::start(|_| {
        answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=mine")], b"")
    })
    .await;
    let target = format!("http://{}/x", greedy.addr);
    let registry = Server::start(move |_| answer("302 Found", &[("Location", &target)], b"")).await;
    let at = with(here.path(), &registry.addr, "me", "pw");
    let from = name(format!("{}/app:1", registry.addr));
    let error = resolve(&from, &amd64(), &at, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert!(greedy.seen().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_come_first_and_may_fail() {
    let registry = TestRegistry::start(None);
    let here = here();
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let home = name(format!("{}/team/app:1", registry.addr));
    push(&image, &home, &here.store, &anonymous(here.path()), &silent).await.unwrap();
    // A mirror that has the manifest but wrong layers, and one that is down.
    let broken = {
        let documents = image.images()[0].manifest().clone();
        let config = image.images()[0].config_raw().clone();
        Server::start(move |request| {
            if request.path.contains("/manifests/") {
                let kind = documents.media_type.to_string();
                return answer("200 OK", &[("Content-Type", &kind)], &documents.bytes);
            }
            if request.path.ends_with(&config.digest.to_string()) {
                return answer("200 OK", &[], &config.bytes);
            }
            answer("200 OK", &[], b"garbage that is longer than the layer ".repeat(50).as_slice())
        })
        .await
    };
    let conf = format!(
        "[[registry]]\nprefix = \"registry.example/apps\"\nlocation = \"{}/team\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1/down\"\n\
         [[registry.mirror]]\nlocation = \"{}/broken\"\n",
        registry.addr, broken.addr
    );
    std::fs::write(here.path().join("registries.conf"), conf).unwrap();
    let from = name("registry.example/apps/app:1");
    let notes = Arc::new(Mutex::new(Vec::new()));
    let progress = {
        let notes = Arc::clone(&notes);
        Progress::new(move |event| {
            if let Event::Note(text) = event {
                notes.lock().unwrap().push(text);
            }
        })
    };
    let into = here.other("mirrored");
    let at = anonymous(here.path());
    let pulled = pull(&from, &Want::One(amd64()), &into, &at, &progress).await.unwrap();
    assert_eq!(pulled.digest(), image.digest());
    assert!(into.find(&from).unwrap().is_some(), "the name is the one that was asked for");
    assert!(broken.seen().iter().any(|request| request.path == "/v2/broken/app/manifests/1"));
    let notes = notes.lock().unwrap().join("\n");
    assert!(notes.contains("127.0.0.1:1") && notes.contains("does not match"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls() {
    let here = here();
    let (key, chain) = certificate(here.path());
    let http =
        format!(", tls: {{certificate: \"{}\", key: \"{}\"}}", chain.display(), key.display());
    let registry = TestRegistry::configured(&http, |_| String::new());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let to = name(format!("{}/app:1", registry.addr));
    let silent = Progress::silent();
    // A certificate that nobody vouches for ends it, even on this machine.
    let at = with(here.path(), &registry.addr, "me", "pw");
    let error = push(&image, &to, &here.store, &at, &silent).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { plain: false, .. }), "{error}");
    assert!(error.hint().unwrap().contains("root certificate"));

    let options = Options { insecure: vec![registry.addr.clone()], ..settings(here.path()) };
    let at = Registries::load(options).unwrap();
    push(&image, &to, &here.store, &at, &silent).await.unwrap();
    pull(&to, &Want::One(amd64()), &here.other("tls"), &at, &silent).await.unwrap();
}

/// Base64 without padding, as JSON web tokens have it.
fn base64(bytes: &[u8], url: bool) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let last = if url { b"-_" } else { b"+/" };
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let index = (group >> (18 - 6 * at) & 63) as usize;
            text.push(char::from(*alphabet.get(index).unwrap_or_else(|| &last[index - 62])));
        }
        if !url {
            text.push_str(&"=="[..3 - chunk.len()]);
        }
    }
    text
}

/// A token that docker-registry accepts, signed with the certificate's key.
fn web_token(folder: &Path, audience: &str, scopes: &[String]) -> String {
    let pem = std::fs::read_to_string(folder.join("cert.pem")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let access: Vec<_> = scopes
        .iter()
        .filter_map(|scope| {
            let mut parts = scope.splitn(3, ':');
            let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
            let actions: Vec<_> = actions.split(',').collect();
            Some(serde_json::json!({ "type": kind, "name": name, "actions": actions }))
        })
        .collect();
    let header = serde_json::json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
    let claims = serde_json::json!({
        "iss": "kiln-test", "sub": "me", "aud": audience, "jti": "1",
        "nbf": 1_000_000_000, "iat": 1_000_000_000, "exp": 4_000_000_000_u64, "access": access,
    });
    let signed = format!(
        "{}.{}",
        base64(header.to_string().as_bytes(), true),
        base64(claims.to_string().as_bytes(), true)
    );
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    std::fs::write(file.path(), &signed).unwrap();
    let (key, path) = (folder.join("key.pem"), file.path().to_str().unwrap().to_owned());
    let sign = ["dgst", "-sha256", "-sign", key.to_str().unwrap(), &path];
    format!("{signed}.{}", base64(&tool("openssl", "openssl", &sign).stdout, true))
}

/// What a query asks for; `+` and `%XX` undone.
fn asked_scopes(path: &str) -> Vec<String> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    scopes.map(|text| text.replace("%3A", ":").replace("%2C", ",").replace("%2F", "/")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_with_tokens() {
    let here = here();
    let (_, chain) = certificate(here.path());
    let keys = here.path().to_owned();
    // Anybody may read; to write one must be known.
    let tokens = Server::start(move |request| {
        let known = match request.header("authorization") {
            None => false,
            Some(text) if text == format!("Basic {}", base64(b"me:pw", false)) => true,
            Some(_) => {
                return answer(
                    "401 Unauthorized",
                    &[],
                    br#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#,
                );
            }
        };
        let mut scopes = asked_scopes(&request.path);
        if !known {
            scopes = scopes.into_iter().map(|scope| scope.replace(",push", "")).collect();
        }
        let token = web_token(&keys, "test registry", &scopes);
        answer("200 OK", &[], serde_json::json!({ "token": token }).to_string().as_bytes())
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let registry = TestRegistry::configured("", |_| {
        format!(
            "auth: {{token: {{realm: \"{realm}\", service: \"test registry\", \
             issuer: kiln-test, rootcertbundle: \"{}\"}}}}\n",
            chain.display()
        )
    });
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one", &noise(1 << 20)]));
    let to = name(format!("{}/team/app:1", registry.addr));
    let me = with(here.path(), &registry.addr, "me", "pw");
    let nobody = anonymous(here.path());

    let error = push(&image, &to, &here.store, &nobody, &silent).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    push(&image, &to, &here.store, &me, &silent).await.unwrap();
    pull(&to, &Want::One(amd64()), &here.other("any"), &nobody, &silent).await.unwrap();
    let stranger = with(here.path(), &registry.addr, "you", "pw");
    let error = resolve(&to, &amd64(), &stranger, &silent).await.unwrap_err();
    assert!(error.to_string().contains("who?"), "{error}");

    // To mount, the token must allow reading the other repository.
    let second = name(format!("{}/other/app:1", registry.addr));
    push(&image, &second, &here.store, &me, &silent).await.unwrap();
    let asked: Vec<_> = tokens.seen().iter().flat_map(|one| asked_scopes(&one.path)).collect();
    assert!(asked.contains(&"repository:other/app:pull,push".to_owned()), "{asked:?}");
    assert!(asked.contains(&"repository:team/app:pull".to_owned()), "{asked:?}");
    login(&registry.addr, &Credentials::password("me", "pw"), &nobody).await.unwrap();
    let error =
        login(&registry.addr, &Credentials::password("me", "x"), &nobody).await.unwrap_err();
    assert!(matches!(error, RegistryError::Token { .. }), "{error}");
}

/// A registry in memory that takes one push, with a fault.
async fn taking(fault: &'static str) -> Server {
    let held: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
    let puts = AtomicUsize::new(0);
    Server::start(move |request| {
        let mut held = held.lock().unwrap();
        let path = request.path.split('?').next().unwrap_or_default().to_owned();
        let digest = format!("sha256:{}", BlobDigest::of(&request.body).hex());
        match (request.method.as_str(), path.as_str()) {
            ("POST", _) => {
                answer("202 Accepted", &[("Location", "/v2/app/blobs/uploads/1?s=%2B")], b"")
            }
            ("PUT", "/v2/app/blobs/uploads/1") => {
                assert!(request.path.contains("?s=%2B&digest=sha256%3A"), "{}", request.path);
                let first = puts.fetch_add(1, Ordering::SeqCst) == 0;
                if fault == "cut" && first {
                    return Vec::new();
                }
                if fault == "502" && first {
                    return answer("502 Bad Gateway", &[], b"<html>");
                }
                if fault == "full" {
                    return answer("507 Insufficient Storage", &[], b"disk is full");
                }
                held.insert(format!("/v2/app/blobs/{digest}"), request.body.clone());
                answer("201 Created", &[], b"")
            }
            ("PUT", _) => {
                if fault == "other manifest" {
                    let other = format!("sha256:{}", "1".repeat(64));
                    return answer("201 Created", &[("Docker-Content-Digest", &other)], b"");
                }
                if fault != "forgets" {
                    let path = format!("/v2/app/manifests/{digest}");
                    held.insert(path, request.body.clone());
                }
                answer("201 Created", &[], b"")
            }
            (_, "/v2/") => answer("200 OK", &[], b""),
            (_, path) => match held.get(path) {
                Some(_) if fault == "rewrites" => answer("200 OK", &[], b"{}"),
                Some(bytes) => answer("200 OK", &[], bytes),
                None => answer("404 Not Found", &[], b""),
            },
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_25_the_digest_is_what_the_registry_holds() {
    let here = here();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(700_000)]));
    for (fault, expected) in [
        ("none", None),
        ("cut", None),
        ("502", None),
        ("full", Some("disk is full")),
        ("other manifest", Some("does not match")),
        ("forgets", Some("has no manifest")),
        ("rewrites", Some("does not match")),
    ] {
        let server = taking(fault).await;
        let to = name(format!("{}/app:1", server.addr));
        let at = anonymous(here.path());
        let result = push(&image, &to, &here.store, &at, &Progress::silent()).await;
        match (result, expected) {
            (Ok(pinned), None) => assert_eq!(pinned.digest(), image.digest()),
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{fault}: {error}");
            }
            (result, _) => panic!("{fault}: {result:?}"),
        }
    }
}
