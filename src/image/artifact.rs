//! Manifests of what is no image (OCI image spec 1.1, manifest.md, "Guidelines for
//! Artifact Usage"): a config of a type of its own, or the empty one, and layers. An artifact
//! with a subject is about another manifest: it is attached to that.

use serde::Serialize;

use super::assemble::{Annotations, Dialect, bytes_of, layer_descriptor};
use super::check::ImageError;
use super::descriptor::{Descriptor, MediaType};
use super::{MAX_DOCUMENT, Raw};
use crate::layer::Layer;

/// The media type of what says nothing, and its bytes (manifest.md, "Guidance for an Empty
/// Descriptor").
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";

/// A manifest and its config. The bytes of its layers are in a store.
#[derive(Debug, Clone)]
pub struct Artifact {
    pub manifest: Raw,
    pub config: Raw,
    pub layers: Vec<Descriptor>,
    /// What it is about.
    pub subject: Option<Descriptor>,
}

/// [`Manifest`](super::Manifest) with the fields that images have not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u32,
    media_type: MediaType,
    artifact_type: &'a str,
    config: Descriptor,
    layers: &'a [Descriptor],
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a Descriptor>,
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    annotations: Annotations,
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
        let layers = layers.collect::<Result<_, _>>()?;
        Self::of(artifact_type, config, layers, None, Annotations::new())
    }

    /// Makes the manifest of blobs of any kind that are about another manifest. Of the subject
    /// only media type, digest and size are taken; blobs keep the annotations that they have.
    ///
    /// # Errors
    /// If the manifest is larger than documents may be.
    pub fn about(
        subject: &Descriptor,
        artifact_type: &str,
        blobs: Vec<Descriptor>,
        annotations: Annotations,
    ) -> Result<Self, ImageError> {
        let subject = Descriptor::new(subject.media_type.clone(), subject.digest, subject.size);
        Self::blobs(artifact_type, blobs, Some(subject), annotations)
    }

    /// Makes the manifest of blobs of any kind that are about nothing else.
    ///
    /// # Errors
    /// As [`Artifact::about`].
    pub fn alone(artifact_type: &str, blobs: Vec<Descriptor>) -> Result<Self, ImageError> {
        Self::blobs(artifact_type, blobs, None, Annotations::new())
    }

    fn blobs(
        artifact_type: &str,
        blobs: Vec<Descriptor>,
        subject: Option<Descriptor>,
        annotations: Annotations,
    ) -> Result<Self, ImageError> {
        let config = Raw::new(EMPTY.to_vec(), MediaType::from(EMPTY_TYPE.to_owned()));
        // A manifest has one layer at least.
        let layers = if blobs.is_empty() { vec![config.descriptor()] } else { blobs };
        Self::of(artifact_type, config, layers, subject, annotations)
    }

    fn of(
        artifact_type: &str,
        config: Raw,
        layers: Vec<Descriptor>,
        subject: Option<Descriptor>,
        annotations: Annotations,
    ) -> Result<Self, ImageError> {
        let media_type = MediaType::OciManifest;
        let document = Document {
            schema_version: 2,
            media_type: media_type.clone(),
            artifact_type,
            config: config.descriptor(),
            layers: &layers,
            subject: subject.as_ref(),
            annotations,
        };
        let manifest = Raw::new(bytes_of("manifest", &document)?, media_type);
        for (what, raw) in [("config", &config), ("manifest", &manifest)] {
            let size = raw.bytes.len() as u64;
            if size > MAX_DOCUMENT {
                return Err(ImageError::TooLarge { what, size });
            }
        }
        Ok(Self { manifest, config, layers, subject })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Manifest, Purpose};

    /// oci-spec's own types are the second opinion.
    #[test]
    fn others_read_what_it_is_about() {
        let mut subject = Raw::new(b"{}".to_vec(), MediaType::OciIndex).descriptor();
        subject.annotations.insert("org.opencontainers.image.ref.name".into(), "app:1".into());
        let mut blob = Raw::new(b"x".to_vec(), MediaType::from("a/b".to_owned())).descriptor();
        blob.annotations.insert("c".into(), "d".into());
        for blobs in [vec![blob], Vec::new()] {
            let notes: Annotations = [("e".to_owned(), "f\u{1b}\"".to_owned())].into();
            let made = Artifact::about(&subject, "x/y", blobs, notes.clone()).unwrap();
            let bytes = &made.manifest.bytes;
            let theirs = oci_spec::image::ImageManifest::from_reader(bytes.as_slice()).unwrap();
            assert_eq!(theirs.artifact_type().as_ref().unwrap().to_string(), "x/y");
            assert_eq!(theirs.config().media_type(), &oci_spec::image::MediaType::EmptyJSON);
            assert_eq!(theirs.layers().len(), 1);
            let purpose = Purpose::read(bytes).unwrap();
            assert_eq!(purpose.annotations, notes);
            let named = purpose.subject.unwrap();
            assert_eq!((named.digest, named.annotations.len()), (subject.digest, 0));
            assert_eq!(Manifest::read(bytes).unwrap().layers, made.layers);
        }
        let large = vec![subject.clone(); 40_000];
        assert!(Artifact::about(&subject, "x/y", large, Annotations::new()).is_err());
    }
}
