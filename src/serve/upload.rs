//! Uploads under way: each a blob in the store's `tmp/` that grows piece by piece and has
//! no name yet. An upload outlives the connection it began on, so that a client may go on
//! where it was interrupted; it does not outlive the server, nor an hour in which nobody
//! brings anything, nor a day: it holds a session of the store, and so what was in it.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::JoinHandle;

use super::answer::Refusal;
use super::path::Named;
use super::piece::Transfer;
use super::stall::{IDLE, Window};
use crate::digest::{BlobDigest, Digest};
use crate::store::{BlobWriter, Store, StoreError};

/// Most uploads at a time.
const MOST: usize = 256;
/// How long one stays that nobody goes on with.
const LEFT: Duration = Duration::from_secs(3600);
/// How long one may take in all.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Longest wait for an earlier request to let go of an upload, or of room for a manifest.
pub(super) const TURN: Duration = Duration::from_secs(20);

/// All uploads under way, by a number that cannot be guessed.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Arc<Upload>>>);

/// One upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) id: String,
    repository: String,
    /// Bytes that are there: what a client asks before it goes on.
    written: AtomicU64,
    begun: Instant,
    /// When somebody last began or ended to bring something.
    touched: Mutex<Instant>,
    /// Nothing once it is closed.
    writer: Arc<tokio::sync::Mutex<Option<BlobWriter>>>,
    /// Counts the requests that brought bytes: a later one ends an earlier one, whose
    /// connection may be gone without anybody having noticed.
    requests: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown() -> Refusal {
    Refusal::absent("BLOB_UPLOAD_UNKNOWN", "there is no such upload; begin anew")
}

impl Uploads {
    /// Begins one.
    pub(super) fn begin(&self, store: &Store, named: &Named) -> Result<Arc<Upload>, Refusal> {
        self.tidy();
        let mut number = [0; 16];
        rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Refusal::inside(format!("cannot get random numbers: {error}")))?;
        let upload = Arc::new(Upload {
            id: Digest::of(&number).hex()[..32].to_owned(),
            repository: named.exact.name(),
            written: AtomicU64::new(0),
            begun: Instant::now(),
            touched: Mutex::new(Instant::now()),
            writer: Arc::new(tokio::sync::Mutex::new(Some(store.writer()?))),
            requests: watch::Sender::new(0),
        });
        let mut all = lock(&self.0);
        if all.len() >= MOST {
            return Err(Refusal::too_many("too many uploads are under way"));
        }
        all.insert(upload.id.clone(), Arc::clone(&upload));
        Ok(upload)
    }

    /// The one with a number, which must be for this repository.
    pub(super) fn find(&self, named: &Named, id: &str) -> Result<Arc<Upload>, Refusal> {
        let found = lock(&self.0).get(id).map(Arc::clone);
        let found = found.filter(|upload| upload.repository == named.exact.name());
        found.ok_or_else(unknown)
    }

    /// Ends one; what it brought is gone unless it was closed.
    pub(super) fn remove(&self, upload: &Upload) {
        lock(&self.0).remove(&upload.id);
        // Whoever still brings bytes for it stops.
        upload.requests.send_modify(|count| *count += 1);
    }

    /// Ends those that nobody goes on with.
    pub(super) fn tidy(&self) {
        self.tidy_at(Instant::now());
    }

    fn tidy_at(&self, now: Instant) {
        lock(&self.0).retain(|_, upload| {
            let since = |then: Instant| now.saturating_duration_since(then);
            let alive = since(*lock(&upload.touched)) < LEFT || upload.writer.try_lock().is_err();
            let stays = alive && since(upload.begun) < LONGEST;
            if !stays {
                // Whoever still brings bytes for it stops.
                upload.requests.send_modify(|count| *count += 1);
            }
            stays
        });
    }

    /// Ends all.
    pub(super) fn clear(&self) {
        for (_, upload) in std::mem::take(&mut *lock(&self.0)) {
            upload.requests.send_modify(|count| *count += 1);
        }
    }
}

impl Upload {
    fn touch(&self) {
        *lock(&self.touched) = Instant::now();
    }

    /// What of it is there, as the header `Range` says it.
    pub(super) fn range(&self) -> String {
        format!("0-{}", self.written.load(Ordering::Relaxed).saturating_sub(1))
    }

