//! Files that `ADD` takes from an HTTP server.
//!
//! What was fetched stays in the store by its digest, and is asked for again only
//! with what the server said to recognise it by (RFC 9110, conditional requests).
//! With a checksum that the store has, or if it has what the lock says, nobody is asked at all.

use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::sources::{Sources, Unlocked};
use crate::digest::{BlobDigest, Digest};
use crate::lock::{self, Entry, Key};
use crate::net::{self, Backoff, Clients, IDLE, Offline, Trust, causes, retry_after};
use crate::plan::RemoteSource;
use crate::progress::{Progress, Task};
use crate::sandbox::Cancel;
use crate::store::{Slot, Store, StoreError};

/// The records' area: what a URL gave the last time.
const AREA: &str = "downloads";
/// As many as browsers follow.
const MAX_REDIRECTS: usize = 20;

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("`{0}` is no URL")]
    Url(String),
    #[error("{url}: {why}")]
    Http { url: String, why: String },
    #[error("{url}: its digest is {found}, not {expected}")]
    Checksum { url: String, expected: BlobDigest, found: BlobDigest },
    #[error("{url}: its digest is {found}, and the lock has {locked}")]
    Locked { url: String, locked: BlobDigest, found: BlobDigest },
    #[error("{url}: --checksum is {stated}, and the lock has {locked}")]
    Stated { url: String, locked: BlobDigest, stated: BlobDigest },
    #[error(transparent)]
    Unlocked(#[from] Box<Unlocked>),
    /// Kiln works offline, and the store does not know the file.
    #[error("{url}: {offline}")]
    Offline { url: String, offline: Offline },
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    digest: BlobDigest,
    size: u64,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// Fetches for the steps of one build.
#[derive(Debug)]
pub(super) struct Fetcher<'a> {
    clients: Clients,
    sources: &'a Sources,
    runtime: tokio::runtime::Handle,
}

/// What a lock knows a URL by: its usual spelling, without user and password.
pub(super) fn name(url: &str) -> String {
    let spelt = url.parse::<Url>().map_or_else(|_| url.to_owned(), |url| url.to_string());
    lock::without_user(&spelt)
}

/// What a URL gave the last time, if the store still has it.
fn known(store: &Store, slot: &Slot<'_>) -> Option<Record> {
    slot.read::<Record>().filter(|known| store.has_blob(&known.digest, known.size))
}

