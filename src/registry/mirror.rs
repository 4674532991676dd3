//! `registries.conf` (containers-registries.conf(5), version 2): where a name is
//! really fetched from.
//!
//! The entry with the longest prefix counts. A pull tries its mirrors in order,
//! then its location; a push goes where its reference says, as in the
//! containers tools, and only `insecure` and `blocked` apply to it. Read are the
//! file that is named, or that of `CONTAINERS_REGISTRIES_CONF`, else the user's, else the system's; not
//! read are `registries.conf.d`, search registries and short-name aliases: in
//! kiln a name without a registry always means Docker Hub.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::RegistryError;
use crate::atomic::AtPath as _;
use crate::env;
use crate::reference::Reference;

/// What the file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Mirrors {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<Entry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: Kind,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// One place that may hold a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) insecure: bool,
}

impl Mirrors {
    /// Reads the file that applies; without one, every name means itself.
    pub(super) fn load(named: Option<PathBuf>) -> Result<Self, RegistryError> {
        if let Some(path) = named.or_else(|| env::path(env::REGISTRIES_CONF)) {
            let text = std::fs::read_to_string(&path).at("read", &path)?;
            return Self::parse(&path, &text);
        }
        let user = env::config_home().map(|home| home.join("containers/registries.conf"));
        for path in user.into_iter().chain([PathBuf::from("/etc/containers/registries.conf")]) {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&path, &text),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => return Err(error).at("read", &path).map_err(Into::into),
            }
        }
        Ok(Self::default())
    }

    fn parse(path: &Path, text: &str) -> Result<Self, RegistryError> {
        let wrong = |why: String| RegistryError::Config { path: path.into(), why };
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        for (at, entry) in file.registry.iter().enumerate() {
            if entry.prefix.is_none() && entry.location.is_none() {
                return Err(wrong(format!(
                    "[[registry]] number {} has neither `prefix` nor `location`",
                    at + 1
                )));
            }
        }
        Ok(Self { path: path.into(), entries: file.registry })
    }

    fn entry(&self, name: &str) -> Result<Option<(&Entry, usize)>, RegistryError> {
        let found = self
            .entries
            .iter()
            .filter_map(|entry| {
                let prefix = entry.prefix.as_deref().or(entry.location.as_deref())?;
                Some((entry, matched(prefix, name)?))
            })
            .max_by_key(|(_, length)| *length);
        match found {
            Some((entry, _)) if entry.blocked => {
                Err(RegistryError::Blocked { name: name.into(), path: self.path.clone() })
            }
            found => Ok(found),
        }
    }

    /// Where to pull from, in the order to try.
    pub(super) fn for_pull(&self, from: &Reference) -> Result<Vec<Place>, RegistryError> {
        let name = from.name();
        let Some((entry, length)) = self.entry(&name)? else {
            return Ok(vec![self.place(&name, false)?]);
        };
        let rest = &name[length..];
        let mut places = Vec::new();
        for mirror in &entry.mirror {
            let fits = match (mirror.pull_from_mirror, from.digest().is_some()) {
                (Kind::All, by_digest) => by_digest || !entry.mirror_by_digest_only,
                (Kind::DigestOnly, by_digest) => by_digest,
                (Kind::TagOnly, by_digest) => !by_digest,
            };
            if fits {
                places.push(self.place(&format!("{}{rest}", mirror.location), mirror.insecure)?);
            }
        }
        let home = match (&entry.prefix, &entry.location) {
            // Without a location the name stays as it is.
            (Some(prefix), Some(location)) if !prefix.starts_with("*.") => {
                format!("{location}{rest}")
            }
            _ => name.clone(),
        };
        places.push(self.place(&home, entry.insecure)?);
        Ok(places)
    }

    /// Where to push to.
    pub(super) fn for_push(&self, to: &Reference) -> Result<Place, RegistryError> {
        let name = to.name();
        let insecure = self.entry(&name)?.is_some_and(|(entry, _)| entry.insecure);
        self.place(&name, insecure)
    }

    /// True if the file names a host as insecure; an error if it blocks it.
    pub(super) fn insecure(&self, host: &str) -> Result<bool, RegistryError> {
        Ok(self.entry(host)?.is_some_and(|(entry, _)| entry.insecure))
    }

    fn place(&self, name: &str, insecure: bool) -> Result<Place, RegistryError> {
        let wrong = || RegistryError::Config {
            path: self.path.clone(),
            why: format!("`{name}` is no place of a repository"),
        };
        let (host, repository) = name.split_once('/').ok_or_else(wrong)?;
        // What the reference grammar allows is safe in an address.
        let parsed: Reference = format!("{host}/{repository}").parse().map_err(|_| wrong())?;
        if parsed.name() != name || parsed.to_string() != format!("{name}:latest") {
            return Err(wrong());
        }
        Ok(Place { host: host.into(), repository: repository.into(), insecure })
    }
}