    /// Adds a request's body. Of one that breaks off, what came stays.
    pub(super) async fn append(
        &self,
        from: Source<'_>,
        range: Option<(u64, u64)>,
    ) -> Result<(), Refusal> {
        let own = {
            let mut own = 0;
            self.requests.send_modify(|count| {
                *count += 1;
                own = *count;
            });
            own
        };
        let mut writer = self.turn().await?;
        self.touch();
        let bytes = writer.take().ok_or_else(unknown)?;
        let before = bytes.count();
        if let Some((start, _)) = range
            && start != before
        {
            *writer = Some(bytes);
            let message = format!("{before} bytes are there, and this begins at {start}");
            return Err(Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "BLOB_UPLOAD_INVALID",
                message,
            )
            .with("range", self.range()));
        }
        let mut stop = self.requests.subscribe();
        let stopped = async move {
            // The sender lives as long as the upload.
            let _ = stop.wait_for(|count| *count > own).await;
        };
        let (bytes, result) = from.receive(bytes, stopped, &self.written).await;
        let Some(bytes) = bytes else { return result };
        let came = bytes.count() - before;
        *writer = Some(bytes);
        self.touch();
        result?;
        match range {
            Some((start, end)) if came != end - start + 1 => Err(Refusal::bad(
                "SIZE_INVALID",
                format!("{came} bytes came, Content-Range says {}", end - start + 1),
            )),
            _ => Ok(()),
        }
    }

    async fn turn(&self) -> Result<OwnedMutexGuard<Option<BlobWriter>>, Refusal> {
        tokio::time::timeout(TURN, Arc::clone(&self.writer).lock_owned())
            .await
            .map_err(|_| Refusal::too_many("an earlier request for this upload does not end"))
    }

    /// Takes what was brought, to be given its name.
    pub(super) async fn close(&self) -> Result<BlobWriter, Refusal> {
        self.turn().await?.take().ok_or_else(unknown)
    }
}

/// Gives a blob its name.
pub(super) async fn commit(writer: BlobWriter, digest: BlobDigest) -> Result<(), Refusal> {
    let size = writer.count();
    let done = tokio::task::spawn_blocking(move || writer.commit(Some((&digest, size)))).await?;
    done.map(drop).map_err(|error| match error {
        StoreError::Mismatch { found, .. } => Refusal::bad(
            "DIGEST_INVALID",
            format!("what came is {found}, not {digest}; the upload is over, begin anew"),
        ),
        other => other.into(),
    })
}

/// Where bytes come from: a request's body.
pub(super) struct Source<'a> {
    body: &'a mut Incoming,
    transfer: Transfer,
    /// Counts what is read.
    received: &'a AtomicU64,
    /// What came and is not in a piece yet.
    rest: Bytes,
}

type Writing = JoinHandle<(BlobWriter, io::Result<()>)>;

fn write(mut writer: BlobWriter, piece: Vec<u8>) -> Writing {
    tokio::task::spawn_blocking(move || {
        let written = writer.write_all(&piece);
        (writer, written)
    })
}

impl<'a> Source<'a> {
    pub(super) fn new(body: &'a mut Incoming, transfer: Transfer, received: &'a AtomicU64) -> Self {
        Self { body, transfer, received, rest: Bytes::new() }
    }

    /// Writes what comes, while the next comes, until it ends, breaks off or is to stop.
    /// No writer is left if the store cannot be written.
    pub(super) async fn receive(
        mut self,
        writer: BlobWriter,
        stopped: impl Future<Output = ()>,
        written: &AtomicU64,
    ) -> (Option<BlobWriter>, Result<(), Refusal>) {
        let mut stopped = std::pin::pin!(stopped);
        let mut window = Window::begin();
        let mut writing = write(writer, Vec::new());
        loop {
            let (piece, next) = tokio::select! {
                gathered = self.gather(&mut window) => gathered,
                () = &mut stopped => (Vec::new(), Err(Refusal::bad(
                    "BLOB_UPLOAD_INVALID", "a later request has taken over this upload"))),
            };
            let (writer, done) = match writing.await {
                Ok(done) => done,
                Err(error) => return (None, Err(error.into())),
            };
            if let Err(error) = done {
                return (None, Err(Refusal::inside(format!("cannot write to the store: {error}"))));
            }
            written.store(writer.count(), Ordering::Relaxed);
            match next {
                Ok(true) => writing = write(writer, piece),
                ended => {
                    let (writer, done) = match write(writer, piece).await {
                        Ok(done) => done,
                        Err(error) => return (None, Err(error.into())),
                    };
                    written.store(writer.count(), Ordering::Relaxed);
                    let written = done.map_err(|error| {
                        Refusal::inside(format!("cannot write to the store: {error}"))
                    });
                    return match written {
                        Ok(()) => (Some(writer), ended.map(drop)),
                        Err(error) => (None, Err(error)),
                    };
                }
            }
        }
    }

