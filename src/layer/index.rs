//! A layer's table of contents: every entry, without content.

use std::collections::{BTreeSet, HashSet};
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Kind, Name};
use super::packed::{Last, Packed};
use super::read::{ReadError, Reader};
use super::whiteout::whiteout_of;
use crate::digest::Digest;

/// The entries of one layer in the archive's order, whiteouts included. They are kept
/// packed, in some 20 bytes each, and unpacked one after the other when they are read.
///
/// As a text it is base64, as bytes it has a digest of itself at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerIndex {
    packed: Vec<u8>,
    count: usize,
    last: Last,
}

/// Bytes that are no table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no table of contents")]
pub struct IndexError;

const HEADER: &[u8] = b"kiln index 2\n";

impl LayerIndex {
    /// Reads an uncompressed archive to its end.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(tar: impl Read) -> Result<Self, ReadError> {
        Self::of(Reader::new(tar))
    }

    /// As [`LayerIndex::read`], of what a [`Reader`] takes.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn of(mut reader: Reader<impl Read>) -> Result<Self, ReadError> {
        let mut index = Self::default();
        while let Some(entry) = reader.next()? {
            index.push(&entry);
        }
        Ok(index)
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: &Entry) {
        self.last.pack(entry, &mut self.packed);
        self.count += 1;
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.packed.len()
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        Packed::of(&self.packed)
    }

    /// What [`LayerIndex::from_bytes`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [HEADER, &self.packed].concat();
        let seal = Digest::of(&bytes);
        bytes.extend_from_slice(seal.bytes());
        bytes
    }

    /// # Errors
    /// If the bytes are not all of what [`LayerIndex::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IndexError> {
        let (body, seal) = bytes.split_last_chunk::<32>().ok_or(IndexError)?;
        let packed = body.strip_prefix(HEADER).ok_or(IndexError)?;
        if Digest::of(body).bytes() != seal {
            return Err(IndexError);
        }
        Self::of_packed(packed.to_vec())
    }

    fn of_packed(packed: Vec<u8>) -> Result<Self, IndexError> {
        let mut entries = Packed::of(&packed);
        let count = entries.by_ref().count();
        let last = entries.end().ok_or(IndexError)?;
        Ok(Self { packed, count, last })
    }

    /// About how many bytes on a disk and how many inodes the layer takes unpacked.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        let bytes = |entry: Entry| match entry.kind {
            Kind::File { size } => size.next_multiple_of(4096),
            Kind::Dir => 4096,
            _ => 0,
        };
        let own = |entry: &Entry| !matches!(entry.kind, Kind::Hardlink { .. });
        (self.iter().map(bytes).sum(), self.iter().filter(own).count() as u64)
    }

    /// The folders that entries lie in without being listed themselves, the root
    /// left out: what they are, only lower layers can say.
    #[must_use]
    pub fn implied(&self) -> BTreeSet<Name> {
        let listed: HashSet<Name> = self
            .iter()
            .filter(|entry| whiteout_of(&entry.name).is_none())
            .map(|entry| entry.name)
            .collect();
        let mut implied = BTreeSet::new();
        for entry in self.iter() {
            let mut above = entry.name.parent();
            while let Some(folder) = above.filter(|folder| !folder.is_root()) {
                above = folder.parent();
                if !listed.contains(&folder) && !implied.insert(folder) {
                    break;
                }
            }
        }
        implied
    }
}

impl FromIterator<Entry> for LayerIndex {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        let mut index = Self::default();
        entries.into_iter().for_each(|entry| index.push(&entry));
        index
    }
}

impl From<LayerIndex> for String {
    fn from(index: LayerIndex) -> Self {
        STANDARD.encode(&index.packed)
    }
}

