//! What the store holds, entry by entry.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::ops::{Add, Sub};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::PruneError;
use super::needs::Needs;
use super::sandboxed::Helper;
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::rootfs::{Linked, Measured, measure};
use crate::store::Store;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Manifests, indexes and configs of images with a name, and of what is attached to
    /// them; lists of that.
    Images,
    /// Layers, and other blobs that no image with a name lists, each with the records of
    /// the steps that made it.
    Layers,
    /// Unpacked layers.
    Trees,
    /// What is remembered of steps, layers and contexts.
    Records,
    /// Folders of `RUN --mount=type=cache`.
    CacheMounts,
    /// Files that `ADD` fetched.
    Downloads,
    Containers,
    /// Git repositories that files were taken from.
    Repositories,
    /// Work under way, and what is left of some.
    Temporary,
    /// The store's own files and folders.
    Other,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Images,
        Self::Layers,
        Self::Trees,
        Self::Records,
        Self::CacheMounts,
        Self::Downloads,
        Self::Containers,
        Self::Repositories,
        Self::Temporary,
        Self::Other,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Layers => "layers",
            Self::Trees => "trees",
            Self::Records => "records",
            Self::CacheMounts => "cache-mounts",
            Self::Downloads => "downloads",
            Self::Containers => "containers",
            Self::Repositories => "repositories",
            Self::Temporary => "temporary",
            Self::Other => "other",
        }
    }
}

/// Who needs an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nobody.
    Nothing,
    /// Nobody now, but it belongs to an image with a name, or saves the work to make it
    /// again.
    Again,
    /// An image's name.
    Name,
    Container,
    /// A process that runs now has used it.
    Process,
    /// The store itself.
    Store,
}

impl Need {
    /// Whether a clean-up of everything takes it.
    #[must_use]
    pub fn is_reclaimable(self) -> bool {
        matches!(self, Self::Nothing | Self::Again)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Again => "again",
            Self::Name => "name",
            Self::Container => "container",
            Self::Process => "process",
            Self::Store => "store",
        }
    }
}

/// How much it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// On the disk.
    pub bytes: u64,
    pub inodes: u64,
}

impl Add for Amount {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        let Self { bytes, inodes } = more;
        Self { bytes: self.bytes + bytes, inodes: self.inodes + inodes }
    }
}

impl Sub for Amount {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        let Self { bytes, inodes } = less;
        Self { bytes: self.bytes.saturating_sub(bytes), inodes: self.inodes.saturating_sub(inodes) }
    }
}

/// Something that stays or goes as a whole.
#[derive(Debug, Clone)]
pub struct Entry {
    pub kind: Kind,
    /// For people: a digest, a path below the store.
    pub id: String,
    /// What it takes; of files with names in other entries too, all.
    pub size: Amount,
    /// When it was used last, as far as it is known.
    pub used: SystemTime,
    pub need: Need,
    /// Something in it could not be looked into: it takes more.
    pub partial: bool,
    /// In the order in which they go.
    pub(super) paths: Vec<PathBuf>,
    /// Of its size, files with several names.
    pub(super) linked: Vec<Linked>,
}

impl Entry {
    pub(super) fn nothing() -> Self {
        Self {
            kind: Kind::Other,
            id: String::new(),
            size: Amount::default(),
            used: SystemTime::UNIX_EPOCH,
            need: Need::Store,
            partial: false,
            paths: Vec::new(),
            linked: Vec::new(),
        }
    }

    fn take(&mut self, path: PathBuf, measured: Measured, used: SystemTime) {
        let Measured { bytes, inodes, linked, partial } = measured;
        self.size = self.size + Amount { bytes, inodes };
        for file in &linked {
            self.size = self.size + Amount { bytes: file.bytes, inodes: 1 };
        }
        self.linked.extend(linked);
        self.partial |= partial;
        self.used = self.used.max(used);
        self.paths.push(path);
    }
}

/// All entries.
#[derive(Debug)]
pub struct Inventory {
    pub entries: Vec<Entry>,
    /// What the store takes in all: a file with several names is counted once.
    pub total: Amount,
    pub(super) links: Vec<Linked>,
}

/// Which names of files with several are left.
pub(super) struct Links(HashMap<(u64, u64), u64>);

impl Links {
    pub(super) fn of(all: &[Linked]) -> Self {
        let mut left = HashMap::new();
        for linked in all {
            // Names outside of the store stay.
            *left.entry(linked.file).or_insert(0) = linked.names;
        }
        Self(left)
    }

    /// What the disk gets back if an entry goes now.
    pub(super) fn freed(&mut self, entry: &Entry) -> Amount {
        let mut freed = entry.size;
        for linked in &entry.linked {
            let names = self.0.entry(linked.file).or_default();
            *names = names.saturating_sub(linked.here);
            if *names > 0 {
                freed = freed - Amount { bytes: linked.bytes, inodes: 1 };
            }
        }
        freed
    }
}

