//! What is attached to a manifest or index: signatures, SBOMs, provenance (OCI image spec
//! 1.1, manifest.md, `subject`).
//!
//! `referrers/HEX`, HEX being the subject's digest, lists the manifests that are about it.
//! That list alone says what is attached. What is attached has no name: it is there as long
//! as the subject, and so on for what is attached to it. A list may be older or younger than
//! what it lists; what is not whole in the store counts as not attached.

use std::path::PathBuf;

use super::{Store, StoreError};
use crate::atomic::{self, AtPath as _, FileLock};
use crate::digest::BlobDigest;
use crate::image::{
    Annotations, Artifact, Descriptor, ImageError, Index, Linked, MAX_DOCUMENT, MediaType, Purpose,
    Raw,
};

/// Most manifests that are attached to one.
const MOST: usize = 2000;

impl Store {
    fn list_path(&self, subject: &BlobDigest) -> PathBuf {
        self.root.join("referrers").join(subject.hex())
    }

    /// Attaches an artifact to its subject, whose blobs other than the config are in the
    /// store. The subject need not be. The same bytes are attached once.
    ///
    /// # Errors
    /// If it has no subject, a blob is absent, or the store cannot be written.
    pub fn attach(&self, artifact: &Artifact) -> Result<Descriptor, StoreError> {
        self.put(&artifact.config.bytes)?;
        self.attach_document(&artifact.manifest)
    }

    /// Attaches a manifest or index to the subject that it names, whoever made it. What it
    /// lists is in the store. Gives the entry that lists of referrers have of it.
    ///
    /// # Errors
    /// As [`Store::attach`].
    pub fn attach_document(&self, raw: &Raw) -> Result<Descriptor, StoreError> {
        let wrong = |source| StoreError::Image { digest: raw.digest, source };
        let linked = Linked::read(&raw.bytes, &raw.media_type).map_err(wrong)?;
        let Some(subject) = &linked.subject else {
            let why = "it has no subject, so there is nothing to attach it to".into();
            return Err(wrong(ImageError::Malformed { what: "manifest", why }));
        };
        if let Some(absent) = self.lacks(&linked) {
            return Err(StoreError::NoBlob(absent));
        }
        self.put(&raw.bytes)?;
        self.change_list(&subject.digest, |entries| {
            if entries.iter().all(|entry| entry.digest != raw.digest) {
                entries.push(raw.descriptor());
            }
        })?;
        Ok(Purpose::read(&raw.bytes).map_err(wrong)?.entry(raw))
    }

    /// Takes what is attached away from its subject; its blobs stay until a clean-up. False if
    /// it was not attached.
    ///
    /// # Errors
    /// If the list cannot be written.
    pub fn detach(&self, subject: &BlobDigest, digest: &BlobDigest) -> Result<bool, StoreError> {
        if self.attached(subject)?.iter().all(|entry| entry.digest != *digest) {
            return Ok(false);
        }
        let mut found = false;
        self.change_list(subject, |entries| {
            let before = entries.len();
            entries.retain(|entry| entry.digest != *digest);
            found = entries.len() != before;
        })?;
        Ok(found)
    }

    /// What is attached to a manifest or index and whole here, sorted by digest: of one
    /// artifact type, or all. The entries are those that lists of referrers have, with
    /// artifact type and annotations.
    ///
    /// # Errors
    /// If the list, or a document, cannot be read.
    pub fn referrers(
        &self,
        subject: &BlobDigest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let mut found = Vec::new();
        for entry in self.attached(subject)? {
            let bytes = match self.document(&entry.digest) {
                Ok(bytes) => bytes,
                Err(StoreError::NoBlob(_) | StoreError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            let raw = Raw { bytes, digest: entry.digest, media_type: entry.media_type };
            // It was read before it was listed.
            let (Ok(linked), Ok(purpose)) =
                (Linked::read(&raw.bytes, &raw.media_type), Purpose::read(&raw.bytes))
            else {
                continue;
            };
            let fits =
                artifact_type.is_none_or(|kind| purpose.artifact_type.as_deref() == Some(kind));
            if fits && self.lacks(&linked).is_none() {
                found.push(purpose.entry(&raw));
            }
        }
        Ok(found)
    }

    /// What is listed as attached, as media type, digest and size, sorted by digest. It may not
    /// be whole. For those who look and use nothing.
    ///
    /// # Errors
    /// If the list cannot be read.
    pub fn attached(&self, subject: &BlobDigest) -> Result<Vec<Descriptor>, StoreError> {
        let path = self.list_path(subject);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).at("read", &path).map_err(Into::into),
        };
        let index = Index::read(&bytes);
        Ok(index.map_err(|source| StoreError::Image { digest: *subject, source })?.manifests)
    }

