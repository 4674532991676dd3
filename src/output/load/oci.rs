//! OCI archives (OCI image spec 1.1, image-layout.md).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::super::oci::{CONTAINERD_NAME, REF_NAME};
use super::super::{OutputError, Work};
use super::scan::Entries;
use super::{Found, document};
use crate::digest::BlobDigest;
use crate::image::{
    self, AnyImage, Descriptor, Image, ImageError, Index, Linked, Manifest, MediaType, Purpose,
    Raw, strict_json,
};
use crate::reference::Reference;
use crate::store::Store;

/// Most indexes within one another, of what is attached.
const DEEPEST: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

pub(super) fn load(
    entries: &Entries<'_>,
    store: &Store,
    work: &Work<'_>,
) -> Result<Found, OutputError> {
    let of = |name: &str| {
        let name = name.to_owned();
        move |source| OutputError::Document { name, source }
    };
    let layout: Layout =
        strict_json("the layout", &document(entries, "oci-layout")?).map_err(of("oci-layout"))?;
    if layout.image_layout_version != "1.0.0" {
        return Err(OutputError::NotAnArchive(format!(
            "its layout has version `{}`, only 1.0.0 is known",
            layout.image_layout_version.chars().take(40).collect::<String>()
        )));
    }
    let index = Index::read(&document(entries, "index.json")?).map_err(of("index.json"))?;
    let archive = Layouted { entries, store, work };
    let mut found = Found::new();
    let mut attached = Vec::new();
    for entry in &index.manifests {
        if let Some(subject) = list_of(entry) {
            let list = archive.raw(entry)?;
            let list = Index::read(&list.bytes).map_err(of(REF_NAME))?.manifests;
            attached.extend(list.into_iter().map(|entry| (Some(subject), entry)));
        } else if archive.is_artifact(entry)? {
            attached.push((None, entry.clone()));
        } else {
            found.push((names(entry), archive.image(entry)?));
        }
    }
    if found.is_empty() {
        return Err(OutputError::Absent("image".into()));
    }
    let mut seen = BTreeSet::new();
    for (subject, entry) in attached {
        archive.attach(subject, &entry, &mut seen)?;
    }
    Ok(found)
}

/// What an entry lists the referrers of, if it does.
fn list_of(entry: &Descriptor) -> Option<BlobDigest> {
    let tag = entry.annotations.get(REF_NAME).filter(|_| entry.media_type.is_index())?;
    image::subject_of(tag)
}

/// The name that an entry says it has: a reference, or a word that is read as
/// one, as podman does.
fn names(entry: &Descriptor) -> Vec<Reference> {
    [CONTAINERD_NAME, REF_NAME]
        .iter()
        .filter_map(|key| entry.annotations.get(*key)?.parse().ok())
        .take(1)
        .collect()
}

/// A layout in an archive, on its way into a store.
struct Layouted<'a> {
    entries: &'a Entries<'a>,
    store: &'a Store,
    work: &'a Work<'a>,
}

