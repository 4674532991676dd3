//! One file of registries.conf(5): read, checked, and with what it says by mistake told.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::RegistryError;
use crate::reference::{self, Reference};

/// What one file says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(default)]
    pub(super) registry: Vec<Spanned<Entry>>,
    pub(super) unqualified_search_registries: Option<Vec<String>>,
    /// Kiln never asks, so that it is the same whether a terminal is there.
    short_name_mode: Option<ShortNameMode>,
    #[serde(default)]
    pub(super) aliases: BTreeMap<String, String>,
    credential_helpers: Option<Vec<String>>,
    /// Layers of elsewhere are none of kiln's.
    #[expect(dead_code, reason = "it is named, so that it is not called unknown")]
    additional_layer_store_auth_helper: Option<String>,
    /// Version 1.
    registries: Option<Old>,
    /// What is to be told about the file, besides errors.
    #[serde(skip)]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ShortNameMode {
    Enforcing,
    Permissive,
    Disabled,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Entry {
    pub(super) prefix: Option<String>,
    pub(super) location: Option<String>,
    #[serde(default)]
    pub(super) insecure: bool,
    #[serde(default)]
    pub(super) blocked: bool,
    #[serde(default)]
    pub(super) mirror_by_digest_only: bool,
    #[serde(default)]
    pub(super) mirror: Vec<Mirror>,
    pull_from_mirror: Option<String>,
}

