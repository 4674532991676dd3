//! Unpacked trees that may not be on disk yet.
//!
//! A tree is never synced: it can be made again from its layer, and waiting for thousands of
//! files would cost more than that. But after a crash of the machine its names may be there
//! without their contents. So each tree is noted, before it gets its name, in a folder of
//! this boot. The kernel writes what is dirty within half a minute
//! (`vm.dirty_expire_centisecs`, proc(5)); notes that are older than a multiple of that go.
//! A store that finds notes of another boot discards those trees: they are unpacked anew when
//! something needs them.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::unsynced::boot;
use super::{Store, StoreError};
use crate::atomic::{self, AtPath as _, FileLock, PathError};
use crate::digest::DiffId;

/// In the store's folder.
const FOLDER: &str = "unsettled";
/// Twenty times the kernel's own default.
const SETTLED: Duration = Duration::from_secs(600);

impl Store {
    /// Notes a tree that is about to get its name.
    pub(super) fn note_tree(&self, kind: &str, diff_id: &DiffId) -> Result<(), PathError> {
        // Nothing tells one boot from another: notes would never end.
        let Some(boot) = boot() else { return Ok(()) };
        let folder = self.root.join(FOLDER).join(boot);
        let note = folder.join(format!("{kind}.{}", diff_id.hex()));
        let made = File::create(&note).or_else(|_| {
            // It is the boot's first, or somebody has just removed the empty folder.
            atomic::private_folder(&self.root.join(FOLDER)).map_err(|error| error.source)?;
            atomic::private_folder(&folder).map_err(|error| error.source)?;
            File::create(&note)
        });
        made.map(drop).at("create", &note)
    }

    /// Discards what an earlier boot may have left half-written, and forgets what is on disk
    /// by now. What cannot be done now is tried again by the next process.
    pub(super) fn settle_trees(&self) {
        let boots = fs::read_dir(self.root.join(FOLDER)).into_iter().flatten().flatten();
        let boots: Vec<_> = boots.collect();
        if boots.is_empty() {
            return;
        }
        let own = boot();
        #[expect(clippy::disallowed_methods, reason = "no output depends on it")]
        let now = SystemTime::now();
        for entry in boots {
            let folder = entry.path();
            if own.as_deref() != entry.file_name().to_str() {
                let _ = self.discard(&folder);
            } else if is_older(&folder, now) {
                forget(&folder, now);
            }
        }
    }

    fn discard(&self, notes: &Path) -> Result<(), StoreError> {
        // Another process may have discarded a tree, and unpacked it again: its note is gone.
        let _alone = FileLock::exclusive(&self.root.join("locks/unsettled"))?;
        for note in fs::read_dir(notes).into_iter().flatten().flatten() {
            // Its writer is alive: a container with a boot ID of its own uses the store.
            let written = note.metadata().and_then(|meta| meta.modified());
            if written.is_ok_and(|written| self.leases.lives_since(written)) {
                continue;
            }
            // One that cannot be discarded keeps none of the others.
            let _ = self.discard_one(&note);
        }
        Ok(fs::remove_dir(notes).at("remove", notes)?)
    }

    fn discard_one(&self, note: &fs::DirEntry) -> Result<(), StoreError> {
        let name = note.file_name();
        let tree = name.to_str().and_then(|name| name.split_once('.'));
        let tree = tree.map(|(kind, hex)| self.root.join("trees").join(kind).join(hex));
        if let Some(tree) = tree.filter(|tree| tree.is_dir()) {
            // Its files may be another owner's: whoever may removes them from there.
            match self.scratch("lost") {
                Ok(scratch) => fs::rename(&tree, scratch.path().join("tree")),
                // A full disk has no room for a folder; another name needs none.
                Err(_) => fs::rename(&tree, tree.with_extension("lost")),
            }
            .at("rename", &tree)?;
        }
        Ok(fs::remove_file(note.path()).at("remove", note.path())?)
    }
}

