//! A repository that blobs are brought to, in the cheapest way that there is.
//!
//! In this order: what this process saw there already; mounted from another repository of
//! the registry, which needs no question before it and moves nothing; what the repository
//! has (asked for with HEAD); sent from the store; fetched into the store from where it is
//! known to be, and sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use reqwest::Url;

use super::transport::{Action, Session};
use super::upload::{self, Blob, Source};
use super::{Registries, RegistryError, blob, origin, size_text};
use crate::digest::{BlobDigest, DiffId};
use crate::layer::{Compression, Layer};
use crate::progress::{Progress, Task, Way};
use crate::reference::Reference;
use crate::store::Store;

/// Up to this size, bytes are sent without the question whether they are there.
const SMALL: usize = 64 << 10;

/// What became of a mount.
pub(super) enum Mount {
    Done,
    /// The registry wants the bytes, and opened an upload for them.
    Opened(Arc<Session>, Url),
    /// It does not mount from that repository.
    Refused,
}

/// One repository to push to.
pub(super) struct Destination {
    pub(super) session: Session,
    /// Sessions that may read another repository too, by its name; none for those that
    /// the registry does not mount from.
    reading: Mutex<BTreeMap<String, Option<Arc<Session>>>>,
}

impl Destination {
    /// Finds out how the registry is spoken to.
    pub(super) async fn open(to: &Reference, at: &Registries) -> Result<Self, RegistryError> {
        let place = at.mirrors().for_push(to)?;
        let session = Session::open(at, &place, Action::Push).await?;
        Ok(Self { session, reading: Mutex::default() })
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<Session>>>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To mount a blob the token must allow reading the other repository: one session for
    /// each, so that a registry that refuses such a token refuses that mount only.
    fn reading(&self, repository: &str) -> Option<Arc<Session>> {
        let mut sessions = self.sessions();
        let made = || Some(Arc::new(self.session.reading(repository)));
        sessions.entry(repository.to_owned()).or_insert_with(made).clone()
    }

    /// Has the registry take a blob from another of its repositories.
    pub(super) async fn mount(
        &self,
        digest: BlobDigest,
        other: &str,
        what: &str,
    ) -> Result<Mount, RegistryError> {
        let Some(session) = self.reading(other) else { return Ok(Mount::Refused) };
        match upload::mount(&session, digest, other, what).await {
            Ok(None) => Ok(Mount::Done),
            Ok(Some(url)) => Ok(Mount::Opened(session, url)),
            Err(
                error @ (RegistryError::Unreachable { .. } | RegistryError::Interrupted { .. }),
            ) => Err(error),
            // Some registries refuse, or fail at it, instead of asking for the bytes.
            Err(_) => {
                self.sessions().insert(other.to_owned(), None);
                Ok(Mount::Refused)
            }
        }
    }

    /// Sees to it that the repository has a layer.
    pub(super) async fn layer(
        &self,
        digest: BlobDigest,
        size: u64,
        from: &Store,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        let what = format!("layer {digest} ({})", size_text(size));
        let shown = format!("push sha256:{} ({})", digest.short(), size_text(size));
        let task = progress.transfer(Way::Push, digest, size, shown);
        if self.session.holds(digest) {
            task.cached();
        } else if self.bring(digest, size, from, progress, &what, &task).await? {
            self.session.at.set_sent(self.session.name());
            task.done();
        } else {
            task.found();
        }
        self.session.set_held(digest);
        origin::remember(from, digest, &self.session.name())
    }

    /// True if bytes were sent.
    async fn bring(
        &self,
        digest: BlobDigest,
        size: u64,
        from: &Store,
        progress: &Progress,
        what: &str,
        task: &Task,
    ) -> Result<bool, RegistryError> {
        let Session { host, repository, at, .. } = &self.session;
        let known = origin::known(from, digest);
        let mut opened = None;
        if !known.contains(&self.session.name())
            && let Some(other) = origin::mountable(&known, host, repository)
        {
            match self.mount(digest, &other, what).await? {
                Mount::Done => {
                    task.mounted_from(&other);
                    return Ok(false);
                }
                Mount::Opened(session, url) => opened = Some((session, url)),
                Mount::Refused => {}
            }
        }
        let here = from.has_blob(&digest, size);
        if (opened.is_none() || !here) && blob::exists(&self.session, digest, what).await? {
            return Ok(false);
        }
        if !here {
            let layer = as_layer(digest, size);
            origin::pull_layers(None, &[layer], from, at, progress).await?;
        }
        let blob = Blob { digest, size, source: Source::Store(from), kept: Some(from) };
        match opened {
            Some((session, url)) => upload::send(&session, &blob, Some(url), what, task).await?,
            None => upload::send(&self.session, &blob, None, what, task).await?,
        }
        Ok(true)
    }

    /// Sees to it that the repository has a config.
    pub(super) async fn config(
        &self,
        digest: BlobDigest,
        bytes: &Bytes,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        let what = format!("config {digest}");
        let (size, shown) = (bytes.len() as u64, format!("push config sha256:{}", digest.short()));
        let task = progress.transfer(Way::Push, digest, size, shown);
        if self.session.holds(digest) {
            task.cached();
            return Ok(());
        }
        if bytes.len() > SMALL && blob::exists(&self.session, digest, &what).await? {
            task.found();
            return Ok(());
        }
        let source = Source::Memory(bytes);
        let blob = Blob { digest, size, source, kept: None };
        upload::send(&self.session, &blob, None, &what, &task).await?;
        self.session.set_held(digest);
        task.done();
        Ok(())
    }
}

/// A blob as something to fetch: of a layer only digest and size matter for that.
pub(super) fn as_layer(digest: BlobDigest, size: u64) -> Layer {
    Layer { diff_id: DiffId(digest.0), digest, size, compression: Compression::None }
}
