//! The provenance of a build: SLSA provenance v1 (slsa.dev/spec/v1.1/provenance).
//!
//! The fields, and which of them `mode=min` leaves out, are those of BuildKit's, so that who
//! reads the one can read the other; `buildType` says that it is kiln's. Of this build type:
//!
//! ```text
//! externalParameters.configSource   the Dockerfile: `path` within the context, its `digest`; of
//!                                   a context that is a repository its `uri` and commit
//! externalParameters.request        `frontend` is always dockerfile.v0; `args` has `target`,
//!                                   `platform`, and with mode=max `build-arg:NAME` and
//!                                   `label:NAME`; with mode=max `secrets` and `ssh` list ids;
//!                                   `locals` names the folders that files may come from
//! internalParameters                with mode=max `buildConfig.dockerfile`, its text
//! resolvedDependencies              bases (`pkg:docker/…`, the digest is the manifest's), URLs
//!                                   and git repositories; each once, sorted
//! runDetails.metadata               `kiln_completeness`: whether `request` has all that was
//!                                   asked, and `resolvedDependencies` all that kiln took from
//!                                   anywhere, which is not so where there are `locals`. What the
//!                                   program of a RUN fetches is its own matter and is in no list.
//!                                   `kiln_reproducible`, if it was said with reproducible=
//! ```
//!
//! Times, an invocation's number, the builder's machine and whether the cache helped are left
//! out: they differ where the build does not.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::purl;
use super::statement::Resource;
use crate::digest::BlobDigest;
use crate::lock::{Entry, Lock, without_user};
use crate::platform::Platform;

/// The predicate's type.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// What this module's doc describes.
pub const BUILD_TYPE: &str = "urn:kiln:dockerfile:v1";
/// The builder, unless whoever runs it has a better name.
pub const BUILDER: &str = "urn:kiln:builder:v1";

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Min,
    /// With build arguments, labels, the ids of secrets, and the Dockerfile's text.
    Max,
}

/// An input as a resource. What a lock has is without credentials already.
fn resource(entry: &Entry) -> Resource {
    match entry {
        Entry::Base(base) => Resource {
            uri: Some(purl::image(&base.reference, &base.platform)),
            ..Resource::sha256(base.digest)
        },
        Entry::Url(url) => {
            Resource { uri: Some(without_user(&url.url)), ..Resource::sha256(url.digest) }
        }
        Entry::Git(git) => {
            let remote = without_user(&git.remote);
            let reference = git.reference.as_ref().map(|name| format!("#{name}"));
            Resource {
                uri: Some(remote + &reference.unwrap_or_default()),
                digest: commit_digest(&git.commit),
                name: None,
            }
        }
    }
}

/// in-toto's name for the hash of a commit, and the one that others have for the same.
fn commit_digest(commit: &str) -> BTreeMap<&'static str, String> {
    let name = if commit.len() == 40 { "sha1" } else { "sha256" };
    [("gitCommit", commit.to_owned()), (name, commit.to_owned())].into()
}

/// Where the Dockerfile is from.
#[derive(Debug, Clone, Default)]
pub struct ConfigSource {
    /// Within the context; of a file elsewhere its last component.
    pub path: String,
    pub dockerfile: String,
    /// Of a context that is a repository: its URL and the commit.
    pub repository: Option<(String, String)>,
}

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub target: Option<String>,
    pub platforms: Vec<Platform>,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Ids, never values.
    pub secrets: BTreeSet<String>,
    pub ssh: BTreeSet<String>,
    /// Contexts that are local, by name.
    pub locals: BTreeSet<String>,
}

/// A build, as provenance tells it.
#[derive(Debug, Clone)]
pub struct Provenance<'a> {
    pub mode: Mode,
    pub config: &'a ConfigSource,
    pub request: &'a Request,
    /// What was taken from outside.
    pub materials: &'a Lock,
    pub builder: Option<&'a str>,
    /// What whoever builds says of it.
    pub reproducible: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate<'a> {
    build_definition: Definition<'a>,
    run_details: RunDetails<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    build_type: &'static str,
    external_parameters: External<'a>,
    internal_parameters: Internal<'a>,
    resolved_dependencies: Vec<Resource>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct External<'a> {
    config_source: Config<'a>,
    request: Asked<'a>,
}

