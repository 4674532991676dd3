//! OCI archives (OCI image spec 1.1, image-layout.md).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::oci::{CONTAINERD_NAME, INPUT, REF_NAME, SINCE, subject_of_list};
use super::super::{OutputError, Work};
use super::found::Finding;
use super::{Cargo, Lacking, Tar};
use crate::digest::BlobDigest;
use crate::image::{
    AnyImage, Descriptor, Image, ImageError, Index, Linked, Manifest, MediaType, Purpose, Raw,
    strict_json,
};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

/// Most indexes within one another, of what is attached.
const DEEPEST: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

/// `index.json` and its digest.
pub(super) fn index(tar: &Tar<'_>) -> Result<(BlobDigest, Index), OutputError> {
    let of = |name: &str| {
        let name = name.to_owned();
        move |source| OutputError::Document { name, source }
    };
    let layout: Layout =
        strict_json("the layout", &tar.document("oci-layout")?).map_err(of("oci-layout"))?;
    if layout.image_layout_version != "1.0.0" {
        return Err(OutputError::NotAnArchive(format!(
            "its layout has version `{}`, only 1.0.0 is known",
            layout.image_layout_version.chars().take(40).collect::<String>()
        )));
    }
    let bytes = tar.document("index.json")?;
    let index = Index::read(&bytes).map_err(of("index.json"))?;
    Ok((BlobDigest::of(&bytes), index))
}

