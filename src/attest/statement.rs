//! in-toto statements (in-toto attestation framework, spec v1: `statement.md`,
//! `resource_descriptor.md`).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::digest::BlobDigest;
use crate::image::{Artifact, Descriptor, ImageError, MediaType, Raw};

/// The media type of a statement, and the artifact type of what holds one. In an envelope it
/// is the payload's type.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The annotation that says which predicate a statement has, so that lists of referrers show
/// it; BuildKit's name.
pub const PREDICATE_NOTE: &str = "in-toto.io/predicate-type";

/// Predicates that are an SBOM as it is.
pub const SPDX: &str = "https://spdx.dev/Document";
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";

const TYPE: &str = "https://in-toto.io/Statement/v1";

/// Something that is spoken of: an artifact, or what it was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// By algorithm, as hex digits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<&'static str, String>,
}

impl Resource {
    /// What has a sha256 digest.
    #[must_use]
    pub fn sha256(digest: BlobDigest) -> Self {
        Self { digest: [("sha256", digest.hex())].into(), ..Self::default() }
    }
}

/// Something that is said of an image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement<P> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Resource>,
    predicate_type: &'static str,
    predicate: P,
}

impl<P: Serialize> Statement<P> {
    /// A statement about a manifest or index. It is named by the repositories that it is built
    /// for, without tags, which move; the digest alone says what is meant.
    pub fn about(
        digest: BlobDigest,
        repositories: &[String],
        predicate_type: &'static str,
        predicate: P,
    ) -> Self {
        let plain = Resource::sha256(digest);
        let mut names = repositories.to_vec();
        names.sort();
        names.dedup();
        let named = |name| Resource { name: Some(name), ..plain.clone() };
        let mut subject: Vec<Resource> = names.into_iter().map(named).collect();
        if subject.is_empty() {
            subject.push(plain);
        }
        Self { kind: TYPE, subject, predicate_type, predicate }
    }

    /// The statement as a blob.
    ///
    /// # Errors
    /// If the predicate cannot be written as JSON.
    pub fn blob(&self) -> Result<Raw, ImageError> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| ImageError::Malformed { what: "statement", why: error.to_string() })?;
        Ok(Raw::new(bytes, MediaType::from(IN_TOTO.to_owned())))
    }

    /// The artifact that attaches a statement's blob to what it is about.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn artifact(&self, blob: &Raw, subject: &Descriptor) -> Result<Artifact, ImageError> {
        let mut layer = blob.descriptor();
        let note = (PREDICATE_NOTE.to_owned(), self.predicate_type.to_owned());
        layer.annotations = [note.clone()].into();
        Artifact::about(subject, IN_TOTO, vec![layer], [note].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn whatever_it_says_it_is_json_of_this_form() {
        let digest = BlobDigest::of(b"x");
        let hostile = json!({"a\u{0}\"\\": "\u{202e}\n</script>\u{7f}", "": [null, -1, "ü"]});
        for (repositories, expected) in [
            (vec![], json!([{"digest": {"sha256": digest.hex()}}])),
            (
                vec!["b/\"c".to_owned(), "a".to_owned(), "b/\"c".to_owned()],
                json!([
                    {"name": "a", "digest": {"sha256": digest.hex()}},
                    {"name": "b/\"c", "digest": {"sha256": digest.hex()}},
                ]),
            ),
        ] {
            let said = Statement::about(digest, &repositories, SPDX, hostile.clone());
            let blob = said.blob().unwrap();
            let read: Value = serde_json::from_slice(&blob.bytes).unwrap();
            assert_eq!(
                read,
                json!({
                    "_type": "https://in-toto.io/Statement/v1",
                    "subject": expected,
                    "predicateType": "https://spdx.dev/Document",
                    "predicate": hostile,
                })
            );
            assert!(blob.bytes.starts_with(br#"{"_type":"#));
            assert_eq!(said.blob().unwrap().bytes, blob.bytes);
            let subject = Descriptor::new(MediaType::OciManifest, digest, 1);
            let artifact = said.artifact(&blob, &subject).unwrap();
            assert_eq!(artifact.layers[0].digest, blob.digest);
            assert_eq!(artifact.layers[0].annotations[PREDICATE_NOTE], SPDX);
            assert_eq!(artifact.subject.unwrap().digest, digest);
        }
    }
}
