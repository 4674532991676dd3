//! One suite for each kind of registry that there is. What kiln wrote is read by skopeo,
//! crane and umoci, what they wrote by kiln, and a digest is the same everywhere.

use std::any::Any;
use std::path::PathBuf;
use std::process::{Child, Command};

use kiln::image::{Artifact, Descriptor, Dialect, assemble_around};
use kiln::registry::{Removal, delete, push_artifact, referrers, tags};

use super::*;
use crate::support::proxy::Proxy;
use crate::support::registry::{crane, free_address, listening, retried, tool};
use crate::support::skip;

/// A registry that runs until it is dropped.
pub(crate) struct Peer {
    pub(crate) addr: String,
    /// Whether it takes a blob from another of its repositories.
    mounts: bool,
    /// Whether a manifest that is removed is gone, under its tags too.
    deletes: bool,
    _server: Box<dyn Any>,
}

macro_rules! peers {
    ($($name:ident => $start:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            if let Some(peer) = $start {
                suite(peer).await;
            }
        }
    )*};
}

peers! {
    docker_registry => Some(Peer::debians());
    distribution_3 => Peer::distribution();
    cranes_registry => other("KILN_TEST_CRANE", "crane", |program| {
        let peer = Peer::program(program, |addr, _| format!("registry serve --address {addr}"));
        Peer { mounts: false, deletes: false, ..peer }
    });
    kiln_serve => Some(Peer::kilns());
}

/// A peer that not every set-up has.
fn other(variable: &str, what: &str, start: impl Fn(&Path) -> Peer) -> Option<Peer> {
    match kiln::env::path(variable) {
        Some(program) => Some(start(&program)),
        None => {
            skip(&format!("{variable} is not set; tests/run builds {what} and sets it"));
            None
        }
    }
}

impl Peer {
    /// Debian's docker-registry, which keeps no lists of referrers.
    pub(crate) fn debians() -> Self {
        Self::of(TestRegistry::start(None))
    }

    pub(crate) fn distribution() -> Option<Self> {
        other("KILN_TEST_DISTRIBUTION", "a registry of distribution 3", |program| {
            Self::of(TestRegistry::of(program, "", |_| String::new()))
        })
    }

    /// The store as a registry, which lists referrers.
    pub(crate) fn kilns() -> Self {
        Self::program(&crate::support::kiln::program(), |addr, folder| {
            format!("--store {} serve --writable --addr {addr}", folder.join("store").display())
        })
    }

    fn of(registry: TestRegistry) -> Self {
        let addr = registry.addr.clone();
        Self { addr, mounts: true, deletes: true, _server: Box::new(registry) }
    }

    /// One that a program serves with these words, of an address and of a folder for files.
    fn program(program: &Path, words: impl Fn(&str, &Path) -> String) -> Self {
        retried(|| {
            let (addr, folder) = (free_address("127.0.0.1"), tempfile::tempdir().unwrap());
            let words = words(&addr, folder.path());
            let mut command = Command::new(program);
            command.args(words.split(' ')).current_dir(folder.path());
            let child = listening(&mut command, &addr).unwrap()?;
            let server = Box::new(Served { child, _folder: folder });
            Some(Self { addr, mounts: true, deletes: true, _server: server })
        })
    }
}

/// A process, ended when it is dropped, and its files.
struct Served {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn suite(peer: Peer) {
    let bench = Bench::new(peer);
    single_images(&bench).await;
    indexes(&bench).await;
    forms_of_layers(&bench).await;
    artifacts(&bench).await;
    mounts_and_repeats(&bench).await;
    what_skopeo_wrote(&bench).await;
    what_crane_wrote(&bench).await;
    deletions(&bench).await;
}

struct Bench {
    peer: Peer,
    here: Here,
    at: Registries,
    crane: Option<PathBuf>,
}

impl Bench {
    fn new(peer: Peer) -> Self {
        let here = here();
        let at = anonymous(here.path());
        let crane = kiln::env::path("KILN_TEST_CRANE");
        if crane.is_none() {
            skip("KILN_TEST_CRANE is not set; tests/run builds crane and sets it");
        }
        Self { peer, here, at, crane }
    }

    fn name(&self, below: &str) -> Reference {
        name(format!("{}/{below}", self.peer.addr))
    }

    async fn push(&self, image: &AnyImage, to: &Reference, from: &Store) {
        let pinned = push(image, to, from, &self.at, &Progress::silent()).await.unwrap();
        assert_eq!(pinned.digest(), image.digest(), "{to}");
    }

    async fn pull(&self, from: &Reference, want: &Want, into: &Store) -> AnyImage {
        pull(from, want, into, &self.at, &Progress::silent()).await.unwrap()
    }

