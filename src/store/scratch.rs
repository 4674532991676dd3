//! Unpacked trees, and folders for work under way.

use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::atomic::{self, AtPath as _, FileLock};
use crate::digest::DiffId;

impl Store {
    /// Where the tree of a layer lies once it is unpacked. `kind` names the owner
    /// mapping it was unpacked under: letters, digits and dashes that kiln chose.
    #[must_use]
    pub fn tree(&self, kind: &str, diff_id: &DiffId) -> PathBuf {
        self.root.join("trees").join(kind).join(diff_id.hex())
    }

    /// A new folder in `tmp/` that belongs to the caller until it is dropped.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn scratch(&self, what: &str) -> Result<Scratch, StoreError> {
        let tmp = self.root.join("tmp");
        let folder = tempfile::Builder::new()
            .prefix(&format!("{what}-"))
            .tempdir_in(&tmp)
            .at("create a folder in", &tmp)?;
        let lock = FileLock::shared(&folder.path().join("lock"))?;
        Ok(Scratch { path: folder.keep(), _lock: lock })
    }

    /// Makes a finished folder the tree of a layer: `folder/fs` is its content.
    /// Whoever comes second finds it made and keeps the first.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn adopt_tree(
        &self,
        kind: &str,
        diff_id: &DiffId,
        folder: &Path,
    ) -> Result<PathBuf, StoreError> {
        let target = self.tree(kind, diff_id);
        atomic::private_folder(&self.root.join("trees").join(kind))?;
        match std::fs::rename(folder, &target) {
            Ok(()) => Ok(target),
            Err(_) if target.join("fs").is_dir() => Ok(target),
            Err(error) => Err(error).at("rename", folder).map_err(Into::into),
        }
    }
}

/// A folder for work under way. Its removal is its user's: files in it may
/// belong to other IDs, which only the sandbox can remove ([`Scratch::path`]).
/// Dropped, it removes what this process may remove.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: FileLock,
}

impl Scratch {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is cleared by the next clean-up, since its lock is free then.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
