//! What all requests share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::answer::Refusal;
use super::auth::Passwords;
use super::catalog::Catalog;
use super::log::Logger;
use super::path::Named;
use super::piece::Transfers;
use super::upload::Uploads;
use crate::digest::BlobDigest;
use crate::image::MAX_DOCUMENT;
use crate::progress::Progress;
use crate::store::Store;

/// How long the store's session is one and the same. What was given out or pushed is held
/// by it and the one before.
const SESSION: Duration = Duration::from_secs(15 * 60);
/// Calls into the store at once, each on a thread of its own.
const AT_ONCE: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    sessions: Mutex<Sessions>,
    pub(super) catalog: Catalog,
    pub(super) uploads: Uploads,
    pub(super) pushed: Pushed,
    pub(super) transfers: Transfers,
    pub(super) passwords: Option<Passwords>,
    pub(super) writable: bool,
    /// Room for manifests that come, in units of 64 KiB: one of the largest, or many small
    /// ones.
    pub(super) manifests: Semaphore,
    calls: Arc<Semaphore>,
    pub(super) talk: Talk,
}

/// Where the server says something.
pub(super) struct Talk {
    pub(super) logger: Logger,
    pub(super) progress: Progress,
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Talk")
    }
}

#[derive(Debug)]
struct Sessions {
    now: Arc<Store>,
    _before: Option<Arc<Store>>,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        store: &Store,
        catalog: Catalog,
        passwords: Option<Passwords>,
        writable: bool,
        talk: Talk,
    ) -> Self {
        let now = Arc::new(store.renewed());
        Self {
            sessions: Mutex::new(Sessions { now, _before: None, since: Instant::now() }),
            catalog,
            uploads: Uploads::default(),
            pushed: Pushed::default(),
            transfers: Transfers::default(),
            passwords,
            writable,
            manifests: Semaphore::new((MAX_DOCUMENT >> 16) as usize + 1),
            calls: Arc::new(Semaphore::new(AT_ONCE)),
            talk,
        }
    }

    /// The store. Who keeps it keeps its session.
    pub(super) fn store(&self) -> Arc<Store> {
        Arc::clone(&lock(&self.sessions).now)
    }

    /// Runs what reads or writes the store, off the threads that serve connections.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &Store) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = Arc::clone(&self.calls).acquire_owned().await;
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&shared, &shared.store())
        })
        .await?
    }

    /// To be called now and then: ends what was left alone for too long.
    pub(super) fn tidy(&self) {
        self.uploads.tidy();
        self.pushed.tidy();
        let mut sessions = lock(&self.sessions);
        if sessions.since.elapsed() < SESSION {
            return;
        }
        let now = Arc::new(sessions.now.renewed());
        // Held by the new session before the one before the last ends.
        self.pushed.hold(&now);
        let before = std::mem::replace(&mut sessions.now, now);
        sessions._before = Some(before);
        sessions.since = Instant::now();
    }
}

/// Blobs that were pushed or mounted here, by repository: most have no image yet that
/// refers to them. A day later they count as forgotten.
#[derive(Debug, Default)]
pub(super) struct Pushed(Mutex<HashMap<(String, BlobDigest), Instant>>);

const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
const MOST: usize = 50_000;

impl Pushed {
    fn key(named: &Named, digest: &BlobDigest) -> (String, BlobDigest) {
        (named.exact.name(), *digest)
    }

    /// Notes that a blob belongs to a repository from now on.
    pub(super) fn note(&self, named: &Named, digest: &BlobDigest) -> Result<(), Refusal> {
        let mut all = lock(&self.0);
        if all.len() >= MOST {
            all.retain(|_, since| since.elapsed() < FORGOTTEN / 24);
        }
        if all.len() >= MOST {
            return Err(Refusal::too_many("too many blobs were pushed within an hour"));
        }
        all.insert(Self::key(named, digest), Instant::now());
        Ok(())
    }

    pub(super) fn has(&self, named: &Named, digest: &BlobDigest) -> bool {
        lock(&self.0).contains_key(&Self::key(named, digest))
    }

    /// Whether any repository has it.
    pub(super) fn has_anywhere(&self, digest: &BlobDigest) -> bool {
        lock(&self.0).keys().any(|(_, other)| other == digest)
    }

    pub(super) fn forget(&self, named: &Named, digest: &BlobDigest) -> bool {
        lock(&self.0).remove(&Self::key(named, digest)).is_some()
    }

    fn tidy(&self) {
        lock(&self.0).retain(|_, since| since.elapsed() < FORGOTTEN);
    }

    fn hold(&self, store: &Store) {
        for (_, digest) in lock(&self.0).keys() {
            store.hold_blob(digest);
        }
    }
}
