//! Docker archives: `manifest.json` names configs, tags and layers.
//!
//! The config's bytes stay, since their digest is what docker calls the image;
//! the manifest is made anew. Layers are stored as they come, compressed or not.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::super::docker::Entry;
use super::super::{OutputError, Work};
use super::found::Finding;
use super::scan::Section;
use super::{Cargo, Tar};
use crate::atomic::PathError;
use crate::digest::{BlobDigest, DiffId, Hashing};
use crate::image::{
    Annotations, AnyImage, Dialect, ImageConfig, ImageError, assemble_around, strict_json,
};
use crate::layer::{Compression, Decompressor, Layer, Packing};
use crate::reference::Reference;
use crate::store::{BlobWriter, Store, StoreError};

pub(super) fn load(tar: &Tar<'_>, store: &Store, work: &Work<'_>) -> Result<Cargo, OutputError> {
    let bytes = tar.document("manifest.json")?;
    let list: Vec<Entry> = strict_json("the list of images", &bytes)
        .map_err(|source| OutputError::Document { name: "manifest.json".into(), source })?;
    let mut known = BTreeMap::new();
    let mut found = Finding::default();
    for entry in &list {
        let wrong = |source| OutputError::Document { name: entry.config.clone(), source };
        let config = tar.document(&entry.config)?;
        let diff_ids = ImageConfig::read(&config).map_err(wrong)?.rootfs.diff_ids;
        if diff_ids.len() != entry.layers.len() {
            return Err(wrong(ImageError::LayerCount {
                layers: entry.layers.len(),
                diff_ids: diff_ids.len(),
            }));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
            let layer = match known.get(&diff_id) {
                Some(layer) => Layer::clone(layer),
                None => layer(tar, name, diff_id, store, work)?,
            };
            known.insert(diff_id, layer.clone());
            layers.push(layer);
        }
        let image =
            assemble_around(config, &layers, Dialect::Oci, Annotations::new()).map_err(wrong)?;
        found.hold(image.config_raw())?;
        found.hold(image.manifest())?;
        found.add(names(entry)?, AnyImage::Image(image));
    }
    if found.cargo.images.is_empty() {
        return Err(OutputError::Absent("image".into()));
    }
    Ok(found.cargo)
}

fn names(entry: &Entry) -> Result<Vec<Reference>, OutputError> {
    let tags = entry.repo_tags.iter().flatten();
    tags.map(|tag| {
        tag.parse::<Reference>().map_err(|error| OutputError::Document {
            name: "manifest.json".into(),
            source: ImageError::Malformed { what: "the list of images", why: error.to_string() },
        })
    })
    .collect()
}

/// Copies a layer into the store, and proves that it is the one the config means.
fn layer(
    tar: &Tar<'_>,
    name: &str,
    diff_id: DiffId,
    store: &Store,
    work: &Work<'_>,
) -> Result<Layer, OutputError> {
    let mut from = tar.open(name)?;
    let mut head = Vec::new();
    from.by_ref().take(8).read_to_end(&mut head).map_err(OutputError::Read)?;
    let from = tar.open(name)?;
    let compression = match Decompressor::detect(&head) {
        Packing::Layer(compression) => compression,
        packing @ (Packing::Bzip2 | Packing::Xz) => {
            return repacked(from, packing, diff_id, store, work);
        }
    };
    let size = from.size();
    let digest = BlobDigest(diff_id.0);
    if compression == Compression::None && store.has_blob(&digest, size) {
        work.moved(size)?;
        return Ok(Layer { diff_id, digest, size, compression });
    }
    let mut tee = Tee { from, to: store.writer()?, failed: None };
    let mut hash = Hashing::new(io::sink());
    let read = Decompressor::new(&mut tee, compression)
        .map_err(OutputError::Read)
        .and_then(|tar| work.copy(tar, &mut hash, OutputError::Read, OutputError::Read));
    if let Some(source) = tee.failed {
        let path = store.root().join("tmp");
        return Err(PathError { what: "write a blob in", path, source }.into());
    }
    read?;
    let found = DiffId(hash.finish().1);
    if found != diff_id {
        return Err(OutputError::DiffId { layer: name.into(), expected: diff_id, found });
    }
    // A decoder that is done may have left bytes that it has no use for.
    if tee.to.count() != size {
        return Err(OutputError::Blob {
            digest,
            source: Box::new(StoreError::Mismatch {
                what: "size",
                expected: size.to_string(),
                found: tee.to.count().to_string(),
            }),
        });
    }
    let (digest, size) = tee.to.commit(None)?;
    Ok(Layer { diff_id, digest, size, compression })
}

/// Keeps a layer plain that is compressed in a way in which layers never are.
fn repacked(
    from: Section<'_>,
    packing: Packing,
    diff_id: DiffId,
    store: &Store,
    work: &Work<'_>,
) -> Result<Layer, OutputError> {
    let tar = Decompressor::new(from, packing).map_err(OutputError::Read)?;
    let mut to = store.writer()?;
    let unwritten = |source| {
        let path = store.root().join("tmp");
        PathError { what: "write a blob in", path, source }.into()
    };
    work.copy(tar, &mut to, OutputError::Read, unwritten)?;
    let (digest, size) = (BlobDigest(diff_id.0), to.count());
    to.commit(Some((&digest, size)))?;
    Ok(Layer { diff_id, digest, size, compression: Compression::None })
}

/// Passes on what is read, and keeps it.
struct Tee<'a> {
    from: Section<'a>,
    to: BlobWriter,
    failed: Option<io::Error>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        if let Err(error) = self.to.write_all(&buf[..n]) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        Ok(n)
    }
}
