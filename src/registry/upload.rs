//! Blobs to a registry (distribution spec, "Pushing blobs").
//!
//! One POST opens a session, one PUT brings all bytes, streamed from the store. The
//! registry compares them with the digest that the PUT states (it refuses what does not
//! match), so they are not hashed here as well; after a refusal the store's blob is read
//! again, to say whether it is to blame. An upload that breaks off begins anew.

use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::RegistryError;
use super::transport::{Ask, Body, Session, passing};
use crate::atomic::PathError;
use crate::digest::BlobDigest;
use crate::net::{Backoff, IDLE, PutError, PutFile};
use crate::progress::Task;
use crate::store::{Store, StoreError};

/// Bytes read at once from the store.
const PIECE: usize = 256 << 10;

/// Pieces of one upload that are in memory at once: read, waiting, and being sent.
const PIECES: usize = 4;

/// Longest wait for the reader of a blob once the registry has answered.
const LEFT: Duration = Duration::from_secs(2);

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
}

/// Has the registry take a blob from another of its repositories (distribution spec,
/// "Mounting a blob from another repository"). Where it does not, it opens a session for
/// the bytes, whose address is given then.
pub(super) async fn mount(
    session: &Session,
    digest: BlobDigest,
    from: &str,
    what: &str,
) -> Result<Option<Url>, RegistryError> {
    let mut url = session.url("blobs/uploads/")?;
    url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
    let response = session.ask(&Ask::new(Method::POST, url.clone(), what)).await?;
    match response.status() {
        StatusCode::CREATED => Ok(None),
        _ => opened(session, &url, &response, what).map(Some),
    }
}

/// Sends a blob, into the session at `opened` if there is one.
pub(super) async fn send(
    session: &Session,
    blob: &Blob<'_>,
    mut opened: Option<Url>,
    what: &str,
    task: &Task,
) -> Result<(), RegistryError> {
    let mut backoff = Backoff::default();
    loop {
        let url = match opened.take() {
            Some(url) => url,
            None => begin(session, what).await?,
        };
        let error = match put(session, blob, url, what, task).await {
            Ok(response) if response.status().is_success() => return Ok(()),
            // The session ran out, or the token: both are renewed by a new beginning.
            Ok(response)
                if matches!(
                    response.status(),
                    StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED
                ) || passing(response.status()) =>
            {
                session.refusal(response, what).await
            }
            Ok(response) => {
                if let Source::Store(store) = blob.source {
                    verify(store, blob.digest).await?;
                }
                return Err(session.refusal(response, what).await);
            }
            Err(error) if error.may_pass() => error,
            Err(error) => return Err(error),
        };
        let Some(pause) = backoff.wait(None) else { return Err(error) };
        task.waiting(pause, &error);
        tokio::time::sleep(pause).await;
    }
}

/// Opens a session and gives its address.
async fn begin(session: &Session, what: &str) -> Result<Url, RegistryError> {
    let url = session.url("blobs/uploads/")?;
    let response = session.ask(&Ask::new(Method::POST, url.clone(), what)).await?;
    opened(session, &url, &response, what)
}

/// The address to send to.
fn opened(
    session: &Session,
    from: &Url,
    response: &Response,
    what: &str,
) -> Result<Url, RegistryError> {
    match response.status() {
        StatusCode::ACCEPTED => session.location(from, response, what),
        status => Err(RegistryError::Protocol {
            host: session.host.clone(),
            why: format!("it answers {status} to the beginning of an upload"),
        }),
    }
}

