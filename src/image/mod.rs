//! Images as the OCI image spec 1.1 and docker's image spec v2.2 describe them.
//!
//! An [`Image`] is a manifest and a config as raw bytes with their parsed forms;
//! the bytes are the identity and are never written anew. It comes into being
//! only in [`assemble`] or by reading bytes whose digest was verified, and both
//! pass [`check`], so that an `Image` cannot disagree with itself.

mod artifact;
mod assemble;
mod check;
mod config;
mod descriptor;
mod linked;
mod manifest;
mod purpose;
mod style;

pub use artifact::Artifact;
pub use assemble::{Annotations, Dialect, Listed, assemble, assemble_around, assemble_index};
pub use check::{ImageError, strict_json};
pub use config::{Config, History, ImageConfig, RootFs};
pub use descriptor::{Descriptor, MediaType};
pub use linked::Linked;
pub use manifest::{Index, Manifest};
pub use purpose::{Purpose, referrers_tag, subject_of};
pub use style::{Note, NotePlace, Style, StyleError};

use crate::digest::BlobDigest;
use crate::layer::Layer;
use crate::platform::Platform;

/// Most bytes that a manifest, index or config may have.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// One platform's image.
#[derive(Debug, Clone)]
pub struct Image {
    manifest: Raw,
    config: Raw,
    parsed: ImageConfig,
    layers: Vec<Layer>,
}

/// A document's bytes and what they hash to.
#[derive(Debug, Clone)]
pub struct Raw {
    pub bytes: Vec<u8>,
    pub digest: BlobDigest,
    pub media_type: MediaType,
}

impl Raw {
    #[must_use]
    pub fn new(bytes: Vec<u8>, media_type: MediaType) -> Self {
        let digest = BlobDigest::of(&bytes);
        Self { bytes, digest, media_type }
    }

    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.bytes.len() as u64)
    }
}

impl Image {
    /// Reads an image from a manifest's and its config's bytes.
    ///
    /// # Errors
    /// If they are malformed or contradict each other.
    pub fn read(manifest: Raw, config: Vec<u8>) -> Result<Self, ImageError> {
        let listed = Manifest::read(&manifest.bytes)?;
        // Before it is read: the config of an artifact may be anything.
        check::is_image(&listed)?;
        let config = Raw::new(config, listed.config.media_type.clone());
        let parsed = ImageConfig::read(&config.bytes)?;
        let layers = check::image(&listed, &config, &parsed)?;
        Ok(Self { manifest, config, parsed, layers })
    }

    #[must_use]
    pub fn manifest(&self) -> &Raw {
        &self.manifest
    }
    #[must_use]
    pub fn config_raw(&self) -> &Raw {
        &self.config
    }
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.parsed
    }
    /// The layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
    /// The manifest's digest: the image's identity.
    #[must_use]
    pub fn digest(&self) -> BlobDigest {
        self.manifest.digest
    }
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.parsed.platform()
    }
}

/// What a build returns, a pull fetches, and every output and push takes.
#[expect(clippy::large_enum_variant, reason = "a handful exist at a time")]
#[derive(Debug, Clone)]
pub enum AnyImage {
    Image(Image),
    /// Several platforms: the index's bytes, and its images in the order listed.
    Index {
        raw: Raw,
        images: Vec<Image>,
    },
}

impl AnyImage {
    #[must_use]
    pub fn digest(&self) -> BlobDigest {
        self.raw().digest
    }
    /// The document that the name points to.
    #[must_use]
    pub fn raw(&self) -> &Raw {
        match self {
            Self::Image(image) => image.manifest(),
            Self::Index { raw, .. } => raw,
        }
    }
    #[must_use]
    pub fn images(&self) -> &[Image] {
        match self {
            Self::Image(image) => std::slice::from_ref(image),
            Self::Index { images, .. } => images,
        }
    }
}
