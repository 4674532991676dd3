//! What a document leads to, be it an image's manifest, an index or an artifact
//! (OCI image spec 1.1, manifest.md and image-index.md).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::check::ImageError;
use super::descriptor::{Descriptor, MediaType};
use super::manifest::{Index, Manifest};

/// The links of a manifest or an index.
#[derive(Debug, Clone)]
pub struct Linked {
    /// Of an index, what it lists.
    pub manifests: Vec<Descriptor>,
    /// Of a manifest, the config and the layers.
    pub blobs: Vec<Descriptor>,
    /// What this document is about: another manifest, which may be absent.
    pub subject: Option<Descriptor>,
    /// What its own field says, else the media type of the config.
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

/// What [`Manifest`] and [`Index`] have no fields for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct More {
    media_type: Option<MediaType>,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
}

impl Linked {
    /// Reads a document that somebody calls by this media type.
    ///
    /// # Errors
    /// If it is none, or says itself that it is of another type.
    pub fn read(bytes: &[u8], media_type: &MediaType) -> Result<Self, ImageError> {
        let what = if media_type.is_index() { "index" } else { "manifest" };
        let malformed = |why: String| ImageError::Malformed { what, why };
        if !media_type.is_index() && !media_type.is_manifest() {
            return Err(malformed(format!("`{media_type}` is no media type of manifests")));
        }
        let (manifests, blobs, annotations) = if media_type.is_index() {
            let index = Index::read(bytes)?;
            (index.manifests, Vec::new(), index.annotations)
        } else {
            let manifest = Manifest::read(bytes)?;
            let blobs = [vec![manifest.config], manifest.layers].concat();
            (Vec::new(), blobs, manifest.annotations)
        };
        let more: More =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if let Some(own) = more.media_type.filter(|own| own != media_type) {
            return Err(malformed(format!("its mediaType is `{own}`, not `{media_type}`")));
        }
        let own = more.artifact_type.filter(|own| !own.is_empty());
        let artifact_type = own.or_else(|| Some(blobs.first()?.media_type.to_string()));
        Ok(Self { manifests, blobs, subject: more.subject, artifact_type, annotations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::BlobDigest;

    #[test]
    fn links_and_kinds() {
        let at = |kind: &str, name: &str| {
            let digest = BlobDigest::of(name.as_bytes());
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":3}}"#)
        };
        let (config, layer) = (at("application/x-config", "c"), at("application/x-layer", "l"));
        let subject = at(MediaType::OciManifest.as_str(), "s");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}],"subject":{subject}}}"#
        );
        let read = Linked::read(manifest.as_bytes(), &MediaType::OciManifest).unwrap();
        assert_eq!(read.artifact_type.as_deref(), Some("application/x-config"));
        assert_eq!(read.subject.unwrap().digest, BlobDigest::of(b"s"));
        let digests: Vec<_> = read.blobs.iter().map(|blob| blob.digest).collect();
        assert_eq!(digests, [BlobDigest::of(b"c"), BlobDigest::of(b"l")]);
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{subject}],"artifactType":"x"}}"#,
            MediaType::OciIndex
        );
        let read = Linked::read(index.as_bytes(), &MediaType::OciIndex).unwrap();
        assert_eq!((read.manifests.len(), read.artifact_type.as_deref()), (1, Some("x")));
        for (text, kind) in [
            (&manifest, MediaType::OciIndex),
            (&index, MediaType::OciManifest),
            (&index, MediaType::DockerList),
            (&manifest, MediaType::Other("text/plain".into())),
            (&"{}".to_owned(), MediaType::OciManifest),
        ] {
            assert!(Linked::read(text.as_bytes(), &kind).is_err(), "{text} as {kind}");
        }
    }
}
