//! Names: the entries of `index.json`, each with the full reference as its
//! `org.opencontainers.image.ref.name`, so that skopeo and umoci find them.

use std::path::{Path, PathBuf};

use oci_spec::image::ANNOTATION_REF_NAME as REF_NAME;

use super::{Store, StoreError};
use crate::atomic::{self, AtPath as _, FileLock};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Index, MediaType};
use crate::reference::Reference;

fn empty() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests: Vec::new(),
        annotations: std::collections::BTreeMap::new(),
    }
}

/// Writes the index of a layout without images, unless somebody else just did.
pub(super) fn write_empty(root: &Path) -> Result<(), StoreError> {
    let _lock = FileLock::exclusive(&root.join("locks/index"))?;
    let path = root.join("index.json");
    if !path.exists() {
        let bytes =
            serde_json::to_vec(&empty()).map_err(std::io::Error::from).at("write", &path)?;
        atomic::write(&path, &bytes)?;
    }
    Ok(())
}

impl Store {
    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn index(&self) -> Result<Index, StoreError> {
        match std::fs::read(self.index_path()) {
            Ok(bytes) => Index::read(&bytes).map_err(StoreError::Index),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(empty()),
            Err(error) => Err(error).at("read", self.index_path()).map_err(Into::into),
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Descriptor>)) -> Result<(), StoreError> {
        // What a name points to shall be there after a crash if the name is.
        self.unsynced.sync()?;
        let _lock = FileLock::exclusive(&self.root.join("locks/index"))?;
        let mut index = self.index()?;
        edit(&mut index.manifests);
        let path = self.index_path();
        let bytes = serde_json::to_vec(&index).map_err(std::io::Error::from).at("write", &path)?;
        // Mostly a build that changed nothing.
        if std::fs::read(&path).is_ok_and(|before| before == bytes) {
            return Ok(());
        }
        atomic::write(&path, &bytes)?;
        Ok(())
    }

    /// All names with what they point to, sorted. Entries of other tools whose
    /// name is no reference are listed by [`Store::unnamed`].
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn names(&self) -> Result<Vec<(Reference, Descriptor)>, StoreError> {
        let entries = self.index()?.manifests.into_iter();
        let mut named: Vec<_> =
            entries.filter_map(|entry| Some((name_of(&entry)?, entry))).collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(named)
    }

    /// Entries without a reference as their name.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn unnamed(&self) -> Result<Vec<Descriptor>, StoreError> {
        Ok(self.index()?.manifests.into_iter().filter(|entry| name_of(entry).is_none()).collect())
    }

    /// What a name points to. A reference with a digest and no tag of its own
    /// finds any entry of that repository's name with that digest.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn find(&self, name: &Reference) -> Result<Option<Descriptor>, StoreError> {
        let fits = |have: &Reference, entry: &Descriptor| match name.digest() {
            Some(digest) => have.name() == name.name() && entry.digest == digest,
            None => have == name,
        };
        Ok(self
            .names()?
            .into_iter()
            .find(|(have, entry)| fits(have, entry))
            .map(|(_, entry)| entry))
    }

    /// Points a name at a manifest or index, and away from what it named before.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn tag(&self, name: &Reference, target: Descriptor) -> Result<(), StoreError> {
        let mut entry = target;
        set_name(&mut entry, name);
        self.change(|entries| {
            entries.retain(|other| name_of(other).as_ref() != Some(name));
            entries.push(entry);
            sort(entries);
        })
    }

    /// Takes a name away; its blobs stay until a clean-up. False if there was none.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn untag(&self, name: &Reference) -> Result<bool, StoreError> {
        let mut found = false;
        self.change(|entries| {
            entries.retain(|entry| {
                let hit = name_of(entry).as_ref() == Some(name);
                found |= hit;
                !hit
            });
        })?;
        Ok(found)
    }

    /// The one manifest or index whose digest begins with these hex digits.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn find_id(&self, prefix: &str) -> Result<Option<Descriptor>, StoreError> {
        let prefix = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if prefix.len() < 6 || !prefix.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let fits = |entry: &Descriptor| entry.digest.hex().starts_with(prefix);
        let mut found: Vec<Descriptor> = self.index()?.manifests.into_iter().filter(fits).collect();
        found.dedup_by_key(|entry| entry.digest);
        Ok(if found.len() == 1 { found.pop() } else { None })
    }
}

/// What a repository's manifest is called that has no tag.
fn by_digest(repository: &Reference, digest: BlobDigest) -> Reference {
    repository.pin(digest).reference()
}

fn is_in(entry: &Descriptor, repository: &Reference) -> bool {
    name_of(entry).is_some_and(|name| {
        name.registry() == repository.registry() && name.repository() == repository.repository()
    })
}

fn set_name(entry: &mut Descriptor, name: &Reference) {
    entry.annotations = [(REF_NAME.to_owned(), name.to_string())].into();
}

fn sort(entries: &mut [Descriptor]) {
    entries.sort_by_key(|entry| entry.annotations.get(REF_NAME).cloned());
}

