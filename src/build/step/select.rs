//! Which files a `COPY` or `ADD` means.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;

use super::super::context::Context;
use super::super::tree::Seen;
use super::StepError;
use super::archive::{Archive, Packed, archive, unpackable};
use crate::atomic::AtPath as _;
use crate::dockerfile::Ignore;
use crate::dockerfile::glob::{self, Glob};
use crate::layer::{Kind, Layer, Name, Node};
use crate::plan::{CopyOp, CopySource};
use crate::rootfs::{self, Rootfs};
use crate::store::Store;

/// Where a copy takes files from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    Context(&'a Context),
    Layers(&'a Rootfs<'a>),
}

/// One thing that was chosen: a file, or a folder with what is in it.
pub(super) struct Chosen {
    /// Which of the instruction's sources means it, from 0.
    pub number: usize,
    /// The last component as the instruction or the pattern's match has it.
    pub base: Vec<u8>,
    /// Where it is, links followed. The root for an archive.
    pub at: Name,
    pub is_dir: bool,
    /// Set if it is an archive to unpack: what is chosen is its content.
    pub archive: Option<Archive>,
    /// Set if it is not of where the instruction's own sources are.
    pub of: Option<Context>,
    filter: Filter,
}

/// What is taken of a folder, by paths relative to it.
#[derive(Default)]
struct Filter {
    /// `--parents`: this alone.
    only: Option<Ignore>,
    /// `--exclude`.
    without: Option<Ignore>,
}

impl Filter {
    fn new(op: &CopyOp, source: &CopySource) -> Result<Self, StepError> {
        let read = |patterns: &[&str]| match patterns {
            [] => Ok(None),
            all => Ignore::of_patterns(all.iter().copied())
                .map(Some)
                .map_err(|error| StepError::Pattern { pattern: error.pattern }),
        };
        let only: Vec<&str> = source.below.iter().map(String::as_str).collect();
        let without: Vec<&str> = op.excludes.iter().map(String::as_str).collect();
        // `.` is all of the folder.
        let only = if only == ["."] { None } else { read(&only)? };
        Ok(Self { only, without: read(&without)? })
    }

    fn keeps(&self, rest: &Name) -> bool {
        let hit = |patterns: &Ignore| patterns.excluded(rest.as_bytes()).is_some();
        self.only.as_ref().is_none_or(hit) && !self.without.as_ref().is_some_and(hit)
    }
}

impl Chosen {
    /// All of a repository's files.
    pub(super) fn checkout(op: &CopyOp, context: Context) -> Result<Self, StepError> {
        let filter = Filter::new(op, &CopySource { path: ".".into(), below: None })?;
        let (number, of) = (usize::MAX, Some(context));
        let (base, at) = (Vec::new(), Name::root());
        Ok(Self { number, base, at, is_dir: true, archive: None, of, filter })
    }

    /// A file that was fetched, if it is an archive.
    pub(super) fn fetched(path: PathBuf, name: &str) -> Result<Option<Self>, StepError> {
        let name = Name::clean(name.as_bytes()).unwrap_or_default();
        let file = File::open(&path).at("open", &path)?;
        let Some(archive) = unpackable(file, &name, Packed::Blob(path))? else { return Ok(None) };
        let (number, at, filter) = (usize::MAX, Name::root(), Filter::default());
        let archive = Some(archive);
        Ok(Some(Self { number, base: Vec::new(), at, is_dir: true, archive, of: None, filter }))
    }

    /// Where its files are; none for those of layers.
    pub(super) fn context<'c>(&'c self, origin: &Origin<'c>) -> Option<&'c Context> {
        match (&self.of, origin) {
            (Some(own), _) => Some(own),
            (None, Origin::Context(context)) => Some(context),
            (None, Origin::Layers(_)) => None,
        }
    }

    pub(super) fn seen<'c>(&'c self, origin: &Origin<'c>) -> Result<Seen<'c>, StepError> {
        match &self.of {
            Some(own) => Ok(own.seen()?),
            None => origin.seen(),
        }
    }

    /// True if all of a folder is taken.
    pub(super) fn is_whole(&self) -> bool {
        self.filter.only.is_none() && self.filter.without.is_none()
    }

    /// True for a folder that is taken only because of something in it.
    pub(super) fn is_above(&self, node: &Node) -> bool {
        let rest = node.entry.name.below(&self.at).unwrap_or_default();
        node.entry.kind == Kind::Dir && !self.filter.keeps(&rest)
    }

    /// What is taken of a folder, in order: what the filter keeps, and the folders
    /// above that.
    pub(super) fn nodes<'v>(&self, seen: Seen<'v>) -> impl Iterator<Item = Cow<'v, Node>> {
        let mut kept = (!self.is_whole()).then(|| self.kept(seen).into_iter());
        seen.below(&self.at)
            .filter(move |_| kept.as_mut().is_none_or(|kept| kept.next().unwrap_or_default()))
    }

    /// Of each that is below the folder, in order, whether it is taken.
    fn kept(&self, seen: Seen<'_>) -> Vec<bool> {
        let names: Vec<Name> = seen.below(&self.at).map(|node| node.entry.name.clone()).collect();
        let mut needed: HashSet<Name> = HashSet::new();
        let mut keep = |name: &Name| {
            let rest = name.below(&self.at).unwrap_or_default();
            let kept = needed.contains(name) || self.filter.keeps(&rest);
            needed.extend(name.parent().filter(|_| kept));
            kept
        };
        // What is below a folder stands behind it.
        let mut kept: Vec<bool> = names.iter().rev().map(&mut keep).collect();
        kept.reverse();
        kept
    }
}

