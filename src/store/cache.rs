//! What is kept between builds and is never in a layer: folders of
//! `RUN --mount=type=cache`, git repositories.

use std::path::PathBuf;

use super::{Store, StoreError};
use crate::atomic::{self, FileLock};
use crate::digest::Digest;

impl Store {
    /// The folder of git repositories from which files were taken, bare ones by a
    /// digest of their remote. Whoever uses one has its lock.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn repositories(&self) -> Result<PathBuf, StoreError> {
        let folder = self.root.join("git");
        atomic::private_folder(&folder)?;
        Ok(folder)
    }

    /// Keeps a cache or a repository from being cleaned up as long as this process lives,
    /// if it is there.
    pub fn hold_folder(&self, folder: &std::path::Path) -> bool {
        self.leases.hold(folder).is_some_and(|meta| meta.is_dir())
    }

    /// Where a cache lies. `kind` names the owner mapping, as for
    /// [trees](Store::tree). The folder may not exist yet.
    ///
    /// # Errors
    /// If the folder above it cannot be made.
    pub fn cache_folder(&self, kind: &str, id: &Digest) -> Result<PathBuf, StoreError> {
        let above = self.root.join("caches").join(kind);
        atomic::private_folder(&above)?;
        Ok(above.join(id.hex()))
    }

    /// The right to use a cache, alone or with others, if it is to be had now.
    ///
    /// # Errors
    /// If the lock's file cannot be made.
    pub fn try_cache(
        &self,
        kind: &str,
        id: &Digest,
        alone: bool,
    ) -> Result<Option<FileLock>, StoreError> {
        let path = self.root.join("locks").join(format!("cache-{kind}-{}", id.hex()));
        Ok(if alone { FileLock::try_exclusive(&path)? } else { FileLock::try_shared(&path)? })
    }
}
