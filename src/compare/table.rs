//! What is in a layer, with a digest of each file: enough to tell which files differ.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;

use super::error::TooMuch;
use super::{Blobs, CompareError, MOST_ENTRIES, MOST_TEXT, Work};
use crate::digest::{DiffId, Digest, Hashing};
use crate::layer::{
    Decompressor, Entry, Kind, Layer, LayerIndex, Located, Name, RawHeader, ReadError, Reader,
    View, ViewError,
};

/// Most entries of an archive that is a file of an image.
const MOST_MEMBERS: usize = 100_000;
/// Most bytes of what their headers say.
const MOST_MEMBER_TEXT: u64 = 64 << 20;
/// Most bytes of holes in files of layers: they are hashed although nothing is read.
const MOST_HOLES: u64 = 64 << 30;

/// What entries may take yet.
#[derive(Debug)]
pub(super) struct Room {
    entries: usize,
    /// Bytes of names, targets and extended attributes.
    text: u64,
    holes: u64,
}

impl Room {
    /// For a layer, or for all layers of two trees.
    pub(super) fn new() -> Self {
        Self { entries: MOST_ENTRIES, text: MOST_TEXT, holes: MOST_HOLES }
    }

    fn take(&mut self, entry: &Entry, header: Option<&RawHeader>) -> Result<(), TooMuch> {
        self.entries = self.entries.checked_sub(1).ok_or(TooMuch::Entries)?;
        let target = match &entry.kind {
            Kind::Symlink { target } => target.0.len(),
            Kind::Hardlink { target } => target.as_bytes().len(),
            _ => 0,
        };
        let attributes = entry.xattrs.iter().map(|(key, value)| key.len() + value.0.len());
        let text = entry.name.as_bytes().len() + target + attributes.sum::<usize>();
        self.text = self.text.checked_sub(text as u64).ok_or(TooMuch::Text)?;
        if let Kind::File { size } = entry.kind {
            let holes = size.saturating_sub(header.map_or(size, stored));
            self.holes = self.holes.checked_sub(holes).ok_or(TooMuch::Holes)?;
        }
        Ok(())
    }
}

/// Bytes of an entry's content in the archive.
fn stored(header: &RawHeader) -> u64 {
    let record = header.records.get("size").and_then(|text| std::str::from_utf8(text).ok());
    let field = || tar::Header::from_byte_slice(&header.block).entry_size().ok();
    record.and_then(|text| text.parse().ok()).or_else(field).unwrap_or_default()
}

/// An entry with what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) entry: Entry,
    /// Nanoseconds of its time.
    pub(super) nanos: u32,
    /// Where it stands.
    pub(super) at: Located,
    /// Where its content stands: elsewhere, if it is a hard link.
    pub(super) root: Located,
    /// Of a file's content, also if it is a hard link to one of this table.
    pub(super) content: Option<(u64, Digest)>,
    /// The beginning of what its header hashes to.
    pub(super) form: u64,
    /// How often its name occurs.
    pub(super) times: u32,
}

/// The entries by name.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) items: Vec<Item>,
    /// Names of files that have several, and what these hash to.
    links: HashMap<Located, (Option<Digest>, Vec<Name>)>,
    /// Bytes after the last entry.
    pub(super) end: u64,
    /// Bytes of the tar.
    pub(super) size: u64,
}

/// Counts what is read.
struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

impl Table {
    /// Reads a layer, which takes some of the room.
    pub(super) fn of(
        blobs: &dyn Blobs,
        layer: &Layer,
        room: &mut Room,
        work: Work<'_>,
    ) -> Result<Self, CompareError> {
        let tar = Decompressor::new(blobs.open(&layer.digest)?, layer.compression)
            .map_err(|source| CompareError::Blob { digest: layer.digest, source })?;
        match Self::read(tar, room, work, Reader::new) {
            Ok(Ok(table)) => Ok(table),
            Ok(Err(what)) => Err(CompareError::TooMuch { digest: layer.digest, what }),
            Err(_) if (work.stop)() => Err(CompareError::Stopped),
            Err(source) => Err(CompareError::Layer { digest: layer.digest, source }),
        }
    }

