//! Unpacked trees, and folders for work under way.
//!
//! An entry of `tmp/` is locked as long as its process works with it. Between
//! making an entry and locking it the process shares `locks/tmp`, which a
//! clean-up takes exclusively: an entry whose lock is free then belongs to nobody.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

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

    /// The tree of a layer if it is unpacked: `fs` in it is its content. No clean-up takes
    /// it away then as long as this process lives.
    #[must_use]
    pub fn held_tree(&self, kind: &str, diff_id: &DiffId) -> Option<PathBuf> {
        let fs = self.tree(kind, diff_id).join("fs");
        self.leases.hold(&self.tree(kind, diff_id))?;
        fs.is_dir().then_some(fs)
    }

    /// A new folder in `tmp/` that belongs to the caller until it is dropped.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn scratch(&self, what: &str) -> Result<Scratch, StoreError> {
        let tmp = self.root.join("tmp");
        let _making = self.making()?;
        let folder = tempfile::Builder::new()
            .prefix(&format!("{what}-"))
            .tempdir_in(&tmp)
            .at("create a folder in", &tmp)?;
        let lock = FileLock::shared(&folder.path().join("lock"))?;
        Ok(Scratch { path: folder.keep(), _lock: lock })
    }

    /// Held while an entry of `tmp/` is made and not locked yet.
    pub(super) fn making(&self) -> Result<FileLock, StoreError> {
        Ok(FileLock::shared(&self.root.join("locks/tmp"))?)
    }

    /// Removes what processes that were killed left in `tmp/`; keeps locked what
    /// this process may not remove ([`Store::take_stale`]). Nothing here is worth
    /// an error: what stays is looked at again next time.
    pub(super) fn clear_stale(&self) {
        let Ok(Some(_alone)) = FileLock::try_exclusive(&self.root.join("locks/tmp")) else {
            return;
        };
        let entries = fs::read_dir(self.root.join("tmp")).into_iter().flatten().flatten();
        for entry in entries {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if !kind.is_dir() {
                let free = File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
                if free {
                    let _ = fs::remove_file(&path);
                }
                continue;
            }
            let Ok(Some(lock)) = FileLock::try_exclusive(&path.join("lock")) else { continue };
            if fs::remove_dir_all(&path).is_err() {
                let stale = Scratch { path, _lock: lock };
                self.stale.lock().unwrap_or_else(PoisonError::into_inner).push(stale);
            }
        }
    }

    /// Folders that killed processes left and that only a sandbox can remove,
    /// since files in them belong to other IDs. They are the caller's now.
    #[must_use]
    pub fn take_stale(&self) -> Vec<Scratch> {
        std::mem::take(&mut *self.stale.lock().unwrap_or_else(PoisonError::into_inner))
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
        self.leases.begin()?;
        atomic::private_folder(&self.root.join("trees").join(kind))?;
        self.note_tree(kind, diff_id)?;
        match std::fs::rename(folder, &target) {
            // It has a time of this session already, unless the clock was set back.
            Ok(()) => drop(self.leases.hold(&target)),
            Err(_) if self.held_tree(kind, diff_id).is_some() => {}
            Err(error) => return Err(error).at("rename", folder).map_err(Into::into),
        }
        Ok(target)
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
