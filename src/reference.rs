//! Names of images.
//!
//! The grammar is that of the distribution reference library that docker,
//! podman and containerd share: `[registry/]repository[:tag][@digest]`. A name
//! without a registry means Docker Hub, there a single word means `library/…`,
//! and no tag and no digest means `latest`. oci-spec's parser says the same (a test
//! compares them) but compiles a regular expression for it, which takes longer
//! than most commands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{BlobDigest, DigestError};

/// An image's name as somebody meant it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<BlobDigest>,
    short: Short,
}

/// Whether the name was written without a registry. It is no part of what the
/// reference means where it is kept: it neither tells references apart nor is written down.
#[derive(Debug, Clone, Copy, Default)]
enum Short {
    #[default]
    No,
    /// The repository as it is.
    Repository,
    /// The repository without `library/`.
    Word,
}

impl PartialEq for Short {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Short {}

impl PartialOrd for Short {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Short {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl std::hash::Hash for Short {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
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

    /// The name without tag and digest as it was written, if that was without a registry:
    /// for a pull it may mean something else than Docker Hub's.
    #[must_use]
    pub fn short(&self) -> Option<&str> {
        match self.short {
            Short::No => None,
            Short::Repository => Some(&self.repository),
            Short::Word => self.repository.strip_prefix("library/"),
        }
    }

    /// The same place under another registry and repository.
    #[must_use]
    pub fn at(&self, registry: &str, repository: &str) -> Self {
        Self {
            registry: registry.into(),
            repository: repository.into(),
            short: Short::No,
            ..self.clone()
        }
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
            // `library/a/b` is no official image: `a/b` is somebody else's.
            .filter(|official| self.registry == DOCKER_HUB && !official.contains('/'))
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
        let refuse = |why: &str| ReferenceError {
            text: text.chars().take(300).collect(),
            why: why.to_owned(),
        };
        if text.is_empty() {
            return Err(refuse("it is empty"));
        }
        if text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(refuse("64 hex digits alone could be meant as a digest"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest =
                    digest.parse().map_err(|error: DigestError| refuse(&error.to_string()))?;
                (rest, Some(BlobDigest(digest)))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; before it, a port.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].find(':') {
            Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse("its tag may have letters, digits, `_`, `.` and `-`, 128 at most"));
        }
        let (registry, repository, short) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path.to_owned(), Short::No),
            // On Docker Hub a single word is an official image.
            None => (DOCKER_HUB, format!("library/{name}"), Short::Word),
            Some(_) => (DOCKER_HUB, name.to_owned(), Short::Repository),
        };
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        let repository = match repository.as_str() {
            one if registry == DOCKER_HUB && !one.contains('/') => format!("library/{one}"),
            _ => repository,
        };
        if !is_domain(registry) {
            return Err(refuse("its registry is no host name with an optional port"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            let lower = repository.to_ascii_lowercase();
            return Err(refuse(if lower != repository && lower.split('/').all(is_component) {
                "repository names are lower-case"
            } else {
                "expected [registry/]repository[:tag][@digest]"
            }));
        }
        // `latest` stands in only where neither was given.
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
        let (registry, tag) = (registry.to_owned(), tag.map(str::to_owned));
        Ok(Self { registry, repository, tag, digest, short })
    }
}

/// True if the first part of a name is a registry and no part of a repository.
fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|c| c.is_ascii_uppercase())
}

/// A host name, an IPv4 address or an IPv6 one in brackets, with an optional port.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(&a, &b)| word(a) && word(b));
    let separator = |part: &[u8]| {
        matches!(part, b"." | b"_" | b"__") || (!part.is_empty() && part.iter().all(|&c| c == b'-'))
    };
    ends && bytes.split(|&c| word(c)).filter(|part| !part.is_empty()).all(separator)
}

/// True for what can be a tag: a letter, a digit or `_`, and up to 127 more or `.` and `-`.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || c == b'.' || c == b'-')
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
            short: Short::No,
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
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("quay.io/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("library/a", "docker.io/library/a:latest", "a:latest"),
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
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn a_short_name_is_remembered_and_is_the_same_name() {
        for (text, short) in [
            ("golang:1", Some("golang")),
            ("library/golang", Some("library/golang")),
            ("me/app", Some("me/app")),
            ("docker.io/golang", None),
            ("localhost/app", None),
        ] {
            let one: Reference = text.parse().unwrap();
            assert_eq!(one.short(), short);
            let full: Reference = one.to_string().parse().unwrap();
            assert_eq!((full.short(), &full), (None, &one));
            assert_eq!(full.cmp(&one), std::cmp::Ordering::Equal);
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "a/Upper",
            "a:",
            "a b",
            "a@sha256:12",
            "../x",
            "a//b",
            "-a",
            &"f".repeat(64),
            "a:b:c",
            "host:0/a",
            "host:x/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    /// oci-spec's parser is the second opinion, but for capitals, which it allows in
    /// the first part of a repository, IPv6 addresses, which it refuses, and tags in other scripts.
    #[test]
    fn as_others_read_it() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for text in [
            "a",
            "a/b",
            "a/b/c",
            "a.b/c",
            "a:b",
            "a.b:1/c:d",
            "localhost/x",
            "a_b",
            "a__b",
            "a___b",
            "a..b",
            "a--b",
            "a-_b",
            "_a",
            "a_",
            "a/",
            "/a",
            "a:.b",
            "a:_b",
            "a:b-c.d",
            "[::1/a",
            "index.docker.io/a",
            "docker.io/a",
            "a@b",
            "a/B",
            "é",
            "host:99/é",
            &format!("a@{digest}"),
            &format!("a:b@{digest}"),
            &format!("a@{digest}x"),
            &"x".repeat(256),
            &format!("a:{}", "t".repeat(129)),
        ] {
            let ours =
                text.parse::<Reference>().ok().map(|it| (it.registry, it.repository, it.tag));
            let theirs = text.parse::<oci_spec::distribution::Reference>().ok().map(|it| {
                let tag = it.tag().map(str::to_owned);
                (it.registry().to_owned(), it.repository().to_owned(), tag)
            });
            assert_eq!(ours, theirs, "{text}");
        }
    }
}
