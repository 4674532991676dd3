//! What a request asks for, as parsed types: of names and digests nothing else gets
//! further than this file, so no path on disk can be made of what a client sent.

use super::answer::Refusal;
use crate::digest::BlobDigest;
use crate::reference::{DOCKER_HUB, Reference};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Ping,
    Catalog,
    Tags(Named),
    Manifest(Named, Selector),
    Blob(Named, BlobDigest),
    Referrers(Named, BlobDigest),
    /// Where uploads begin.
    Uploads(Named),
    Upload(Named, String),
}

/// A repository as a client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// What follows `/v2/`.
    pub(super) path: String,
    /// The registry that a client of a mirror means, by containerd's parameter `ns`.
    pub(super) ns: Option<String>,
    /// What kiln's command line takes the path for. Its tag means nothing.
    pub(super) exact: Reference,
}

/// Which manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selector {
    Tag(String),
    Digest(BlobDigest),
}

/// The parameters of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
        };
        Self(pairs.map(pair).collect())
    }

    /// The first of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A digest, if one is given.
    pub(super) fn digest(&self, name: &str) -> Result<Option<BlobDigest>, Refusal> {
        self.get(name).map(digest).transpose()
    }
}

impl Route {
    /// Reads a path. What is outside of `/v2/` is nothing.
    pub(super) fn parse(path: &str, query: &Query) -> Result<Self, Refusal> {
        let path = decoded(path);
        let nothing =
            || Refusal::absent("UNSUPPORTED", "this is a registry: its API is below /v2/");
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Ping),
            Some(rest) => rest.strip_prefix('/').ok_or_else(nothing)?,
            None => return Err(nothing()),
        };
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let named = |count: usize| Named::parse(&parts[..parts.len() - count].join("/"), query);
        Ok(match *parts.as_slice() {
            [_, .., "tags", "list"] => Self::Tags(named(2)?),
            [_, .., "manifests", selector] => Self::Manifest(named(2)?, Selector::parse(selector)?),
            [_, .., "blobs", "uploads"] => Self::Uploads(named(2)?),
            [_, .., "blobs", "uploads", ""] => Self::Uploads(named(3)?),
            [_, .., "blobs", "uploads", id] => Self::Upload(named(3)?, id.to_owned()),
            [_, .., "blobs", text] => Self::Blob(named(2)?, digest(text)?),
            [_, .., "referrers", text] => Self::Referrers(named(2)?, digest(text)?),
            _ => {
                let message = "the API knows manifests, blobs, tags and referrers of a repository";
                return Err(Refusal::absent("UNSUPPORTED", message));
            }
        })
    }
}

impl Named {
    /// Reads a repository's name, which may begin with its registry.
    pub(super) fn parse(path: &str, query: &Query) -> Result<Self, Refusal> {
        let invalid = |why: &str| Refusal::bad("NAME_INVALID", format!("`{path}`: {why}"));
        let last = path.rsplit('/').next().unwrap_or_default();
        if path.contains('@') || last.contains(':') {
            return Err(invalid("a repository's name has no tag and no digest"));
        }
        let parse = |text: &str| text.parse::<Reference>().map_err(|error| invalid(&error.why));
        let ns = query.get("ns").filter(|ns| !ns.is_empty());
        let exact = match ns {
            None => parse(path)?,
            Some(ns) => {
                // A text that is no host would become a part of the repository.
                let probe = parse(&format!("{ns}/a/b"))?;
                if probe.repository() != "a/b" {
                    return Err(invalid("the parameter `ns` is no registry's host"));
                }
                parse(&format!("{ns}/{path}"))?
            }
        };
        Ok(Self { path: path.to_owned(), ns: ns.map(str::to_owned), exact })
    }

    /// The address of something in this repository.
    pub(super) fn location(&self, rest: &str) -> String {
        let ns = self.ns.as_ref().map(|ns| format!("?ns={ns}"));
        format!("/v2/{}/{rest}{}", self.path, ns.unwrap_or_default())
    }

    /// Whether a name may be meant, though its registry is not the one that the path says:
    /// the path may have none.
    pub(super) fn may_mean(&self, name: &Reference) -> bool {
        self.ns.is_none() && name.repository() == self.path && !self.is(name)
    }

    /// Whether a name is of the very repository.
    pub(super) fn is(&self, name: &Reference) -> bool {
        name.registry() == self.exact.registry() && name.repository() == self.exact.repository()
    }

    /// The reference of a tag or a digest here.
    pub(super) fn reference(&self, selector: &Selector) -> Result<Reference, Refusal> {
        let tag = match selector {
            Selector::Digest(digest) => return Ok(self.exact.pin(*digest).reference()),
            Selector::Tag(tag) => tag,
        };
        format!("{}:{tag}", self.exact.name())
            .parse()
            .map_err(|_| Refusal::bad("MANIFEST_INVALID", format!("`{tag}` is no tag")))
    }
}