    /// Runs crane, which must succeed, without credentials of whoever runs the tests.
    fn crane(&self, arguments: &[&str]) -> Option<Vec<u8>> {
        let program = self.crane.as_ref()?;
        Some(crane(program, self.here.path(), arguments))
    }

    fn says(&self, arguments: &[&str]) -> Option<String> {
        self.crane(arguments).map(|bytes| String::from_utf8(bytes).unwrap().trim().to_owned())
    }

    fn raw(&self, to: &Reference) -> Vec<u8> {
        let shown = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{to}")];
        skopeo(&shown).into_bytes()
    }

    /// Has skopeo and crane read all of an image, each blob against its digest.
    fn is_read_by_others(&self, to: &Reference, image: &AnyImage) {
        assert_eq!(self.raw(to), image.raw().bytes, "{to}");
        let copy = self.here.path().join(format!("copy-{}", image.digest().short()));
        let all = if image.raw().media_type.is_index() { &["--all"][..] } else { &[] };
        skopeo_copy(all, &format!("docker://{to}"), &format!("dir:{}", copy.display()));
        let read = |file: &str| std::fs::read(copy.join(file)).unwrap();
        assert_eq!(read("manifest.json"), image.raw().bytes, "{to}");
        for layer in image.images().iter().flat_map(Image::layers) {
            assert_eq!(BlobDigest::of(&read(&layer.digest.hex())), layer.digest, "{to}");
        }
        std::fs::remove_dir_all(copy).unwrap();
        let to = to.to_string();
        let Some(digest) = self.says(&["digest", &to]) else { return };
        assert_eq!(digest, image.digest().to_string());
        assert_eq!(self.crane(&["manifest", &to]).unwrap(), image.raw().bytes);
        let mut layers = image.images().iter().flat_map(Image::layers);
        if layers.any(|layer| layer.compression != Compression::Gzip) {
            // `validate` reads gzip only. Each layer is checked as it comes.
            let pulled = self.here.path().join(format!("pulled-{}", image.digest().short()));
            self.crane(&["pull", "--format", "oci", &to, pulled.to_str().unwrap()]);
        } else {
            // All blobs, their digests and sizes, and the layers' content against the config.
            self.crane(&["validate", "--remote", &to]);
        }
    }

