//! Which files say what is installed, and what all of them say together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::component::{Component, Found, Kind};
use super::content::Content;
use super::licence::Licence;
use super::os::Distribution;
use super::purl::purl;
use super::tree::Tree;
use super::{Warning, apk, cargo, deb, go, npm, python, rpm};
use crate::layer::Name;

/// Most bytes of a file that is read whole. JSON takes many times its size, and packages' own
/// files are small.
const MOST_TEXT: u64 = 64 << 20;
const MOST_LOCK: u64 = 16 << 20;
const MOST_PACKAGE: u64 = 4 << 20;
/// Most components, and most bytes of what is said of one.
pub(super) const MOST_COMPONENTS: usize = 500_000;
pub(super) const MOST_NAME: usize = 1024;
/// Most places at which one component is said to be.
const MOST_PLACES: usize = 64;
/// Most warnings; there is one more that says so.
const MOST_WARNINGS: usize = 1000;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    OsRelease,
    Deb,
    DebCopyright,
    Apk,
    Rpm(rpm::Form),
    /// Changes of a database that are not in it yet.
    RpmLog,
    NpmPackage,
    NpmLock,
    Python,
    CargoLock,
    /// An ELF file.
    Program,
}

impl Class {
    /// What a name alone tells.
    pub(super) fn of_name(name: &Name) -> Option<Self> {
        let path = name.as_bytes();
        let base = name.base();
        let folder = path.get(..path.len().saturating_sub(base.len() + 1)).unwrap_or_default();
        Some(match (folder, base) {
            (b"etc" | b"usr/lib", b"os-release") => Self::OsRelease,
            (b"var/lib/dpkg", b"status") => Self::Deb,
            (b"var/lib/dpkg/status.d", _) if !base.ends_with(b".md5sums") => Self::Deb,
            (_, b"copyright")
                if folder.strip_prefix(b"usr/share/doc/").is_some_and(|at| !at.contains(&b'/')) =>
            {
                Self::DebCopyright
            }
            (b"lib/apk/db" | b"usr/lib/apk/db", b"installed") => Self::Apk,
            (b"var/lib/rpm" | b"usr/lib/sysimage/rpm" | b"usr/share/rpm", _) => match base {
                b"rpmdb.sqlite" => Self::Rpm(rpm::Form::Sqlite),
                b"rpmdb.sqlite-wal" => Self::RpmLog,
                b"Packages.db" => Self::Rpm(rpm::Form::Ndb),
                b"Packages" => Self::Rpm(rpm::Form::Bdb),
                _ => return None,
            },
            (_, b"package.json") if npm::is_package(folder) => Self::NpmPackage,
            (_, b".package-lock.json") if ends_with(folder, b"node_modules") => Self::NpmLock,
            (_, b"METADATA") if folder.ends_with(b".dist-info") => Self::Python,
            (_, b"PKG-INFO") if folder.ends_with(b".egg-info") => Self::Python,
            // A single file in place of a folder.
            _ if base.ends_with(b".egg-info") => Self::Python,
            (_, b"Cargo.lock") => Self::CargoLock,
            _ => return None,
        })
    }
}

/// Whether a path's last component is that one.
fn ends_with(path: &[u8], last: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next() == Some(last)
}

/// A component without its places.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) arch: Option<String>,
    pub(super) qualifiers: Vec<(&'static str, String)>,
    pub(super) licence: Option<Licence>,
    pub(super) supplier: Option<String>,
    pub(super) source: Option<String>,
}

