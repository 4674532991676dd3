//! Images from the store to a registry: blobs, then configs, then manifests, then
//! the index, so that the registry never names what it lacks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use super::destination::Destination;
use super::pull::AT_ONCE;
use super::transport::Session;
use super::{Registries, RegistryError, manifest, origin, referrers};
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
/// The digest is one that the registry was seen to hold. Where the name means this image
/// already, that is all that is asked.
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
    at.tell(progress);
    let parts = Parts::of(image, from)?;
    let destination = Destination::open(to, at).await?;
    let session = &destination.session;
    let selector = to.tag().map_or_else(|| digest.to_string(), str::to_owned);
    let what = format!("manifest of {}", to.familiar());
    let task = progress.task(format!("push manifest of {}", to.familiar()));
    // What was just sent there was lacking: the name cannot mean this image then.
    let lacked = at.take_sent(&session.name());
    if !lacked && is_whole(session, image, &parts, &selector, &what).await? {
        for digest in parts.blobs.keys() {
            origin::remember(from, *digest, &session.name())?;
        }
        task.cached();
        return Ok(to.pin(digest));
    }
    blobs(&destination, &parts, from, progress).await?;
    for digest in &parts.absent {
        if !manifest::exists(session, *digest, &format!("manifest {digest}")).await? {
            return Err(RegistryError::Incomplete { digest: *digest });
        }
    }
    for raw in &parts.manifests {
        let what = format!("manifest {}", raw.digest);
        referrers::put(session, raw, &raw.digest.to_string(), &what).await?;
    }
    referrers::put(session, image.raw(), &selector, &what).await?;
    // What it says it holds is read back by the digest that is given out.
    manifest::get(session, &digest.to_string(), &what).await?;
    at.take_sent(&session.name());
    task.done();
    Ok(to.pin(digest))
}

/// True if the name means this very image there already. The registry refused its
/// document when a part was lacking, and keeps the parts as long as that is there. What an
/// index lists could be removed by itself, so it is asked for.
async fn is_whole(
    session: &Session,
    image: &AnyImage,
    parts: &Parts,
    selector: &str,
    what: &str,
) -> Result<bool, RegistryError> {
    if !manifest::is(session, image.raw(), selector, what).await? {
        return Ok(false);
    }
    let listed = parts.manifests.iter().map(|raw| raw.digest).chain(parts.absent.iter().copied());
    for digest in listed {
        if !manifest::exists(session, digest, &format!("manifest {digest}")).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Brings layers and configs, a few at once; the first error ends all.
async fn blobs(
    destination: &Destination,
    parts: &Parts,
    from: &Store,
    progress: &Progress,
) -> Result<(), RegistryError> {
    let layer = |(digest, size): (&BlobDigest, &u64)| {
        destination.layer(*digest, *size, from, progress).boxed()
    };
    let config = |(digest, bytes): (&BlobDigest, &Bytes)| {
        let (digest, bytes) = (*digest, bytes.clone());
        async move { destination.config(digest, &bytes, progress).await }.boxed()
    };
    let all = parts.configs.iter().map(config).chain(parts.blobs.iter().map(layer));
    let all: Vec<BoxFuture<'_, _>> = all.collect();
    futures_util::stream::iter(all).buffer_unordered(AT_ONCE).try_collect().await
}