    /// Pulls all of an image into an empty store, by a name and by the digest.
    async fn comes_back(&self, from: &Reference, image: &AnyImage) {
        let other = self.here.other(&format!("back-{}", image.digest().short()));
        let pulled = self.pull(from, &Want::All, &other).await;
        assert_eq!(pulled.digest(), image.digest(), "{from}");
        assert_eq!(other.image_named(from).unwrap().digest(), image.digest());
        for layer in image.images().iter().flat_map(Image::layers) {
            assert!(other.has_blob(&layer.digest, layer.size), "{from}");
        }
        let pinned = from.pin(image.digest()).reference();
        self.pull(&pinned, &Want::All, &other).await;
        assert_eq!(other.image_named(&pinned).unwrap().digest(), image.digest());
    }
}

async fn single_images(bench: &Bench) {
    let store = &bench.here.store;
    let image = AnyImage::Image(image(store, &amd64(), &[b"one", &noise(1 << 20)]));
    let to = bench.name("team/single:v1");
    bench.push(&image, &to, store).await;
    bench.is_read_by_others(&to, &image);
    bench.comes_back(&to, &image).await;
    // Under its digest alone, in a repository that has no tag.
    let pinned = bench.name("team/untagged:x").pin(image.digest()).reference();
    bench.push(&image, &pinned, store).await;
    assert_eq!(bench.raw(&pinned), image.raw().bytes);
    if let Some(tags) = bench.says(&["ls", &format!("{}/team/single", bench.peer.addr)]) {
        assert_eq!(tags, "v1");
    }
    // What umoci unpacks it compares with the diff IDs.
    let layout = bench.here.path().join("layout");
    skopeo_copy(&[], &format!("docker://{to}"), &oci(&layout, "v1"));
    let bundle = bench.here.path().join("bundle");
    let (from, bundle_text) = (format!("{}:v1", layout.display()), bundle.to_str().unwrap());
    tool("umoci", "umoci", &["unpack", "--rootless", "--image", &from, bundle_text]);
    assert_eq!(std::fs::read(bundle.join("rootfs/hello")).unwrap(), noise(1 << 20));
}

async fn indexes(bench: &Bench) {
    let store = &bench.here.store;
    let arm = Platform::new("linux", "arm64");
    let images = vec![image(store, &amd64(), &[b"amd"]), image(store, &arm, &[b"arm", b"two"])];
    let index = assemble_index(images.clone(), Dialect::Oci, Default::default()).unwrap();
    let to = bench.name("team/index:v1");
    bench.push(&index, &to, store).await;
    bench.is_read_by_others(&to, &index);
    bench.comes_back(&to, &index).await;
    for (platform, image) in [(amd64(), &images[0]), (arm, &images[1])] {
        let into = bench.here.other(&format!("one-{}", image.digest().short()));
        let pulled = bench.pull(&to, &Want::One(platform.clone()), &into).await;
        assert_eq!(pulled.digest(), image.digest());
        let (platform, to) = (platform.to_string(), to.to_string());
        let of = |command: &str| bench.crane(&[command, "--platform", &platform, &to]);
        if let (Some(manifest), Some(config)) = (of("manifest"), of("config")) {
            assert_eq!(manifest, image.manifest().bytes, "{platform}");
            assert_eq!(config, image.config_raw().bytes, "{platform}");
        }
    }
}

async fn forms_of_layers(bench: &Bench) {
    let store = &bench.here.store;
    for compression in [Compression::Zstd, Compression::None] {
        let image = image_as(store, &amd64(), &[b"form", b"of it"], compression);
        let to = bench.name("forms:1");
        let image = AnyImage::Image(image);
        bench.push(&image, &to, store).await;
        bench.is_read_by_others(&to, &image);
        bench.comes_back(&to, &image).await;
    }
    // Docker's own types, alone and in a list.
    let image = image(store, &amd64(), &[b"docker's"]);
    let config = image.config_raw().bytes.clone();
    let docker = Dialect::Docker;
    let image = assemble_around(config, image.layers(), docker, Default::default()).unwrap();
    let list = assemble_index(vec![image.clone()], docker, Default::default()).unwrap();
    for (tag, image) in [("one", AnyImage::Image(image)), ("list", list)] {
        let to = bench.name(&format!("docker:{tag}"));
        bench.push(&image, &to, store).await;
        bench.is_read_by_others(&to, &image);
        bench.comes_back(&to, &image).await;
    }
}

/// What is no image, and belongs to one.
async fn artifacts(bench: &Bench) {
    let store = &bench.here.store;
    let subject = AnyImage::Image(image(store, &amd64(), &[b"subject"]));
    bench.push(&subject, &bench.name("signed:1"), store).await;
    let content = noise(5000);
    let kind = |text: &str| MediaType::from(text.to_owned());
    let (digest, size) = (store.put(&content).unwrap(), content.len() as u64);
    let layers = vec![Descriptor::new(kind("application/x.note"), digest, size)];
    let about = subject.raw().descriptor();
    let artifact = Artifact::about(&about, "application/x.note", layers, Default::default());
    let artifact = artifact.unwrap();
    let to = bench.name("signed:note");
    let silent = Progress::silent();
    let pinned = push_artifact(&artifact, &to, store, &bench.at, &silent).await.unwrap();
    assert_eq!(pinned.digest(), artifact.manifest.digest);
    assert_eq!(bench.raw(&to), artifact.manifest.bytes, "with its subject, byte for byte");
    let signed = bench.name("signed:1");
    let (of, found) =
        referrers(&signed, Some("application/x.note"), &bench.at, &silent).await.unwrap();
    assert_eq!(of, subject.digest());
    let found: Vec<_> = found.iter().map(|one| one.digest).collect();
    assert_eq!(found, [artifact.manifest.digest]);
    let (_, none) = referrers(&signed, Some("application/y"), &bench.at, &silent).await.unwrap();
    assert!(none.is_empty(), "{none:?}");
    let listed = tags(&signed, &bench.at, &silent).await.unwrap();
    assert!(listed.iter().any(|tag| tag == "1") && listed.iter().any(|tag| tag == "note"));
    let blob = format!("{}/signed@{digest}", bench.peer.addr);
    if let Some(bytes) = bench.crane(&["blob", &blob]) {
        assert_eq!(bytes, content);
    }
}

/// What need not move does not.
async fn mounts_and_repeats(bench: &Bench) {
    let (proxy, store) = (Proxy::before(&bench.peer.addr), &bench.here.store);
    let image = AnyImage::Image(image(store, &amd64(), &[&noise(300_001), &noise(200_001)]));
    let to = |repository: &str| name(format!("{}/{repository}:1", proxy.addr));
    // Each push as by a program of its own.
    let push = async |repository: &str| {
        let at = anonymous(bench.here.path());
        let silent = Progress::silent();
        push(&image, &to(repository), store, &at, &silent).await.unwrap();
        proxy.take()
    };
    assert_eq!(push("from/here").await.sent().len(), 3);
    let again = push("from/here").await;
    assert_eq!((again.writes(), again.count("HEAD", "")), (0, 0), "{:?}", again.0);
    let there = push("to/there").await;
    assert_eq!(there.count("POST", "mount="), 2, "{:?}", there.0);
    if bench.peer.mounts {
        assert_eq!((there.mounted(), there.sent().len()), (2, 1), "{:?}", there.0);
        assert!(there.sent()[0] < 10_000, "the config");
    } else {
        assert_eq!((there.mounted(), there.sent().len()), (0, 3), "{:?}", there.0);
    }
    bench.comes_back(&bench.name("to/there:1"), &image).await;
}

async fn what_skopeo_wrote(bench: &Bench) {
    let store = &bench.here.store;
    let arm = Platform::new("linux", "arm64");
    let images = vec![image(store, &amd64(), &[b"x"]), image(store, &arm, &[b"y"])];
    let index = assemble_index(images.clone(), Dialect::Oci, Default::default()).unwrap();
    let from = bench.name("skopeo/from:1");
    bench.push(&index, &from, store).await;
    for (tag, options, kind, compression) in [
        ("docker", &["--all", "--format", "v2s2"][..], MediaType::DockerList, Compression::Gzip),
        ("oci", &["--all"], MediaType::OciIndex, Compression::Gzip),
        ("zstd", &["--dest-compress-format", "zstd"], MediaType::OciManifest, Compression::Zstd),
        ("single", &["--format", "v2s2"], MediaType::DockerManifest, Compression::Gzip),
    ] {
        let to = bench.name(&format!("skopeo/to:{tag}"));
        skopeo_copy(options, &format!("docker://{from}"), &format!("docker://{to}"));
        let into = bench.here.other(tag);
        let whole = bench.pull(&to, &Want::All, &into).await;
        assert_eq!(whole.raw().media_type, kind, "{tag}");
        assert_eq!(whole.raw().bytes, bench.raw(&to), "{tag}");
        let pulled = bench.pull(&to, &Want::One(amd64()), &into).await;
        let layer = &pulled.images()[0].layers()[0];
        assert_eq!(layer.diff_id, images[0].layers()[0].diff_id, "{tag}");
        let bytes = std::fs::read(into.blob_path(&layer.digest)).unwrap();
        let zstd = bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        // skopeo re-compresses only if it must; the media type follows the bytes.
        assert_eq!(zstd, layer.compression == Compression::Zstd, "{tag}");
        assert!(tag == "zstd" || layer.compression == compression, "{tag}");
        // And back again, byte for byte.
        let back = bench.name(&format!("skopeo/back:{tag}"));
        bench.push(&whole, &back, &into).await;
        assert_eq!(bench.raw(&back), whole.raw().bytes, "{tag}");
    }
}

async fn what_crane_wrote(bench: &Bench) {
    let store = &bench.here.store;
    let base = AnyImage::Image(image(store, &amd64(), &[b"base"]));
    let to = bench.name("crane/base:1");
    bench.push(&base, &to, store).await;
    // From a layout of skopeo's, to another repository.
    let layout = bench.here.path().join("for-crane");
    skopeo_copy(&[], &format!("docker://{to}"), &oci(&layout, "1"));
    let pushed = bench.name("crane/pushed:1");
    if bench.crane(&["push", layout.to_str().unwrap(), &pushed.to_string()]).is_none() {
        return;
    }
    bench.comes_back(&pushed, &base).await;

    let tar = bench.here.path().join("more.tar");
    let more = layer(store, b"more", Compression::None);
    std::fs::copy(store.blob_path(&more.digest), &tar).unwrap();
    let (on, appended) = (to.to_string(), bench.name("crane/appended:1"));
    let (tag, file) = (appended.to_string(), tar.to_str().unwrap());
    let said = bench.says(&["append", "-b", &on, "-f", file, "-t", &tag]).unwrap();
    let into = bench.here.other("appended");
    let pulled = bench.pull(&appended, &Want::All, &into).await;
    assert!(said.ends_with(&pulled.digest().to_string()), "{said}");
    let layers = pulled.images()[0].layers();
    assert_eq!((layers.len(), layers[1].diff_id), (2, more.diff_id));
    assert_eq!(layers[0].digest, base.images()[0].layers()[0].digest);
}

/// What somebody removed is not there, and can be brought back.
async fn deletions(bench: &Bench) {
    if !bench.peer.deletes {
        return;
    }
    let store = &bench.here.store;
    let image = AnyImage::Image(image(store, &amd64(), &[b"to be removed"]));
    let to = bench.name("removed:1");
    bench.push(&image, &to, store).await;
    delete(&to, Removal::Manifest, &bench.at).await.unwrap();
    let silent = Progress::silent();
    for gone in [to.clone(), to.pin(image.digest()).reference()] {
        let error = resolve(&gone, &amd64(), &bench.at, &silent).await.unwrap_err();
        // Of some, the repository goes with its last image.
        let none = |error: &RegistryError| {
            matches!(error, RegistryError::NotFound { .. } | RegistryError::NoRepository { .. })
        };
        assert!(none(&error), "{gone}: {error}");
    }
    bench.push(&image, &to, store).await;
    assert_eq!(bench.raw(&to), image.raw().bytes);
}
