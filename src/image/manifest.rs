//! Manifests and indexes (OCI image spec, manifest.md and image-index.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::check::{self, ImageError, strict_json};
use super::descriptor::{Descriptor, MediaType};
use crate::platform::Platform;

/// One platform's image: a config and layers, lowest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Several platforms' images.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Parses a manifest's bytes; a document that could also be read as an index
    /// is refused.
    ///
    /// # Errors
    /// If they are no such document.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let manifest: Self = strict_json("manifest", bytes)?;
        check::kind(
            "manifest",
            bytes,
            manifest.schema_version,
            manifest.media_type.as_ref(),
            "manifests",
            MediaType::is_manifest,
        )?;
        Ok(manifest)
    }
}

impl Index {
    /// Parses an index's bytes; a document that could also be read as a manifest
    /// is refused.
    ///
    /// # Errors
    /// If they are no such document.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let index: Self = strict_json("index", bytes)?;
        check::kind(
            "index",
            bytes,
            index.schema_version,
            index.media_type.as_ref(),
            "layers",
            MediaType::is_index,
        )?;
        Ok(index)
    }

    /// The entry that runs on a platform and is nearest to it; of equals the first.
    #[must_use]
    pub fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        let near = |entry: &&Descriptor| entry.platform.as_ref()?.distance(wanted);
        self.manifests.iter().filter(|entry| near(entry).is_some()).min_by_key(near)
    }

    /// The platforms listed, for messages. Attestations (`unknown/unknown`) are left out.
    #[must_use]
    pub fn platforms(&self) -> Vec<String> {
        let known = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        known.filter(|platform| platform.os != "unknown").map(ToString::to_string).collect()
    }
}
