//! Names of images.
//!
//! The grammar is that of the distribution reference library that docker,
//! podman and containerd share: `[registry/]repository[:tag][@digest]`. A name
//! without a registry means Docker Hub, there a single word means `library/…`,
//! and no tag and no digest means `latest`. oci-spec's parser does the same but
//! for its messages; kiln parses with it and keeps the parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{BlobDigest, Digest};

/// An image's name as somebody meant it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<BlobDigest>,
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {why}")]
pub struct ReferenceError {
    pub text: String,
    pub why: String,
}

/// Docker Hub's name in references; its API answers elsewhere.
pub const DOCKER_HUB: &str = "docker.io";

impl Reference {
    /// The registry's host, with a port if one was given; never empty.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }
    /// The path below the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    #[must_use]
    pub fn digest(&self) -> Option<BlobDigest> {
        self.digest
    }

    /// The same place under another registry and repository.
    #[must_use]
    pub fn at(&self, registry: &str, repository: &str) -> Self {
        Self { registry: registry.into(), repository: repository.into(), ..self.clone() }
    }

    /// The same name for one digest only.
    #[must_use]
    pub fn pin(&self, digest: BlobDigest) -> Pinned {
        Pinned { registry: self.registry.clone(), repository: self.repository.clone(), digest }
    }

    /// `registry/repository`, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The shortest text that means the same: what docker prints and takes.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short
            .strip_prefix("library/")
            .filter(|_| self.registry == DOCKER_HUB)
            .unwrap_or(short)
            .to_owned()
    }

    /// What follows the repository in a manifest's address: digest, else tag.
    #[must_use]
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |why: String| ReferenceError { text: text.chars().take(300).collect(), why };
        if text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(refuse("64 hex digits alone could be meant as a digest".into()));
        }
        let parsed: oci_spec::distribution::Reference = text.parse().map_err(|error| {
            refuse(
                if text.chars().any(|c| c.is_ascii_uppercase())
                    && text.to_lowercase().parse::<oci_spec::distribution::Reference>().is_ok()
                {
                    "repository names are lower-case".into()
                } else if text.is_empty() {
                    "it is empty".into()
                } else {
                    format!("{error}; expected [registry/]repository[:tag][@digest]")
                },
            )
        })?;
        let digest = match parsed.digest() {
            Some(digest) => {
                Some(BlobDigest(digest.parse::<Digest>().map_err(|e| refuse(e.to_string()))?))
            }
            None => None,
        };
        // `latest` stands in only where neither was given.
        let tag = parsed
            .tag()
            .map(str::to_owned)
            .or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self {
            registry: parsed.registry().to_owned(),
            repository: parsed.repository().to_owned(),
            tag,
            digest,
        })
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A repository and the digest of a manifest or index in it: it can only ever
/// mean one content. Deployments and lock files take nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pinned {
    registry: String,
    repository: String,
    digest: BlobDigest,
}

impl Pinned {
    #[must_use]
    pub fn digest(&self) -> BlobDigest {
        self.digest
    }
    /// The reference with this digest and no tag.
    #[must_use]
    pub fn reference(&self) -> Reference {
        Reference {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(self.digest),
        }
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.registry, self.repository, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, full, familiar) in [
            ("golang", "docker.io/library/golang:latest", "golang:latest"),
            ("golang:1.26", "docker.io/library/golang:1.26", "golang:1.26"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1"),
            ("quay.io/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest"),
            (
                &format!("a@{digest}"),
                &format!("docker.io/library/a@{digest}"),
                &format!("a@{digest}"),
            ),
            (
                &format!("a:t@{digest}"),
                &format!("docker.io/library/a:t@{digest}"),
                &format!("a:t@{digest}"),
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "a full name means itself");
        }
    }

    #[test]
    fn refused() {
        for bad in
            ["", "a/Upper", "a:", "a b", "a@sha256:12", "../x", "a//b", "-a", &"f".repeat(64)]
        {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
