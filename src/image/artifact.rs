//! Manifests of what is no image (OCI image spec 1.1, manifest.md, "Guidelines for
//! Artifact Usage"): a config of a type of its own, and layers.

use serde::Serialize;

use super::assemble::{Dialect, bytes_of, layer_descriptor};
use super::check::ImageError;
use super::descriptor::{Descriptor, MediaType};
use super::{MAX_DOCUMENT, Raw};
use crate::layer::Layer;

/// A manifest and its config. The bytes of its layers are in a store.
#[derive(Debug, Clone)]
pub struct Artifact {
    pub manifest: Raw,
    pub config: Raw,
    pub layers: Vec<Descriptor>,
}

/// [`Manifest`](super::Manifest) with the field that images have not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u32,
    media_type: MediaType,
    artifact_type: &'a str,
    config: Descriptor,
    layers: &'a [Descriptor],
}

impl Artifact {
    /// Makes the manifest over a config and layers, which are listed as they are given.
    ///
    /// # Errors
    /// If the config or the manifest is larger than documents may be, since no reader
    /// would take it.
    pub fn new(
        artifact_type: &str,
        config_type: &str,
        config: Vec<u8>,
        layers: &[Layer],
    ) -> Result<Self, ImageError> {
        let config = Raw::new(config, MediaType::from(config_type.to_owned()));
        let layers = layers.iter().map(|layer| layer_descriptor(layer, Dialect::Oci));
        let layers: Vec<Descriptor> = layers.collect::<Result<_, _>>()?;
        let media_type = MediaType::OciManifest;
        let document = Document {
            schema_version: 2,
            media_type: media_type.clone(),
            artifact_type,
            config: config.descriptor(),
            layers: &layers,
        };
        let manifest = Raw::new(bytes_of("manifest", &document)?, media_type);
        for (what, raw) in [("config", &config), ("manifest", &manifest)] {
            let size = raw.bytes.len() as u64;
            if size > MAX_DOCUMENT {
                return Err(ImageError::TooLarge { what, size });
            }
        }
        Ok(Self { manifest, config, layers })
    }
}