pub(super) fn load(tar: &Tar<'_>, store: &Store, work: &Work<'_>) -> Result<Cargo, OutputError> {
    let (digest, index) = index(tar)?;
    let since = index.annotations.get(SINCE);
    let since = since.iter().flat_map(|all| all.split(' ')).filter_map(|d| d.parse().ok());
    let since: Vec<BlobDigest> = since.collect();
    let mut found = Finding::default();
    let (mut lacking, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for entry in &index.manifests {
        let names = names(entry);
        let shown = names.first().map_or_else(|| entry.digest.to_string(), Reference::familiar);
        let archive = Layouted { tar, store, work, lacking: RefCell::default() };
        let done = match subject_of_list(entry) {
            Some(subject) => archive.list(subject, entry, &mut seen, &mut found),
            None => archive.entry(entry, names, &mut seen, &mut found),
        };
        done.map_err(|error| of_image(&shown, error))?;
        for (digest, size) in archive.lacking.into_inner() {
            lacking.entry(digest).or_insert_with(|| Lacking {
                digest,
                size,
                image: shown.clone(),
                since: since.clone(),
            });
        }
    }
    let lacking = lacking.into_values().collect();
    Ok(Cargo { lacking, digest: Some(digest), since, ..found.cargo })
}

/// Tells which image is concerned, where the archive is at fault.
fn of_image(image: &str, error: OutputError) -> OutputError {
    match error {
        OutputError::Blob { .. } | OutputError::Absent(_) | OutputError::Read(_) => {
            OutputError::Image { image: image.into(), source: Box::new(error) }
        }
        other => other,
    }
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
    tar: &'a Tar<'a>,
    store: &'a Store,
    work: &'a Work<'a>,
    /// Blobs that are nowhere, with their sizes.
    lacking: RefCell<BTreeMap<BlobDigest, u64>>,
}

pub(super) fn path(digest: &BlobDigest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A document's bytes, as the descriptor promises them.
pub(super) fn document(tar: &Tar<'_>, entry: &Descriptor) -> Result<Raw, OutputError> {
    let bytes = tar.document(&path(&entry.digest))?;
    let raw = Raw::new(bytes, entry.media_type.clone());
    let mismatch = |what, expected, found| OutputError::Blob {
        digest: entry.digest,
        source: Box::new(StoreError::Mismatch { what, expected, found }),
    };
    if raw.digest != entry.digest {
        return Err(mismatch("digest", entry.digest.to_string(), raw.digest.to_string()));
    }
    if raw.bytes.len() as u64 != entry.size {
        return Err(mismatch("size", entry.size.to_string(), raw.bytes.len().to_string()));
    }
    Ok(raw)
}

impl Layouted<'_> {
    /// An image, or what is none.
    fn entry(
        &self,
        entry: &Descriptor,
        names: Vec<Reference>,
        seen: &mut BTreeSet<BlobDigest>,
        found: &mut Finding,
    ) -> Result<(), OutputError> {
        if entry.media_type.is_manifest() {
            let raw = document(self.tar, entry)?;
            let wrong = |source| OutputError::Document { name: path(&entry.digest), source };
            let kind = Manifest::read(&raw.bytes).map_err(wrong)?.config.media_type;
            if !matches!(kind, MediaType::OciConfig | MediaType::DockerConfig) {
                let about = Purpose::read(&raw.bytes).map_err(wrong)?.subject.is_some();
                return self.artifact(raw, about, seen, found);
            }
        }
        if entry.annotations.contains_key(INPUT) {
            if seen.insert(entry.digest) {
                let image = self.image(entry, found)?;
                found.cargo.inputs.push(image);
            }
        } else if !found.again(&entry.digest, &names) {
            let image = self.image(entry, found)?;
            found.add(names, image);
        }
        Ok(())
    }

    /// What a list of referrers has, each with all it names.
    fn list(
        &self,
        subject: BlobDigest,
        entry: &Descriptor,
        seen: &mut BTreeSet<BlobDigest>,
        found: &mut Finding,
    ) -> Result<(), OutputError> {
        let wrong = |source| OutputError::Document { name: path(&entry.digest), source };
        let list = Index::read(&document(self.tar, entry)?.bytes).map_err(wrong)?;
        for entry in &list.manifests {
            let raw = document(self.tar, entry)?;
            let wrong = |source| OutputError::Document { name: path(&raw.digest), source };
            let named = Purpose::read(&raw.bytes).map_err(wrong)?.subject;
            if named.is_none_or(|named| named.digest != subject) {
                let why = format!("it is listed as referring to {subject}, and does not");
                return Err(wrong(ImageError::Malformed { what: "manifest", why }));
            }
            self.artifact(raw, true, seen, found)?;
        }
        Ok(())
    }

    /// What is no image, with all it names; `about` tells whether it refers to something.
    fn artifact(
        &self,
        raw: Raw,
        about: bool,
        seen: &mut BTreeSet<BlobDigest>,
        found: &mut Finding,
    ) -> Result<(), OutputError> {
        if !seen.contains(&raw.digest) {
            self.whole(raw.clone(), 0, seen)?;
            found.hold(&raw)?;
            let cargo = &mut found.cargo;
            if about { &mut cargo.referrers } else { &mut cargo.artifacts }.push(raw);
        }
        Ok(())
    }

    fn image(&self, entry: &Descriptor, found: &mut Finding) -> Result<AnyImage, OutputError> {
        let raw = document(self.tar, entry)?;
        let wrong = |source| OutputError::Document { name: path(&entry.digest), source };
        if entry.media_type.is_manifest() {
            return Ok(AnyImage::Image(self.one(raw, found)?));
        }
        if !entry.media_type.is_index() {
            return Err(wrong(ImageError::NotAnImage { media_type: entry.media_type.clone() }));
        }
        found.hold(&raw)?;
        let index = Index::read(&raw.bytes).map_err(wrong)?;
        let mut images = Vec::new();
        for child in &index.manifests {
            // What was pulled or saved for one platform lacks the others.
            if !child.media_type.is_manifest() || !self.tar.has(&path(&child.digest)) {
                continue;
            }
            let manifest = document(self.tar, child)?;
            let parsed = Manifest::read(&manifest.bytes).map_err(wrong)?;
            if !self.tar.has(&path(&parsed.config.digest)) {
                continue;
            }
            if child.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
                self.parts(&manifest, &parsed)?;
            } else {
                images.push(self.one(manifest, found)?);
            }
        }
        if images.is_empty() {
            return Err(OutputError::Absent(format!("image that index {} lists", raw.digest)));
        }
        Ok(AnyImage::Index { raw, images })
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
                self.whole(document(self.tar, listed)?, depth + 1, seen)?;
            }
        }
        for blob in linked.blobs.iter().filter(|blob| !blob.media_type.is_foreign()) {
            self.blob(blob)?;
        }
        self.store.put(&raw.bytes)?;
        Ok(())
    }

    fn one(&self, manifest: Raw, found: &mut Finding) -> Result<Image, OutputError> {
        let name = path(&manifest.digest);
        let wrong = |source| OutputError::Document { name, source };
        let parsed = match Manifest::read(&manifest.bytes) {
            Ok(parsed) => parsed,
            Err(source) => return Err(wrong(source)),
        };
        let config = document(self.tar, &parsed.config)?;
        found.hold(&manifest)?;
        found.hold(&config)?;
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
    /// what the store has, and what is in neither is noted.
    fn blob(&self, entry: &Descriptor) -> Result<(), OutputError> {
        if self.store.has_blob(&entry.digest, entry.size) {
            return self.work.moved(entry.size);
        }
        let name = path(&entry.digest);
        if !self.tar.has(&name) {
            self.lacking.borrow_mut().insert(entry.digest, entry.size);
            return Ok(());
        }
        let from = self.tar.open(&name)?;
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
