//! Layers and a config become an image: pure, and the only place that writes
//! manifests and configs.

use super::check::ImageError;
use super::config::{ImageConfig, RootFs};
use super::descriptor::{Descriptor, MediaType};
use super::manifest::{Index, Manifest};
use super::{AnyImage, Image, Raw};
use crate::layer::{Compression, Layer};

/// Makes the image of a config and its layers, lowest first. The config's diff
/// IDs are set from the layers; its history must speak of as many.
///
/// # Errors
/// If the parts contradict each other, as when history and layers differ.
pub fn assemble(mut config: ImageConfig, layers: &[Layer]) -> Result<Image, ImageError> {
    config.rootfs = RootFs {
        kind: "layers".into(),
        diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
    };
    let filled = config.history.iter().filter(|entry| !entry.empty_layer).count();
    if !config.history.is_empty() && filled != layers.len() {
        return Err(ImageError::LayerCount { layers: filled, diff_ids: layers.len() });
    }
    around(Raw::new(bytes_of("image config", &config)?, MediaType::OciConfig), layers)
}

fn around(raw: Raw, layers: &[Layer]) -> Result<Image, ImageError> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::OciManifest),
        config: raw.descriptor(),
        layers: layers.iter().map(layer_descriptor).collect(),
        annotations: std::collections::BTreeMap::new(),
    };
    let manifest = Raw::new(bytes_of("manifest", &manifest)?, MediaType::OciManifest);
    Image::read(manifest, raw.bytes)
}

/// Makes the image of a config that exists already, byte for byte (its digest
/// is what docker calls the image), and its layers, lowest first.
///
/// # Errors
/// If the config is malformed or names other layers.
pub fn assemble_around(config: Vec<u8>, layers: &[Layer]) -> Result<Image, ImageError> {
    let raw = Raw::new(config, MediaType::OciConfig);
    let diff_ids = ImageConfig::read(&raw.bytes)?.rootfs.diff_ids;
    if !diff_ids.iter().eq(layers.iter().map(|layer| &layer.diff_id)) {
        let why = "its diff IDs are not those of the layers".into();
        return Err(ImageError::Malformed { what: "image config", why });
    }
    around(raw, layers)
}

/// Makes the index over images of several platforms, in the order given.
///
/// # Errors
/// If the document cannot be written.
pub fn assemble_index(images: Vec<Image>) -> Result<AnyImage, ImageError> {
    let entry = |image: &Image| {
        let mut descriptor = image.manifest().descriptor();
        descriptor.platform = Some(image.platform());
        descriptor
    };
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests: images.iter().map(entry).collect(),
        annotations: std::collections::BTreeMap::new(),
    };
    let raw = Raw::new(bytes_of("index", &index)?, MediaType::OciIndex);
    Ok(AnyImage::Index { raw, images })
}

fn bytes_of(what: &'static str, document: &impl serde::Serialize) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(document)
        .map_err(|error| ImageError::Malformed { what, why: error.to_string() })
}

fn layer_descriptor(layer: &Layer) -> Descriptor {
    let kind = match layer.compression {
        Compression::None => MediaType::OciLayer,
        Compression::Gzip => MediaType::OciLayerGzip,
        Compression::Zstd => MediaType::OciLayerZstd,
    };
    Descriptor::new(kind, layer.digest, layer.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{BlobDigest, DiffId};
    use crate::image::History;
    use crate::platform::Platform;

    /// oci-spec's own types are the second opinion on what kiln writes.
    #[test]
    fn others_read_it() {
        let mut config = ImageConfig::scratch(&Platform::new("linux", "amd64"));
        config.config.labels.insert("b".into(), "1".into());
        config.config.labels.insert("a".into(), "2".into());
        config.config.env.push("PATH=/bin".into());
        config.history.push(History { created_by: Some("COPY".into()), ..History::default() });
        let layer = Layer {
            diff_id: DiffId::of(b"x"),
            digest: BlobDigest::of(b"y"),
            size: 1,
            compression: Compression::Gzip,
        };
        let image = assemble(config.clone(), std::slice::from_ref(&layer)).unwrap();
        let theirs =
            oci_spec::image::ImageManifest::from_reader(image.manifest().bytes.as_slice()).unwrap();
        assert_eq!(theirs.layers()[0].media_type(), &oci_spec::image::MediaType::ImageLayerGzip);
        let theirs =
            oci_spec::image::ImageConfiguration::from_reader(image.config_raw().bytes.as_slice())
                .unwrap();
        assert_eq!(theirs.rootfs().diff_ids(), &[DiffId::of(b"x").to_string()]);
        assert_eq!(
            assemble(config.clone(), std::slice::from_ref(&layer)).unwrap().digest(),
            image.digest()
        );
        assert!(assemble(config, &[layer.clone(), layer]).is_err(), "history and layers disagree");
    }
}
