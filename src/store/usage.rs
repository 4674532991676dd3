//! How much the store holds, as far as that is known without looking.
//!
//! `STORE/usage` is there once a limit was asked for. A clean-up writes into it what it
//! found; each process adds what it has made. What goes, and what containers and caches
//! grow by, is not counted, so the number is an estimate that is set right by looking.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::atomic::{self, FileLock};

/// An estimate, and how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes on the disk.
    pub bytes: u64,
    pub inodes: u64,
    /// What of the bytes was added since everything was looked at.
    pub added: u64,
}

impl Store {
    fn usage_path(&self) -> PathBuf {
        self.root.join("usage")
    }

    /// The estimate, and when everything was looked at; none if nobody has.
    #[must_use]
    pub fn usage(&self) -> Option<(Usage, SystemTime)> {
        let usage = serde_json::from_slice(&std::fs::read(self.usage_path()).ok()?).ok()?;
        // Its file is written again and again; that of the lock once for each look.
        let looked = self.root.join("locks/usage-looked").metadata().ok()?.modified().ok()?;
        Some((usage, looked))
    }

    /// Sets the estimate right.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn set_usage(&self, bytes: u64, inodes: u64) -> Result<(), StoreError> {
        let _lock = FileLock::exclusive(&self.root.join("locks/usage"))?;
        // What was added until now is in it.
        let _ = self.leases.take_growth();
        atomic::replace(&self.root.join("locks/usage-looked"), b"")?;
        let usage = Usage { bytes, inodes, added: 0 };
        Ok(atomic::replace(
            &self.usage_path(),
            &serde_json::to_vec(&usage).map_err(std::io::Error::from).unwrap_or_default(),
        )?)
    }

    /// Adds what this process has made since this was done before, if anybody counts.
    pub fn add_usage(&self) {
        let (bytes, inodes) = self.leases.take_growth();
        if bytes == 0 && inodes == 0 || !self.usage_path().exists() {
            return;
        }
        let add = || {
            let _lock = FileLock::exclusive(&self.root.join("locks/usage")).ok()?;
            let (mut usage, _) = self.usage()?;
            usage.bytes = usage.bytes.saturating_add(bytes);
            usage.inodes = usage.inodes.saturating_add(inodes);
            usage.added = usage.added.saturating_add(bytes);
            atomic::replace(&self.usage_path(), &serde_json::to_vec(&usage).ok()?).ok()
        };
        if add().is_none() {
            // Without an estimate the next one who counts looks.
            let _ = std::fs::remove_file(self.usage_path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.put(&[1; 5000]).unwrap();
        store.add_usage();
        assert_eq!(store.usage(), None);
        store.put(&[2; 5000]).unwrap();
        store.set_usage(100, 10).unwrap();
        store.put(&[3; 5000]).unwrap();
        store.put(&[3; 5000]).unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        let (usage, _) = store.usage().unwrap();
        assert_eq!(usage, Usage { bytes: 100 + 8192, inodes: 11, added: 8192 });
    }
}