impl TryFrom<String> for LayerIndex {
    type Error = IndexError;
    fn try_from(text: String) -> Result<Self, IndexError> {
        Self::of_packed(STANDARD.decode(text).map_err(|_| IndexError)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Kind, RawBytes};
    use super::*;

    #[test]
    fn implied() {
        let of = |names: &[&str]| {
            let entry = |name: &&str| Entry::dir(Name::clean(name.as_bytes()).unwrap(), 0);
            let index: LayerIndex = names.iter().map(entry).collect();
            let names: Vec<String> = index.implied().into_iter().map(String::from).collect();
            names.join(" ")
        };
        assert_eq!(of(&["", "a", "a/b"]), "");
        assert_eq!(of(&["a/b/c", "a", "x/y", "x/.wh.z"]), "a/b x");
        assert_eq!(of(&["a/.wh.b", "c/.wh..wh..opq"]), "a c");
    }

    fn sample() -> Vec<Entry> {
        let name = |name: &str| Name::clean(name.as_bytes()).unwrap();
        let dir = |at: &str| Entry::dir(name(at), 0);
        let raw = |text: &[u8]| RawBytes(text.to_vec());
        let mut capable = Entry { kind: Kind::File { size: u64::MAX }, mode: 0o4755, ..dir("a/x") };
        capable.xattrs = [("security.capability", &b"\0\xff"[..]), ("user.empty", b"")]
            .map(|(key, value)| (key.to_owned(), raw(value)))
            .into();
        vec![
            Entry { mtime: i64::MIN, ..dir("") },
            dir("a"),
            capable,
            Entry { uid: u32::MAX, gid: 7, mtime: i64::MAX, ..dir("a/xy") },
            Entry { kind: Kind::Symlink { target: raw(b"../\xff") }, mode: 0o777, ..dir("a/l") },
            Entry { kind: Kind::Hardlink { target: name("a/x") }, mtime: -1, ..dir("b") },
            Entry { kind: Kind::Char { major: 1, minor: u32::MAX }, mode: 0, ..dir("c") },
            Entry { kind: Kind::Block { major: 300, minor: 3 }, ..dir(&"d/".repeat(200)) },
            Entry { kind: Kind::Fifo, ..dir("") },
            Entry { name: Name::clean(b"\xff%20").unwrap(), ..dir("") },
        ]
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let entries = sample();
        let index: LayerIndex = entries.iter().cloned().collect();
        assert_eq!(index.iter().collect::<Vec<_>>(), entries);
        let text = serde_json::to_string(&index).unwrap();
        let mut again = LayerIndex::from_bytes(&index.to_bytes()).unwrap();
        assert_eq!(serde_json::from_str::<LayerIndex>(&text).unwrap(), index);
        assert_eq!((again.len(), &again), (entries.len(), &index));
        // What is added goes by what was there.
        again.push(&entries[3]);
        assert_eq!(again.iter().last().as_ref(), Some(&entries[3]));
    }

    #[test]
    fn damage_is_found() {
        let bytes = sample().into_iter().collect::<LayerIndex>().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(LayerIndex::from_bytes(&damaged), Err(IndexError), "{at}");
            assert_eq!(LayerIndex::from_bytes(&bytes[..at]), Err(IndexError), "{at}");
        }
        for no_entry in [&[7, 0, 0][..], &[0, 1, 0], &[1, 0, 0], &[0, 0, 0xff, 0xff], &[0, 0, 0, 0]]
        {
            let text = STANDARD.encode(no_entry);
            assert!(LayerIndex::try_from(text).is_err(), "{no_entry:?}");
        }
    }

    #[test]
    fn an_entry_is_few_bytes() {
        let entry = |number: usize| {
            let name =
                format!("usr/share/a{:02}/b{}/f{:02}.c", number / 100, number / 25, number % 25);
            let kind = Kind::File { size: 4000 + number as u64 };
            Entry { kind, mode: 0o644, ..Entry::dir(Name::clean(name.as_bytes()).unwrap(), 1) }
        };
        let index: LayerIndex = (0..1000).map(entry).collect();
        assert!(index.weight() < 12 * index.len(), "{}", index.weight());
    }
}