impl Draft {
    pub(super) fn new(kind: Kind, namespace: &str, name: &str, version: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            arch: None,
            qualifiers: Vec::new(),
            licence: None,
            supplier: None,
            source: None,
        }
    }

    /// Its name as its own tools spell it.
    fn full_name(&self) -> String {
        match (self.kind, self.namespace.as_str()) {
            (Kind::Golang | Kind::Npm, space) if !space.is_empty() => {
                format!("{space}/{}", self.name)
            }
            _ => self.name.clone(),
        }
    }

    /// Both, as people write them.
    pub(super) fn name_and_version(&self) -> String {
        format!("{} {}", self.full_name(), self.version).trim_end().to_owned()
    }

    fn purl(&self) -> String {
        let lower = |text: &str| text.to_lowercase();
        // The types' rules of what does not tell names apart.
        let (namespace, name) = match self.kind {
            Kind::Apk | Kind::Deb | Kind::Golang | Kind::Npm => {
                (lower(&self.namespace), lower(&self.name))
            }
            Kind::Pypi => (String::new(), python::normalized(&self.name)),
            Kind::Rpm => (lower(&self.namespace), self.name.clone()),
            Kind::Cargo => (String::new(), self.name.clone()),
        };
        let mut qualifiers: Vec<(&str, &str)> =
            self.qualifiers.iter().map(|(key, value)| (*key, value.as_str())).collect();
        qualifiers.extend(self.arch.as_deref().map(|arch| ("arch", arch)));
        purl(self.kind, &namespace, &name, &self.version, &qualifiers)
    }
}

/// What the files say that were looked into so far.
#[derive(Default)]
pub(super) struct Findings {
    releases: BTreeMap<Vec<u8>, Option<Distribution>>,
    debs: Vec<(deb::Package, Found)>,
    /// Of copyright files, by their names.
    licences: HashMap<Name, Licence>,
    apks: Vec<(apk::Package, Found)>,
    rpms: Vec<(rpm::Package, Found)>,
    components: BTreeMap<String, Component>,
    warnings: BTreeSet<Warning>,
}

impl Findings {
    pub(super) fn warn(&mut self, path: &str, why: impl Into<String>) {
        if self.warnings.len() < MOST_WARNINGS {
            // Parsers quote what they stumble over, whatever its size.
            let why = why.into().chars().take(MOST_NAME).collect();
            self.warnings.insert(Warning { path: path.to_owned(), why });
        } else {
            let why = format!("there are more than {MOST_WARNINGS} warnings");
            self.warnings.insert(Warning { path: String::new(), why });
        }
    }

    /// Looks into a file that has these names.
    pub(super) fn look(&mut self, content: &Content<'_>, names: &[(Name, Class)], tree: &Tree<'_>) {
        let mut by_class: BTreeMap<Class, Vec<(&Name, Found)>> = BTreeMap::new();
        for (name, class) in names {
            let places = by_class.entry(*class).or_default();
            if (places.len() < MOST_PLACES || *class == Class::DebCopyright)
                && let Some(found) = tree.found_at(name)
            {
                places.push((name, found));
            }
        }
        for (class, places) in by_class {
            let Some((_, first)) = places.first() else { continue };
            let path = first.path.clone();
            match class {
                Class::Program => self.program(content, &places),
                Class::Rpm(form) => {
                    let (packages, mut wrong) = rpm::read(content, form);
                    wrong.extend(keep(&mut self.rpms, packages, first));
                    wrong.into_iter().for_each(|why| self.warn(&path, why));
                }
                Class::RpmLog if content.size() == 0 => (),
                Class::RpmLog => self.warn(&path, "changes that wait in it are not read"),
                _ => {
                    let most = match class {
                        Class::NpmPackage => MOST_PACKAGE,
                        Class::NpmLock => MOST_LOCK,
                        _ => MOST_TEXT,
                    };
                    match content.all(most) {
                        Some(bytes) => self.text(class, &bytes, &places, tree),
                        None => self.warn(&path, format!("it has more than {} MiB", most >> 20)),
                    }
                }
            }
        }
    }

    fn program(&mut self, content: &Content<'_>, places: &[(&Name, Found)]) {
        let Some(elf) = super::elf::Elf::read(content) else { return };
        for read in [go::read(&elf), cargo::in_program(&elf)] {
            match read {
                Ok(drafts) => drafts.into_iter().for_each(|draft| self.add(draft, places)),
                Err(why) => places.iter().for_each(|(_, found)| self.warn(&found.path, &*why)),
            }
        }
    }

