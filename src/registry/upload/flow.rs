//! The bytes of an upload on their way: from memory, a file or another registry into one
//! request, a few small pieces at a time.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue};
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;

use super::super::RegistryError;
use super::super::reading::Reading;
use super::super::transport::{Ask, Body, Session};
use super::{Blob, Source};
use crate::atomic::PathError;
use crate::digest::{BlobDigest, Hashing};
use crate::net::{FileRequest, IDLE, RequestError};
use crate::progress::Task;
use crate::store::StoreError;

/// Bytes read at once from a file.
const PIECE: usize = 256 << 10;

/// Pieces of one upload that are in memory at once: read, waiting, and being sent.
const PIECES: usize = 4;

/// Longest wait for the reader of a file once the registry has answered.
const LEFT: Duration = Duration::from_secs(2);

/// How long a registry may take to check what it has received.
pub(super) const CHECKING: Duration = Duration::from_secs(300);

/// Up to so many bytes there is little to check.
const LITTLE: u64 = 1 << 20;

/// Why there is no answer.
pub(super) enum Broken {
    /// The bytes cannot be had: no repetition mends that here.
    Source(RegistryError),
    /// The registry, or the way to it.
    Way(RegistryError),
}

/// Where the bytes come from, opened.
pub(super) struct Flow<'a> {
    size: u64,
    digest: BlobDigest,
    what: &'a str,
    from: From<'a>,
}

