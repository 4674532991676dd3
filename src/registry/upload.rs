//! Blobs to a registry (distribution spec, "Pushing blobs").
//!
//! One POST opens a session, one PUT brings all bytes, streamed from the store,
//! which verifies them on the way. A registry that already has the blob, or can
//! mount it from another repository, gets no bytes. An upload that breaks off
//! begins anew.

use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::Instant;

use super::transport::{Ask, Body, Session, passing};
use super::{RegistryError, blob};
use crate::digest::BlobDigest;
use crate::net::{Backoff, IDLE};
use crate::progress::Task;
use crate::store::{Store, StoreError};

/// Bytes read at once from the store; a few such pieces are in memory.
const PIECE: usize = 256 << 10;

/// How long a registry may take to check what it has received.
const CHECKING: Duration = Duration::from_secs(300);

/// Where an upload's bytes come from.
pub(super) enum Source<'a> {
    Memory(&'a Bytes),
    Store(&'a Store),
}

/// A blob to bring.
pub(super) struct Blob<'a> {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
    pub(super) source: Source<'a>,
    /// A repository of the same registry that is known to have it.
    pub(super) mount: Option<&'a str>,
}

/// How a blob came to be at the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    WasThere,
    Mounted,
    Sent,
}

/// Sees to it that the repository has a blob.
pub(super) async fn upload(
    session: &Session,
    blob: &Blob<'_>,
    what: &str,
    task: &Task,
) -> Result<Came, RegistryError> {
    if blob::exists(session, blob.digest, what).await? {
        return Ok(Came::WasThere);
    }
    let mut backoff = Backoff::default();
    let mut mount = blob.mount;
    loop {
        let Some(url) = begin(session, blob.digest, mount.take(), what).await? else {
            return Ok(Came::Mounted);
        };
        let error = match send(session, blob, url, what, task).await {
            Ok(response) if response.status().is_success() => return Ok(Came::Sent),
            // The session ran out, or the token: both are renewed by a new beginning.
            Ok(response)
                if matches!(
                    response.status(),
                    StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED
                ) || passing(response.status()) =>
            {
                session.refusal(response, what).await
            }
            Ok(response) => return Err(session.refusal(response, what).await),
            Err(error) if error.may_pass() => error,
            Err(error) => return Err(error),
        };
        let Some(pause) = backoff.wait(None) else { return Err(error) };
        tokio::time::sleep(pause).await;
    }
}

/// Opens a session and gives its address; `None` if the blob was mounted.
async fn begin(
    session: &Session,
    digest: BlobDigest,
    mount: Option<&str>,
    what: &str,
) -> Result<Option<Url>, RegistryError> {
    let mut url = session.url("blobs/uploads/")?;
    if let Some(from) = mount {
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
    }
    let response = session.ask(&Ask::new(Method::POST, url.clone(), what)).await?;
    match response.status() {
        StatusCode::CREATED if mount.is_some() => Ok(None),
        StatusCode::ACCEPTED => {
            let mut url = session.location(&url, &response, what)?;
            url.query_pairs_mut().append_pair("digest", &digest.to_string());
            Ok(Some(url))
        }
        status => Err(RegistryError::Protocol {
            host: session.host.clone(),
            why: format!("it answers {status} to the beginning of an upload"),
        }),
    }
}

async fn send(
    session: &Session,
    blob: &Blob<'_>,
    url: Url,
    what: &str,
    task: &Task,
) -> Result<Response, RegistryError> {
    let ask = Ask::new(Method::PUT, url, what)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
        .header(CONTENT_LENGTH, HeaderValue::from(blob.size));
    let store = match blob.source {
        Source::Memory(bytes) => {
            return session.send(&ask.body(Body::Bytes(bytes.clone()))).await;
        }
        Source::Store(store) => store,
    };
    let (body, sent, reading) = stream(store, blob.digest, blob.size)?;
    let ask = ask.body(Body::Stream(Mutex::new(Some(body))));
    let answer = watched(session, &ask, &sent, blob.size, what, task).await;
    // What is left of the stream lies in the request; without it the reader ends.
    drop(ask);
    // A damaged blob is the cause, whatever the registry said to it.
    if let Ok(Err(error)) = reading.await {
        return Err(StoreError::Io(crate::atomic::PathError {
            what: "read",
            path: store.blob_path(&blob.digest),
            source: error,
        })
        .into());
    }
    answer
}

/// Waits for the answer while the stream moves.
async fn watched(
    session: &Session,
    ask: &Ask<'_>,
    sent: &AtomicU64,
    size: u64,
    what: &str,
    task: &Task,
) -> Result<Response, RegistryError> {
    let sending = session.send(ask);
    tokio::pin!(sending);
    let (mut last, mut since) = (0, Instant::now());
    loop {
        tokio::select! {
            answer = &mut sending => return answer,
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
        }
        let now = sent.load(Ordering::Relaxed);
        task.bytes(now, Some(size));
        if now != last {
            (last, since) = (now, Instant::now());
        }
        let patience = if now >= size { CHECKING } else { IDLE };
        if since.elapsed() > patience {
            let why = format!("nothing moved for {} s", patience.as_secs());
            return Err(session.interrupted(what, why));
        }
    }
}

type Reading = tokio::task::JoinHandle<std::io::Result<()>>;

/// A body that reads a blob from the store on a thread of its own, and the
/// number of bytes that went out.
fn stream(
    store: &Store,
    digest: BlobDigest,
    size: u64,
) -> Result<(reqwest::Body, Arc<AtomicU64>, Reading), RegistryError> {
    let mut reader = store.open_blob(&digest)?;
    if reader.size() != size {
        let (expected, found) = (size.to_string(), reader.size().to_string());
        return Err(StoreError::Mismatch { what: "size", expected, found }.into());
    }
    let sent = Arc::new(AtomicU64::new(0));
    let (to, from) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(2);
    let reading = tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            let length = match reader.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) => {
                    // The request must not end as if it were complete.
                    let _ = to.blocking_send(Err(std::io::Error::other("cannot read the blob")));
                    return Err(error);
                }
            };
            piece.truncate(length);
            if to.blocking_send(Ok(piece.into())).is_err() {
                // The request is over; whoever made it knows why.
                return Ok(());
            }
        }
    });
    let count = Arc::clone(&sent);
    let pieces = futures_util::stream::unfold(from, move |mut from| {
        let count = Arc::clone(&count);
        async move {
            let piece = from.recv().await?;
            if let Ok(piece) = &piece {
                count.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            Some((piece, from))
        }
    });
    Ok((reqwest::Body::wrap_stream(pieces), sent, reading))
}