    /// The digests to which something is attached, in no order.
    ///
    /// # Errors
    /// If the folder of lists cannot be read.
    pub fn subjects(&self) -> Result<Vec<BlobDigest>, StoreError> {
        let folder = self.root.join("referrers");
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("read", &folder)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.at("read", &folder)?.file_name();
            found.extend(
                name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<BlobDigest>().ok()),
            );
        }
        Ok(found)
    }

    /// What a manifest or index lists and the store does not have. Layers that registries do
    /// not keep need not be here.
    fn lacks(&self, linked: &Linked) -> Option<BlobDigest> {
        let blobs = linked.blobs.iter().filter(|blob| !blob.media_type.is_foreign());
        let mut all = linked.manifests.iter().chain(blobs);
        all.find(|at| !self.has_blob(&at.digest, at.size)).map(|at| at.digest)
    }

    fn change_list(
        &self,
        subject: &BlobDigest,
        edit: impl FnOnce(&mut Vec<Descriptor>),
    ) -> Result<(), StoreError> {
        // What is listed shall be there after a crash if the list is.
        self.unsynced.sync()?;
        let path = self.list_path(subject);
        atomic::private_folder(&self.root.join("referrers"))?;
        let _lock = FileLock::exclusive(&self.root.join("locks/referrers"))?;
        // No clean-up takes it away between the look and the change.
        self.leases.begin()?;
        let _ = self.leases.hold(&path);
        let mut manifests = self.attached(subject)?;
        let before = manifests.clone();
        edit(&mut manifests);
        manifests.sort_by_key(|entry| entry.digest);
        if manifests == before {
            return Ok(());
        }
        if manifests.len() > MOST {
            return Err(StoreError::ManyAttached { digest: *subject, most: MOST });
        }
        if manifests.is_empty() {
            std::fs::remove_file(&path).at("remove", &path)?;
            return Ok(());
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            manifests,
            annotations: Annotations::new(),
        };
        let bytes = serde_json::to_vec(&index).map_err(std::io::Error::from).at("write", &path)?;
        debug_assert!(bytes.len() as u64 <= MAX_DOCUMENT);
        atomic::write(&path, &bytes)?;
        self.grew((bytes.len() as u64).next_multiple_of(4096), 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(subject: &Descriptor, kind: &str, text: &str, store: &Store) -> Artifact {
        let blob = Raw::new(text.into(), MediaType::from("text/plain".to_owned()));
        store.put(&blob.bytes).unwrap();
        let blobs = vec![blob.descriptor()];
        Artifact::about(subject, kind, blobs, Annotations::new()).unwrap()
    }

    #[test]
    fn attached_once_and_found_by_what_it_is_about() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let subject = Raw::new(b"absent".to_vec(), MediaType::OciManifest).descriptor();
        assert!(store.referrers(&subject.digest, None).unwrap().is_empty());
        let one = about(&subject, "a/b", "one", &store);
        let two = about(&subject, "c/d", "two", &store);
        for artifact in [&two, &one, &two] {
            store.attach(artifact).unwrap();
        }
        let upon = about(&one.manifest.descriptor(), "e/f", "three", &store);
        store.attach(&upon).unwrap();
        let of = |subject: &Descriptor, kind: Option<&str>| -> Vec<BlobDigest> {
            let found = store.referrers(&subject.digest, kind).unwrap();
            found.iter().map(|entry| entry.digest).collect()
        };
        let mut both = [one.manifest.digest, two.manifest.digest];
        both.sort();
        assert_eq!(of(&subject, None), both);
        assert_eq!(
            of(&subject, Some("c/d")),
            both.into_iter().filter(|d| *d == two.manifest.digest).collect::<Vec<_>>()
        );
        assert_eq!(of(&one.manifest.descriptor(), None), [upon.manifest.digest]);
        // What lost a blob is not whole, and so not attached.
        std::fs::remove_file(store.blob_path(&two.layers[0].digest)).unwrap();
        assert_eq!(of(&subject, None), [one.manifest.digest]);
        assert!(matches!(store.attach(&two), Err(StoreError::NoBlob(_))));
        assert_eq!(store.attached(&subject.digest).unwrap().len(), 2);
        assert!(store.detach(&subject.digest, &one.manifest.digest).unwrap());
        assert!(!store.detach(&subject.digest, &one.manifest.digest).unwrap());
        assert!(of(&subject, None).is_empty());
        assert!(store.detach(&subject.digest, &two.manifest.digest).unwrap());
        assert_eq!(store.subjects().unwrap(), [one.manifest.digest]);
        let image = Raw::new(
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#.to_vec(),
            MediaType::OciIndex,
        );
        assert!(store.attach_document(&image).is_err(), "it is about nothing");
    }

    #[test]
    fn one_subject_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let subject = BlobDigest::of(b"x");
        let entry = |number: usize| {
            let digest = BlobDigest::of(&number.to_le_bytes());
            Descriptor::new(MediaType::OciManifest, digest, 2)
        };
        store.change_list(&subject, |list| list.extend((0..MOST).map(entry))).unwrap();
        let more = store.change_list(&subject, |list| list.push(entry(MOST)));
        assert!(matches!(more, Err(StoreError::ManyAttached { .. })));
        assert!(store.detach(&subject, &entry(0).digest).unwrap());
    }
}