impl Selector {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains(':') {
            return digest(text).map(Self::Digest);
        }
        Ok(Self::Tag(text.to_owned()))
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The path by which clients are told of a repository: one that leads to it. A colon has
/// no place in a name of the API, so registries with a port are left out of it.
pub(super) fn path_of(name: &Reference) -> String {
    if name.registry() == DOCKER_HUB {
        let familiar = name.repository().strip_prefix("library/");
        let short = familiar.filter(|rest| !rest.contains('/'));
        return short.unwrap_or(name.repository()).to_owned();
    }
    if name.registry().contains(':') { name.repository().to_owned() } else { name.name() }
}

fn digest(text: &str) -> Result<BlobDigest, Refusal> {
    text.parse().map_err(|error: crate::digest::DigestError| {
        Refusal::bad("DIGEST_INVALID", error.to_string())
    })
}

/// Percent-decoding (RFC 3986, 2.1); what is no such code stays, what is no UTF-8 becomes
/// a mark that no name has.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|&c| char::from(c).to_digit(16))
                .map(|digit| digit as u8)
        };
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Result<Route, Refusal> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        Route::parse(path, &Query::parse(query))
    }

    #[test]
    fn what_paths_mean() {
        let digest = BlobDigest::of(b"x");
        let meant = |text: &str| match route(text).unwrap() {
            Route::Tags(named) => named.exact.name(),
            other => panic!("{text}: {other:?}"),
        };
        for (text, name) in [
            ("/v2/app/tags/list", "docker.io/library/app"),
            ("/v2/library/app/tags/list", "docker.io/library/app"),
            ("/v2/team/app/tags/list", "docker.io/team/app"),
            ("/v2/registry.example/team/app/tags/list", "registry.example/team/app"),
            ("/v2/127.0.0.1:5000/app/tags/list", "127.0.0.1:5000/app"),
            ("/v2/127.0.0.1%3A5000/app/tags/list", "127.0.0.1:5000/app"),
            ("/v2/library/app/tags/list?ns=docker.io", "docker.io/library/app"),
            ("/v2/team/app/tags/list?ns=quay.io", "quay.io/team/app"),
            ("/v2/team/app/tags/list?ns=localhost:5000&n=1", "localhost:5000/team/app"),
            ("/v2/blobs/uploads/tags/list", "docker.io/blobs/uploads"),
        ] {
            assert_eq!(meant(text), name, "{text}");
        }
        let named = |path: &str| Named::parse(path, &Query::default()).unwrap();
        for (text, expected) in [
            ("/v2/".to_owned(), Route::Ping),
            ("/v2".to_owned(), Route::Ping),
            ("/v2/_catalog?n=1".to_owned(), Route::Catalog),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(named("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(named("a"))),
            ("/v2/a/blobs/uploads/x".to_owned(), Route::Upload(named("a"), "x".into())),
            (format!("/v2/a/b/blobs/{digest}"), Route::Blob(named("a/b"), digest)),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(named("a"), digest)),
            (
                format!("/v2/a/manifests/{digest}"),
                Route::Manifest(named("a"), Selector::Digest(digest)),
            ),
            (
                "/v2/a/manifests/1".to_owned(),
                Route::Manifest(named("a"), Selector::Tag("1".into())),
            ),
        ] {
            assert_eq!(route(&text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        for (text, code) in [
            ("/", "UNSUPPORTED"),
            ("/v1/", "UNSUPPORTED"),
            ("/v2x", "UNSUPPORTED"),
            ("/v2//", "UNSUPPORTED"),
            ("/v2/tags/list", "UNSUPPORTED"),
            ("/v2/../../etc/passwd", "UNSUPPORTED"),
            ("/v2/../../etc/tags/list", "NAME_INVALID"),
            ("/v2/%2e%2e/x/tags/list", "NAME_INVALID"),
            ("/v2/a%00/tags/list", "NAME_INVALID"),
            ("/v2/a%ff/tags/list", "NAME_INVALID"),
            ("/v2/A/tags/list", "NAME_INVALID"),
            ("/v2/a:1/tags/list", "NAME_INVALID"),
            ("/v2/a@sha256:1/b/tags/list", "NAME_INVALID"),
            ("/v2/a//tags/list", "NAME_INVALID"),
            ("/v2/a/tags/list?ns=no-host", "NAME_INVALID"),
            ("/v2/a/tags/list?ns=quay.io/x", "NAME_INVALID"),
            ("/v2/a/tags/list?ns=x@y", "NAME_INVALID"),
            ("/v2/a/blobs/sha256:..%2f..%2f", "UNSUPPORTED"),
            ("/v2/a/blobs/sha256:12", "DIGEST_INVALID"),
            ("/v2/a/blobs/sha512:12", "DIGEST_INVALID"),
            ("/v2/a/manifests/sha256:12", "DIGEST_INVALID"),
            ("/v2/a/referrers/x", "DIGEST_INVALID"),
            (&format!("/v2/{}/tags/list", "a/".repeat(200)), "NAME_INVALID"),
        ] {
            assert_eq!(route(text).unwrap_err().code, code, "{text}");
        }
        let named = Named::parse("a", &Query::default()).unwrap();
        assert!(named.reference(&Selector::Tag("..".into())).is_err());
        assert!(named.reference(&Selector::Tag("x".repeat(129))).is_err());
    }

    #[test]
    fn paths_for_clients() {
        for (name, path) in [
            ("app", "app"),
            ("team/app", "team/app"),
            ("library/a/b", "library/a/b"),
            ("quay.io/app", "quay.io/app"),
            ("localhost:5000/team/app", "team/app"),
        ] {
            assert_eq!(path_of(&name.parse().unwrap()), path);
        }
    }
}