/// Whether a file can be had without asking anybody.
pub(super) fn at_hand(
    source: &RemoteSource,
    sources: &Sources,
    store: &Store,
) -> Result<bool, StoreError> {
    if let Some(locked) = sources.url(&name(&source.url), source.checksum) {
        return Ok(store.has_blob(&locked.digest, locked.size));
    }
    let slot = store.slot(AREA, &Digest::of(source.url.as_bytes()))?;
    let found = known(store, &slot);
    Ok(found.is_some_and(|known| source.checksum.is_none_or(|sum| sum == known.digest)))
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(sources: &'a Sources, runtime: tokio::runtime::Handle) -> Self {
        Self { clients: Clients::default(), sources, runtime }
    }

    /// Gets a file into the store. The caller's thread waits; it must not be one
    /// of the runtime's workers.
    pub(super) fn fetch(
        &self,
        source: &RemoteSource,
        store: &Store,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Fetched, FetchError> {
        let name = name(&source.url);
        self.sources.allow(Key::Url(name.clone()), None)?;
        let fetched = match self.sources.url(&name, source.checksum) {
            None => self.found(source, store, progress, cancel)?,
            Some(locked) => self.locked(source, locked, store, progress, cancel)?,
        };
        let Fetched { digest, size } = fetched;
        self.sources.note(Entry::Url(lock::Url { url: name, digest, size }));
        Ok(fetched)
    }

    /// What a file is, whether or not it is here, where nobody can be asked: what the lock
    /// has, or else what it was the last time.
    pub(super) fn told(
        &self,
        source: &RemoteSource,
        store: &Store,
    ) -> Result<Option<Fetched>, FetchError> {
        let name = name(&source.url);
        self.sources.allow(Key::Url(name.clone()), None)?;
        let told = match self.sources.url(&name, source.checksum) {
            Some(&lock::Url { digest, size, .. }) => Some(Fetched { digest, size }),
            None => store
                .record(AREA, &Digest::of(source.url.as_bytes()))
                .map(|Record { digest, size, .. }| Fetched { digest, size }),
        };
        let told = told.filter(|told| source.checksum.is_none_or(|sum| sum == told.digest));
        if let Some(Fetched { digest, size }) = told {
            self.sources.note(Entry::Url(lock::Url { url: name, digest, size }));
        }
        Ok(told)
    }

    /// The content that the lock has, and no other.
    fn locked(
        &self,
        source: &RemoteSource,
        locked: &lock::Url,
        store: &Store,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Fetched, FetchError> {
        let &lock::Url { ref url, digest, size } = locked;
        let url = Key::Url(url.clone()).to_string();
        if let Some(stated) = source.checksum.filter(|stated| *stated != digest) {
            return Err(FetchError::Stated { url, locked: digest, stated });
        }
        if store.has_blob(&digest, size) {
            return Ok(Fetched { digest, size });
        }
        match self.found(source, store, progress, cancel)? {
            fetched if fetched.digest == digest => Ok(fetched),
            other => Err(FetchError::Locked { url, locked: digest, found: other.digest }),
        }
    }

    fn found(
        &self,
        source: &RemoteSource,
        store: &Store,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Fetched, FetchError> {
        let url = source.url.parse::<Url>().map_err(|_| FetchError::Url(source.url.clone()))?;
        let key = Digest::of(source.url.as_bytes());
        // One of several that want the same file fetches it.
        let slot = store.slot(AREA, &key)?;
        let known = known(store, &slot);
        if let (Some(known), Some(expected)) = (&known, source.checksum)
            && known.digest == expected
        {
            return Ok(Fetched { digest: known.digest, size: known.size });
        }
        let shown = without_secrets(&url);
        if let Err(offline) = net::pass("fetching it") {
            // What it was the last time is what there is.
            return match (known, source.checksum) {
                (None, _) => Err(FetchError::Offline { url: shown, offline }),
                (Some(known), Some(expected)) => {
                    Err(FetchError::Checksum { url: shown, expected, found: known.digest })
                }
                (Some(known), None) => Ok(Fetched { digest: known.digest, size: known.size }),
            };
        }
        let task = progress.task(format!("fetch {shown}"));
        let work = self.get(&url, known.as_ref(), store, &task);
        let cancelled = async {
            // Nobody sees the difference to being woken.
            while !cancel.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let got = self.runtime.block_on(async {
            tokio::select! {
                got = work => got,
                () = cancelled => Err(FetchError::Cancelled),
            }
        })?;
        let record = match (got, known) {
            (Some(new), _) => new,
            (None, Some(known)) => known,
            (None, None) => {
                let why = "the server says that nothing changed, and was not asked that".to_owned();
                return Err(FetchError::Http { url: shown, why });
            }
        };
        let (digest, size) = (record.digest, record.size);
        if let Some(expected) = source.checksum
            && expected != digest
        {
            return Err(FetchError::Checksum { url: shown, expected, found: digest });
        }
        slot.write(&record)?;
        task.done();
        Ok(Fetched { digest, size })
    }

    /// None if it is what was known.
    async fn get(
        &self,
        url: &Url,
        known: Option<&Record>,
        store: &Store,
        task: &Task,
    ) -> Result<Option<Record>, FetchError> {
        let mut backoff = Backoff::short();
        loop {
            let (why, wish) = match self.once(url, known, store, task).await {
                Ok(done) => return Ok(done),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Passing { why, wish }) => (why, wish),
            };
            match backoff.wait(wish) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(FetchError::Http { url: without_secrets(url), why }),
            }
        }
    }

    async fn once(
        &self,
        url: &Url,
        known: Option<&Record>,
        store: &Store,
        task: &Task,
    ) -> Result<Option<Record>, Failed> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = self.clients.get(&at, &Trust::default());
            let client = client.map_err(|e| refused(&at, e.to_string()))?;
            let mut request = client.get(at.clone());
            if let Some(known) = known {
                for (name, value) in
                    [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)]
                {
                    request = match value {
                        Some(value) => request.header(name, value),
                        None => request,
                    };
                }
            }
            let passing = |why: String| Failed::Passing { why, wish: None };
            let answer = match tokio::time::timeout(IDLE, request.send()).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return Err(passing(causes(&error))),
                Err(_) => return Err(passing("no answer".to_owned())),
            };
            let status = answer.status();
            if status == StatusCode::NOT_MODIFIED {
                return Ok(None);
            }
            if status.is_redirection() {
                let to = header(answer.headers(), &LOCATION);
                let to = to.and_then(|to| at.join(&to).ok());
                at = to.ok_or_else(|| refused(&at, format!("{status} leads nowhere")))?;
                continue;
            }
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                let wish = retry_after(answer.headers());
                return Err(Failed::Passing { why: status.to_string(), wish });
            }
            if !status.is_success() {
                return Err(refused(&at, status.to_string()));
            }
            return receive(answer, store, task).await.map(Some);
        }
        Err(refused(url, "it is redirected again and again".to_owned()))
    }
}

enum Failed {
    Final(FetchError),
    /// Worth another try, after the wait that the server wishes.
    Passing {
        why: String,
        wish: Option<Duration>,
    },
}

async fn receive(
    mut answer: reqwest::Response,
    store: &Store,
    task: &Task,
) -> Result<Record, Failed> {
    use std::io::Write as _;
    let total = answer.content_length();
    let (etag, last_modified) =
        (header(answer.headers(), &ETAG), header(answer.headers(), &LAST_MODIFIED));
    let stored = |error: StoreError| Failed::Final(FetchError::Store(error));
    let mut blob = store.writer().map_err(stored)?;
    loop {
        let piece = match tokio::time::timeout(IDLE, answer.chunk()).await {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(Failed::Passing { why: causes(&error), wish: None }),
            Err(_) => return Err(Failed::Passing { why: "it stalls".to_owned(), wish: None }),
        };
        blob.write_all(&piece).map_err(|error| {
            let why = format!("cannot write to the store: {error}");
            Failed::Final(FetchError::Http { url: without_secrets(answer.url()), why })
        })?;
        task.bytes(blob.count(), total);
    }
    let (digest, size) = blob.commit(None).map_err(stored)?;
    Ok(Record { digest, size, etag, last_modified })
}

fn refused(url: &Url, why: String) -> Failed {
    Failed::Final(FetchError::Http { url: without_secrets(url), why })
}

fn header(headers: &HeaderMap, name: &reqwest::header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// A URL for people: without a password, and without the query that may have one.
pub(super) fn shown(url: &str) -> String {
    url.parse().map_or_else(|_| url.to_owned(), |url| without_secrets(&url))
}

fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}
