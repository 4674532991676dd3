//! `registries.conf` (containers-registries.conf(5), version 2): where a name is
//! really fetched from.
//!
//! The entry with the longest prefix counts. A pull tries its mirrors in order,
//! then its location; a push goes where its reference says, as in the
//! containers tools, and only `insecure` and `blocked` apply to it. The entry of the place
//! that a name was led to has a say too: it may block it, or call it insecure.
//!
//! Which files are read is decided as in containers/image. The user's
//! `registries.conf`, with `registries.conf.d` beside it, stands in for the system's;
//! without one the system's file and folder are read, then the user's folder.
//! `CONTAINERS_REGISTRIES_CONF` names another file, `CONTAINERS_REGISTRIES_CONF_DIR` another
//! folder instead of both. Of a folder all `*.conf` are read, in the order of their names:
//! an entry replaces an earlier one of the same prefix, an alias one of the same name, a
//! search list the whole list. A file that the caller names is read alone.
//!
//! What names without a registry mean is said in `short.rs`.

mod file;
mod short;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RegistryError;
use crate::atomic::AtPath as _;
use crate::env;
use crate::reference::Reference;
use file::{Entry, File, Kind};

const SYSTEM: &str = "/etc/containers";
const FILE: &str = "registries.conf";
const FOLDER: &str = "registries.conf.d";

/// What the files say. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Mirrors(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    /// By prefix, with the file that says it.
    entries: BTreeMap<String, (Entry, PathBuf)>,
    /// By short name; an empty target is none.
    aliases: BTreeMap<String, (String, PathBuf)>,
    search: Option<(Vec<String>, PathBuf)>,
    warnings: Vec<String>,
}

/// One place that may hold a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) insecure: bool,
    /// The file that says that nothing is to be had there.
    pub(super) blocked: Option<PathBuf>,
}

impl Place {
    /// A registry, without a repository.
    pub(super) fn registry(host: &str, insecure: bool) -> Self {
        Self { host: host.into(), repository: String::new(), insecure, blocked: None }
    }

    /// `host/repository`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

impl Mirrors {
    /// Reads the files that apply; without one, every name means itself.
    pub(super) fn load(named: Option<PathBuf>) -> Result<Self, RegistryError> {
        if let Some(path) = named {
            return Self::read(vec![path], &[]);
        }
        let user = env::config_home().map(|home| home.join("containers"));
        let user_file = user.as_ref().map(|user| user.join(FILE)).filter(|path| path.exists());
        let own = env::path(env::REGISTRIES_CONF);
        let mut folders = Vec::new();
        if own.is_some() || user_file.is_none() {
            folders.push(Path::new(SYSTEM).join(FOLDER));
        }
        folders.extend(user.map(|user| user.join(FOLDER)));
        if let Some(folder) = env::path(env::REGISTRIES_CONF_DIR) {
            folders = vec![folder];
        }
        let system = || Some(Path::new(SYSTEM).join(FILE)).filter(|path| path.exists());
        // One that was named must be there.
        let file = own.or(user_file).or_else(system);
        Self::read(file.into_iter().collect(), &folders)
    }

    fn read(mut files: Vec<PathBuf>, folders: &[PathBuf]) -> Result<Self, RegistryError> {
        for folder in folders {
            files.extend(additions(folder)?);
        }
        let mut said = Said::default();
        for path in files {
            let text = std::fs::read_to_string(&path).at("read", &path)?;
            let ships = path.starts_with(Path::new(SYSTEM).join(FOLDER)) && short::is_guess(&path);
            said.add(&path, &text, !ships)?;
        }
        Ok(Self(Arc::new(said)))
    }

    #[cfg(test)]
    fn parse(texts: &[&str]) -> Result<Self, RegistryError> {
        let mut said = Said::default();
        for (at, text) in texts.iter().enumerate() {
            said.add(Path::new(&format!("{at}.conf")), text, true)?;
        }
        Ok(Self(Arc::new(said)))
    }

    /// What is to be told about the files.
    pub(super) fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// The entry for a name, and the bytes of the name that its location stands for.
    fn entry(&self, name: &str) -> Option<(&Entry, &Path, usize)> {
        let (_, covers, entry, path) = self
            .0
            .entries
            .iter()
            .filter_map(|(prefix, (entry, path))| {
                let (covers, weight) = matched(prefix, name)?;
                Some((weight, covers, entry, path))
            })
            .max_by_key(|(weight, ..)| *weight)?;
        Some((entry, path, covers))
    }