impl Inventory {
    /// Looks at everything. What was used at `cutoff` or later is in use.
    pub(super) fn of(
        store: &Store,
        cutoff: SystemTime,
        helper: &Helper,
    ) -> Result<Self, PruneError> {
        let needs = Needs::of(store)?;
        let mut look = Look { root: store.root(), needs, cutoff, helper, entries: Vec::new() };
        let records = look.records()?;
        look.blobs(records)?;
        look.lists()?;
        look.kinds("trees", Kind::Trees)?;
        look.kinds("caches", Kind::CacheMounts)?;
        look.folders("git", Kind::Repositories)?;
        look.folders("containers", Kind::Containers)?;
        look.folders("tmp", Kind::Temporary)?;
        look.others()?;
        let entries = look.entries;
        let links: Vec<Linked> =
            entries.iter().flat_map(|entry| entry.linked.iter().copied()).collect();
        let mut total = entries.iter().fold(Amount::default(), |sum, entry| sum + entry.size);
        let mut once = HashMap::new();
        for linked in &links {
            if once.insert(linked.file, ()).is_some() {
                total = total - Amount { bytes: linked.bytes, inodes: 1 };
            }
        }
        Ok(Self { entries, total, links })
    }

    /// Whether something could not be looked into.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.entries.iter().any(|entry| entry.partial)
    }
}

/// A record that names blobs.
struct Naming {
    path: PathBuf,
    area: String,
    meta: Metadata,
    blobs: Vec<String>,
}

/// Areas whose records say which blob a step, a mount or a URL gave.
const NAMING: [&str; 4] = ["steps", "forms", "mount-sources", "downloads"];
/// Areas whose records are about a layer, by its diff ID.
const OF_LAYERS: [&str; 2] = ["index", "folders"];
/// Which repositories have a blob, by its digest.
const ORIGINS: &str = "blob-origins";
/// Where the states of containers lie that are not in the store.
const STATES: &str = "states";

struct Look<'a> {
    root: &'a Path,
    needs: Needs,
    cutoff: SystemTime,
    helper: &'a Helper,
    entries: Vec<Entry>,
}

