//! Artifacts to a registry: layers and the config, then the manifest, as an image is
//! pushed.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use super::destination::Destination;
use super::pull::AT_ONCE;
use super::{Registries, RegistryError, blob, manifest, referrers};
use crate::digest::BlobDigest;
use crate::image::{Artifact, Descriptor};
use crate::progress::Progress;
use crate::reference::{Pinned, Reference};
use crate::store::Store;

/// The layers that neither the store nor the repository has.
///
/// # Errors
/// If the registry does not say.
pub async fn lacking(
    artifact: &Artifact,
    to: &Reference,
    from: &Store,
    at: &Registries,
) -> Result<Vec<BlobDigest>, RegistryError> {
    let absent = |layer: &&Descriptor| !from.has_blob(&layer.digest, layer.size);
    let absent: Vec<&Descriptor> = artifact.layers.iter().filter(absent).collect();
    let mut lacking = Vec::new();
    if absent.is_empty() {
        return Ok(lacking);
    }
    let Destination { session, .. } = Destination::open(to, at).await?;
    for layer in absent {
        if blob::exists(&session, layer.digest, &format!("layer {}", layer.digest)).await? {
            session.set_held(layer.digest);
        } else {
            lacking.push(layer.digest);
        }
    }
    Ok(lacking)
}

/// Brings an artifact to a registry and gives the reference that names exactly it.
///
/// # Errors
/// If the registry does not take it, or a layer is neither there nor in the store.
pub async fn push_artifact(
    artifact: &Artifact,
    to: &Reference,
    from: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<Pinned, RegistryError> {
    at.tell(progress);
    let destination = Destination::open(to, at).await?;
    let config = Bytes::from(artifact.config.bytes.clone());
    let layer =
        |layer: &Descriptor| destination.layer(layer.digest, layer.size, from, progress).boxed();
    let mut blobs: Vec<BoxFuture<'_, _>> = artifact.layers.iter().map(layer).collect();
    blobs.push(destination.config(artifact.config.digest, &config, progress).boxed());
    let blobs = futures_util::stream::iter(blobs).buffer_unordered(AT_ONCE);
    blobs.try_collect::<()>().await?;
    let digest = artifact.manifest.digest;
    let selector = to.tag().map_or_else(|| digest.to_string(), str::to_owned);
    let what = format!("manifest of {}", to.familiar());
    let task = progress.task(format!("push {what}"));
    referrers::put(&destination.session, &artifact.manifest, &selector, &what).await?;
    manifest::get(&destination.session, &digest.to_string(), &what).await?;
    task.done();
    Ok(to.pin(digest))
}
