//! The distribution API against real registries and skopeo, and against servers
//! that fail or lie.

mod copy;
mod copy_hostile;
mod counted;
mod credentials;
mod faults;
mod images;
mod logins;
mod mirrors;
pub(crate) mod peers;
mod progress;
mod proxies;
mod referrers;
mod resume;
mod serve;
mod tags;
mod tls;
mod tokens;
mod trouble;
mod trust;

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
use crate::support::registry::{TestRegistry, certificate, oci, skopeo, skopeo_copy};

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
fn layer(store: &Store, content: &[u8], compression: Compression) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_path("hello").unwrap();
    header.set_cksum();
    tar.append(&header, content).unwrap();
    let tar = tar.into_inner().unwrap();
    let bytes = match compression {
        Compression::None => tar.clone(),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
            gzip.write_all(&tar).unwrap();
            gzip.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(&*tar, 1).unwrap(),
    };
    let digest = store.put(&bytes).unwrap();
    Layer { diff_id: DiffId::of(&tar), digest, size: bytes.len() as u64, compression }
}

fn image(store: &Store, platform: &Platform, contents: &[&[u8]]) -> Image {
    image_as(store, platform, contents, Compression::Gzip)
}

fn image_as(
    store: &Store,
    platform: &Platform,
    contents: &[&[u8]],
    compression: Compression,
) -> Image {
    let layers = contents.iter().map(|content| layer(store, content, compression));
    let layers: Vec<Layer> = layers.collect();
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