impl Look<'_> {
    /// The files and folders in a folder of the store, sorted; none if it is absent.
    fn list(&self, folder: &Path) -> Result<Vec<(PathBuf, Metadata)>, PruneError> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("read", folder)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.at("read", folder)?.path();
            match path.symlink_metadata() {
                Ok(meta) => found.push((path, meta)),
                // It went while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("read", &path)?,
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn add(&mut self, mut entry: Entry) {
        if entry.need.is_reclaimable() && entry.used >= self.cutoff {
            entry.need = Need::Process;
        }
        self.entries.push(entry);
    }

    fn file(&self, kind: Kind, id: String, need: Need) -> Entry {
        Entry { kind, id, need, ..Entry::nothing() }
    }

    /// The records; those that name blobs are given back.
    fn records(&mut self) -> Result<Vec<Naming>, PruneError> {
        let mut naming = Vec::new();
        for (area_path, meta) in self.list(&self.root.join("records"))? {
            if !meta.is_dir() {
                continue;
            }
            let area = base(&area_path);
            for (path, meta) in self.list(&area_path)? {
                let key = base(&path);
                if NAMING.contains(&area.as_str()) {
                    let blobs = named_blobs(&path);
                    naming.push(Naming { path, area: area.clone(), meta, blobs });
                    continue;
                }
                let need = if area == STATES {
                    Need::Store
                } else if area == ORIGINS
                    && self.needs.layers.contains(&key)
                    && !self.root.join("blobs/sha256").join(&key).exists()
                {
                    // Nothing else tells where a layer of a named image is to be had.
                    Need::Name
                } else if !OF_LAYERS.contains(&area.as_str()) {
                    Need::Again
                } else if self.needs.container_trees.contains(&key) {
                    Need::Container
                } else if self.needs.diff_ids.contains(&key) {
                    Need::Again
                } else {
                    Need::Nothing
                };
                let mut entry = self.file(Kind::Records, format!("{area}/{key}"), need);
                entry.take(path, simple(&meta), used(&meta));
                self.add(entry);
            }
        }
        Ok(naming)
    }

    /// The blobs, with the records that go before they do.
    fn blobs(&mut self, records: Vec<Naming>) -> Result<(), PruneError> {
        let blobs = self.list(&self.root.join("blobs/sha256"))?;
        let mut known: BTreeMap<String, Vec<Naming>> =
            blobs.iter().map(|(path, _)| (base(path), Vec::new())).collect();
        for record in records {
            let needs = &self.needs;
            let stays =
                |hex: &str| needs.layers.contains(hex) || needs.container_layers.contains(hex);
            let of = record.blobs.iter().find(|hex| known.contains_key(*hex) && !stays(hex));
            if let Some(of) = of.cloned() {
                known.entry(of).or_default().push(record);
                continue;
            }
            let id = format!("{}/{}", record.area, base(&record.path));
            let mut entry = self.file(Kind::Records, id, Need::Again);
            entry.take(record.path, simple(&record.meta), used(&record.meta));
            self.add(entry);
        }
        for (path, meta) in blobs {
            let hex = base(&path);
            let records = known.remove(&hex).unwrap_or_default();
            let (kind, need) = if self.needs.documents.contains(&hex) {
                (Kind::Images, Need::Name)
            } else if self.needs.layers.contains(&hex) {
                (Kind::Layers, Need::Name)
            } else if self.needs.container_layers.contains(&hex) {
                (Kind::Layers, Need::Container)
            } else if records.iter().any(|record| record.area == "downloads") {
                (Kind::Downloads, Need::Nothing)
            } else {
                (Kind::Layers, Need::Nothing)
            };
            let mut entry = self.file(kind, format!("sha256:{hex}"), need);
            for record in records {
                entry.take(record.path, simple(&record.meta), used(&record.meta));
            }
            entry.take(path, simple(&meta), used(&meta));
            self.add(entry);
        }
        Ok(())
    }

    /// Lists of what is attached: of use as long as what it is attached to.
    fn lists(&mut self) -> Result<(), PruneError> {
        for (path, meta) in self.list(&self.root.join("referrers"))? {
            let hex = base(&path);
            let need = match self.needs.documents.contains(&hex) {
                true => Need::Name,
                false => Need::Nothing,
            };
            let mut entry = self.file(Kind::Images, format!("referrers/{hex}"), need);
            entry.take(path, simple(&meta), used(&meta));
            self.add(entry);
        }
        Ok(())
    }

    /// Trees and caches: by owner mapping, then by digest.
    fn kinds(&mut self, folder: &str, kind: Kind) -> Result<(), PruneError> {
        for (mapping, meta) in self.list(&self.root.join(folder))? {
            if meta.is_dir() {
                self.folders(&format!("{folder}/{}", base(&mapping)), kind)?;
            }
        }
        Ok(())
    }

    fn folders(&mut self, folder: &str, kind: Kind) -> Result<(), PruneError> {
        for (path, meta) in self.list(&self.root.join(folder))? {
            let hex = base(&path);
            let need = match kind {
                Kind::Trees if self.needs.container_trees.contains(&hex) => Need::Container,
                Kind::Trees if self.needs.diff_ids.contains(&hex) => Need::Again,
                Kind::Trees => Need::Nothing,
                Kind::CacheMounts => Need::Again,
                Kind::Repositories if meta.is_dir() => Need::Again,
                Kind::Containers => Need::Container,
                // What could be removed went when the store was opened.
                Kind::Temporary => Need::Process,
                _ => Need::Store,
            };
            let measured = measure(&path, || self.helper.sandbox())?;
            let mut entry = self.file(kind, format!("{folder}/{hex}"), need);
            entry.take(path, measured, used(&meta));
            self.add(entry);
        }
        Ok(())
    }

    /// What makes the store one: its own files, and folders as such.
    fn others(&mut self) -> Result<(), PruneError> {
        let mut whole = self.file(Kind::Other, "the store itself".into(), Need::Store);
        let root = self.root.symlink_metadata().at("read", self.root)?;
        whole.take(self.root.into(), simple(&root), used(&root));
        for (path, meta) in self.list(self.root)? {
            let depth = match base(&path).as_str() {
                "blobs" | "trees" | "records" | "caches" => 1,
                "referrers" | "git" | "containers" | "tmp" => 0,
                _ => {
                    let measured = measure(&path, || self.helper.sandbox())?;
                    whole.take(path, measured, used(&meta));
                    continue;
                }
            };
            whole.take(path.clone(), simple(&meta), used(&meta));
            for (path, meta) in if depth > 0 { self.list(&path)? } else { Vec::new() } {
                whole.take(path, simple(&meta), used(&meta));
            }
        }
        self.entries.push(whole);
        Ok(())
    }
}

fn base(path: &Path) -> String {
    path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
}

fn used(meta: &Metadata) -> SystemTime {
    meta.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// One file or folder as such.
fn simple(meta: &Metadata) -> Measured {
    let mut measured = Measured::default();
    measured.add(meta);
    measured
}

/// The digests in a record, as hex digits, whatever else it says.
fn named_blobs(path: &Path) -> Vec<String> {
    fn find(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => {
                found.extend(text.parse::<BlobDigest>().ok().map(|digest| digest.hex()));
            }
            serde_json::Value::Array(all) => all.iter().for_each(|value| find(value, found)),
            serde_json::Value::Object(all) => all.values().for_each(|value| find(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let value = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    find(&value.unwrap_or_default(), &mut found);
    found
}
