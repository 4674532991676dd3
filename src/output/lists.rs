//! What is attached to images, on its way into a layout: the blobs, and for each manifest the
//! list of what refers to it, under the tag that registries without the API have for it.

use std::collections::{BTreeMap, BTreeSet};

use super::oci::{Blob, REF_NAME};
use super::{OutputError, Referrers};
use crate::digest::BlobDigest;
use crate::image::{
    Annotations, Descriptor, ImageError, Index, Linked, MediaType, Raw, referrers_tag,
};
use crate::store::{Store, StoreError};

/// What is attached to each manifest, by digest.
#[derive(Debug, Default)]
pub(super) struct Attached {
    lists: BTreeMap<BlobDigest, Vec<Descriptor>>,
}

impl Attached {
    /// Adds what is wanted of what is attached to documents among the blobs, from the one at
    /// `first` on, and of what is attached to that.
    pub(super) fn add(
        &mut self,
        wanted: &Referrers,
        store: &Store,
        blobs: &mut Vec<Blob>,
        first: usize,
    ) -> Result<(), OutputError> {
        let subjects: BTreeSet<BlobDigest> = store.subjects()?.into_iter().collect();
        let mut seen: BTreeSet<BlobDigest> = blobs.iter().map(|blob| blob.digest).collect();
        let mut at = first;
        while let Some(blob) = blobs.get(at) {
            let subject = blob.digest;
            at += 1;
            if !subjects.contains(&subject) || self.lists.contains_key(&subject) {
                continue;
            }
            let mut entries = store.referrers(&subject, None)?;
            entries.retain(|entry| wanted.take(&entry.digest));
            for entry in &entries {
                bring(store, entry, blobs, &mut seen)?;
            }
            if !entries.is_empty() {
                self.lists.insert(subject, entries);
            }
        }
        Ok(())
    }

    pub(super) fn lists(&self) -> impl Iterator<Item = (&BlobDigest, &[Descriptor])> {
        self.lists.iter().map(|(subject, entries)| (subject, entries.as_slice()))
    }
}

/// Adds a manifest or index with all that it lists.
fn bring(
    store: &Store,
    entry: &Descriptor,
    blobs: &mut Vec<Blob>,
    seen: &mut BTreeSet<BlobDigest>,
) -> Result<(), OutputError> {
    let mut waiting = vec![entry.clone()];
    while let Some(entry) = waiting.pop() {
        if !seen.insert(entry.digest) {
            continue;
        }
        let bytes = store.document(&entry.digest)?;
        let linked = Linked::read(&bytes, &entry.media_type)
            .map_err(|source| StoreError::Image { digest: entry.digest, source })?;
        blobs.push(Blob { digest: entry.digest, size: entry.size, bytes: Some(bytes) });
        for blob in linked.blobs.iter().filter(|blob| !blob.media_type.is_foreign()) {
            if seen.insert(blob.digest) {
                blobs.push(Blob { digest: blob.digest, size: blob.size, bytes: None });
            }
        }
        waiting.extend(linked.manifests);
    }
    Ok(())
}

/// A list of referrers: entries added to those that it had.
///
/// # Errors
/// If it cannot be written.
pub fn referrers_list(before: Option<Index>, entries: &[Descriptor]) -> Result<Raw, OutputError> {
    let mut index = before.unwrap_or_else(|| Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests: Vec::new(),
        annotations: Annotations::new(),
    });
    for entry in entries {
        if index.manifests.iter().all(|other| other.digest != entry.digest) {
            index.manifests.push(entry.clone());
        }
    }
    let bytes = serde_json::to_vec(&index).map_err(|error| OutputError::Document {
        name: "a list of referrers".into(),
        source: ImageError::Malformed { what: "index", why: error.to_string() },
    })?;
    Ok(Raw::new(bytes, MediaType::OciIndex))
}

/// The entry by which a list is found.
pub(super) fn list_entry(list: &Raw, subject: &BlobDigest) -> Descriptor {
    let mut entry = list.descriptor();
    entry.annotations.insert(REF_NAME.to_owned(), referrers_tag(*subject));
    entry
}