enum From<'a> {
    Memory(&'a Bytes),
    File { file: Arc<File>, start: u64, path: PathBuf },
    Remote(Box<Remote<'a>>),
}

impl<'a> Flow<'a> {
    pub(super) fn open(blob: &Blob<'a>, what: &'a str) -> Result<Self, RegistryError> {
        let Blob { digest, size, .. } = *blob;
        let from = match blob.source {
            Source::Memory(bytes) => From::Memory(bytes),
            Source::Store(store) => {
                let (file, found) = store.open_unchecked(&digest)?;
                if found != size {
                    let (expected, found) = (size.to_string(), found.to_string());
                    return Err(StoreError::Mismatch { what: "size", expected, found }.into());
                }
                From::File { file: Arc::new(file), start: 0, path: store.blob_path(&digest) }
            }
            Source::File { file, start, path } => {
                From::File { file: Arc::clone(file), start, path: path.to_path_buf() }
            }
            Source::Remote(session) => From::Remote(Box::new(Remote {
                session,
                reading: None,
                hash: Some(Hashing::new(std::io::sink())),
                hashed: 0,
            })),
        };
        Ok(Self { size, digest, what, from })
    }

    /// Sends the bytes from `begin` to `end` with a request to `session`, and gives its
    /// answer.
    pub(super) async fn send(
        &mut self,
        session: &Session,
        ask: Ask<'_>,
        begin: u64,
        end: u64,
        task: &Task,
    ) -> Result<Response, Broken> {
        let ask = ask.header(CONTENT_LENGTH, HeaderValue::from(end - begin));
        let way = Way { session, what: self.what, begin, end, size: self.size, task };
        match &mut self.from {
            From::Memory(bytes) => {
                let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
                let body = reqwest::Body::from(bytes.slice(at(begin)..at(end)));
                let ask = ask.body(Body::Stream(Mutex::new(Some(body))));
                let sent = AtomicU64::new(end - begin);
                way.watched(session.send(&ask), &sent, &sent).await.map_err(Broken::Way)
            }
            From::File { file, start, path } => {
                let from = *start + begin;
                if FileRequest::can(&ask.url) {
                    way.straight(ask, Arc::clone(file), from, path.clone()).await
                } else {
                    way.file(ask, Arc::clone(file), from, path.clone()).await
                }
            }
            From::Remote(remote) => {
                let (given, sent) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
                let (to, from) = channel(2);
                let ask = ask.body(body(from, &sent));
                let feeding =
                    remote.feed(self.digest, self.size, self.what, begin, end, to, &given);
                let sending = way.watched(session.send(&ask), &given, &sent);
                tokio::pin!(feeding, sending);
                let mut fed = false;
                loop {
                    tokio::select! {
                        biased;
                        result = &mut feeding, if !fed => {
                            // What is not sent to its end is no request.
                            result.map_err(Broken::Source)?;
                            fed = true;
                        }
                        answer = &mut sending => return answer.map_err(Broken::Way),
                    }
                }
            }
        }
    }

    /// Sees to it that all bytes were found to be what the digest says, where they come from
    /// elsewhere. What an earlier process sent may not have been read by this one.
    pub(super) async fn check(&mut self) -> Result<(), RegistryError> {
        let From::Remote(remote) = &mut self.from else { return Ok(()) };
        let (to, _none) = channel(1);
        let (digest, size) = (self.digest, self.size);
        remote.feed(digest, size, self.what, size, size, to, &AtomicU64::new(0)).await
    }

    /// Reads all of it where that is at hand: an error if it is not what its digest says, so
    /// that a registry's refusal is not its fault.
    pub(super) async fn verify(&self) -> Result<(), RegistryError> {
        let From::File { file, start, path } = &self.from else { return Ok(()) };
        let (file, mut at, end) = (Arc::clone(file), *start, *start + self.size);
        let read = move || {
            let mut hash = Hashing::new(std::io::sink());
            let mut piece = vec![0; PIECE];
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let length = file.read_at(&mut piece[..most], at)?;
                if length == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                std::io::Write::write_all(&mut hash, &piece[..length])?;
                at += length as u64;
            }
            Ok(BlobDigest(hash.finish().1))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Err(error)) => Err(unreadable(path.clone(), error)),
            Ok(Ok(found)) if found != self.digest => {
                let (expected, path) = (self.digest, path.clone());
                Err(StoreError::Damaged { expected, found, path }.into())
            }
            // Only a panic or the runtime's end are left, which the refusal is better than.
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

fn unreadable(path: PathBuf, source: std::io::Error) -> RegistryError {
    StoreError::Io(PathError { what: "read", path, source }).into()
}

/// A blob of another registry on its way through. The digest is taken over what is read from
/// its first byte on; parts that are read a second time are not counted again.
struct Remote<'a> {
    session: &'a Session,
    reading: Option<Reading<'a>>,
    /// Gone once the digest was compared.
    hash: Option<Hashing<std::io::Sink>>,
    hashed: u64,
}

impl<'a> Remote<'a> {
    /// Gives the bytes from `begin` to `end`. The last of all goes out only once all of them
    /// were found to be what the digest says.
    #[expect(clippy::too_many_arguments, reason = "each is one thing")]
    async fn feed(
        &mut self,
        digest: BlobDigest,
        size: u64,
        what: &'a str,
        begin: u64,
        end: u64,
        to: Sender<std::io::Result<Bytes>>,
        given: &AtomicU64,
    ) -> Result<(), RegistryError> {
        // What was not read yet has to be, for the digest, though the registry has it.
        let from = begin.min(self.hashed);
        if size == 0 {
            self.compare(digest, what)?;
        }
        let mut reading = match self.reading.take() {
            Some(reading) if reading.at() == from => reading,
            _ => Reading::new(self.session, digest, size, from, what)?,
        };
        let mut at = from;
        while at < end {
            let Some(piece) = reading.next_up_to(end).await? else { break };
            let next = at + piece.len() as u64;
            self.take(&piece, at)?;
            if next == size {
                // Nothing may follow.
                reading.next().await?;
                self.compare(digest, what)?;
            }
            let wanted = usize::try_from(begin.saturating_sub(at)).unwrap_or(usize::MAX);
            if wanted < piece.len() {
                let piece = piece.slice(wanted..);
                given.fetch_add(piece.len() as u64, Ordering::Relaxed);
                if to.send(Ok(piece)).await.is_err() {
                    // The request is over; whoever made it knows why.
                    return Ok(());
                }
            }
            at = next;
        }
        self.reading = Some(reading);
        Ok(())
    }

    fn take(&mut self, piece: &Bytes, at: u64) -> Result<(), RegistryError> {
        let known = usize::try_from(self.hashed.saturating_sub(at)).unwrap_or(usize::MAX);
        if let (Some(new), Some(hash)) = (piece.get(known..), &mut self.hash) {
            // A sink takes everything.
            std::io::Write::write_all(hash, new).map_err(|source| {
                StoreError::Io(PathError { what: "hash", path: PathBuf::new(), source })
            })?;
            self.hashed += new.len() as u64;
        }
        Ok(())
    }

    fn compare(&mut self, digest: BlobDigest, what: &str) -> Result<(), RegistryError> {
        let Some(hash) = self.hash.take() else { return Ok(()) };
        let found = BlobDigest(hash.finish().1);
        if found == digest {
            return Ok(());
        }
        Err(RegistryError::Mismatch {
            host: self.session.host.clone(),
            what: what.to_owned(),
            expected: digest.to_string(),
            found: found.to_string(),
        })
    }
}

/// One request on its way.
struct Way<'a> {
    session: &'a Session,
    what: &'a str,
    begin: u64,
    end: u64,
    size: u64,
    task: &'a Task,
}