/// Reads a blob of the store from end to end: an error if it is not what its digest says.
async fn verify(store: &Store, digest: BlobDigest) -> Result<(), RegistryError> {
    let mut reader = store.open_blob(&digest)?;
    let read = move || std::io::copy(&mut reader, &mut std::io::sink());
    match tokio::task::spawn_blocking(read).await {
        Ok(Err(error)) => Err(unreadable(store, digest, error)),
        // Only a panic or the runtime's end are left, which the refusal is better than.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

fn unreadable(store: &Store, digest: BlobDigest, source: std::io::Error) -> RegistryError {
    let path = store.blob_path(&digest);
    StoreError::Io(PathError { what: "read", path, source }).into()
}

async fn put(
    session: &Session,
    blob: &Blob<'_>,
    mut url: Url,
    what: &str,
    task: &Task,
) -> Result<Response, RegistryError> {
    url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
    let ask = Ask::new(Method::PUT, url, what)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
        .header(CONTENT_LENGTH, HeaderValue::from(blob.size));
    let store = match blob.source {
        Source::Memory(bytes) => {
            return session.send(&ask.body(Body::Bytes(bytes.clone()))).await;
        }
        Source::Store(store) => store,
    };
    let (file, found) = store.open_unchecked(&blob.digest)?;
    if found != blob.size {
        let (expected, found) = (blob.size.to_string(), found.to_string());
        return Err(StoreError::Mismatch { what: "size", expected, found }.into());
    }
    if PutFile::can(&ask.url) {
        return put_file(session, blob, ask, file, store, task).await;
    }
    let (body, sent, reading) = stream(file, blob.size);
    let ask = ask.body(Body::Stream(Mutex::new(Some(body))));
    let answer = watched(session, session.send(&ask), &sent, blob.size, what, task).await;
    // What is left of the stream lies in the request; without it the reader ends.
    drop(ask);
    // A blob that cannot be read is the cause, whatever the registry said to it.
    // A registry that has answered need not take the rest: that is not waited for.
    if let Ok(Ok(Err(error))) = tokio::time::timeout(LEFT, reading).await {
        return Err(unreadable(store, blob.digest, error));
    }
    answer
}

/// Tells a thread, when it is dropped, that nobody waits for it any more.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// As [`put`], to a registry of this machine.
async fn put_file(
    session: &Session,
    blob: &Blob<'_>,
    ask: Ask<'_>,
    file: File,
    store: &Store,
    task: &Task,
) -> Result<Response, RegistryError> {
    let Ask { url, mut headers, what, .. } = ask;
    // The client's own word counts.
    headers.remove(CONTENT_LENGTH);
    headers.extend(session.authorization(&url).map(|value| (AUTHORIZATION, value)));
    let (size, digest) = (blob.size, blob.digest);
    let (sent, wanted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
    let _wanted = Wanted(Arc::clone(&wanted));
    let count = Arc::clone(&sent);
    let sending = tokio::task::spawn_blocking(move || {
        let put = PutFile { url, headers, file, size };
        put.put(&count, || wanted.load(Ordering::Relaxed))
    });
    let answer = async {
        match sending.await {
            Ok(Ok(answer)) => Ok(answer.into()),
            Ok(Err(PutError::File(error))) => Err(unreadable(store, digest, error)),
            Ok(Err(PutError::Server(error))) => Err(session.interrupted(what, error.to_string())),
            Err(error) => Err(session.interrupted(what, error.to_string())),
        }
    };
    watched(session, answer, &sent, size, what, task).await
}

/// Waits for the answer while the bytes move.
async fn watched(
    session: &Session,
    sending: impl Future<Output = Result<Response, RegistryError>>,
    sent: &AtomicU64,
    size: u64,
    what: &str,
    task: &Task,
) -> Result<Response, RegistryError> {
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

/// Bytes on their way out; their memory goes back to whoever reads when they are sent.
struct Piece {
    bytes: Vec<u8>,
    length: usize,
    back: SyncSender<Vec<u8>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Nobody reads any more at the blob's end. There is room for all pieces.
        let _ = self.back.try_send(std::mem::take(&mut self.bytes));
    }
}

/// A body that reads a file on a thread of its own, and the number of bytes that went
/// out.
fn stream(file: File, size: u64) -> (reqwest::Body, Arc<AtomicU64>, Reading) {
    let sent = Arc::new(AtomicU64::new(0));
    let (to, from) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(2);
    let reading = tokio::task::spawn_blocking(move || {
        let read = pieces(file, size, &to);
        if read.is_err() {
            // The request must not end as if it were complete.
            let _ = to.blocking_send(Err(std::io::Error::other("cannot read the blob")));
        }
        read
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
    (reqwest::Body::wrap_stream(pieces), sent, reading)
}

/// Reads a file into a few buffers in turn.
fn pieces(mut file: File, size: u64, to: &Sender<std::io::Result<Bytes>>) -> std::io::Result<()> {
    let (back, free) = sync_channel::<Vec<u8>>(PIECES);
    let (mut made, mut left) = (0, size);
    while left > 0 {
        let waiting = free.try_recv().ok();
        let mut bytes = match waiting {
            Some(bytes) => bytes,
            None if made < PIECES => {
                made += 1;
                vec![0; PIECE]
            }
            // `back` is here: one comes back, at the latest when the request is dropped.
            None => free.recv().map_err(std::io::Error::other)?,
        };
        let length = file.read(&mut bytes)?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(length as u64);
        let piece = Piece { bytes, length, back: back.clone() };
        if to.blocking_send(Ok(Bytes::from_owner(piece))).is_err() {
            // The request is over; whoever made it knows why.
            return Ok(());
        }
    }
    Ok(())
}
