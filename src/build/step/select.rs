//! Which files a `COPY` or `ADD` means.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::PathBuf;

use super::super::context::Context;
use super::super::files::{first, tar_begins};
use super::StepError;
use crate::atomic::AtPath as _;
use crate::digest::{Digest, Hashing};
use crate::dockerfile::Ignore;
use crate::dockerfile::glob::{self, Glob};
use crate::layer::{
    Decompressor, Entry, Kind, LayerIndex, Located, Name, Node, Packing, Reader, View,
};
use crate::plan::{CopyOp, CopySource};
use crate::rootfs::Rootfs;
use crate::sandbox::{Cancel, SandboxError};
use crate::store::Store;

/// Where a copy takes files from.
pub(super) enum Origin<'a> {
    Context(&'a Context),
    Layers(&'a Rootfs<'a>),
}

/// An archive that `ADD` unpacks.
pub(super) struct Archive {
    /// For messages; of one of the context, where it is there.
    pub name: Name,
    from: Packed,
    pub packing: Packing,
    pub view: View,
    /// What is listed below a symbolic link of the archive's own: it goes where that
    /// leads once it is unpacked.
    pub strays: Vec<Node>,
}

/// Where an archive is.
enum Packed {
    Context,
    Blob(PathBuf),
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

    pub(super) fn view<'c>(&'c self, origin: &Origin<'c>) -> Result<&'c View, StepError> {
        match (&self.of, origin) {
            (Some(own), _) => Ok(own.view()?),
            (None, Origin::Context(context)) => Ok(context.view()?),
            (None, Origin::Layers(rootfs)) => Ok(rootfs.view()),
        }
    }

    /// True for a folder that is taken only because of something in it.
    pub(super) fn is_above(&self, node: &Node) -> bool {
        let rest = node.entry.name.below(&self.at).unwrap_or_default();
        node.entry.kind == Kind::Dir && !self.filter.keeps(&rest)
    }

    /// What is taken of a folder, in order: what the filter keeps, and the folders
    /// above that.
    pub(super) fn nodes<'v>(&self, view: &'v View) -> Vec<&'v Node> {
        let mut nodes: Vec<&Node> = view.below(&self.at).collect();
        if self.filter.only.is_none() && self.filter.without.is_none() {
            return nodes;
        }
        let mut needed: HashSet<Name> = HashSet::new();
        let mut keep = |node: &Node| {
            let name = &node.entry.name;
            let rest = name.below(&self.at).unwrap_or_default();
            let kept = needed.contains(name) || self.filter.keeps(&rest);
            needed.extend(name.parent().filter(|_| kept));
            kept
        };
        // What is below a folder stands behind it.
        let mut kept: Vec<bool> = nodes.iter().rev().map(|node| keep(node)).collect();
        nodes.retain(|_| kept.pop().unwrap_or_default());
        nodes
    }
}