    fn text(&mut self, class: Class, bytes: &[u8], places: &[(&Name, Found)], tree: &Tree<'_>) {
        let Some((name, first)) = places.first() else { return };
        let mut wrong = Vec::new();
        let drafts = match class {
            Class::OsRelease => {
                self.releases.insert(name.as_bytes().to_vec(), Distribution::read(bytes));
                Ok(Vec::new())
            }
            Class::Deb => {
                let (packages, problems) = deb::read(bytes);
                wrong = problems;
                wrong.extend(keep(&mut self.debs, packages, first));
                Ok(Vec::new())
            }
            Class::DebCopyright => {
                if let Some(licence) = deb::licence(bytes) {
                    let room = MOST_COMPONENTS.saturating_sub(self.licences.len());
                    for (name, _) in places.iter().take(room) {
                        self.licences.insert((*name).clone(), licence.clone());
                    }
                }
                Ok(Vec::new())
            }
            Class::Apk => {
                let (packages, problems) = apk::read(bytes);
                wrong = problems;
                wrong.extend(keep(&mut self.apks, packages, first));
                Ok(Vec::new())
            }
            Class::NpmPackage => npm::package(bytes).map(Vec::from_iter),
            Class::NpmLock => {
                let root = name.parent().and_then(|folder| folder.parent()).unwrap_or_default();
                npm::lock(bytes, |folder| {
                    tree.has(&[root.as_bytes(), b"/", folder.as_bytes()].concat())
                })
            }
            Class::Python => python::read(bytes).map(Vec::from_iter),
            Class::CargoLock => cargo::lock(bytes),
            Class::Program | Class::Rpm(_) | Class::RpmLog => Ok(Vec::new()),
        };
        match drafts {
            Ok(drafts) => drafts.into_iter().for_each(|draft| self.add(draft, places)),
            Err(why) => wrong.push(why),
        }
        wrong.into_iter().for_each(|why| self.warn(&first.path, why));
    }

    fn add(&mut self, draft: Draft, places: &[(&Name, Found)]) {
        let found = places.iter().map(|(_, found)| found.clone()).collect();
        self.put(draft, found);
    }

    /// Takes a component; what is there already is there in one more place.
    fn put(&mut self, draft: Draft, places: Vec<Found>) {
        let Some(path) = places.first().map(|found| found.path.clone()) else { return };
        let told = [&draft.namespace, &draft.name, &draft.version].into_iter();
        let told = told.chain(&draft.arch).chain(draft.qualifiers.iter().map(|(_, value)| value));
        let long = told.map(String::len).any(|length| length > MOST_NAME);
        if long || draft.name.is_empty() {
            return self.warn(&path, "it has a component whose name is none, or very long");
        }
        let purl = draft.purl();
        if !self.components.contains_key(&purl) && self.components.len() >= MOST_COMPONENTS {
            let why = format!("with it there are more than {MOST_COMPONENTS} components");
            return self.warn(&path, why);
        }
        let name = draft.full_name();
        let cut = |text: Option<String>| {
            text.filter(|text| text.len() <= MOST_NAME && !text.trim().is_empty())
        };
        let component = self.components.entry(purl.clone()).or_insert_with(|| Component {
            kind: draft.kind,
            name,
            version: draft.version,
            arch: draft.arch,
            purl,
            licence: None,
            supplier: cut(draft.supplier),
            source: cut(draft.source),
            found: BTreeSet::new(),
        });
        // A lock file knows less than the package itself.
        component.licence = component.licence.take().or(draft.licence);
        for place in places {
            if component.found.len() < MOST_PLACES {
                component.found.insert(place);
            }
        }
    }