fn path(digest: &BlobDigest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Layouted<'_> {
    fn image(&self, entry: &Descriptor) -> Result<AnyImage, OutputError> {
        let raw = self.raw(entry)?;
        let wrong = |source| OutputError::Document { name: path(&entry.digest), source };
        if entry.media_type.is_manifest() {
            return Ok(AnyImage::Image(self.one(raw)?));
        }
        if !entry.media_type.is_index() {
            return Err(wrong(ImageError::NotAnImage { media_type: entry.media_type.clone() }));
        }
        let index = Index::read(&raw.bytes).map_err(wrong)?;
        let mut images = Vec::new();
        for child in &index.manifests {
            // What was pulled or saved for one platform lacks the others.
            if !child.media_type.is_manifest() || !self.entries.has(&path(&child.digest)) {
                continue;
            }
            let manifest = self.raw(child)?;
            let parsed = Manifest::read(&manifest.bytes).map_err(wrong)?;
            if !self.entries.has(&path(&parsed.config.digest)) {
                continue;
            }
            if child.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
                self.parts(&manifest, &parsed)?;
            } else {
                images.push(self.one(manifest)?);
            }
        }
        if images.is_empty() {
            return Err(OutputError::Absent(format!("image that index {} lists", raw.digest)));
        }
        Ok(AnyImage::Index { raw, images })
    }

    /// Whether an entry is no image, and is about something.
    fn is_artifact(&self, entry: &Descriptor) -> Result<bool, OutputError> {
        if !entry.media_type.is_manifest() {
            return Ok(false);
        }
        let raw = self.raw(entry)?;
        let wrong = |source| OutputError::Document { name: path(&entry.digest), source };
        let config = Manifest::read(&raw.bytes).map_err(wrong)?.config.media_type;
        let is_image = matches!(config, MediaType::OciConfig | MediaType::DockerConfig);
        Ok(!is_image && Purpose::read(&raw.bytes).map_err(wrong)?.subject.is_some())
    }

    /// Keeps a manifest or index, and attaches it to what it is about: of a list, what the list
    /// is about.
    fn attach(
        &self,
        of: Option<BlobDigest>,
        entry: &Descriptor,
        seen: &mut BTreeSet<BlobDigest>,
    ) -> Result<(), OutputError> {
        let raw = self.raw(entry)?;
        let wrong = |source| OutputError::Document { name: path(&entry.digest), source };
        let subject = Purpose::read(&raw.bytes).map_err(wrong)?.subject.map(|named| named.digest);
        if let Some(of) = of.filter(|of| subject != Some(*of)) {
            let why = format!("it is listed as referring to {of}, and does not");
            return Err(wrong(ImageError::Malformed { what: "manifest", why }));
        }
        if !seen.contains(&entry.digest) {
            self.whole(raw.clone(), 0, seen)?;
            self.store.attach_document(&raw)?;
        }
        Ok(())
    }

    /// Keeps a manifest or index of any kind with all that it lists, each once.
    fn whole(
        &self,
        raw: Raw,
        depth: usize,
        seen: &mut BTreeSet<BlobDigest>,
    ) -> Result<(), OutputError> {
        let wrong = |source| OutputError::Document { name: path(&raw.digest), source };
        let linked = Linked::read(&raw.bytes, &raw.media_type).map_err(wrong)?;
        if depth > DEEPEST {
            let why = format!("indexes are nested more than {DEEPEST} deep");
            return Err(wrong(ImageError::Malformed { what: "index", why }));
        }
        seen.insert(raw.digest);
        for listed in &linked.manifests {
            if !seen.contains(&listed.digest) {
                self.whole(self.raw(listed)?, depth + 1, seen)?;
            }
        }
        for blob in linked.blobs.iter().filter(|blob| !blob.media_type.is_foreign()) {
            self.blob(blob)?;
        }
        self.store.put(&raw.bytes)?;
        Ok(())
    }

    /// A manifest's or index's bytes, as the descriptor promises them.
    fn raw(&self, entry: &Descriptor) -> Result<Raw, OutputError> {
        let bytes = document(self.entries, &path(&entry.digest))?;
        let raw = Raw::new(bytes, entry.media_type.clone());
        let mismatch = |what, expected, found| OutputError::Blob {
            digest: entry.digest,
            source: Box::new(crate::store::StoreError::Mismatch { what, expected, found }),
        };
        if raw.digest != entry.digest {
            return Err(mismatch("digest", entry.digest.to_string(), raw.digest.to_string()));
        }
        if raw.bytes.len() as u64 != entry.size {
            return Err(mismatch("size", entry.size.to_string(), raw.bytes.len().to_string()));
        }
        Ok(raw)
    }

    fn one(&self, manifest: Raw) -> Result<Image, OutputError> {
        let name = path(&manifest.digest);
        let wrong = |source| OutputError::Document { name, source };
        let parsed = match Manifest::read(&manifest.bytes) {
            Ok(parsed) => parsed,
            Err(source) => return Err(wrong(source)),
        };
        let config = self.raw(&parsed.config)?;
        let image = Image::read(manifest, config.bytes).map_err(wrong)?;
        for layer in &parsed.layers {
            self.blob(layer)?;
        }
        Ok(image)
    }

    /// Keeps a manifest that is no image (an attestation) with all it names.
    fn parts(&self, manifest: &Raw, parsed: &Manifest) -> Result<(), OutputError> {
        for part in std::iter::once(&parsed.config).chain(&parsed.layers) {
            self.blob(part)?;
        }
        self.store.put(&manifest.bytes)?;
        Ok(())
    }

    /// Copies a blob into the store, unless it is there; an archive may leave out
    /// what the store has.
    fn blob(&self, entry: &Descriptor) -> Result<(), OutputError> {
        if self.store.has_blob(&entry.digest, entry.size) {
            return self.work.moved(entry.size);
        }
        let from = self.entries.open(&path(&entry.digest))?;
        let mut to = self.store.writer()?;
        let at = self.store.blob_path(&entry.digest);
        let bad_write =
            |source| crate::atomic::PathError { what: "write", path: at.clone(), source }.into();
        self.work.copy(from, &mut to, OutputError::Read, bad_write)?;
        to.commit(Some((&entry.digest, entry.size))).map_err(|source| OutputError::Blob {
            digest: entry.digest,
            source: Box::new(source),
        })?;
        Ok(())
    }
}