    fn allowed(&self, name: &str) -> Result<Option<(&Entry, &Path, usize)>, RegistryError> {
        match self.entry(name) {
            Some((entry, path, _)) if entry.blocked => {
                Err(RegistryError::Blocked { name: name.into(), path: path.into() })
            }
            found => Ok(found),
        }
    }

    /// Where to pull from, in the order to try.
    pub(super) fn for_pull(&self, from: &Reference) -> Result<Vec<Place>, RegistryError> {
        let name = from.name();
        let Some((entry, path, covers)) = self.allowed(&name)? else {
            return Ok(vec![self.place(&name, false, None)?]);
        };
        let rest = &name[covers..];
        let mut places = Vec::new();
        for mirror in &entry.mirror {
            let by_digest = from.digest().is_some();
            let fits = match mirror.pull_from_mirror {
                None | Some(Kind::All) => by_digest || !entry.mirror_by_digest_only,
                Some(Kind::DigestOnly) => by_digest,
                Some(Kind::TagOnly) => !by_digest,
            };
            if fits {
                let there = format!("{}{rest}", mirror.location);
                places.push(self.place(&there, mirror.insecure, Some(path))?);
            }
        }
        let home = match &entry.location {
            // Without a location the name stays as it is.
            Some(location) if entry.prefix.is_some() => format!("{location}{rest}"),
            _ => name.clone(),
        };
        places.push(self.place(&home, entry.insecure, Some(path))?);
        Ok(places)
    }

    /// Where to push to.
    pub(super) fn for_push(&self, to: &Reference) -> Result<Place, RegistryError> {
        let name = to.name();
        let insecure = self.allowed(&name)?.is_some_and(|(entry, ..)| entry.insecure);
        self.place(&name, insecure, None)
    }

    /// True if the files name a host as insecure; an error if they block it.
    pub(super) fn insecure(&self, host: &str) -> Result<bool, RegistryError> {
        Ok(self.allowed(host)?.is_some_and(|(entry, ..)| entry.insecure))
    }

    /// A place that a file leads to (`by`), or that the user named.
    fn place(&self, name: &str, insecure: bool, by: Option<&Path>) -> Result<Place, RegistryError> {
        let wrong = || RegistryError::Config {
            path: by.unwrap_or(Path::new(FILE)).into(),
            why: format!("it leads to `{name}`, which is no place of a repository"),
        };
        let (host, repository) = name.split_once('/').ok_or_else(wrong)?;
        // What the reference grammar allows is safe in an address.
        let parsed: Reference = format!("{host}/{repository}").parse().map_err(|_| wrong())?;
        if parsed.name() != name || parsed.to_string() != format!("{name}:latest") {
            return Err(wrong());
        }
        let there = self.entry(name);
        let blocked = there.filter(|(entry, ..)| entry.blocked).map(|(_, path, _)| path.into());
        Ok(Place {
            host: host.into(),
            repository: repository.into(),
            insecure: insecure || there.is_some_and(|(entry, ..)| entry.insecure),
            blocked,
        })
    }
}

impl Said {
    /// Adds what a file says to what those before it said.
    fn add(&mut self, path: &Path, text: &str, aliases: bool) -> Result<(), RegistryError> {
        let file = File::parse(path, text)?;
        self.warnings.extend(file.warnings);
        for entry in file.registry {
            let entry = entry.into_inner();
            self.entries.insert(entry.prefix().to_owned(), (entry, path.into()));
        }
        if let Some(search) = file.unqualified_search_registries {
            self.search = Some((search, path.into()));
        }
        if aliases {
            let new = file.aliases.into_iter();
            self.aliases.extend(new.map(|(name, target)| (name, (target, path.into()))));
        }
        Ok(())
    }
}

/// The files of a folder, in the order of their names.
fn additions(folder: &Path) -> Result<Vec<PathBuf>, RegistryError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).at("read", folder).map_err(Into::into),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.at("read", folder)?.path();
        if path.extension().is_some_and(|ending| ending == "conf") && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// How many bytes of `name` a prefix covers, whole components only, and its weight against
/// other prefixes that fit.
fn matched(prefix: &str, name: &str) -> Option<(usize, usize)> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let host = name.split('/').next().unwrap_or_default();
        let host_name = crate::net::without_port(host);
        host_name.strip_suffix(domain).filter(|sub| sub.ends_with('.'))?;
        return Some((host.len(), domain.len()));
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some((prefix.len(), prefix.len()))
}

#[cfg(test)]
mod tests;