impl Entry {
    /// What names begin with that it is about.
    pub(super) fn prefix(&self) -> &str {
        self.prefix.as_deref().or(self.location.as_deref()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Mirror {
    pub(super) location: String,
    #[serde(default)]
    pub(super) insecure: bool,
    pub(super) pull_from_mirror: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Old {
    search: OldList,
    insecure: OldList,
    block: OldList,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OldList {
    registries: Vec<String>,
}

const KEYS: [&str; 7] = [
    "registry",
    "unqualified-search-registries",
    "short-name-mode",
    "aliases",
    "credential-helpers",
    "additional-layer-store-auth-helper",
    "registries",
];
const ENTRY_KEYS: [&str; 6] =
    ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "mirror"];
const MIRROR_KEYS: [&str; 3] = ["location", "insecure", "pull-from-mirror"];

impl File {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, RegistryError> {
        let wrong = |why: String| RegistryError::Config { path: path.into(), why };
        let at = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
            format!("line {}", 1 + before.iter().filter(|byte| **byte == b'\n').count())
        };
        let malformed = |error: toml::de::Error| {
            let place = error.span().map_or_else(String::new, |span| at(span.start) + ": ");
            wrong(format!("{place}{}", error.message()))
        };
        let mut file: Self = toml::from_str(text).map_err(malformed)?;
        if let Some(old) = file.registries.take()
            && [&old.search, &old.insecure, &old.block].iter().any(|it| !it.registries.is_empty())
        {
            return Err(wrong(
                "`[registries.…]` is version 1 of this file, which kiln does not read: version 2 \
                 has `unqualified-search-registries` and `[[registry]]` instead"
                    .into(),
            ));
        }
        for entry in &mut file.registry {
            let place = at(entry.span().start);
            check(entry.as_mut()).map_err(|why| wrong(format!("{place}: {why}")))?;
        }
        file.conflicts(&at).map_err(wrong)?;
        file.doubles(path, &at);
        for registry in file.unqualified_search_registries.iter_mut().flatten() {
            *registry = location(registry).map_err(wrong)?;
            if !reference::is_domain(registry) {
                return Err(wrong(format!(
                    "`{registry}` of `unqualified-search-registries` is no host[:port]"
                )));
            }
        }
        for (name, target) in &file.aliases {
            alias(name, target).map_err(wrong)?;
        }
        file.unknown(path, text);
        Ok(file)
    }

    /// Of several entries for one prefix the first counts.
    fn doubles(&mut self, path: &Path, at: &impl Fn(usize) -> String) {
        let mut seen: Vec<String> = Vec::new();
        let (kept, warnings) = (std::mem::take(&mut self.registry), &mut self.warnings);
        for entry in kept {
            let prefix = entry.as_ref().prefix().to_owned();
            if seen.contains(&prefix) {
                let line = at(entry.span().start);
                warnings.push(format!(
                    "{}: {line}: not used, as there is an entry for `{prefix}` above",
                    path.display()
                ));
            } else {
                seen.push(prefix);
                self.registry.push(entry);
            }
        }
    }

    /// The same place cannot be both blocked and not, nor both insecure and not.
    fn conflicts(&self, at: &impl Fn(usize) -> String) -> Result<(), String> {
        for (turn, one) in self.registry.iter().enumerate() {
            for other in &self.registry[..turn] {
                let (place, one, other) = (at(one.span().start), one.as_ref(), other.as_ref());
                let [here, there] =
                    [one, other].map(|it| it.location.as_deref().unwrap_or(it.prefix()));
                for (key, differs) in [
                    ("insecure", one.insecure != other.insecure),
                    ("blocked", one.blocked != other.blocked),
                ] {
                    if here == there && differs {
                        return Err(format!(
                            "{place}: an entry above says something else of `{here}` by `{key}`"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Keys that nobody knows are told of, as an error would keep a file from working that
    /// a newer tool can read.
    fn unknown(&mut self, path: &Path, text: &str) {
        let Ok(table) = text.parse::<toml::Table>() else { return };
        let mut found: Vec<String> = Vec::new();
        let mut look = |table: &toml::Table, known: &[&str], place: &str| {
            let odd = table.keys().filter(|key| !known.contains(&key.as_str()));
            found.extend(odd.map(|key| format!("`{}`{place}", crate::net::escaped(key, 60))));
        };
        look(&table, &KEYS, "");
        let tables = |value: Option<&toml::Value>| {
            let list = value.and_then(toml::Value::as_array).cloned().unwrap_or_default();
            list.into_iter().filter_map(|one| one.try_into::<toml::Table>().ok())
        };
        for entry in tables(table.get("registry")) {
            look(&entry, &ENTRY_KEYS, " of a [[registry]]");
            for mirror in tables(entry.get("mirror")) {
                look(&mirror, &MIRROR_KEYS, " of a mirror");
            }
        }
        let says = found.into_iter().map(|key| format!("{}: {key} is not known", path.display()));
        self.warnings.extend(says);
        let helpers = self.credential_helpers.iter().flatten();
        if helpers.clone().any(|helper| helper != "containers-auth.json") {
            let path = path.display();
            self.warnings.push(format!("{path}: `credential-helpers` are not used"));
        }
        let _ = self.short_name_mode;
    }
}

/// A place without the slashes at its end.
fn location(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(format!(
            "`{text}` is an address: a place is written without http:// or https://"
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn check(entry: &mut Entry) -> Result<(), String> {
    for part in [&mut entry.prefix, &mut entry.location].into_iter().flatten() {
        *part = location(part)?;
    }
    for part in [&mut entry.prefix, &mut entry.location] {
        if part.as_deref() == Some("") {
            *part = None;
        }
    }
    if entry.prefix.is_none() && entry.location.is_none() {
        return Err("a [[registry]] has neither `prefix` nor `location`".into());
    }
    let prefix = entry.prefix();
    if prefix.contains('*')
        && !prefix
            .strip_prefix("*.")
            .is_some_and(|domain| !domain.is_empty() && !domain.contains(['*', '/', '@', ':']))
    {
        return Err(format!("the prefix `{prefix}` is not of the form *.example.com"));
    }
    if prefix.starts_with("*.") && entry.prefix.is_none() {
        return Err(format!("`{prefix}` is a prefix, not a location"));
    }
    if entry.pull_from_mirror.is_some() {
        return Err("`pull-from-mirror` belongs to a mirror, not to its [[registry]]".into());
    }
    for mirror in &mut entry.mirror {
        mirror.location = location(&mirror.location)?;
        if mirror.location.is_empty() {
            return Err("a mirror's `location` is empty".into());
        }
        if entry.mirror_by_digest_only && mirror.pull_from_mirror.is_some() {
            return Err(format!(
                "`mirror-by-digest-only` and `pull-from-mirror` of `{}` exclude each other",
                mirror.location
            ));
        }
    }
    Ok(())
}

/// An alias maps a name without a registry to one with it; both have no tag. An empty one
/// undoes that of a file read before.
fn alias(name: &str, target: &str) -> Result<(), String> {
    let bare = |text: &str| {
        let parsed: Reference = text.parse().ok()?;
        let tail = text.rsplit('/').next().unwrap_or_default();
        // The port of a host alone has no slash behind it.
        (!text.contains('@') && !tail.contains(':')).then_some(parsed)
    };
    if bare(name).is_none_or(|name| name.short().is_none()) {
        return Err(format!(
            "`{name}` of [aliases] is no short name: one without registry, tag and digest is expected"
        ));
    }
    if !target.is_empty() && bare(target).is_none_or(|target| target.short().is_some()) {
        return Err(format!(
            "the alias `{name}` leads to `{target}`: REGISTRY/REPOSITORY is expected, without tag \
             and digest"
        ));
    }
    Ok(())
}
