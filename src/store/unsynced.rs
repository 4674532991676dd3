//! Blobs that may not be on disk yet.
//!
//! A blob is committed without waiting for the disk, which would cost every step of a
//! build milliseconds. It is noted first, by an empty file in a folder of this process and
//! this boot of the machine: file systems keep the order of names, not that of contents.
//! Before a name points to anything all that is noted is made durable at once, what
//! killed processes left included. Between making its folder and locking it a process shares
//! `locks/unsynced`, which whoever looks for the folders of others takes exclusively. After a crash of the machine the notes of another boot
//! tell which blobs to read again; one that did not get to the disk whole is removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::StoreError;
use crate::atomic::{self, AtPath as _, FileLock, PathError};
use crate::digest::{BlobDigest, Hashing};

#[derive(Debug)]
pub(super) struct Unsynced {
    folder: PathBuf,
    /// Held while a folder is made and not locked yet.
    making: PathBuf,
    blobs: PathBuf,
    /// Of this process, made for its first blob.
    own: Mutex<Option<Notes>>,
    /// What this process has put into the store.
    made: Mutex<BTreeSet<BlobDigest>>,
    /// Shared between a note and the name of its blob: whoever syncs finds both or neither.
    naming: RwLock<()>,
}

/// A folder of notes, locked.
#[derive(Debug)]
struct Notes {
    path: PathBuf,
    _lock: FileLock,
}

const LOCK: &str = "lock";

impl Unsynced {
    /// Looks at what was noted before the machine crashed or was restarted.
    pub(super) fn open(root: &Path) -> Self {
        let unsynced = Self {
            folder: root.join("unsynced"),
            making: root.join("locks/unsynced"),
            blobs: root.join("blobs/sha256"),
            own: Mutex::default(),
            made: Mutex::default(),
            naming: RwLock::default(),
        };
        let crashed = unsynced.orphans(|name, boot| !is_of(name, boot));
        for notes in crashed.into_iter().flatten() {
            // What cannot be looked at now is so the next time.
            let _ = unsynced.examine(&notes);
        }
        unsynced
    }

    /// To be held from a blob's note until it has its name.
    pub(super) fn naming(&self) -> RwLockReadGuard<'_, ()> {
        self.naming.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a blob that is about to get its name. Where nothing tells one boot from
    /// another, the file is synced instead.
    pub(super) fn note(&self, digest: &BlobDigest, blob: &File) -> Result<(), PathError> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest);
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = match own.take() {
            Some(notes) => own.insert(notes),
            None => match boot() {
                Some(boot) => own.insert(self.begin(&boot)?),
                None => return blob.sync_all().at("sync", &self.blobs),
            },
        };
        let note = notes.path.join(digest.hex());
        File::create(&note).at("create", &note)?;
        Ok(())
    }

    /// Whether this process has put a blob into the store, and so hashed it.
    pub(super) fn is_own(&self, digest: &BlobDigest) -> bool {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    fn begin(&self, boot: &str) -> Result<Notes, PathError> {
        atomic::private_folder(&self.folder)?;
        let _making = FileLock::shared(&self.making)?;
        let folder = tempfile::Builder::new()
            .prefix(&format!("{boot}."))
            .tempdir_in(&self.folder)
            .at("create a folder in", &self.folder)?;
        let lock = FileLock::exclusive(&folder.path().join(LOCK))?;
        Ok(Notes { path: folder.keep(), _lock: lock })
    }

    /// Makes durable what this process and those that are gone have noted.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let own = {
            let _none = self.naming.write().unwrap_or_else(PoisonError::into_inner);
            self.own.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        let mut all = self.orphans(|_, _| true)?;
        all.extend(own);
        if all.is_empty() {
            return Ok(());
        }
        for digest in all.iter().flat_map(Notes::digests) {
            let blob = self.blobs.join(digest.hex());
            match File::open(&blob) {
                Ok(file) => file.sync_all().at("sync", &blob).inspect_err(|_| {
                    // The kernel says it once; another try would find nothing wrong.
                    let _ = fs::remove_file(&blob);
                })?,
                // It was removed since.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("open", &blob).map_err(Into::into),
            }
        }
        atomic::sync_folder(&self.blobs)?;
        for notes in &all {
            // What stays is synced once more the next time.
            let _ = fs::remove_dir_all(&notes.path);
        }
        Ok(())
    }

    /// Notes of processes that are gone, if `wanted` by their name and this boot.
    fn orphans(
        &self,
        wanted: impl Fn(&str, Option<&str>) -> bool,
    ) -> Result<Vec<Notes>, PathError> {
        let mut entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().peekable();
        if entries.peek().is_none() {
            return Ok(Vec::new());
        }
        let boot = boot();
        let _alone = FileLock::exclusive(&self.making)?;
        let orphan = |entry: fs::DirEntry| {
            let path = entry.path();
            if !wanted(&entry.file_name().to_string_lossy(), boot.as_deref()) {
                return None;
            }
            let lock = FileLock::try_exclusive(&path.join(LOCK)).ok().flatten()?;
            Some(Notes { path, _lock: lock })
        };
        Ok(entries.filter_map(orphan).collect())
    }

    fn examine(&self, notes: &Notes) -> Result<(), PathError> {
        for digest in notes.digests() {
            let blob = self.blobs.join(digest.hex());
            let Ok(mut file) = File::open(&blob) else { continue };
            let mut hashing = Hashing::new(std::io::sink());
            std::io::copy(&mut file, &mut hashing).at("read", &blob)?;
            if BlobDigest(hashing.finish().1) != digest {
                fs::remove_file(&blob).at("remove", &blob)?;
            }
        }
        fs::remove_dir_all(&notes.path).at("remove", &notes.path)
    }
}