/// How many bytes of `name` a prefix covers: whole components only.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let host = name.split('/').next().unwrap_or_default();
        let host_name = crate::net::without_port(host);
        return host_name.strip_suffix(domain).filter(|sub| sub.ends_with('.')).map(|_| host.len());
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
        unqualified-search-registries = ["quay.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.corp:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "second.corp/hub"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/team"
        location = "registry.corp/moved"
        [[registry]]
        prefix = "bad.example"
        blocked = true
        [[registry]]
        prefix = "*.lab.example"
        insecure = true
        [[registry]]
        prefix = "pins.example"
        mirror-by-digest-only = true
        mirror = [{ location = "m.example" }]
    "#;

    #[test]
    fn rewriting() {
        let mirrors = Mirrors::parse(Path::new("registries.conf"), CONF).unwrap();
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, expected) in [
            ("golang:1", vec!["!mirror.corp:5000/hub/library/golang", "docker.io/library/golang"]),
            (
                &format!("golang@{digest}"),
                vec![
                    "!mirror.corp:5000/hub/library/golang",
                    "second.corp/hub/library/golang",
                    "docker.io/library/golang",
                ],
            ),
            ("team/app", vec!["registry.corp/moved/app"]),
            ("teams/app", vec!["!mirror.corp:5000/hub/teams/app", "docker.io/teams/app"]),
            ("quay.io/a", vec!["quay.io/a"]),
            ("a.lab.example:5000/x", vec!["!a.lab.example:5000/x"]),
            ("evillab.example/x", vec!["evillab.example/x"]),
            ("pins.example/x:1", vec!["pins.example/x"]),
            (&format!("pins.example/x@{digest}"), vec!["m.example/x", "pins.example/x"]),
        ] {
            let places = mirrors.for_pull(&name.parse().unwrap()).unwrap();
            let shown: Vec<String> = places
                .iter()
                .map(|p| {
                    format!("{}{}/{}", if p.insecure { "!" } else { "" }, p.host, p.repository)
                })
                .collect();
            assert_eq!(shown, expected, "{name}");
        }
        let push = mirrors.for_push(&"team/app".parse().unwrap()).unwrap();
        assert_eq!((push.host.as_str(), push.repository.as_str()), ("docker.io", "team/app"));
        let blocked = mirrors.for_pull(&"bad.example/x".parse().unwrap());
        assert!(matches!(blocked, Err(RegistryError::Blocked { .. })));
    }

    #[test]
    fn malformed() {
        for bad in [
            "[[registry]]\ninsecure = true",
            "[[registry]]\nprefix = 1",
            "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\n",
            "[[registry",
        ] {
            assert!(Mirrors::parse(Path::new("x"), bad).is_err(), "{bad}");
        }
        let odd = "[[registry]]\nprefix = \"a.b\"\nlocation = \"c.d/../e\"";
        let odd = Mirrors::parse(Path::new("x"), odd).unwrap();
        assert!(odd.for_pull(&"a.b/x".parse().unwrap()).is_err());
    }
}
