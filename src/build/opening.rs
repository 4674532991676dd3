//! Contexts that are not folders: fetched, checked out, taken apart.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use super::fetch::{FetchError, Fetcher};
use super::files::{self, Files, UnpackError, Unpacked};
use super::git::{Git, GitError};
use super::given::Given;
use super::sources::{Sources, Unlocked};
use crate::atomic::{AtPath as _, PathError};
use crate::digest::BlobDigest;
use crate::dockerfile::{GitSource, GitSourceError};
use crate::layer::Name;
use crate::net;
use crate::plan::RemoteSource;
use crate::progress::Progress;
use crate::sandbox::Cancel;
use crate::store::Store;

/// What a context is opened with.
#[derive(Debug)]
pub struct Opening<'a> {
    pub store: &'a Store,
    pub given: &'a Given,
    pub sources: &'a Sources,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
    pub runtime: tokio::runtime::Handle,
}

/// Why a context cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// [`Sources::refused`] has it, and what else was refused.
    #[error(transparent)]
    Unlocked(Box<Unlocked>),
    /// Of what is known of it something is lacking, and nobody may be asked.
    #[error("repository {remote} is not here: {why}")]
    Absent { remote: String, why: String },
    #[error("the context's archive: {0}")]
    Unpack(#[from] UnpackError),
    #[error("`{remote}` is no repository: {source}")]
    Remote { remote: String, source: GitSourceError },
    #[error(transparent)]
    Io(#[from] PathError),
}

impl OpenError {
    /// True if only the network has it, and there is none.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        matches!(
            self,
            Self::Absent { .. }
                | Self::Git(GitError::Offline { .. })
                | Self::Fetch(FetchError::Offline { .. })
        )
    }
}

impl Opening<'_> {
    /// Checks a repository out. No ignore file is for it, as with BuildKit.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn repository(&self, source: &GitSource) -> Result<Files, OpenError> {
        let Self { store, given, sources, progress, cancel, .. } = *self;
        let git = Git { store, given, sources, progress, cancel };
        let resolved = git.resolve(source).map_err(|error| match error {
            GitError::Unlocked(one) => self.refused(one),
            error => error.into(),
        })?;
        if net::is_shut().is_some()
            && let Some(why) = git.lacking(source)?
        {
            return Err(OpenError::Absent { remote: source.remote.clone(), why });
        }
        Ok(Files::Checkout(Arc::new(git.checkout(source, &resolved)?)))
    }

    /// Fetches a file. The caller's thread waits; it must not be one of the
    /// runtime's workers.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn url(&self, url: &str) -> Result<File, OpenError> {
        self.checked_url(url, None)
    }

    /// As [`Opening::url`], of a file that has to have a digest if one is given.
    pub(super) fn checked_url(
        &self,
        url: &str,
        checksum: Option<BlobDigest>,
    ) -> Result<File, OpenError> {
        let fetcher = Fetcher::new(self.sources, self.runtime.clone());
        let (url, name) = (url.to_owned(), String::new());
        let source = RemoteSource { url, name, checksum, unpack: false };
        let fetched = fetcher.fetch(&source, self.store, self.progress, self.cancel);
        let fetched = fetched.map_err(|error| match error {
            FetchError::Unlocked(one) => self.refused(one),
            error => error.into(),
        })?;
        let path = self.store.blob_path(&fetched.digest);
        Ok(File::open(&path).at("open", &path)?)
    }

    /// Keeps a refusal, to be told with all the others.
    fn refused(&self, one: Box<Unlocked>) -> OpenError {
        self.sources.refuse((*one).clone());
        OpenError::Unlocked(one)
    }

    /// Takes an archive apart, as it is read.
    ///
    /// # Errors
    /// If it is none that kiln takes.
    pub fn archive(&self, from: impl Read) -> Result<Files, OpenError> {
        let task = self.progress.task("unpack the context");
        let unpacked = Unpacked::of(from, self.store, self.cancel)?;
        task.done();
        Ok(Files::Unpacked(Arc::new(unpacked)))
    }

    /// Files that are one file, named `context`: what BuildKit makes of a URL that
    /// has no archive.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn single(&self, content: impl Read) -> Result<Files, OpenError> {
        let name = Name::clean(b"context").unwrap_or_default();
        let file = Unpacked::single(&name, 0o600, content, self.store)?;
        Ok(Files::Unpacked(Arc::new(file)))
    }
}

/// How many bytes [`is_archive`] looks at.
pub const HEAD: usize = 512;

/// True if what begins with these bytes is a tar archive, or compressed.
#[must_use]
pub fn is_archive(head: &[u8]) -> bool {
    files::is_compressed(head) || files::tar_begins(head)
}