    /// Reads an archive of `size` bytes that is a file of an image; `None` if it has too many
    /// entries, or more holes than bytes, which are worth no time.
    pub(super) fn of_archive(
        tar: impl Read,
        size: u64,
        work: Work<'_>,
    ) -> Result<Option<Self>, ReadError> {
        let mut room = Room { entries: MOST_MEMBERS, text: MOST_MEMBER_TEXT, holes: size };
        Ok(Self::read(tar, &mut room, work, Reader::of_archive)?.ok())
    }

    fn read<R: Read>(
        tar: R,
        room: &mut Room,
        work: Work<'_>,
        reader: impl FnOnce(Counting<R>) -> Reader<Counting<R>>,
    ) -> Result<Result<Self, TooMuch>, ReadError> {
        let count = Rc::new(Cell::new(0));
        let tar = Counting { inner: tar, count: Rc::clone(&count) };
        let mut reader = reader(tar).keeping_headers();
        let mut table = Self::default();
        let mut end = 0;
        while let Some(entry) = reader.next()? {
            work.go_on()?;
            if let Err(what) = room.take(&entry, reader.raw_header()) {
                return Ok(Err(what));
            }
            let at = Located { layer: 0, ordinal: table.items.len() };
            let header = reader.raw_header();
            let (nanos, form) = header.map_or((0, 0), |header| (nanos(header), form(header)));
            let content = match entry.kind {
                Kind::File { size } => {
                    let mut hash = Hashing::new(io::sink());
                    work.copy(&mut reader, &mut hash)?;
                    Some((size, hash.finish().1))
                }
                _ => None,
            };
            end = count.get().next_multiple_of(512);
            let (root, times) = (at, 1);
            table.items.push(Item { entry, nanos, at, root, content, form, times });
        }
        table.size = count.get();
        table.end = table.size.saturating_sub(end);
        table.settle();
        Ok(Ok(table))
    }

    /// Follows hard links, sorts, and keeps the last of each name.
    fn settle(&mut self) {
        let mut files: HashMap<Name, usize> = HashMap::new();
        for at in 0..self.items.len() {
            if let Kind::Hardlink { target } = &self.items[at].entry.kind
                && let Some(&root) = files.get(target)
            {
                self.items[at].root = self.items[root].root;
                self.items[at].content = self.items[root].content;
                files.insert(self.items[at].entry.name.clone(), root);
            } else if self.items[at].content.is_some() {
                files.insert(self.items[at].entry.name.clone(), at);
            }
        }
        drop(files);
        self.items.sort_by(|a, b| a.entry.name.cmp(&b.entry.name).then(a.at.cmp(&b.at)));
        self.items.dedup_by(|later, kept| {
            let same = later.entry.name == kept.entry.name;
            if same {
                later.times = kept.times + 1;
                std::mem::swap(later, kept);
            }
            same
        });
        self.link();
    }

    fn link(&mut self) {
        let is_link = |item: &&Item| item.root != item.at;
        let roots: HashSet<Located> =
            self.items.iter().filter(is_link).map(|item| item.root).collect();
        for item in self.items.iter().filter(|item| roots.contains(&item.root)) {
            self.links.entry(item.root).or_default().1.push(item.entry.name.clone());
        }
        self.seal();
    }

    /// Hashes the names of each file that has several.
    fn seal(&mut self) {
        self.links.retain(|_, (_, names)| names.len() > 1);
        for (digest, names) in self.links.values_mut() {
            let all: Vec<&[u8]> = names.iter().map(Name::as_bytes).collect();
            *digest = Some(Digest::of(&all.join(&0)));
        }
    }

    /// All names of an item's file, if it has several.
    pub(super) fn names(&self, item: &Item) -> &[Name] {
        self.links.get(&item.root).map_or(&[], |(_, names)| names.as_slice())
    }

    /// What these names hash to.
    pub(super) fn names_digest(&self, item: &Item) -> Option<Digest> {
        self.links.get(&item.root)?.0
    }

