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
        entry.annotations = [(REF_NAME.to_owned(), name.to_string())].into();
        self.change(|entries| {
            entries.retain(|other| name_of(other).as_ref() != Some(name));
            entries.push(entry);
            entries.sort_by_key(|entry| entry.annotations.get(REF_NAME).cloned());
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
