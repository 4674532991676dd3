//! What signatures are about: in-toto statements (attestation framework v1, statement.md; v0.1
//! of older tools), and the payloads that cosign signed before (containers' "simple signing").

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::attest::{CYCLONEDX, PROVENANCE, SPDX};
use crate::digest::BlobDigest;
use crate::image::{ImageError, strict_json};
use crate::reference::Reference;

/// The predicate of a statement that is a signature and says no more, as cosign's are.
pub(super) const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

const V1: &str = "https://in-toto.io/Statement/v1";
const V01: &str = "https://in-toto.io/Statement/v0.1";

/// Of `critical.type` in payloads of cosign's old signatures.
const SIMPLE: &str = "cosign container image signature";

/// Types of predicates by the names that cosign has for them.
const TYPES: [(&str, &str); 8] = [
    ("cyclonedx", CYCLONEDX),
    ("link", "https://in-toto.io/Link/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", PROVENANCE),
    ("spdx", SPDX),
    ("spdxjson", SPDX),
];

/// The type of a predicate, by cosign's name for it or as it is.
#[must_use]
pub fn predicate_type(name: &str) -> Option<String> {
    match TYPES.iter().find(|(short, _)| *short == name) {
        Some((_, uri)) => Some((*uri).to_owned()),
        None => name.contains("://").then(|| name.to_owned()),
    }
}

/// The names that [`predicate_type`] knows, for messages.
#[must_use]
pub fn type_names() -> String {
    TYPES.map(|(name, _)| name).join(", ")
}

/// What somebody says of a manifest or an index.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) predicate_type: String,
    pub(super) predicate: Value,
    /// What it is called, and what is noted with it.
    pub(super) names: Vec<String>,
    pub(super) annotations: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

#[derive(Deserialize)]
struct Subject {
    name: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Map<String, Value>,
}

#[derive(Deserialize)]
struct Simple {
    critical: Critical,
    #[serde(default)]
    optional: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

fn malformed(why: impl Into<String>) -> ImageError {
    ImageError::Malformed { what: "statement", why: why.into() }
}

impl Statement {
    /// A signature without more words.
    #[must_use]
    pub(super) fn signature(names: &[Reference], annotations: &BTreeMap<String, String>) -> Self {
        let text = |(key, value): (&String, &String)| (key.clone(), Value::from(value.clone()));
        Self {
            predicate_type: SIGNATURE.to_owned(),
            predicate: json!({}),
            names: repositories(names),
            annotations: annotations.iter().map(text).collect(),
        }
    }

    /// Its bytes, about a manifest: the same for the same words.
    #[must_use]
    pub(super) fn bytes(&self, about: BlobDigest) -> Vec<u8> {
        let subject = |name: Option<&String>| {
            let mut subject = json!({ "digest": { "sha256": about.hex() } });
            if let Some(name) = name {
                subject["name"] = name.as_str().into();
            }
            if !self.annotations.is_empty() {
                subject["annotations"] = self.annotations.clone().into();
            }
            subject
        };
        let subjects: Vec<Value> = match self.names.as_slice() {
            [] => vec![subject(None)],
            names => names.iter().map(Some).map(subject).collect(),
        };
        let statement = json!({
            "_type": V1,
            "subject": subjects,
            "predicateType": self.predicate_type,
            "predicate": self.predicate,
        });
        statement.to_string().into_bytes()
    }

    /// As [`Statement::read`], of a statement that is about nothing but the manifest: a
    /// signature over it says nothing of anything else.
    ///
    /// # Errors
    /// If it is no such statement.
    pub(super) fn read_alone(bytes: &[u8], about: BlobDigest) -> Result<Self, ImageError> {
        let wire: Wire = strict_json("statement", bytes)?;
        let only = BTreeMap::from([("sha256".to_owned(), about.hex())]);
        if wire.subject.iter().any(|one| one.digest != only) {
            return Err(malformed("it is about something else as well"));
        }
        Self::read(bytes, about)
    }