    /// The next piece; false if it is the last. It is a copy: what comes as one byte at a
    /// time would keep a whole buffer of the connection's for each.
    async fn gather(&mut self, window: &mut Window) -> (Vec<u8>, Result<bool, Refusal>) {
        let most = self.transfer.piece();
        let mut piece = Vec::with_capacity(most);
        while piece.len() < most {
            if self.rest.is_empty() {
                match next(self.body).await {
                    Ok(Some(came)) => self.rest = came,
                    Ok(None) => return (piece, Ok(false)),
                    Err(refusal) => return (piece, Err(refusal)),
                }
                self.received.fetch_add(self.rest.len() as u64, Ordering::Relaxed);
                if !window.moved(self.rest.len()) {
                    return (piece, Err(too_slow()));
                }
            }
            let part = self.rest.split_to(self.rest.len().min(most - piece.len()));
            piece.extend_from_slice(&part);
        }
        (piece, Ok(true))
    }
}

fn too_slow() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", "too little came in a minute")
}

/// The next piece of a body; none at its end.
pub(super) async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let frame = tokio::time::timeout(IDLE, frame).await.map_err(|_| too_slow())?;
        match frame.transpose() {
            Ok(None) => return Ok(None),
            // Trailers say nothing here.
            Ok(Some(frame)) => match frame.into_data() {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Ok(Some(piece)),
                Err(_) => {}
            },
            Err(_) => {
                return Err(Refusal::bad("BLOB_UPLOAD_INVALID", "the request broke off"));
            }
        }
    }
}

/// Reads a small body whole; none if it has more than `limit` bytes.
pub(super) async fn whole(
    body: &mut Incoming,
    limit: u64,
    received: &AtomicU64,
) -> Result<Option<Vec<u8>>, Refusal> {
    let mut window = Window::begin();
    let length = body.size_hint().exact().unwrap_or_default().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    while let Some(piece) = next(body).await? {
        received.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if (bytes.len() + piece.len()) as u64 > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
        if !window.moved(piece.len()) {
            return Err(too_slow());
        }
    }
    Ok(Some(bytes))
}

/// Reads a body and throws it away, up to about so many bytes.
pub(super) async fn drain(
    body: &mut Incoming,
    limit: u64,
    received: &AtomicU64,
) -> Result<(), Refusal> {
    let mut left = limit;
    while let Some(piece) = next(body).await? {
        let length = piece.len() as u64;
        received.fetch_add(length, Ordering::Relaxed);
        left = left.saturating_sub(length);
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// `START-END` of the header `Content-Range` as the distribution spec has it, also with
/// `bytes ` before and `/…` behind, as HTTP has it.
pub(super) fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next().unwrap_or_default();
    let (start, end) = text.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    // The bytes of both ends count, and there is no file of 2^64.
    (start <= end && end < u64::MAX).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (text, expected) in [
            ("0-9", Some((0, 9))),
            ("bytes 5-9/100", Some((5, 9))),
            ("5-5", Some((5, 5))),
            ("9-5", None),
            ("-5", None),
            ("5-", None),
            ("x", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }

    /// Neither whoever only asks keeps one, nor whoever never comes to an end.
    #[test]
    fn what_nobody_goes_on_with_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let named = Named::parse("a", &super::super::path::Query::default()).unwrap();
        let uploads = Uploads::default();
        let left = uploads.begin(&store, &named).unwrap();
        let now = Instant::now();
        uploads.tidy_at(now + LEFT / 2);
        uploads.find(&named, &left.id).unwrap();
        uploads.tidy_at(now + LEFT + Duration::from_secs(60));
        assert!(uploads.find(&named, &left.id).is_err(), "asking is no going on");

        let busy = uploads.begin(&store, &named).unwrap();
        let writer = busy.writer.try_lock().unwrap();
        uploads.tidy_at(now + LEFT * 2);
        assert!(uploads.find(&named, &busy.id).is_ok(), "somebody brings bytes");
        assert_eq!(*busy.requests.borrow(), 0);
        uploads.tidy_at(now + LONGEST + Duration::from_secs(60));
        assert!(uploads.find(&named, &busy.id).is_err(), "it never ends");
        assert_eq!(*busy.requests.borrow(), 1, "and is told to stop");
        drop(writer);
    }

    #[test]
    fn uploads_are_counted_and_belong_to_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let named = |path: &str| Named::parse(path, &super::super::path::Query::default()).unwrap();
        let uploads = Uploads::default();
        let first = uploads.begin(&store, &named("a")).unwrap();
        assert!(uploads.find(&named("a"), &first.id).is_ok());
        assert_eq!(uploads.find(&named("b"), &first.id).unwrap_err().code, "BLOB_UPLOAD_UNKNOWN");
        assert!(uploads.find(&named("a"), "../../x").is_err());
        for _ in 1..MOST {
            uploads.begin(&store, &named("a")).unwrap();
        }
        assert_eq!(uploads.begin(&store, &named("a")).unwrap_err().status, 429);
        uploads.remove(&first);
        assert!(uploads.begin(&store, &named("a")).is_ok());
        let count = || std::fs::read_dir(folder.path().join("tmp")).unwrap().count();
        uploads.clear();
        drop(first);
        assert_eq!(count(), 0, "what is left of them");
    }
}