fn is_older(path: &Path, now: SystemTime) -> bool {
    let changed = fs::metadata(path).and_then(|meta| meta.modified());
    // A clock that was set back keeps notes longer.
    changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > SETTLED))
}

fn forget(folder: &Path, now: SystemTime) {
    for note in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_older(&note.path(), now) {
            let _ = fs::remove_file(note.path());
        }
    }
    // Only if none was added meanwhile.
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adopted(store: &Store, content: &[u8]) -> DiffId {
        let id = DiffId::of(content);
        let scratch = store.scratch("test").unwrap();
        let tree = scratch.path().join("tree");
        fs::create_dir_all(tree.join("fs/folder")).unwrap();
        store.adopt_tree("root", &id, &tree).unwrap();
        id
    }

    fn notes(root: &Path) -> usize {
        let boots = fs::read_dir(root.join(FOLDER)).into_iter().flatten().flatten();
        boots.map(|boot| fs::read_dir(boot.path()).unwrap().count()).sum()
    }

    /// As if the machine had crashed: what was noted then is unpacked anew.
    #[test]
    fn trees_of_another_boot_are_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let store = Store::open(root).unwrap();
        let id = adopted(&store, b"one");
        drop(store);
        assert_eq!(notes(root), 1);
        assert!(Store::open(root).unwrap().held_tree("root", &id).is_some(), "the same boot");
        let own = fs::read_dir(root.join(FOLDER)).unwrap().next().unwrap().unwrap().path();
        fs::rename(&own, root.join(FOLDER).join("another-boot")).unwrap();
        let store = Store::open(root).unwrap();
        assert!(store.held_tree("root", &id).is_none());
        assert_eq!(notes(root), 0);
        // It is unpacked again, and nothing is left of the old one.
        assert_eq!(adopted(&store, b"one"), id);
        assert!(store.held_tree("root", &id).is_some());
        drop(store);
        let store = Store::open(root).unwrap();
        assert!(store.held_tree("root", &id).is_some());
        assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    }

    /// A container has a boot ID of its own, and may use the same store.
    #[test]
    fn trees_of_who_is_alive_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let alive = Store::open(root).unwrap();
        let id = adopted(&alive, b"one");
        let own = fs::read_dir(root.join(FOLDER)).unwrap().next().unwrap().unwrap().path();
        fs::rename(&own, root.join(FOLDER).join("another-boot")).unwrap();
        assert!(Store::open(root).unwrap().held_tree("root", &id).is_some());
        drop(alive);
        assert!(Store::open(root).unwrap().held_tree("root", &id).is_none());
    }

    /// What cannot be discarded keeps none of the others.
    #[test]
    fn one_note_that_leads_nowhere_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let id = adopted(&Store::open(root).unwrap(), b"one");
        let own = fs::read_dir(root.join(FOLDER)).unwrap().next().unwrap().unwrap().path();
        fs::create_dir(own.join("root.0")).unwrap();
        fs::rename(&own, root.join(FOLDER).join("another-boot")).unwrap();
        assert!(Store::open(root).unwrap().held_tree("root", &id).is_none());
    }

    #[test]
    fn what_is_on_disk_by_now_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let id = adopted(&Store::open(root).unwrap(), b"one");
        let own = fs::read_dir(root.join(FOLDER)).unwrap().next().unwrap().unwrap().path();
        let now = own.metadata().unwrap().modified().unwrap();
        let old = now - SETTLED - Duration::from_secs(9);
        for note in fs::read_dir(&own).unwrap() {
            File::open(note.unwrap().path()).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(notes(root), 1);
        File::open(&own).unwrap().set_modified(old).unwrap();
        let store = Store::open(root).unwrap();
        assert_eq!(notes(root), 0);
        assert!(store.held_tree("root", &id).is_some());
        adopted(&store, b"two");
        assert_eq!(notes(root), 1);
    }
}