impl Notes {
    fn digests(&self) -> Vec<BlobDigest> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let digest = |name: std::ffi::OsString| format!("sha256:{}", name.to_str()?).parse().ok();
        entries.filter_map(|entry| digest(entry.file_name())).collect()
    }
}

/// Without a boot to compare with every note is of another one.
fn is_of(name: &str, boot: Option<&str>) -> bool {
    name.split('.').next() == boot
}

/// The number that the kernel gives each of its starts (random(4)).
pub(super) fn boot() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    (!id.is_empty() && !id.contains(['.', '/'])).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::Store;
    use super::*;
    use crate::image::{Descriptor, MediaType};

    fn notes(root: &Path) -> usize {
        fs::read_dir(root.join("unsynced")).map_or(0, Iterator::count)
    }

    #[test]
    fn a_crash_leaves_no_damaged_blob() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let put = |bytes: &[u8]| {
            let store = Store::open(&root).unwrap();
            let mut writer = store.writer().unwrap();
            writer.write_all(bytes).unwrap();
            let (digest, _) = writer.commit(None).unwrap();
            (store.blob_path(&digest), digest)
        };
        let (whole, _) = put(b"whole");
        let (torn, _) = put(b"torn");
        fs::write(&torn, b"\0\0\0\0").unwrap();
        // In the same boot nothing is read again.
        drop(Store::open(&root).unwrap());
        assert!(torn.exists());
        assert_eq!(notes(&root), 2);
        for (number, entry) in fs::read_dir(root.join("unsynced")).unwrap().enumerate() {
            let other = format!("unsynced/another-boot.{number}");
            fs::rename(entry.unwrap().path(), root.join(other)).unwrap();
        }
        drop(Store::open(&root).unwrap());
        assert!(whole.exists() && !torn.exists());
        assert_eq!(notes(&root), 0);
    }

    #[test]
    fn names_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.put(b"one").unwrap();
        store.put(b"two").unwrap();
        assert_eq!(notes(folder.path()), 1);
        // Two blobs, and the lock.
        let own = fs::read_dir(folder.path().join("unsynced")).unwrap().next().unwrap().unwrap();
        assert_eq!(fs::read_dir(own.path()).unwrap().count(), 3);
        let descriptor = Descriptor::new(MediaType::OciManifest, BlobDigest::of(b"one"), 3);
        store.tag(&"name".parse().unwrap(), descriptor).unwrap();
        assert_eq!(notes(folder.path()), 0);
    }

    #[test]
    fn nobody_takes_the_notes_of_who_begins() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let begin = |thread: usize| {
            for turn in 0..200 {
                let store = Store::open(&root).unwrap();
                store.put(format!("{thread} {turn}").as_bytes()).unwrap();
                store.unsynced.sync().unwrap();
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|thread| drop(scope.spawn(move || begin(thread))))
        });
        assert_eq!(notes(&root), 0);
    }
}
