//! Descriptors (OCI image spec, descriptor.md) and the media types kiln knows.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::BlobDigest;
use crate::layer::Compression;
use crate::platform::Platform;

/// What kind of bytes a descriptor points to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum MediaType {
    OciManifest,
    OciIndex,
    OciConfig,
    OciLayer,
    OciLayerGzip,
    OciLayerZstd,
    DockerManifest,
    DockerList,
    DockerConfig,
    DockerLayer,
    DockerLayerGzip,
    /// Anything else; kiln carries such blobs but cannot open them.
    Other(String),
}

const NAMES: [(MediaType, &str); 11] = [
    (MediaType::OciManifest, "application/vnd.oci.image.manifest.v1+json"),
    (MediaType::OciIndex, "application/vnd.oci.image.index.v1+json"),
    (MediaType::OciConfig, "application/vnd.oci.image.config.v1+json"),
    (MediaType::OciLayer, "application/vnd.oci.image.layer.v1.tar"),
    (MediaType::OciLayerGzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
    (MediaType::OciLayerZstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
    (MediaType::DockerManifest, "application/vnd.docker.distribution.manifest.v2+json"),
    (MediaType::DockerList, "application/vnd.docker.distribution.manifest.list.v2+json"),
    (MediaType::DockerConfig, "application/vnd.docker.container.image.v1+json"),
    (MediaType::DockerLayer, "application/vnd.docker.image.rootfs.diff.tar"),
    (MediaType::DockerLayerGzip, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
];

impl MediaType {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => NAMES.iter().find(|(kind, _)| kind == known).map_or("", |(_, name)| name),
        }
    }
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::OciManifest | Self::DockerManifest)
    }
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }
    /// Whether it is of layers that registries do not keep (image spec 1.1, layer.md,
    /// "Non-Distributable Layers").
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        let name = self.as_str();
        name.contains(".nondistributable.") || name.contains(".rootfs.foreign.")
    }
    /// How the layer is compressed, if it is one that kiln can open.
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        match self {
            Self::OciLayer | Self::DockerLayer => Some(Compression::None),
            Self::OciLayerGzip | Self::DockerLayerGzip => Some(Compression::Gzip),
            Self::OciLayerZstd => Some(Compression::Zstd),
            Self::OciManifest
            | Self::OciIndex
            | Self::OciConfig
            | Self::DockerManifest
            | Self::DockerList
            | Self::DockerConfig
            | Self::Other(_) => None,
        }
    }
}

impl From<String> for MediaType {
    fn from(name: String) -> Self {
        match NAMES.iter().find(|(_, known)| *known == name) {
            Some((kind, _)) => kind.clone(),
            None => Self::Other(name),
        }
    }
}

impl From<MediaType> for String {
    fn from(kind: MediaType) -> Self {
        kind.as_str().to_owned()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Points to bytes: what they are, their digest, their number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: MediaType,
    pub digest: BlobDigest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    #[must_use]
    pub fn new(media_type: MediaType, digest: BlobDigest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}