impl<'a> Origin<'a> {
    pub(super) fn seen(&self) -> Result<Seen<'a>, StepError> {
        Ok(match self {
            Self::Context(context) => context.seen()?,
            Self::Layers(rootfs) => Seen::View(rootfs.view()),
        })
    }

    /// Finds what the instruction's sources mean, in their order.
    pub(super) fn choose(&self, op: &CopyOp) -> Result<Vec<Chosen>, StepError> {
        let mut chosen = Vec::new();
        for (number, source) in op.sources.iter().enumerate() {
            let seen = self.seen()?;
            for name in self.names(number, source)? {
                let at = seen.resolve(&name, true)?;
                let node = seen.get(&at);
                let filter = Filter::new(op, source)?;
                if node.is_none() && !at.is_root() {
                    return Err(self.missing(number, &String::from_utf8_lossy(&name)));
                }
                let is_dir = seen.is_dir(&at);
                // What a pattern before `/./` matches has nothing in it if it is no folder.
                if source.below.is_some() && !is_dir {
                    continue;
                }
                let base = Name::clean(&name).unwrap_or_default().base().to_vec();
                let archive = match (self, &node) {
                    (Self::Context(context), Some(node)) if op.unpack => archive(context, node)?,
                    _ => None,
                };
                chosen.push(match archive {
                    Some(archive) => {
                        let (at, archive) = (Name::root(), Some(archive));
                        Chosen {
                            number,
                            base,
                            at,
                            is_dir: true,
                            archive,
                            of: None,
                            filter: Filter::default(),
                        }
                    }
                    None => Chosen { number, base, at, is_dir, archive: None, of: None, filter },
                });
            }
        }
        Ok(chosen)
    }

    /// The names that a source means. A pattern may mean none; links are followed in its
    /// part without wildcards.
    fn names(&self, number: usize, source: &CopySource) -> Result<Vec<Vec<u8>>, StepError> {
        let seen = self.seen()?;
        let CopySource { path, below } = source;
        if let Some(below) = below
            && !glob::has_wildcard(path)
            && !glob::has_wildcard(below)
        {
            // As written: no link is followed on the way.
            let whole = Name::clean(format!("{path}/{below}").as_bytes()).unwrap_or_default();
            if !whole.is_root() && seen.get(&whole).is_none() {
                return Err(self.missing(number, &whole.display()));
            }
        }
        if !glob::has_wildcard(path) {
            return Ok(vec![path.clone().into()]);
        }
        let parts: Vec<&str> = path.split('/').collect();
        let plain = parts.iter().take_while(|part| !glob::has_wildcard(part)).count();
        let (plain, pattern) = (parts[..plain].join("/"), parts[plain..].join("/"));
        let folder = seen.resolve(plain.as_bytes(), true)?;
        // A pattern may match nothing, but the folder that it looks in must be there.
        if !seen.is_dir(&folder) {
            return Err(self.missing(number, &plain));
        }
        let wrong = |_| StepError::Pattern { pattern: path.clone() };
        Ok(matching(seen, &folder, &Glob::new(&pattern).map_err(wrong)?))
    }

    fn missing(&self, number: usize, source: &str) -> StepError {
        let rule = match self {
            Self::Context(context) => {
                Name::clean(source.as_bytes()).and_then(|name| context.excluded(&name))
            }
            Self::Layers(_) => None,
        };
        StepError::SourceNotFound { number, source_name: source.to_owned(), rule }
    }
}

/// The layers of a root that have what a copy takes of it; none if that is not to be known
/// without reading a layer.
pub(in super::super) fn layers_read(
    op: &CopyOp,
    root: &[Layer],
    store: &Store,
) -> Option<Vec<Layer>> {
    if !root.iter().all(|layer| rootfs::is_read(store, layer)) {
        return None;
    }
    let rootfs = Rootfs::open(store, root).ok()?;
    let origin = Origin::Layers(&rootfs);
    let seen = origin.seen().ok()?;
    let mut read = Vec::new();
    for one in origin.choose(op).ok()? {
        let nodes = seen.get(&one.at).into_iter().chain(one.nodes(seen));
        let files = nodes.filter(|node| matches!(node.entry.kind, Kind::File { .. }));
        let mut numbers: Vec<usize> = files.map(|node| node.content.layer).collect();
        numbers.sort_unstable();
        numbers.dedup();
        read.extend(numbers.into_iter().filter_map(|number| root.get(number).cloned()));
    }
    Some(read)
}

/// The sources that mean nothing: patterns that no file matches. They are no error,
/// as in BuildKit, and nobody wants them.
pub(super) fn unmatched<'a>(op: &'a CopyOp, chosen: &[Chosen]) -> impl Iterator<Item = &'a str> {
    let meant: HashSet<usize> = chosen.iter().map(|one| one.number).collect();
    let without = op.sources.iter().enumerate().filter(move |(at, _)| !meant.contains(at));
    without.map(|(_, source)| source.path.as_str())
}

/// The names below a folder that a pattern matches; below what matches nothing else
/// does.
fn matching(seen: Seen<'_>, folder: &Name, pattern: &Glob) -> Vec<Vec<u8>> {
    let mut found: Vec<Name> = Vec::new();
    for node in seen.below(folder) {
        let name = &node.entry.name;
        if found.last().is_some_and(|last| name.below(last).is_some()) {
            continue;
        }
        if pattern.matches(name.below(folder).unwrap_or_default().as_bytes()) {
            found.push(name.clone());
        }
    }
    found.into_iter().map(|name| name.as_bytes().to_vec()).collect()
}
