//! Records: small facts under a key, each written once and whole.
//!
//! An area is a kind of fact (`steps`, `index`, …), a key a digest. Records are
//! a memory, not a truth: one that cannot be read counts as absent, and none is waited
//! for to be on disk.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError, lease};
use crate::atomic::{self, AtPath as _, FileLock};
use crate::digest::Digest;

impl Store {
    /// Where a record lies or would lie, for those who have a form of their own.
    #[must_use]
    pub fn record_path(&self, area: &str, key: &Digest) -> PathBuf {
        self.root.join("records").join(area).join(key.hex())
    }

    /// What is remembered under a key.
    #[must_use]
    pub fn record<T: DeserializeOwned>(&self, area: &str, key: &Digest) -> Option<T> {
        serde_json::from_slice(&read(&self.record_path(area, key))?).ok()
    }

    /// All that is remembered in an area, as it is.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn records(&self, area: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let folder = self.root.join("records").join(area);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("read", &folder)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.at("read", &folder)?.path();
            found.push(std::fs::read(&path).at("read", &path)?);
        }
        Ok(found)
    }

    /// Whether anything is remembered under a key.
    #[must_use]
    pub fn has_record(&self, area: &str, key: &Digest) -> bool {
        self.record_path(area, key).exists()
    }

    /// Remembers bytes of the caller's own form in place of what was remembered. Of several writers the last one
    /// wins.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn set_record_bytes(
        &self,
        area: &str,
        key: &Digest,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        atomic::private_folder(&self.root.join("records").join(area))?;
        atomic::replace(&self.record_path(area, key), bytes)?;
        self.grew((bytes.len() as u64).next_multiple_of(4096), 1);
        Ok(())
    }

    /// As [`Store::set_record_bytes`], with what a function writes, so that it need not be in
    /// memory as a whole. If that fails, what was remembered stays.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn write_record_bytes(
        &self,
        area: &str,
        key: &Digest,
        write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
    ) -> Result<(), StoreError> {
        atomic::private_folder(&self.root.join("records").join(area))?;
        Ok(atomic::replace_with(&self.record_path(area, key), write)?)
    }

    /// Waits until nobody else makes the record of this key, in this process or
    /// another, and gives the right to make it.
    ///
    /// # Errors
    /// If the lock cannot be taken.
    pub fn slot(&self, area: &str, key: &Digest) -> Result<Slot<'_>, StoreError> {
        let path = self.root.join("locks").join(format!("{area}-{}", key.hex()));
        let lock = FileLock::exclusive_removable(&path)?;
        let record = self.record_path(area, key);
        Ok(Slot { store: self, path: record, lock_path: path, lock: Some(lock) })
    }

    /// As [`Store::slot`], unless somebody else has it now.
    ///
    /// # Errors
    /// If the lock cannot be taken.
    pub fn try_slot(&self, area: &str, key: &Digest) -> Result<Option<Slot<'_>>, StoreError> {
        let lock_path = self.root.join("locks").join(format!("{area}-{}", key.hex()));
        let lock = FileLock::try_exclusive_removable(&lock_path)?;
        let path = self.record_path(area, key);
        Ok(lock.map(|lock| Slot { store: self, path, lock_path, lock: Some(lock) }))
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    lease::used(path, &file);
    Some(bytes)
}

/// The right to write one record; others wait for it or its end.
#[derive(Debug)]
pub struct Slot<'a> {
    store: &'a Store,
    path: PathBuf,
    lock_path: PathBuf,
    /// Taken when the slot is dropped.
    lock: Option<FileLock>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // One file for every step that ever ran would be too many.
        if let Some(lock) = self.lock.take() {
            lock.remove(&self.lock_path);
        }
    }
}

impl Slot<'_> {
    /// What somebody else may have written while this slot was waited for.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&read(&self.path)?).ok()
    }

    /// Remembers a fact and gives the slot up.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn write(self, fact: &impl Serialize) -> Result<(), StoreError> {
        self.note(fact)
    }

    /// Remembers a fact, and keeps the slot for the next.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn note(&self, fact: &impl Serialize) -> Result<(), StoreError> {
        let folder = self.path.parent().unwrap_or(self.store.root());
        atomic::private_folder(folder)?;
        let bytes =
            serde_json::to_vec(fact).map_err(std::io::Error::from).at("write", &self.path)?;
        atomic::replace(&self.path, &bytes)?;
        self.store.grew((bytes.len() as u64).next_multiple_of(4096), 1);
        Ok(())
    }

    /// Forgets what was remembered, if anything was.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn forget(&self) -> Result<(), StoreError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed.at("remove", &self.path)?),
        }
    }
}
