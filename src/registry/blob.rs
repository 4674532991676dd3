//! Blobs from a registry (distribution spec, "Pulling blobs").
//!
//! A download that breaks off goes on where it was, if the registry can serve
//! ranges; the digest is taken over all of it in any case.

use std::io::Write as _;

use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::transport::{Ask, Session, why};
use super::{RegistryError, size_text};
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::image::{Descriptor, MAX_DOCUMENT};
use crate::layer::Layer;
use crate::net::{Backoff, IDLE};
use crate::progress::Task;
use crate::store::{BlobWriter, Store, StoreError};

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
    let response = session.ask(&Ask::new(Method::GET, url, what)).await?;
    let bytes = session.body(response, what, at.size).await?;
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
    let url = session.url(&format!("blobs/{}", layer.digest))?;
    let mut writer = into.writer()?;
    let mut backoff = Backoff::default();
    loop {
        let begun = writer.count();
        let mut ask = Ask::new(Method::GET, url.clone(), &what);
        if begun > 0 {
            let range = HeaderValue::from_str(&format!("bytes={begun}-"));
            if let Ok(range) = range {
                ask = ask.header(RANGE, range);
            }
        }
        let response = session.send(&ask).await?;
        let goes_on =
            response.status() == StatusCode::PARTIAL_CONTENT && starts_at(&response) == Some(begun);
        if begun > 0 && !goes_on {
            // No ranges here: from the beginning.
            writer = into.writer()?;
        }
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && begun > 0 {
            continue;
        }
        if !(response.status() == StatusCode::OK || goes_on) {
            return Err(session.refusal(response, &what).await);
        }
        if begun > 0 && goes_on {
            task.resumed(begun);
        }
        match receive(session, response, layer, &what, &mut writer, into, task).await? {
            None => break,
            Some(error) => {
                if writer.count() > begun {
                    backoff = Backoff::default();
                }
                let Some(pause) = backoff.wait(None) else { return Err(error) };
                task.waiting(pause, &error);
                tokio::time::sleep(pause).await;
            }
        }
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
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // One thread has nowhere to move them.
        _ => work(),
    }
}

/// Where the bytes of a partial answer begin (RFC 9110, 14.4).
fn starts_at(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Writes a response's body; gives the reason if it broke off, which may pass.
async fn receive(
    session: &Session,
    mut response: Response,
    layer: &Layer,
    what: &str,
    writer: &mut BlobWriter,
    into: &Store,
    task: &Task,
) -> Result<Option<RegistryError>, RegistryError> {
    loop {
        let piece = match tokio::time::timeout(IDLE, response.chunk()).await {
            Ok(Ok(piece)) => piece,
            // Nothing is lacking, whatever the connection's end was: the digest decides.
            Ok(Err(_)) | Err(_) if writer.count() == layer.size => None,
            Ok(Err(error)) => return Ok(Some(session.interrupted(what, why(error)))),
            Err(_) => {
                let why = format!("nothing came for {} s", IDLE.as_secs());
                return Ok(Some(session.interrupted(what, why)));
            }
        };
        let Some(piece) = piece else {
            let (count, size) = (writer.count(), layer.size);
            if count < size {
                let why = format!("it ended after {count} of {size} bytes");
                return Ok(Some(session.interrupted(what, why)));
            }
            return Ok(None);
        };
        if writer.count() + piece.len() as u64 > layer.size {
            let expected = format!("{} bytes", layer.size);
            return Err(mismatch(session, what, expected, "more".into()));
        }
        writer.write_all(&piece).at("write", into.blob_path(&layer.digest))?;
        task.bytes(writer.count(), Some(layer.size));
    }
}
