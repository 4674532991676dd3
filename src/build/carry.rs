//! Inputs that a lock names, brought into the store or carried to another: for bundles, and
//! for builds that are made again.

use super::git::{Git, Resolved};
use super::{FetchError, OpenError, Opening};
use crate::digest::BlobDigest;
use crate::dockerfile::GitSource;
use crate::lock::{self, Entry, Lock};
use crate::store::Store;

impl Opening<'_> {
    /// Fetches a file that a lock has, unless the store has it. The caller's thread waits; it
    /// must not be one of the runtime's workers.
    ///
    /// # Errors
    /// If it cannot be had, or is not what the lock says.
    pub fn locked_url(&self, url: &lock::Url) -> Result<(), OpenError> {
        if self.store.has_blob(&url.digest, url.size) {
            return Ok(());
        }
        self.checked_url(&url.url, Some(url.digest)).map(drop)
    }

    /// Packs a commit that a lock has into a blob of the store, and gives its size. The pack
    /// has no submodules; who uses it is told.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn pack(&self, commit: &lock::Git) -> Result<(BlobDigest, u64), OpenError> {
        let source = source(commit)?;
        let git = self.git();
        let packed = git.pack(&source, &resolved(commit))?;
        if packed.has_submodules {
            self.progress.warn(format!(
                "{}: its submodules are not carried; an offline build can only take it with \
                 ?submodules=false, or as the layer that `kiln bundle --cache` carries",
                commit.remote
            ));
        }
        Ok((packed.digest, packed.size))
    }

    /// Takes a commit that a lock has out of its pack, unless it is here.
    ///
    /// # Errors
    /// If the pack has it not, or not whole.
    pub fn unpack(&self, commit: &lock::Git, pack: &BlobDigest) -> Result<(), OpenError> {
        Ok(self.git().unpack(&source(commit)?, &resolved(commit), pack)?)
    }

    /// Has another store have the files and commits of a lock that this one has: a build there
    /// need not fetch them again.
    ///
    /// # Errors
    /// If a store cannot be read or written.
    pub fn lend(&self, inputs: &Lock, to: &Store) -> Result<(), OpenError> {
        for entry in inputs.entries() {
            match entry {
                // By those who know which of its layers are needed.
                Entry::Base(_) => {}
                Entry::Url(url) => {
                    to.take_blob(self.store, &url.digest, url.size).map_err(FetchError::Store)?
                }
                Entry::Git(git) => self.git().lend(&source(git)?, &resolved(git), to)?,
            }
        }
        Ok(())
    }

    fn git(&self) -> Git<'_> {
        let Self { store, given, sources, progress, cancel, .. } = *self;
        Git { store, given, sources, progress, cancel }
    }
}

/// The repository of a commit, as a Dockerfile would name it.
fn source(commit: &lock::Git) -> Result<GitSource, OpenError> {
    GitSource::of_remote(&commit.remote)
        .map_err(|error| OpenError::Remote { remote: commit.remote.clone(), source: error })
}

fn resolved(commit: &lock::Git) -> Resolved {
    Resolved {
        reference: commit.name.clone(),
        object: commit.object.clone(),
        commit: Some(commit.commit.clone()),
    }
}