    /// Puts together what belongs together.
    pub(super) fn settle(
        mut self,
        tree: &Tree<'_>,
    ) -> (Option<Distribution>, Vec<Component>, Vec<Warning>) {
        let distribution = [&b"etc/os-release"[..], b"usr/lib/os-release"]
            .iter()
            .find_map(|path| self.releases.get(*path).cloned().flatten());
        // Whose packages they are is nowhere said then: advisories differ between distributions.
        let vendor = distribution.as_ref().map(Distribution::vendor).unwrap_or_default();
        let distro = distribution.as_ref().map(Distribution::qualifier).unwrap_or_default();
        for (package, found) in std::mem::take(&mut self.debs) {
            let mut draft = Draft::new(Kind::Deb, vendor, &package.name, &package.version);
            draft.qualifiers.push(("distro", distro.clone()));
            let copyright = format!("usr/share/doc/{}/copyright", package.name);
            let file = tree.at(copyright.as_bytes()).map(|node| &node.entry.name);
            draft.licence = file.and_then(|name| self.licences.get(name)).cloned();
            let list = |name: String| tree.at(format!("var/lib/dpkg/info/{name}.list").as_bytes());
            let list = list(package.name.clone())
                .or_else(|| list(format!("{}:{}", package.name, package.arch)));
            let place = list.and_then(|node| tree.found(&found.path, node)).unwrap_or(found);
            draft.arch = Some(package.arch);
            draft.supplier = package.maintainer;
            draft.source = package.source;
            self.put(draft, vec![place]);
        }
        for (package, found) in std::mem::take(&mut self.apks) {
            let mut draft = Draft::new(Kind::Apk, vendor, &package.name, &package.version);
            draft.qualifiers.push(("distro", distro.clone()));
            draft.arch = Some(package.arch).filter(|arch| !arch.is_empty());
            draft.licence = package.licence;
            draft.supplier = package.maintainer;
            draft.source = package.origin.filter(|origin| *origin != package.name);
            let place = placed(tree, package.file.as_deref(), found);
            self.put(draft, vec![place]);
        }
        for (package, found) in std::mem::take(&mut self.rpms) {
            let mut draft = Draft::new(Kind::Rpm, vendor, &package.name, &package.version);
            draft.qualifiers.push(("distro", distro.clone()));
            draft.qualifiers.push(("epoch", package.epoch.unwrap_or_default()));
            draft.arch = package.arch;
            draft.licence = package.licence.as_deref().and_then(Licence::of);
            draft.supplier = package.vendor;
            draft.source = package.source;
            let place = placed(tree, package.file.as_deref(), found);
            self.put(draft, vec![place]);
        }
        let mut components: Vec<Component> = self.components.into_values().collect();
        components.sort_by(|a, b| (a.kind, &a.name, &a.purl).cmp(&(b.kind, &b.name, &b.purl)));
        (distribution, components, self.warnings.into_iter().collect())
    }
}

/// Puts packages to those of other databases; says so if they are too many.
fn keep<T>(all: &mut Vec<(T, Found)>, packages: Vec<T>, found: &Found) -> Option<String> {
    if all.len() + packages.len() > MOST_COMPONENTS {
        return Some(format!("with it there are more than {MOST_COMPONENTS} packages"));
    }
    all.extend(packages.into_iter().map(|one| (one, found.clone())));
    None
}

/// The layer of a package's file, if it is there; else that of the database.
fn placed(tree: &Tree<'_>, file: Option<&[u8]>, found: Found) -> Found {
    file.and_then(|file| tree.at(file))
        .and_then(|node| tree.found(&found.path, node))
        .unwrap_or(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (path, expected) in [
            ("etc/os-release", Some(Class::OsRelease)),
            ("var/lib/dpkg/status", Some(Class::Deb)),
            ("var/lib/dpkg/status.d/base", Some(Class::Deb)),
            ("var/lib/dpkg/status.d/base.md5sums", None),
            ("usr/share/doc/a/copyright", Some(Class::DebCopyright)),
            ("usr/share/doc/a/b/copyright", None),
            ("usr/lib/apk/db/installed", Some(Class::Apk)),
            ("var/lib/rpm/Packages", Some(Class::Rpm(rpm::Form::Bdb))),
            ("app/node_modules/a/package.json", Some(Class::NpmPackage)),
            ("app/node_modules/@s/a/package.json", Some(Class::NpmPackage)),
            ("app/node_modules/a/lib/package.json", None),
            ("app/package.json", None),
            ("node_modules/.package-lock.json", Some(Class::NpmLock)),
            ("x/a-1.dist-info/METADATA", Some(Class::Python)),
            ("x/a.egg-info", Some(Class::Python)),
            ("x/a.egg-info/PKG-INFO", Some(Class::Python)),
            ("x/METADATA", None),
            ("Cargo.lock", Some(Class::CargoLock)),
            ("status", None),
        ] {
            let name = Name::clean(path.as_bytes()).unwrap();
            assert_eq!(Class::of_name(&name), expected, "{path}");
        }
    }
}
