//! Layers and a config become an image: pure, and the only place that writes
//! manifests and configs.

use std::collections::BTreeMap;

use super::check::ImageError;
use super::config::{ImageConfig, RootFs};
use super::descriptor::{Descriptor, MediaType};
use super::manifest::{Index, Manifest};
use super::{AnyImage, Image, Raw};
use crate::layer::{Compression, Layer};
use crate::platform::Platform;

/// How documents are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    #[default]
    Oci,
    /// The media types of docker's image manifest v2.2.
    Docker,
}

/// Names and values that a document carries beside its content.
pub type Annotations = BTreeMap<String, String>;

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
    let config = bytes_of("image config", &config)?;
    around(config, layers, Dialect::Oci, Annotations::new())
}

fn around(
    config: Vec<u8>,
    layers: &[Layer],
    dialect: Dialect,
    annotations: Annotations,
) -> Result<Image, ImageError> {
    let (config_type, manifest_type) = match dialect {
        Dialect::Oci => (MediaType::OciConfig, MediaType::OciManifest),
        Dialect::Docker => (MediaType::DockerConfig, MediaType::DockerManifest),
    };
    let raw = Raw::new(config, config_type);
    let layers = layers.iter().map(|layer| layer_descriptor(layer, dialect));
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(manifest_type.clone()),
        config: raw.descriptor(),
        layers: layers.collect::<Result<_, _>>()?,
        annotations,
    };
    let manifest = Raw::new(bytes_of("manifest", &manifest)?, manifest_type);
    Image::read(manifest, raw.bytes)
}

/// Makes the image of a config that exists already, byte for byte (its digest
/// is what docker calls the image), and its layers, lowest first.
///
/// # Errors
/// If the config is malformed or names other layers, or docker has no media type
/// for a layer.
pub fn assemble_around(
    config: Vec<u8>,
    layers: &[Layer],
    dialect: Dialect,
    annotations: Annotations,
) -> Result<Image, ImageError> {
    let diff_ids = ImageConfig::read(&config)?.rootfs.diff_ids;
    if !diff_ids.iter().eq(layers.iter().map(|layer| &layer.diff_id)) {
        let why = "its diff IDs are not those of the layers".into();
        return Err(ImageError::Malformed { what: "image config", why });
    }
    around(config, layers, dialect, annotations)
}

/// An image as an index lists it.
#[derive(Debug, Clone)]
pub struct Listed {
    pub image: Image,
    /// What it was made for; its config may say it more exactly.
    pub platform: Platform,
    /// Of its entry, not of its manifest.
    pub annotations: Annotations,
}

impl From<Image> for Listed {
    fn from(image: Image) -> Self {
        Self { platform: image.platform(), image, annotations: Annotations::new() }
    }
}

/// Makes the index over images of several platforms, in the order given.
///
/// # Errors
/// If the document cannot be written.
pub fn assemble_index<I: Into<Listed>>(
    images: Vec<I>,
    dialect: Dialect,
    annotations: Annotations,
) -> Result<AnyImage, ImageError> {
    let images: Vec<Listed> = images.into_iter().map(Into::into).collect();
    let entry = |listed: &Listed| {
        let mut descriptor = listed.image.manifest().descriptor();
        descriptor.platform = Some(listed.platform.clone());
        descriptor.annotations.clone_from(&listed.annotations);
        descriptor
    };
    let media_type = match dialect {
        Dialect::Oci => MediaType::OciIndex,
        Dialect::Docker => MediaType::DockerList,
    };
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type.clone()),
        manifests: images.iter().map(entry).collect(),
        annotations,
    };
    let raw = Raw::new(bytes_of("index", &index)?, media_type);
    Ok(AnyImage::Index { raw, images: images.into_iter().map(|listed| listed.image).collect() })
}

pub(super) fn bytes_of(
    what: &'static str,
    document: &impl serde::Serialize,
) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(document)
        .map_err(|error| ImageError::Malformed { what, why: error.to_string() })
}

pub(super) fn layer_descriptor(layer: &Layer, dialect: Dialect) -> Result<Descriptor, ImageError> {
    let kind = match (dialect, layer.compression) {
        (Dialect::Oci, Compression::None) => MediaType::OciLayer,
        (Dialect::Oci, Compression::Gzip) => MediaType::OciLayerGzip,
        (Dialect::Oci, Compression::Zstd) => MediaType::OciLayerZstd,
        (Dialect::Docker, Compression::None) => MediaType::DockerLayer,
        (Dialect::Docker, Compression::Gzip) => MediaType::DockerLayerGzip,
        (Dialect::Docker, Compression::Zstd) => {
            return Err(ImageError::NoDockerType { digest: layer.digest });
        }
    };
    Ok(Descriptor::new(kind, layer.digest, layer.size))
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
