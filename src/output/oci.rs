//! OCI archives: an image layout (OCI image spec 1.1, image-layout.md) in a tar.
//!
//! Each name is an entry of `index.json` with the full reference under both
//! annotations that readers look at: `org.opencontainers.image.ref.name` (podman,
//! skopeo, umoci) and `io.containerd.image.name` (containerd, docker).

use std::collections::BTreeMap;

use super::archive::ArchiveWriter;
use super::lists::{Attached, list_entry, referrers_list};
use super::{Named, OutputError, Referrers, Sink, Work};
use crate::digest::BlobDigest;
use crate::image::{
    self, Annotations, AnyImage, Descriptor, Dialect, Image, ImageError, Index, MAX_DOCUMENT,
    Manifest, MediaType, Raw, assemble_index,
};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

/// What readers of layouts know an entry by.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd and docker know an entry by: a whole reference.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Annotation of `index.json`: the digests of the `index.json` of those archives that have
/// what this one leaves out, with spaces between.
pub const SINCE: &str = "kiln.bundle.since";
/// Annotation of entries that a build takes from, as `base`: whoever loads an archive gives
/// them no name, since that would change what the name means to builds.
pub const INPUT: &str = "kiln.bundle.input";
pub(super) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What the entry of a list of referrers speaks of; other entries are no such lists. The
/// distribution spec 1.1 names it so ("Referrers Tag Schema").
#[must_use]
pub fn subject_of_list(entry: &Descriptor) -> Option<BlobDigest> {
    let tag = entry.annotations.get(REF_NAME).filter(|_| entry.media_type.is_index())?;
    image::subject_of(tag)
}

pub(super) fn write(
    images: &[Named],
    store: &Store,
    to: impl Sink,
    work: &Work<'_>,
) -> Result<(), OutputError> {
    let mut blobs = Vec::new();
    let mut manifests = Vec::new();
    let mut attached = Attached::default();
    for named in images {
        let first = blobs.len();
        let root = collect(named, store, &mut blobs)?;
        let entry = |name: &Reference| {
            let mut entry = root.clone();
            let names = [REF_NAME, CONTAINERD_NAME].map(|key| (key.to_owned(), name.to_string()));
            entry.annotations.extend(names);
            entry
        };
        if named.names.is_empty() {
            manifests.push(root);
        } else {
            manifests.extend(named.names.iter().map(entry));
        }
        if named.referrers != Referrers::None {
            attached.add(&named.referrers, store, &mut blobs, first)?;
        }
    }
    for (subject, entries) in attached.lists() {
        let list = referrers_list(None, entries)?;
        manifests.push(list_entry(&list, subject));
        blobs.push(Blob::of(&list));
    }
    archive(manifests, Annotations::new(), &blobs, store, to, work)
}

/// What an archive shall hold, put together by somebody else: any kind of manifests, and
/// blobs that are in the store.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Those of `index.json`.
    pub entries: Vec<Descriptor>,
    /// Of `index.json` itself.
    pub annotations: Annotations,
    pub documents: Vec<Raw>,
    pub blobs: Vec<(BlobDigest, u64)>,
}

impl Contents {
    /// The document that is `index.json`.
    ///
    /// # Errors
    /// If it is larger than documents may be: no reader would take it.
    pub fn index(&self) -> Result<Raw, OutputError> {
        index(self.entries.clone(), self.annotations.clone())
    }
}

/// Writes an OCI archive of these contents.
///
/// # Errors
/// If a blob is absent or damaged, or nothing can be written.
pub fn write_contents(
    contents: Contents,
    store: &Store,
    to: impl Sink,
    work: &Work<'_>,
) -> Result<(), OutputError> {
    let mut blobs: Vec<Blob> = contents.documents.iter().map(Blob::of).collect();
    let other = |(digest, size)| Blob { digest, size, bytes: None };
    blobs.extend(contents.blobs.into_iter().map(other));
    archive(contents.entries, contents.annotations, &blobs, store, to, work)
}

fn index(manifests: Vec<Descriptor>, annotations: Annotations) -> Result<Raw, OutputError> {
    let media_type = MediaType::OciIndex;
    let index =
        Index { schema_version: 2, media_type: Some(media_type.clone()), manifests, annotations };
    let bytes = serde_json::to_vec(&index).map_err(|error| OutputError::Write(error.into()))?;
    let size = bytes.len() as u64;
    if size > MAX_DOCUMENT {
        let source = ImageError::TooLarge { what: "the document", size };
        return Err(OutputError::Document { name: "index.json".into(), source });
    }
    Ok(Raw::new(bytes, media_type))
}