    /// Reads what is said of a manifest.
    ///
    /// # Errors
    /// If it is no statement, or one about something else.
    pub(super) fn read(bytes: &[u8], about: BlobDigest) -> Result<Self, ImageError> {
        let wire: Wire = strict_json("statement", bytes)?;
        if wire.kind != V1 && wire.kind != V01 {
            return Err(malformed("its _type is not that of an in-toto statement"));
        }
        let hex = about.hex();
        let is_meant = |one: &Subject| one.digest.get("sha256") == Some(&hex);
        let mut meant = wire.subject.into_iter().filter(is_meant);
        let Some(first) = meant.next() else {
            return Err(malformed("it is about something else"));
        };
        Ok(Self {
            names: first.name.into_iter().chain(meant.filter_map(|one| one.name)).collect(),
            annotations: first.annotations,
            predicate_type: wire.predicate_type,
            predicate: wire.predicate,
        })
    }

    /// Reads the payload of one of cosign's old signatures.
    ///
    /// # Errors
    /// As [`Statement::read`].
    pub(super) fn read_simple(bytes: &[u8], about: BlobDigest) -> Result<Self, ImageError> {
        let simple: Simple = strict_json("payload", bytes)?;
        if simple.critical.kind != SIMPLE {
            return Err(malformed("its type is not that of cosign's signatures"));
        }
        if simple.critical.image.docker_manifest_digest != about.to_string() {
            return Err(malformed("it is about something else"));
        }
        Ok(Self {
            predicate_type: SIGNATURE.to_owned(),
            predicate: json!({}),
            names: vec![simple.critical.identity.docker_reference],
            annotations: simple.optional.unwrap_or_default(),
        })
    }

    /// Whether it names the repository of a name, with a tag or without.
    #[must_use]
    pub(super) fn is_of(&self, name: &Reference) -> bool {
        let names = self.names.iter().filter_map(|own| own.parse::<Reference>().ok());
        names.map(|own| own.name()).any(|own| own == name.name())
    }
}

/// The repositories of names, each once.
pub(super) fn repositories(names: &[Reference]) -> Vec<String> {
    let all: BTreeSet<String> = names.iter().map(Reference::name).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_about_one_manifest() {
        let (one, other) = (BlobDigest::of(b"1"), BlobDigest::of(b"2"));
        let name: Reference = "registry.example/app:1".parse().unwrap();
        let notes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let bytes = Statement::signature(std::slice::from_ref(&name), &notes).bytes(one);
        let read = Statement::read(&bytes, one).unwrap();
        assert_eq!(
            (read.predicate_type.as_str(), &read.annotations["a"]),
            (SIGNATURE, &json!("b"))
        );
        assert!(
            read.is_of(&name)
                && read.is_of(
                    &"registry.example/app@sha256:"
                        .to_owned()
                        .chars()
                        .chain(one.hex().chars())
                        .collect::<String>()
                        .parse()
                        .unwrap()
                )
        );
        assert!(!read.is_of(&"registry.example/other".parse().unwrap()));
        assert!(Statement::read(&bytes, other).unwrap_err().to_string().contains("something else"));
        assert!(Statement::read_alone(&bytes, one).is_ok());
        let subject = |digest: BlobDigest| json!({ "digest": { "sha256": digest.hex() } });
        let both = json!({ "_type": V1, "subject": [subject(one), subject(other)],
            "predicateType": SPDX, "predicate": {} });
        let both = both.to_string().into_bytes();
        assert!(Statement::read(&both, one).is_ok());
        assert!(Statement::read_alone(&both, one).unwrap_err().to_string().contains("as well"));
        let text = String::from_utf8(bytes).unwrap();
        for (from, to, says) in [
            (V1, "https://in-toto.io/Statement/v9", "_type"),
            ("\"subject\":", "\"subject\":[],\"subject\":", "twice"),
            ("sha256", "sha1", "something else"),
        ] {
            let error = Statement::read(text.replacen(from, to, 1).as_bytes(), one).unwrap_err();
            assert!(error.to_string().contains(says), "{to}: {error}");
        }
        let simple = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"registry.example/app"}},"image":{{"docker-manifest-digest":"{one}"}},"type":"{SIMPLE}"}},"optional":null}}"#
        );
        assert!(Statement::read_simple(simple.as_bytes(), one).unwrap().is_of(&name));
        assert!(Statement::read_simple(simple.as_bytes(), other).is_err());
        let atomic = simple.replace(SIMPLE, "atomic container signature");
        assert!(Statement::read_simple(atomic.as_bytes(), one).is_err());
    }

    #[test]
    fn types_have_names() {
        assert_eq!(predicate_type("slsaprovenance1").as_deref(), Some(PROVENANCE));
        assert_eq!(predicate_type("https://a/b").as_deref(), Some("https://a/b"));
        assert_eq!(predicate_type("spdxx"), None);
    }
}
