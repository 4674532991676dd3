//! The merged tree of an image's layers, and the passes over them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use super::content::{Content, Taking};
use super::find::{Class, Findings};
use super::{Found, Open, Options, SbomError};
use crate::layer::{
    Decompressor, Entry, Kind, Layer, LayerIndex, Located, Name, Node, ReadError, Reader, View,
};

/// Most entries of all layers: their table is held in memory.
const MOST_ENTRIES: usize = 8_000_000;
/// Most bytes of their names, targets and attributes.
const MOST_NAMES: usize = 1 << 30;
/// Most bytes of a file that is looked into: it is on disk meanwhile, and holes cost nothing in
/// an archive.
const MOST_BYTES: u64 = 4 << 30;

/// What the layers make together.
pub(super) struct Tree<'l> {
    view: View,
    layers: &'l [Layer],
}

impl Tree<'_> {
    /// What lies at a path, through links.
    pub(super) fn at(&self, path: &[u8]) -> Option<&Node> {
        self.view.get(&self.view.resolve(path, true).ok()?)
    }

    /// True if there is something at that very name.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        Name::clean(path).is_some_and(|name| self.view.get(&name).is_some())
    }

    /// A name in the layer that brought what lies there.
    pub(super) fn found_at(&self, name: &Name) -> Option<Found> {
        self.found(&path(name), self.view.get(name)?)
    }

    /// A place in the layer that brought a node.
    pub(super) fn found(&self, path: &str, node: &Node) -> Option<Found> {
        let number = node.content.layer;
        let layer = self.layers.get(number)?;
        Some(Found {
            path: path.to_owned(),
            layer: number,
            diff_id: layer.diff_id,
            digest: layer.digest,
        })
    }
}

/// Reads the layers: once for the tree, once more for what `found` is to look into.
pub(super) fn read<'l>(
    layers: &'l [Layer],
    open: &Open<'_>,
    options: Options<'_>,
    found: &mut Findings,
) -> Result<Tree<'l>, SbomError> {
    let mut view = View::default();
    let mut programs = BTreeSet::new();
    let (mut entries, mut names) = (0, 0);
    for (number, layer) in layers.iter().enumerate() {
        let mut index = LayerIndex::default();
        walk(layer, open, options, |ordinal, entry, content| {
            entries += 1;
            names += weight(&entry);
            if entries > MOST_ENTRIES || names > MOST_NAMES {
                return Err(SbomError::TooMuch { digest: layer.digest });
            }
            if matches!(entry.kind, Kind::File { .. }) && Class::of_name(&entry.name).is_none() {
                let mut magic = [0; 4];
                let count = fill(content, &mut magic)
                    .map_err(|source| SbomError::Blob { digest: layer.digest, source })?;
                if count == 4 && magic == *b"\x7fELF" {
                    programs.insert(Located { layer: number, ordinal });
                }
            }
            index.push(&entry);
            Ok(true)
        })?;
        view.apply(number, &Arc::new(index))?;
    }
    // A file may have several names; what is above is there no more.
    let mut names: BTreeMap<Located, Vec<(Name, Class)>> = BTreeMap::new();
    for node in view.below(&Name::root()) {
        if !matches!(node.entry.kind, Kind::File { .. }) {
            continue;
        }
        let program = || programs.contains(&node.content).then_some(Class::Program);
        let class = Class::of_name(&node.entry.name).or_else(program);
        if let Some(class) = class {
            names.entry(node.content).or_default().push((node.entry.name.clone(), class));
        }
    }
    let tree = Tree { view, layers };
    let mut spool = tempfile::tempfile_in(options.scratch).map_err(SbomError::Scratch)?;
    let of = |layer| Located { layer, ordinal: 0 };
    for (number, layer) in layers.iter().enumerate() {
        let mut wanted = names.range(of(number)..of(number + 1)).peekable();
        if wanted.peek().is_none() {
            continue;
        }
        walk(layer, open, options, |ordinal, entry, content| {
            let Some((_, names)) = wanted.next_if(|(at, _)| at.ordinal == ordinal) else {
                return Ok(wanted.peek().is_some());
            };
            if matches!(entry.kind, Kind::File { size } if size > MOST_BYTES) {
                let why = format!("it has more than {} GiB", MOST_BYTES >> 30);
                names.iter().for_each(|(name, _)| found.warn(&path(name), &*why));
            } else {
                let go_on = || stopped(options);
                let content =
                    Content::take(content, &mut spool, &go_on).map_err(|why| match why {
                        Taking::Read(_) if (options.stop)() => SbomError::Stopped,
                        Taking::Read(source) => SbomError::Blob { digest: layer.digest, source },
                        Taking::Write(error) => SbomError::Scratch(error),
                    })?;
                found.look(&content, names, &tree);
            }
            Ok(wanted.peek().is_some())
        })?;
    }
    Ok(tree)
}

/// A name as it is told.
fn path(name: &Name) -> String {
    format!("/{}", String::from(name.clone()))
}

/// Bytes of what an entry says of itself.
fn weight(entry: &Entry) -> usize {
    let target = match &entry.kind {
        Kind::Symlink { target } => target.0.len(),
        Kind::Hardlink { target } => target.as_bytes().len(),
        _ => 0,
    };
    let attributes = entry.xattrs.iter().map(|(key, value)| key.len() + value.0.len());
    entry.name.as_bytes().len() + target + attributes.sum::<usize>()
}

/// Calls `each` with the entries of a layer and their contents, until it says that it has
/// enough.
fn walk(
    layer: &Layer,
    open: &Open<'_>,
    options: Options<'_>,
    mut each: impl FnMut(
        usize,
        Entry,
        &mut Reader<Stoppable<'_, Decompressor<'_>>>,
    ) -> Result<bool, SbomError>,
) -> Result<(), SbomError> {
    let digest = layer.digest;
    let wrong = |source: ReadError| match source {
        _ if (options.stop)() => SbomError::Stopped,
        source => SbomError::Layer { digest, source },
    };
    let blob = open(&digest).map_err(|source| SbomError::Open { digest, source })?;
    let tar = Decompressor::new(blob, layer.compression)
        .map_err(|source| SbomError::Blob { digest, source })?;
    let mut reader = Reader::new(Stoppable { from: tar, options });
    let mut ordinal = 0;
    while let Some(entry) = reader.next().map_err(wrong)? {
        if !each(ordinal, entry, &mut reader)? {
            break;
        }
        ordinal += 1;
    }
    Ok(())
}

fn stopped(options: Options<'_>) -> io::Result<()> {
    if (options.stop)() { Err(io::Error::other("the work was stopped")) } else { Ok(()) }
}

/// Reads until it is asked to stop.
struct Stoppable<'o, R> {
    from: R,
    options: Options<'o>,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        stopped(self.options)?;
        self.from.read(buf)
    }
}

/// Reads as much as there is, or as fits.
fn fill(from: &mut impl Read, to: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = to.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