fn archive(
    manifests: Vec<Descriptor>,
    annotations: Annotations,
    blobs: &[Blob],
    store: &Store,
    to: impl Sink,
    work: &Work<'_>,
) -> Result<(), OutputError> {
    let index = index(manifests, annotations)?.bytes;
    work.expect(blobs.iter().map(|blob| blob.size).sum());

    let mut archive = ArchiveWriter::new(to, work);
    archive.bytes("oci-layout", LAYOUT.as_bytes())?;
    archive.bytes("index.json", &index)?;
    archive.folder("blobs/")?;
    archive.folder("blobs/sha256/")?;
    for blob in blobs {
        let name = format!("blobs/sha256/{}", blob.digest.hex());
        match &blob.bytes {
            Some(bytes) => archive.bytes(&name, bytes)?,
            None => archive.blob(&name, blob.size, &blob.digest, store)?,
        }
    }
    archive.finish()
}

/// Bytes to be written; those of layers are in the store alone.
pub(super) struct Blob {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
    pub(super) bytes: Option<Vec<u8>>,
}

impl Blob {
    pub(super) fn of(raw: &Raw) -> Self {
        let bytes = raw.bytes.clone();
        Self { digest: raw.digest, size: bytes.len() as u64, bytes: Some(bytes) }
    }
}

/// Adds what an image consists of, and gives the descriptor that its names get.
pub(super) fn collect(
    named: &Named,
    store: &Store,
    blobs: &mut Vec<Blob>,
) -> Result<Descriptor, OutputError> {
    let mut root = parts(named, store, blobs)?;
    root.annotations.clone_from(&named.annotations);
    Ok(root)
}

fn parts(named: &Named, store: &Store, blobs: &mut Vec<Blob>) -> Result<Descriptor, OutputError> {
    match &named.image {
        AnyImage::Image(image) => {
            add_image(image, named, store, blobs)?;
            let mut root = image.manifest().descriptor();
            root.platform = Some(image.platform());
            Ok(root)
        }
        AnyImage::Index { raw, images } => {
            if let Some(whole) = whole_index(raw, store)? {
                blobs.push(Blob::of(raw));
                blobs.extend(whole);
                return Ok(raw.descriptor());
            }
            // A pull for one platform leaves the others out: the archive gets what is
            // here, under a digest of its own, since an index must not lack its parts.
            let present: Vec<Image> = images
                .iter()
                .filter(|image| first_absent(image, store).is_none())
                .cloned()
                .collect();
            match (present.as_slice(), images.first()) {
                ([], None) => Err(OutputError::Store(StoreError::NoBlob(raw.digest))),
                ([], Some(image)) => {
                    add_image(image, named, store, blobs)?;
                    Ok(image.manifest().descriptor())
                }
                ([image], _) => {
                    add_image(image, named, store, blobs)?;
                    let mut root = image.manifest().descriptor();
                    root.platform = Some(image.platform());
                    Ok(root)
                }
                (several, _) => {
                    for image in several {
                        add_image(image, named, store, blobs)?;
                    }
                    let index = assemble_index(several.to_vec(), Dialect::Oci, BTreeMap::new())
                        .map_err(|source| StoreError::Image { digest: raw.digest, source })?;
                    blobs.push(Blob::of(index.raw()));
                    Ok(index.raw().descriptor())
                }
            }
        }
    }
}

fn first_absent(image: &Image, store: &Store) -> Option<BlobDigest> {
    let absent = |layer: &&crate::layer::Layer| !store.has_blob(&layer.digest, layer.size);
    image.layers().iter().find(absent).map(|layer| layer.digest)
}

fn add_image(
    image: &Image,
    named: &Named,
    store: &Store,
    blobs: &mut Vec<Blob>,
) -> Result<(), OutputError> {
    if let Some(layer) = first_absent(image, store) {
        return Err(OutputError::LayerAbsent { image: super::shown(named), layer });
    }
    blobs.push(Blob::of(image.manifest()));
    blobs.push(Blob::of(image.config_raw()));
    let layer =
        |layer: &crate::layer::Layer| Blob { digest: layer.digest, size: layer.size, bytes: None };
    blobs.extend(image.layers().iter().map(layer));
    Ok(())
}

/// Everything that an index lists, attestations too; `None` if a part is absent.
fn whole_index(raw: &Raw, store: &Store) -> Result<Option<Vec<Blob>>, OutputError> {
    let wrong = |source| StoreError::Image { digest: raw.digest, source };
    let mut blobs = Vec::new();
    for entry in Index::read(&raw.bytes).map_err(wrong)?.manifests {
        if !entry.media_type.is_manifest() || !store.has_blob(&entry.digest, entry.size) {
            return Ok(None);
        }
        let bytes = store.document(&entry.digest)?;
        let manifest = Manifest::read(&bytes).map_err(wrong)?;
        blobs.push(Blob { digest: entry.digest, size: entry.size, bytes: Some(bytes) });
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if !store.has_blob(&part.digest, part.size) {
                return Ok(None);
            }
            blobs.push(Blob { digest: part.digest, size: part.size, bytes: None });
        }
    }
    Ok(Some(blobs))
}
