//! What a manifest or index is for: its artifact type, and the manifest that it refers to
//! (OCI image spec 1.1, manifest.md, "Guidelines for Artifact Usage"; image-index.md).

use serde::Deserialize;

use super::assemble::Annotations;
use super::check::{ImageError, strict_json};
use super::descriptor::{Descriptor, MediaType};
use super::{Raw, manifest};
use crate::digest::BlobDigest;

/// What others look a manifest or index up by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purpose {
    /// Its own, else the media type of its config. An index without one has none.
    pub artifact_type: Option<String>,
    /// The digest's manifest is what this one speaks of; it need not be there.
    pub subject: Option<Descriptor>,
    pub annotations: Annotations,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    config: Option<Config>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: MediaType,
}

impl Purpose {
    /// Reads a manifest or index.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let fields: Fields = strict_json("manifest", bytes)?;
        let own = fields.artifact_type.filter(|kind| !kind.is_empty());
        let of_config = || fields.config.map(|config| config.media_type.into());
        Ok(Self {
            artifact_type: own.or_else(of_config),
            subject: fields.subject,
            annotations: fields.annotations.unwrap_or_default(),
        })
    }

    /// The entry that lists of referrers have of a document (distribution spec 1.1,
    /// "Listing Referrers").
    #[must_use]
    pub fn entry(&self, of: &Raw) -> Descriptor {
        let mut entry = of.descriptor();
        entry.artifact_type.clone_from(&self.artifact_type);
        entry.annotations.clone_from(&self.annotations);
        entry
    }
}

impl Raw {
    /// Reads a manifest or index whose kind nobody has said: what it says of itself and
    /// what it holds agree.
    ///
    /// # Errors
    /// If it is neither.
    pub fn read(bytes: Vec<u8>) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Peek {
            media_type: Option<MediaType>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let peek: Peek = strict_json("manifest", &bytes)?;
        let kind = peek.media_type.unwrap_or(match peek.manifests {
            Some(_) => MediaType::OciIndex,
            None => MediaType::OciManifest,
        });
        if kind.is_index() {
            manifest::Index::read(&bytes)?;
        } else {
            manifest::Manifest::read(&bytes)?;
        }
        Ok(Self::new(bytes, kind))
    }
}

/// The tag of the list of what refers to a manifest, where clients keep it (distribution spec
/// 1.1, "Referrers Tag Schema").
#[must_use]
pub fn referrers_tag(subject: BlobDigest) -> String {
    format!("sha256-{}", subject.hex())
}

/// What a list is about, if a tag is that of one.
#[must_use]
pub fn subject_of(tag: &str) -> Option<BlobDigest> {
    format!("sha256:{}", tag.strip_prefix("sha256-")?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_looked_up_by() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let at = |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":2}}"#);
        let config = at("application/vnd.oci.empty.v1+json");
        let subject = at("application/vnd.oci.image.manifest.v1+json");
        for (text, kind, refers) in [
            (format!(r#"{{"config":{config}}}"#), Some("application/vnd.oci.empty.v1+json"), false),
            (format!(r#"{{"config":{config},"artifactType":"a/b"}}"#), Some("a/b"), false),
            (format!(r#"{{"artifactType":"","subject":{subject}}}"#), None, true),
        ] {
            let purpose = Purpose::read(text.as_bytes()).unwrap();
            assert_eq!(purpose.artifact_type.as_deref(), kind, "{text}");
            assert_eq!(purpose.subject.is_some(), refers, "{text}");
        }
        let noted = br#"{"schemaVersion":2,"manifests":[],"annotations":{"a":"b"}}"#.to_vec();
        let raw = Raw::read(noted).unwrap();
        assert_eq!(raw.media_type, MediaType::OciIndex);
        let entry = Purpose::read(&raw.bytes).unwrap().entry(&raw);
        assert_eq!((entry.digest, entry.annotations["a"].as_str()), (raw.digest, "b"));
        assert!(Purpose::read(br#"{"subject":{"digest":"x"}}"#).is_err());
        assert!(Raw::read(br#"{"schemaVersion":2}"#.to_vec()).is_err());
    }
}
