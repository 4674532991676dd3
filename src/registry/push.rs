//! Images from the store to a registry: blobs, then configs, then manifests, then
//! the index, so that the registry never names what it lacks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::pull::{AT_ONCE, origin, remember_origin};
use super::transport::{Action, Session};
use super::upload::{Blob, Came, Source, upload};
use super::{Registries, RegistryError, manifest, size_text};
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Descriptor, Index, Manifest, Raw};
use crate::progress::Progress;
use crate::reference::{Pinned, Reference};
use crate::store::Store;

/// What an image consists of, in the order to bring it.
#[derive(Default)]
struct Parts {
    /// Layers, and the blobs of what is listed beside images; digest to size.
    blobs: BTreeMap<BlobDigest, u64>,
    configs: BTreeMap<BlobDigest, Bytes>,
    /// The manifests below an index.
    manifests: Vec<Raw>,
    /// Entries of the index that are not in the store.
    absent: Vec<BlobDigest>,
}

impl Parts {
    fn of(image: &AnyImage, from: &Store) -> Result<Self, RegistryError> {
        let mut parts = Self::default();
        for one in image.images() {
            parts.blobs.extend(one.layers().iter().map(|layer| (layer.digest, layer.size)));
            let config = one.config_raw();
            parts.configs.insert(config.digest, config.bytes.clone().into());
        }
        let AnyImage::Index { raw, images } = image else { return Ok(parts) };
        parts.manifests = images.iter().map(|one| one.manifest().clone()).collect();
        let have: BTreeSet<BlobDigest> = parts.manifests.iter().map(|raw| raw.digest).collect();
        let listed = Index::read(&raw.bytes).map_err(|source| RegistryError::Document {
            what: format!("index {}", raw.digest),
            source,
        })?;
        for entry in listed.manifests.iter().filter(|entry| !have.contains(&entry.digest)) {
            parts.beside(entry, from)?;
        }
        Ok(parts)
    }

    /// An entry of the index that is no image of this build: an attestation, or a
    /// platform that was not pulled.
    fn beside(&mut self, entry: &Descriptor, from: &Store) -> Result<(), RegistryError> {
        if !entry.media_type.is_manifest() || !from.has_blob(&entry.digest, entry.size) {
            self.absent.push(entry.digest);
            return Ok(());
        }
        let bytes = from.document(&entry.digest)?;
        let parsed = Manifest::read(&bytes).map_err(|source| RegistryError::Document {
            what: format!("manifest {}", entry.digest),
            source,
        })?;
        for blob in parsed.layers.iter().chain([&parsed.config]) {
            self.blobs.insert(blob.digest, blob.size);
        }
        self.manifests.push(Raw::new(bytes, entry.media_type.clone()));
        Ok(())
    }
}

/// Brings an image to a registry and gives the reference that names exactly it.
/// The digest is one that the registry was seen to hold.
///
/// # Errors
/// If the registry does not take it, or the store lacks a part that the registry
/// lacks too.
pub async fn push(
    image: &AnyImage,
    to: &Reference,
    from: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<Pinned, RegistryError> {
    let digest = image.digest();
    if let Some(wanted) = to.digest().filter(|wanted| *wanted != digest) {
        return Err(RegistryError::Mismatch {
            host: to.registry().into(),
            what: format!("the image pushed to {}", to.familiar()),
            expected: wanted.to_string(),
            found: digest.to_string(),
        });
    }
    let parts = Parts::of(image, from)?;
    let session = open(&parts, to, from, at).await?;
    blobs(&session, &parts, from, progress).await?;
    for (digest, bytes) in &parts.configs {
        let what = format!("config {digest}");
        let task = progress.task(format!("push config sha256:{}", digest.short()));
        let size = bytes.len() as u64;
        let source = Source::Memory(bytes);
        let blob = Blob { digest: *digest, size, source, mount: None };
        upload(&session, &blob, &what, &task).await?;
        task.done();
    }
    for digest in &parts.absent {
        if !manifest::exists(&session, *digest, &format!("manifest {digest}")).await? {
            return Err(RegistryError::Incomplete { digest: *digest });
        }
    }
    for raw in &parts.manifests {
        let what = format!("manifest {}", raw.digest);
        manifest::put(&session, raw, &raw.digest.to_string(), &what).await?;
    }
    let selector = to.tag().map_or_else(|| digest.to_string(), str::to_owned);
    let what = format!("manifest of {}", to.familiar());
    let task = progress.task(format!("push manifest of {}", to.familiar()));
    manifest::put(&session, image.raw(), &selector, &what).await?;
    // What it says it holds is read back by the digest that is given out.
    manifest::get(&session, &digest.to_string(), &what).await?;
    task.done();
    Ok(to.pin(digest))
}

/// Opens the registry for pushing. To mount blobs from other repositories the
/// token must allow reading those; a registry that refuses such a token is asked
/// for a plain one.
async fn open(
    parts: &Parts,
    to: &Reference,
    from: &Store,
    at: &Registries,
) -> Result<Session, RegistryError> {
    let place = at.mirrors().for_push(to)?;
    let mut session = Session::open(at, &place, Action::Push).await?;
    let origins: BTreeSet<String> = parts
        .blobs
        .keys()
        .filter_map(|digest| origin(from, *digest, &place.host, &place.repository))
        .collect();
    if origins.is_empty() {
        return Ok(session);
    }
    session.read_also(origins);
    let probe = BlobDigest::of(b"");
    match super::blob::exists(&session, probe, "the repository").await {
        Err(
            RegistryError::Token { .. }
            | RegistryError::Denied { .. }
            | RegistryError::Unauthorized { .. },
        ) => Session::open(at, &place, Action::Push).await,
        _ => Ok(session),
    }
}

/// Brings the blobs, a few at once; the first error ends all.
async fn blobs(
    session: &Session,
    parts: &Parts,
    from: &Store,
    progress: &Progress,
) -> Result<(), RegistryError> {
    let mut waiting = parts.blobs.iter();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < AT_ONCE {
            let Some((digest, size)) = waiting.next() else { break };
            running.push(blob(session, *digest, *size, from, progress));
        }
        match running.next().await {
            Some(result) => result?,
            None => return Ok(()),
        }
    }
}

async fn blob(
    session: &Session,
    digest: BlobDigest,
    size: u64,
    from: &Store,
    progress: &Progress,
) -> Result<(), RegistryError> {
    let what = format!("layer {digest} ({})", size_text(size));
    let task = progress.task(format!("push sha256:{} ({})", digest.short(), size_text(size)));
    let known = origin(from, digest, &session.host, &session.repository);
    let mount = known.as_deref().filter(|name| session.may_read(name));
    let blob = Blob { digest, size, source: Source::Store(from), mount };
    match upload(session, &blob, &what, &task).await? {
        Came::WasThere | Came::Mounted => task.cached(),
        Came::Sent => {
            task.bytes(size, Some(size));
            task.done();
        }
    }
    remember_origin(from, digest, &session.host, &session.repository)
}
