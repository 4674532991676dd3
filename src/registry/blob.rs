//! Blobs from a registry (distribution spec, "Pulling blobs").
//!
//! A download that breaks off goes on where it was ([`Reading`]); the digest is taken over
//! all of it in any case.

use std::io::Write as _;

use reqwest::{Method, StatusCode};

use super::reading::Reading;
use super::transport::{Ask, Session};
use super::{RegistryError, size_text};
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::image::{Descriptor, MAX_DOCUMENT};
use crate::layer::Layer;
use crate::progress::Task;
use crate::store::{Store, StoreError};

/// Fetches a small blob, a config, and verifies it.
pub(super) async fn document(
    session: &Session,
    at: &Descriptor,
    what: &str,
) -> Result<Vec<u8>, RegistryError> {
    if at.size > MAX_DOCUMENT {
        return Err(RegistryError::TooLarge {
            host: session.host.clone(),
            what: what.into(),
            limit: MAX_DOCUMENT,
        });
    }
    let url = session.url(&format!("blobs/{}", at.digest))?;
    let (_, bytes) = session.fetch(&Ask::new(Method::GET, url, what), at.size).await?;
    let found = BlobDigest::of(&bytes);
    if found != at.digest {
        return Err(mismatch(session, what, at.digest.to_string(), found.to_string()));
    }
    Ok(bytes)
}

fn mismatch(session: &Session, what: &str, expected: String, found: String) -> RegistryError {
    RegistryError::Mismatch { host: session.host.clone(), what: what.into(), expected, found }
}

/// True if the repository has this blob.
pub(super) async fn exists(
    session: &Session,
    digest: BlobDigest,
    what: &str,
) -> Result<bool, RegistryError> {
    let url = session.url(&format!("blobs/{digest}"))?;
    let response = session.send(&Ask::new(Method::HEAD, url, what)).await?;
    match response.status() {
        status if status.is_success() => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(session.refusal(response, what).await),
    }
}

/// Fetches a layer into the store. Nothing is there before all of it was verified.
pub(super) async fn download(
    session: &Session,
    layer: &Layer,
    into: &Store,
    task: &Task,
) -> Result<(), RegistryError> {
    let what = format!("layer {} ({})", layer.digest, size_text(layer.size));
    let mut writer = into.writer()?;
    let mut reading = Reading::new(session, layer.digest, layer.size, 0, &what)?.telling(task);
    while let Some(piece) = reading.next().await? {
        writer.write_all(&piece).at("write", into.blob_path(&layer.digest))?;
        task.bytes(writer.count(), Some(layer.size));
    }
    match blocking(|| writer.commit(Some((&layer.digest, layer.size)))) {
        Ok(_) => Ok(()),
        Err(StoreError::Mismatch { expected, found, .. }) => {
            Err(mismatch(session, &what, expected, found))
        }
        Err(other) => Err(other.into()),
    }
}

/// Waits for the disk without keeping a worker's other tasks from running.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // One thread has nowhere to move them.
        _ => work(),
    }
}
