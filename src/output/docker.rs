//! Docker archives: what `docker save` writes and every tool reads.
//!
//! `manifest.json` (a list of `Config`, `RepoTags`, `Layers`), each config under
//! its digest, each layer as an uncompressed tar under its diff ID. The older
//! `repositories` file is left out, as it speaks of folders that are not here.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::archive::ArchiveWriter;
use super::{Named, OutputError, Work};
use crate::digest::{DiffId, Hashing};
use crate::image::{AnyImage, Image};
use crate::layer::{Compression, Decompressor, Layer};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// One image of `manifest.json`. Readers ignore what they do not know.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

pub(super) fn write(
    images: &[Named],
    platform: &Platform,
    store: &Store,
    to: impl Write,
    work: &Work<'_>,
) -> Result<(), OutputError> {
    let chosen: Vec<(&Named, &Image)> = images
        .iter()
        .map(|named| Ok((named, choose(named, platform)?)))
        .collect::<Result<_, OutputError>>()?;
    let entries: Vec<Entry> = chosen.iter().map(|(named, image)| entry(named, image)).collect();
    let list = serde_json::to_vec(&entries).map_err(|error| OutputError::Write(error.into()))?;

    // A tar states sizes first, and how long a layer is uncompressed only reading
    // it tells: so each is read twice, which costs no disk and no memory.
    let mut layers: Vec<(Layer, u64)> = Vec::new();
    for (named, image) in &chosen {
        for layer in image.layers() {
            if layers.iter().all(|(other, _)| other.diff_id != layer.diff_id) {
                layers.push((layer.clone(), measure(layer, named, store, work)?));
            }
        }
    }
    work.expect(layers.iter().map(|(_, size)| size).sum());

    let mut archive = ArchiveWriter::new(to, work);
    archive.bytes("manifest.json", &list)?;
    for (_, image) in &chosen {
        archive.bytes(&config_name(image), &image.config_raw().bytes)?;
    }
    for (layer, size) in &layers {
        let unreadable = |source| OutputError::LayerUnreadable { layer: layer.digest, source };
        archive.stream(
            &layer_name(&layer.diff_id),
            *size,
            || {
                let blob = store.open_blob(&layer.digest)?;
                Decompressor::new(blob, layer.compression).map_err(unreadable)
            },
            unreadable,
        )?;
    }
    archive.finish()
}

fn entry(named: &Named, image: &Image) -> Entry {
    // A reference with a digest is none that an image can be loaded under.
    let tagged = named.names.iter().filter(|name| name.digest().is_none());
    Entry {
        config: config_name(image),
        repo_tags: Some(tagged.map(Reference::familiar).collect()),
        layers: image.layers().iter().map(|layer| layer_name(&layer.diff_id)).collect(),
    }
}

fn config_name(image: &Image) -> String {
    format!("{}.json", image.config_raw().digest.hex())
}

fn layer_name(diff_id: &DiffId) -> String {
    format!("{}.tar", diff_id.hex())
}

fn choose<'a>(named: &'a Named, platform: &Platform) -> Result<&'a Image, OutputError> {
    match &named.image {
        AnyImage::Image(image) => Ok(image),
        AnyImage::Index { images, .. } => images
            .iter()
            .find(|image| image.platform().satisfies(platform))
            .ok_or_else(|| OutputError::NoPlatform {
                image: super::shown(named),
                wanted: platform.to_string(),
                have: images.iter().map(|image| image.platform().to_string()).collect(),
            }),
    }
}

/// How long a layer is uncompressed; its diff ID is proven on the way.
fn measure(
    layer: &Layer,
    named: &Named,
    store: &Store,
    work: &Work<'_>,
) -> Result<u64, OutputError> {
    if !store.has_blob(&layer.digest, layer.size) {
        return Err(OutputError::LayerAbsent { image: super::shown(named), layer: layer.digest });
    }
    let (found, size) = match layer.compression {
        // The digest is verified while it is written.
        Compression::None => (DiffId(layer.digest.0), layer.size),
        Compression::Gzip | Compression::Zstd => {
            let unreadable = |source| OutputError::LayerUnreadable { layer: layer.digest, source };
            let blob = store.open_blob(&layer.digest)?;
            let tar = Decompressor::new(blob, layer.compression).map_err(unreadable)?;
            let mut hash = Hashing::new(std::io::sink());
            work.copy(tar, &mut hash, unreadable, OutputError::Write)?;
            let (_, digest, size) = hash.finish();
            (DiffId(digest), size)
        }
    };
    if found != layer.diff_id {
        let expected = layer.diff_id;
        return Err(OutputError::DiffId { layer: layer.digest.to_string(), expected, found });
    }
    Ok(size)
}