impl Origin<'_> {
    pub(super) fn view(&self) -> Result<&View, StepError> {
        Ok(match self {
            Self::Context(context) => context.view()?,
            Self::Layers(rootfs) => rootfs.view(),
        })
    }

    /// Finds what the instruction's sources mean, in their order.
    pub(super) fn choose(&self, op: &CopyOp) -> Result<Vec<Chosen>, StepError> {
        let mut chosen = Vec::new();
        for (number, source) in op.sources.iter().enumerate() {
            let view = self.view()?;
            for name in self.names(number, source)? {
                let at = view.resolve(&name, true)?;
                let node = view.get(&at);
                let filter = Filter::new(op, source)?;
                if node.is_none() && !at.is_root() {
                    return Err(self.missing(number, &String::from_utf8_lossy(&name)));
                }
                let is_dir = view.is_dir(&at);
                // What a pattern before `/./` matches has nothing in it if it is no folder.
                if source.below.is_some() && !is_dir {
                    continue;
                }
                let base = Name::clean(&name).unwrap_or_default().base().to_vec();
                let archive = match (self, node) {
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
        let view = self.view()?;
        let CopySource { path, below } = source;
        if let Some(below) = below
            && !glob::has_wildcard(path)
            && !glob::has_wildcard(below)
        {
            // As written: no link is followed on the way.
            let whole = Name::clean(format!("{path}/{below}").as_bytes()).unwrap_or_default();
            if !whole.is_root() && view.get(&whole).is_none() {
                return Err(self.missing(number, &whole.display()));
            }
        }
        if !glob::has_wildcard(path) {
            return Ok(vec![path.clone().into()]);
        }
        let parts: Vec<&str> = path.split('/').collect();
        let plain = parts.iter().take_while(|part| !glob::has_wildcard(part)).count();
        let (plain, pattern) = (parts[..plain].join("/"), parts[plain..].join("/"));
        let folder = view.resolve(plain.as_bytes(), true)?;
        // A pattern may match nothing, but the folder that it looks in must be there.
        if !view.is_dir(&folder) {
            return Err(self.missing(number, &plain));
        }
        let wrong = |_| StepError::Pattern { pattern: path.clone() };
        Ok(matching(view, &folder, &Glob::new(&pattern).map_err(wrong)?))
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

    /// A digest over everything that is copied of the chosen files: names, kinds,
    /// modes, link targets, content. No time, no inode, no owner of the host.
    pub(super) fn digest(&self, chosen: &[Chosen], cancel: &Cancel) -> Result<Digest, StepError> {
        use rayon::prelude::*;
        let Self::Context(context) = self else { return Ok(Digest::of(b"")) };
        if chosen.is_empty() {
            return Ok(Digest::of(b""));
        }
        let view = self.view()?;
        let mut text = Vec::new();
        let mut field = |bytes: &[u8]| {
            text.extend((bytes.len() as u64).to_be_bytes());
            text.extend(bytes);
        };
        for one in chosen {
            field(&one.base);
            let at = one.archive.as_ref().map_or(&one.at, |archive| &archive.name);
            let below = if one.is_dir && one.archive.is_none() { one.nodes(view) } else { vec![] };
            let nodes: Vec<&Node> = view.get(at).into_iter().chain(below).collect();
            // Hashed in parallel first, then read from memory in order.
            nodes.par_iter().try_for_each(|node| match node.entry.kind {
                _ if cancel.is_cancelled() => Err(SandboxError::Cancelled.into()),
                Kind::File { .. } => Ok::<_, StepError>(
                    context.digest(&node.entry.name, &|| cancel.is_cancelled()).map(drop)?,
                ),
                _ => Ok(()),
            })?;
            let mut files: HashMap<Located, &Name> = HashMap::new();
            for node in nodes {
                field(node.entry.name.below(at).unwrap_or_default().as_bytes());
                field(format!("{:o}", node.entry.mode).as_bytes());
                // Those of a folder of the host have none of this.
                let Entry { uid, gid, xattrs, .. } = &node.entry;
                if (*uid, *gid) != (0, 0) {
                    field(format!("{uid}:{gid}").as_bytes());
                }
                for (name, value) in xattrs {
                    field(format!("{name}=").as_bytes());
                    field(&value.0);
                }
                match &node.entry.kind {
                    Kind::Dir => field(b"dir"),
                    // One more name of a file becomes a hard link to the first one.
                    Kind::File { .. } => match files.entry(node.content) {
                        Slot::Occupied(first) => {
                            let first = first.get().below(at).unwrap_or_default();
                            field(&[b"hard ", first.as_bytes()].concat())
                        }
                        Slot::Vacant(slot) => {
                            slot.insert(&node.entry.name);
                            let digest = context.digest(&node.entry.name, &|| false)?;
                            field(digest.to_string().as_bytes())
                        }
                    },
                    Kind::Symlink { target } => field(&[b"link ", target.0.as_slice()].concat()),
                    Kind::Fifo => field(b"fifo"),
                    Kind::Char { major, minor } => {
                        field(format!("char {major}:{minor}").as_bytes())
                    }
                    Kind::Block { major, minor } => {
                        field(format!("block {major}:{minor}").as_bytes())
                    }
                    // A view has none.
                    Kind::Hardlink { .. } => field(b"other"),
                }
            }
            if let Some(time) = context.time() {
                field(format!("time {time}").as_bytes());
            }
            field(b"end");
        }
        Ok(Digest::of(&text))
    }
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
fn matching(view: &View, folder: &Name, pattern: &Glob) -> Vec<Vec<u8>> {
    let mut found: Vec<Name> = Vec::new();
    for node in view.below(folder) {
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

/// Looks whether a file is an archive: by its content, as BuildKit does.
fn archive(context: &Context, node: &Node) -> Result<Option<Archive>, StepError> {
    let Kind::File { .. } = node.entry.kind else { return Ok(None) };
    let name = &node.entry.name;
    unpackable(context.open(name)?, name, Packed::Context)
}

/// The archive that a file is, if it is one.
fn unpackable(mut file: File, name: &Name, from: Packed) -> Result<Option<Archive>, StepError> {
    let read = |error| StepError::Archive { name: name.clone(), why: io::Error::to_string(&error) };
    let head = first(&mut file, 6).map_err(read)?;
    file.rewind().map_err(read)?;
    let packing = Decompressor::detect(&head);
    let is_tar = tar_begins(Decompressor::new(&file, packing).map_err(read)?);
    if !is_tar {
        return Ok(None);
    }
    file.rewind().map_err(read)?;
    let tar = Decompressor::new(io::BufReader::new(file), packing).map_err(read)?;
    let wrong = |why: String| StepError::Archive { name: name.clone(), why };
    let index = LayerIndex::of(Reader::of_archive(tar)).map_err(|e| wrong(e.to_string()))?;
    let (strays, tree) = strays(index.entries);
    let stray = |(ordinal, entry): (usize, Entry)| match entry.kind {
        Kind::Hardlink { .. } => {
            Err(wrong(format!("`{}` is a hard link below a link", entry.name.display())))
        }
        _ => Ok(Node { entry, content: Located { layer: 0, ordinal }, implied: false }),
    };
    let strays = strays.into_iter().map(stray).collect::<Result<_, _>>()?;
    let view = View::numbered(tree)?;
    Ok(Some(Archive { name: name.clone(), from, packing, view, strays }))
}

type Numbered = Vec<(usize, Entry)>;

/// Tells apart what an archive lists below a symbolic link of its own.
fn strays(entries: Vec<Entry>) -> (Numbered, Numbered) {
    let mut links: HashSet<Name> = HashSet::new();
    entries.into_iter().enumerate().partition(|(_, entry)| {
        let mut above = entry.name.parent();
        while let Some(folder) = above {
            if links.contains(&folder) {
                return true;
            }
            above = folder.parent();
        }
        match &entry.kind {
            Kind::Symlink { .. } => links.insert(entry.name.clone()),
            _ => links.remove(&entry.name),
        };
        false
    })
}

impl Archive {
    /// Calls `each` for the wanted entries, by their place in the archive.
    pub(super) fn contents<T>(
        &self,
        context: Option<&Context>,
        wanted: &BTreeMap<usize, T>,
        mut each: impl FnMut(&T, &mut dyn io::Read) -> io::Result<()>,
    ) -> Result<(), StepError> {
        let wrong = |why: String| StepError::Archive { name: self.name.clone(), why };
        let file = match (&self.from, context) {
            (Packed::Blob(path), _) => File::open(path).at("open", path)?,
            (Packed::Context, Some(context)) => context.open(&self.name)?,
            (Packed::Context, None) => return Ok(()),
        };
        let tar = Decompressor::new(io::BufReader::new(file), self.packing)
            .map_err(|e| wrong(e.to_string()))?;
        let mut reader = Reader::of_archive(tar);
        let mut ordinal = 0;
        while let Some(_entry) = reader.next().map_err(|e| wrong(e.to_string()))? {
            if let Some(what) = wanted.get(&ordinal) {
                each(what, &mut reader).map_err(|e| wrong(e.to_string()))?;
            }
            ordinal += 1;
        }
        Ok(())
    }
}

/// Keeps a reader's own error: whoever copies from it cannot tell it from the
/// writer's.
struct Watched<R> {
    from: R,
    failed: Option<io::Error>,
}

impl<R: io::Read> io::Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.from.read(buf).inspect_err(|error| {
            self.failed = Some(io::Error::new(error.kind(), error.to_string()));
        })
    }
}

/// The bytes of a file of the context, hashed as they pass: what is packed must be
/// what the key was made of.
pub(super) fn packed_as_hashed(
    context: &Context,
    name: &Name,
    write: impl FnOnce(&mut dyn io::Read) -> io::Result<()>,
) -> Result<(), StepError> {
    let expected = context.digest(name, &|| false)?;
    let file = context.open(name)?;
    let mut through = Hashing::new(Watched { from: file, failed: None });
    let written = write(&mut through);
    let (watched, found, _) = through.finish();
    match (written, watched.failed) {
        (_, Some(error)) => Err(error).at("read", context.path(name)).map_err(StepError::Io),
        (Ok(()), None) if found == expected => Ok(()),
        (Ok(()), None) => Err(StepError::Changed { name: name.clone() }),
        // Not the reader's: the file is shorter than it was, or the store is at fault.
        (Err(error), None) if error.kind() == io::ErrorKind::Other => {
            Err(StepError::Changed { name: name.clone() })
        }
        (Err(error), None) => Err(StepError::Write(error)),
    }
}

/// Reads a rootfs's contents; see [`Rootfs::contents`].
pub(super) fn layer_contents<T>(
    store: &Store,
    rootfs: &Rootfs,
    wanted: &BTreeMap<crate::layer::Located, T>,
    each: impl FnMut(&T, &mut dyn io::Read) -> io::Result<()>,
) -> Result<(), StepError> {
    Ok(rootfs.contents(store, wanted, each)?)
}