    /// The tree that layers make together. Layers that were read for the other side are in
    /// `known`, which learns those that are read now. All of them share the room.
    pub(super) fn merged(
        blobs: &dyn Blobs,
        layers: &[Layer],
        known: &mut BTreeMap<DiffId, Rc<Contents>>,
        room: &mut Room,
        work: Work<'_>,
    ) -> Result<Result<Self, ViewError>, CompareError> {
        let mut all = Vec::new();
        for layer in layers {
            let contents = match known.get(&layer.diff_id) {
                Some(contents) => Rc::clone(contents),
                None => {
                    let contents = Rc::new(Contents::of(Self::of(blobs, layer, room, work)?));
                    known.insert(layer.diff_id, Rc::clone(&contents));
                    contents
                }
            };
            all.push(contents);
        }
        let indexes: Vec<Arc<LayerIndex>> =
            all.iter().map(|contents| Arc::clone(&contents.index)).collect();
        let view = match View::new(&indexes) {
            Ok(view) => view,
            Err(error) => return Ok(Err(error)),
        };
        let mut table = Self::default();
        for node in view.below(&Name::root()) {
            let Located { layer, ordinal } = node.content;
            let of = all.get(layer).and_then(|contents| contents.files.get(ordinal));
            let (ordinal, digest) = of.copied().unwrap_or((ordinal, None));
            let root = Located { layer, ordinal };
            let content = match node.entry.kind {
                Kind::File { size } => digest.map(|digest| (size, digest)),
                _ => None,
            };
            let entry = node.entry.clone();
            table.items.push(Item { entry, nanos: 0, at: root, root, content, form: 0, times: 1 });
        }
        let mut counts: HashMap<Located, u32> = HashMap::new();
        for item in table.items.iter().filter(|item| item.content.is_some()) {
            *counts.entry(item.root).or_default() += 1;
        }
        for item in &table.items {
            if counts.get(&item.root).is_some_and(|count| *count > 1) {
                table.links.entry(item.root).or_default().1.push(item.entry.name.clone());
            }
        }
        table.seal();
        Ok(Ok(table))
    }
}

/// A layer for a merged tree: its table of contents, and where the entries of that stand in
/// the archive, with the files' digests.
#[derive(Debug)]
pub(super) struct Contents {
    index: Arc<LayerIndex>,
    files: Vec<(usize, Option<Digest>)>,
}

impl Contents {
    /// Of a name that occurs twice, the last.
    fn of(table: Table) -> Self {
        let mut items = table.items;
        items.sort_by_key(|item| item.at);
        let mut index = LayerIndex::default();
        let mut files = Vec::new();
        for item in items {
            files.push((item.at.ordinal, item.content.map(|(_, digest)| digest)));
            index.push(&item.entry);
        }
        Self { index: Arc::new(index), files }
    }
}

/// What whole seconds leave of a time in the extended header.
fn nanos(header: &RawHeader) -> u32 {
    let text = header.records.get("mtime").and_then(|text| std::str::from_utf8(text).ok());
    let Some((whole, fraction)) = text.and_then(|text| text.split_once('.')) else { return 0 };
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().unwrap_or_default();
    // Whole seconds are rounded down: -0.3 is 0.7 after -1.
    if whole.starts_with('-') && nanos > 0 { 1_000_000_000 - nanos } else { nanos }
}

/// The header without its check sum, which follows from the rest.
fn form(header: &RawHeader) -> u64 {
    let mut text = header.block.to_vec();
    text[148..156].fill(0);
    text.extend(header.long.map(u8::from));
    for (key, value) in &header.records {
        text.extend_from_slice(key.as_bytes());
        text.push(b'=');
        text.extend_from_slice(&value.len().to_le_bytes());
        text.extend_from_slice(value);
    }
    let digest = Digest::of(&text);
    digest.bytes().iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar of one file with an attribute of that length.
    fn tar(name: &str, attribute: usize) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let value = vec![b'x'; attribute];
        tar.append_pax_extensions([("SCHILY.xattr.user.a", value.as_slice())]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
            set(&mut header, 0);
        }
        header.set_mode(0o644);
        tar.append_data(&mut header, name, std::io::empty()).unwrap();
        tar.into_inner().unwrap()
    }

    /// Several layers share one room.
    #[test]
    fn names_and_attributes_take_room() {
        let stop = || false;
        let work = Work { scratch: std::path::Path::new("/"), stop: &stop };
        let mut room = Room { entries: 3, text: 1000, holes: 0 };
        let mut read =
            |length| Table::read(&*tar("f", length), &mut room, work, Reader::new).unwrap();
        assert_eq!(read(500).unwrap().items.len(), 1);
        assert_eq!(read(500).unwrap_err(), TooMuch::Text);
        assert_eq!(read(100).unwrap().items.len(), 1);
        assert_eq!(read(0).unwrap_err(), TooMuch::Entries);
        let stop = || true;
        let work = Work { stop: &stop, ..work };
        assert!(Table::read(&*tar("f", 1), &mut Room::new(), work, Reader::new).is_err());
    }
}