impl Way<'_> {
    /// Waits for the answer while the bytes move. What was not `given` yet is not the
    /// registry's to take.
    async fn watched(
        &self,
        sending: impl Future<Output = Result<Response, RegistryError>>,
        given: &AtomicU64,
        sent: &AtomicU64,
    ) -> Result<Response, RegistryError> {
        tokio::pin!(sending);
        let length = self.end - self.begin;
        let (mut last, mut since) = (0, Instant::now());
        loop {
            tokio::select! {
                answer = &mut sending => return answer,
                () = tokio::time::sleep(Duration::from_millis(250)) => {}
            }
            let now = sent.load(Ordering::Relaxed);
            self.task.bytes(self.begin + now.min(length), Some(self.size));
            let waits = now < length && now == given.load(Ordering::Relaxed);
            if now != last || waits {
                (last, since) = (now, Instant::now());
            }
            let patience = if now >= length && length > LITTLE { CHECKING } else { IDLE };
            if since.elapsed() > patience {
                let why = format!("nothing moved for {} s", patience.as_secs());
                return Err(self.session.interrupted(self.what, why));
            }
        }
    }

    /// From a file to a registry of this machine.
    async fn straight(
        &self,
        ask: Ask<'_>,
        file: Arc<File>,
        from: u64,
        path: PathBuf,
    ) -> Result<Response, Broken> {
        let Ask { method, url, mut headers, .. } = ask;
        // The request's own word counts.
        headers.remove(CONTENT_LENGTH);
        let own = self.session.owns(&url);
        let shown = self.session.authorization(&url).await.map_err(Broken::Way)?;
        headers.extend(shown.clone().map(|value| (AUTHORIZATION, value)));
        let size = self.end - self.begin;
        let (sent, wanted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
        let _wanted = Wanted(Arc::clone(&wanted));
        let count = Arc::clone(&sent);
        let sending = tokio::task::spawn_blocking(move || {
            let request = FileRequest { method, url, headers, file, from, size };
            request.send(&count, || wanted.load(Ordering::Relaxed))
        });
        let mut unread = None;
        let answer = async {
            match sending.await {
                Ok(Ok(answer)) => Ok(answer.into()),
                Ok(Err(RequestError::File(error))) => {
                    unread = Some(error);
                    Err(self.session.interrupted(self.what, String::new()))
                }
                Ok(Err(RequestError::Server(error))) => {
                    Err(self.session.interrupted(self.what, error.to_string()))
                }
                Err(error) => Err(self.session.interrupted(self.what, error.to_string())),
            }
        };
        let all = AtomicU64::new(size);
        let answer = self.watched(answer, &all, &sent).await;
        match (unread, answer) {
            (Some(error), _) => Err(Broken::Source(unreadable(path, error))),
            (None, Ok(answer)) if !own && answer.status() == StatusCode::UNAUTHORIZED => {
                Err(Broken::Way(self.session.foreign_login(self.what)))
            }
            (None, Ok(answer)) => {
                if own && answer.status() != StatusCode::UNAUTHORIZED {
                    self.session.accepted(shown.as_ref());
                }
                Ok(answer)
            }
            (None, Err(error)) => Err(Broken::Way(error)),
        }
    }

    /// From a file to anywhere.
    async fn file(
        &self,
        ask: Ask<'_>,
        file: Arc<File>,
        from: u64,
        path: PathBuf,
    ) -> Result<Response, Broken> {
        let size = self.end - self.begin;
        let (to, pieces) = channel(2);
        let sent = Arc::new(AtomicU64::new(0));
        let reading = tokio::task::spawn_blocking(move || {
            let read = read(&file, from, size, &to);
            if read.is_err() {
                // The request must not end as if it were complete.
                let _ = to.blocking_send(Err(std::io::Error::other("cannot read the blob")));
            }
            read
        });
        let ask = ask.body(body(pieces, &sent));
        let all = AtomicU64::new(size);
        let answer = self.watched(self.session.send(&ask), &all, &sent).await;
        // What is left of the stream lies in the request; without it the reader ends.
        drop(ask);
        // A file that cannot be read is the cause, whatever the registry said to it.
        // A registry that has answered need not take the rest: that is not waited for.
        if let Ok(Ok(Err(error))) = tokio::time::timeout(LEFT, reading).await {
            return Err(Broken::Source(unreadable(path, error)));
        }
        answer.map_err(Broken::Way)
    }
}

/// Tells a thread, when it is dropped, that nobody waits for it any more.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A body of pieces; those that went out are counted.
fn body(from: Receiver<std::io::Result<Bytes>>, sent: &Arc<AtomicU64>) -> Body {
    let count = Arc::clone(sent);
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
    Body::Stream(Mutex::new(Some(reqwest::Body::wrap_stream(pieces))))
}

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
        // Nobody reads any more at the end. There is room for all pieces.
        let _ = self.back.try_send(std::mem::take(&mut self.bytes));
    }
}

/// Reads a part of a file into a few buffers in turn.
fn read(
    file: &File,
    mut from: u64,
    size: u64,
    to: &Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let (back, free) = sync_channel::<Vec<u8>>(PIECES);
    let (mut made, end) = (0, from + size);
    while from < end {
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
        let most = usize::try_from(end - from).unwrap_or(PIECE).min(PIECE);
        let length = file.read_at(&mut bytes[..most], from)?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        from += length as u64;
        let piece = Piece { bytes, length, back: back.clone() };
        if to.blocking_send(Ok(Bytes::from_owner(piece))).is_err() {
            // The request is over; whoever made it knows why.
            return Ok(());
        }
    }
    Ok(())
}