#[derive(Serialize)]
struct Config<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    digest: BTreeMap<&'static str, String>,
    path: &'a str,
}

#[derive(Serialize)]
struct Asked<'a> {
    frontend: &'static str,
    args: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Id<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Id<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locals: Vec<Local<'a>>,
}

#[derive(Serialize)]
struct Id<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Local<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Internal<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    build_config: Option<BuildConfig<'a>>,
}

#[derive(Serialize)]
struct BuildConfig<'a> {
    dockerfile: &'a str,
}

#[derive(Serialize)]
struct RunDetails<'a> {
    builder: Builder<'a>,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Builder<'a> {
    id: &'a str,
    version: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct Metadata {
    kiln_completeness: Completeness,
    #[serde(skip_serializing_if = "Option::is_none")]
    kiln_reproducible: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Completeness {
    request: bool,
    resolved_dependencies: bool,
}

impl Provenance<'_> {
    /// The predicate of a statement.
    #[must_use]
    pub fn predicate(&self) -> impl Serialize {
        let max = self.mode == Mode::Max;
        let Request { secrets, ssh, locals, .. } = self.request;
        let id = |id| Id { id };
        let (secrets, ssh) = match max {
            true => (secrets.iter().map(|s| id(s)).collect(), ssh.iter().map(|s| id(s)).collect()),
            false => (Vec::new(), Vec::new()),
        };
        let ConfigSource { path, dockerfile, repository } = self.config;
        let (uri, digest) = match repository {
            Some((url, commit)) => (Some(without_user(url)), commit_digest(commit)),
            None => (None, Resource::sha256(BlobDigest::of(dockerfile.as_bytes())).digest),
        };
        Predicate {
            build_definition: Definition {
                build_type: BUILD_TYPE,
                external_parameters: External {
                    config_source: Config { uri, digest, path },
                    request: Asked {
                        frontend: "dockerfile.v0",
                        args: self.args(),
                        secrets,
                        ssh,
                        locals: locals.iter().map(|name| Local { name }).collect(),
                    },
                },
                internal_parameters: Internal {
                    build_config: max.then_some(BuildConfig { dockerfile }),
                },
                resolved_dependencies: self.dependencies(),
            },
            run_details: RunDetails {
                builder: Builder {
                    id: self.builder.unwrap_or(BUILDER),
                    version: [("kiln", env!("CARGO_PKG_VERSION"))].into(),
                },
                metadata: Metadata {
                    kiln_completeness: Completeness {
                        request: max,
                        resolved_dependencies: locals.is_empty(),
                    },
                    kiln_reproducible: self.reproducible,
                },
            },
        }
    }

    fn args(&self) -> BTreeMap<String, String> {
        let Request { target, platforms, build_args, labels, .. } = self.request;
        let mut args: BTreeMap<String, String> = BTreeMap::new();
        args.extend(target.iter().map(|name| ("target".to_owned(), name.clone())));
        if !platforms.is_empty() {
            let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            args.insert("platform".to_owned(), names.join(","));
        }
        if self.mode == Mode::Max {
            let named = |kind: &str, (name, value): (&String, &String)| {
                (format!("{kind}:{name}"), value.clone())
            };
            args.extend(build_args.iter().map(|arg| named("build-arg", arg)));
            args.extend(labels.iter().map(|label| named("label", label)));
        }
        args
    }

    /// Each once, in an order that does not depend on which step came first.
    fn dependencies(&self) -> Vec<Resource> {
        let mut all: Vec<Resource> = self.materials.entries().map(resource).collect();
        all.sort_by(|a, b| (&a.uri, &a.digest).cmp(&(&b.uri, &b.digest)));
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock;
    use serde_json::{Value, json};

    fn of(provenance: &Provenance<'_>) -> Value {
        serde_json::to_value(provenance.predicate()).unwrap()
    }

    #[test]
    fn what_each_mode_tells() {
        let config = ConfigSource {
            path: "Dockerfile".into(),
            dockerfile: "FROM scratch\n".into(),
            repository: None,
        };
        let text = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let request = Request {
            target: Some("a\"b".into()),
            platforms: vec![Platform::new("linux", "arm64"), Platform::new("linux", "amd64")],
            build_args: text(&[("V", "1\n\u{1b}[31m")]),
            labels: text(&[("l", "")]),
            secrets: ["token".to_owned()].into(),
            ssh: ["default".to_owned()].into(),
            locals: ["context".to_owned()].into(),
        };
        let digest = BlobDigest::of(b"base");
        let commit = "0123456789012345678901234567890123456789";
        let base = Entry::Base(lock::Base {
            reference: "alpine:3.20".parse().unwrap(),
            platform: Platform::new("linux", "amd64"),
            digest,
            index: None,
        });
        let url = "https://me:pw@x.example/a?b".to_owned();
        let url = Entry::Url(lock::Url { url, digest, size: 1 });
        let git = Entry::Git(lock::Git {
            remote: "https://token@g.example/r.git".into(),
            reference: Some("v1".into()),
            name: "refs/tags/v1".into(),
            object: commit.into(),
            commit: commit.into(),
        });
        let materials: Lock = [base, url, git].into_iter().collect();
        let mut provenance = Provenance {
            mode: Mode::Min,
            config: &config,
            request: &request,
            materials: &materials,
            builder: None,
            reproducible: None,
        };
        let dependencies = json!([
            {"uri": "https://g.example/r.git#v1", "digest": {"gitCommit": commit, "sha1": commit}},
            {"uri": "https://x.example/a?b", "digest": {"sha256": digest.hex()}},
            {
                "uri": "pkg:docker/alpine@3.20?platform=linux%2Famd64",
                "digest": {"sha256": digest.hex()}},
        ]);
        let min = of(&provenance);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            min,
            json!({
                "buildDefinition": {
                    "buildType": "urn:kiln:dockerfile:v1",
                    "externalParameters": {
                        "configSource": {
                            "digest": {"sha256": BlobDigest::of(b"FROM scratch\n").hex()},
                            "path": "Dockerfile",
                        },
                        "request": {
                            "frontend": "dockerfile.v0",
                            "args": {"platform": "linux/arm64,linux/amd64", "target": "a\"b"},
                            "locals": [{"name": "context"}],
                        },
                    },
                    "internalParameters": {},
                    "resolvedDependencies": dependencies,
                },
                "runDetails": {
                    "builder": {"id": "urn:kiln:builder:v1", "version": {"kiln": version}},
                    "metadata": {
                        "kiln_completeness": {"request": false, "resolvedDependencies": false},
                    },
                },
            })
        );
        provenance.mode = Mode::Max;
        provenance.builder = Some("https://ci.example/1");
        provenance.reproducible = Some(true);
        let max = of(&provenance);
        let asked = &max["buildDefinition"]["externalParameters"]["request"];
        assert_eq!(asked["args"]["build-arg:V"], "1\n\u{1b}[31m");
        assert_eq!(asked["args"]["label:l"], "");
        assert_eq!(asked["secrets"], json!([{"id": "token"}]));
        assert_eq!(asked["ssh"], json!([{"id": "default"}]));
        assert_eq!(
            max["buildDefinition"]["internalParameters"]["buildConfig"]["dockerfile"],
            "FROM scratch\n"
        );
        assert_eq!(max["runDetails"]["builder"]["id"], "https://ci.example/1");
        let metadata = &max["runDetails"]["metadata"];
        assert_eq!(metadata["kiln_completeness"]["request"], true);
        assert_eq!(metadata["kiln_reproducible"], true);
    }

    #[test]
    fn a_repository_is_told_by_its_commit() {
        let commit = "a".repeat(64);
        let config = ConfigSource {
            path: "sub/Dockerfile".into(),
            dockerfile: "FROM scratch\n".into(),
            repository: Some(("https://u:p@g.example/r.git".into(), commit.clone())),
        };
        let request = Request::default();
        let told = of(&Provenance {
            mode: Mode::Min,
            config: &config,
            request: &request,
            materials: &Lock::default(),
            builder: None,
            reproducible: None,
        });
        assert_eq!(
            told["buildDefinition"]["externalParameters"]["configSource"],
            json!({
                "uri": "https://g.example/r.git",
                "digest": {"gitCommit": commit, "sha256": commit},
                "path": "sub/Dockerfile",
            })
        );
        let whole = &told["runDetails"]["metadata"]["kiln_completeness"]["resolvedDependencies"];
        assert_eq!(whole, true);
    }
}