/// Leaves a digest that loses a name in its repository, unless it has another one there.
fn keep_by_digest(entries: &mut Vec<Descriptor>, name: &Reference, lost: Descriptor) {
    if !entries.iter().any(|entry| entry.digest == lost.digest && is_in(entry, name)) {
        let mut entry = lost;
        let digest = entry.digest;
        set_name(&mut entry, &by_digest(name, digest));
        entries.push(entry);
    }
}

/// Names as a registry has them: what was pushed stays, by its digest, when its tag goes
/// or moves, since somebody may have pinned it.
impl Store {
    /// Points a name at a manifest or index. What the name pointed to before is found by
    /// its digest from now on. `listed` are the manifests that an index lists: they need
    /// no names of their own.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn tag_keeping(
        &self,
        name: &Reference,
        target: &Descriptor,
        listed: &[BlobDigest],
    ) -> Result<(), StoreError> {
        self.change(|entries| {
            let has_tag = |entry: &Descriptor| name_of(entry).is_some_and(|n| n.tag().is_some());
            let mut lost = Vec::new();
            entries.retain(|entry| {
                if name_of(entry).as_ref() == Some(name) {
                    lost.push(entry.clone());
                    return false;
                }
                let covered = listed.contains(&entry.digest)
                    || name.tag().is_some() && entry.digest == target.digest;
                !(covered && is_in(entry, name) && !has_tag(entry))
            });
            let mut entry = target.clone();
            set_name(&mut entry, name);
            // By a digest alone: a tag names it already.
            let named = name.tag().is_none()
                && entries.iter().any(|other| other.digest == entry.digest && is_in(other, name));
            if !named {
                entries.push(entry);
            }
            for lost in lost.into_iter().filter(|lost| lost.digest != target.digest) {
                keep_by_digest(entries, name, lost);
            }
            sort(entries);
        })
    }

    /// Takes a name away; what it pointed to is found by its digest from now on. False if
    /// there was none.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn untag_keeping(&self, name: &Reference) -> Result<bool, StoreError> {
        let mut found = false;
        self.change(|entries| {
            let at = entries.iter().position(|entry| name_of(entry).as_ref() == Some(name));
            if let Some(at) = at {
                found = true;
                let lost = entries.remove(at);
                keep_by_digest(entries, name, lost);
                sort(entries);
            }
        })?;
        Ok(found)
    }

    /// Takes all names away that a digest has in a repository; gives their number.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn forget(&self, repository: &Reference, digest: &BlobDigest) -> Result<usize, StoreError> {
        let mut count = 0;
        self.change(|entries| {
            let before = entries.len();
            entries.retain(|entry| !(entry.digest == *digest && is_in(entry, repository)));
            count = before - entries.len();
        })?;
        Ok(count)
    }

    /// Something that differs once names have changed: file, time, size. None if there is
    /// no index.
    #[must_use]
    pub fn names_state(&self) -> Option<(u64, std::time::SystemTime, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(self.index_path()).ok()?;
        Some((meta.ino(), meta.modified().ok()?, meta.len()))
    }
}

fn name_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(REF_NAME)?.parse().ok()
}

impl Store {
    /// True if some name points to this digest.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn is_named(&self, digest: &BlobDigest) -> Result<bool, StoreError> {
        Ok(self.index()?.manifests.iter().any(|entry| entry.digest == *digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a registry's names do when tags move and go.
    #[test]
    fn what_lost_its_tag_is_found_by_digest() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let at = |bytes: &[u8]| {
            Descriptor::new(MediaType::OciManifest, BlobDigest::of(bytes), bytes.len() as u64)
        };
        let (one, two, index) = (at(b"one"), at(b"two"), at(b"index"));
        let names = || -> Vec<String> {
            store.names().unwrap().iter().map(|(name, _)| name.familiar()).collect()
        };
        let tag: Reference = "app:1".parse().unwrap();
        let other: Reference = "app:2".parse().unwrap();
        let of = |one: &Descriptor| tag.pin(one.digest).reference();
        store.tag_keeping(&of(&one), &one, &[]).unwrap();
        assert_eq!(names(), [format!("app@{}", one.digest)]);
        store.tag_keeping(&tag, &one, &[]).unwrap();
        store.tag_keeping(&of(&one), &one, &[]).unwrap();
        assert_eq!(names(), ["app:1"], "a tag is name enough");
        store.tag_keeping(&tag, &two, &[]).unwrap();
        // Those without a tag come first.
        assert_eq!(names(), [format!("app@{}", one.digest), "app:1".to_owned()]);
        store.tag_keeping(&other, &index, &[one.digest]).unwrap();
        assert_eq!(names(), ["app:1", "app:2"], "an index lists it");
        assert!(store.untag_keeping(&tag).unwrap() && !store.untag_keeping(&tag).unwrap());
        assert_eq!(names(), [format!("app@{}", two.digest), "app:2".to_owned()]);
        // Another repository's names are its own.
        store.tag(&"quay.io/app:2".parse().unwrap(), index.clone()).unwrap();
        assert_eq!(store.forget(&tag, &index.digest).unwrap(), 1);
        assert_eq!(names(), [format!("app@{}", two.digest), "quay.io/app:2".to_owned()]);
    }
}
