//! Writes a layer: one pass that makes the tar, hashes it, compresses it and
//! hashes that.
//!
//! Headers are ustar with nothing but what an entry says: no user names, whole
//! seconds, and a pax header for what ustar cannot hold.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::compress::Compressor;
use super::entry::{Entry, Kind, Name};
use super::index::LayerIndex;
use super::reuse::{BlockTable, Earlier};
use super::{Compression, gzip, pax, whiteout, zstd};
use crate::digest::DiffId;

/// How a layer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerForm {
    pub compression: Compression,
    /// 0 to 9 for gzip, 0 to 22 for zstd; none is the usual one.
    pub level: Option<u8>,
}

impl LayerForm {
    /// The level that the compressor gets.
    pub(super) fn level(self) -> u8 {
        self.level.unwrap_or(match self.compression {
            Compression::None => 0,
            Compression::Gzip => gzip::DEFAULT_LEVEL,
            Compression::Zstd => zstd::DEFAULT_LEVEL,
        })
    }

    /// What the compressed bytes depend on besides the content: one name, the same bytes.
    /// It changes with the compressors, and with where blocks end.
    #[must_use]
    pub fn name(self) -> String {
        let level = self.level();
        match self.compression {
            Compression::None => "tar".to_owned(),
            Compression::Gzip => format!("gzip-{level} libdeflate-1.26 blocks-1"),
            Compression::Zstd => format!("zstd-{level} zstd-1.5.7 blocks-1"),
        }
    }
}

impl From<Compression> for LayerForm {
    fn from(compression: Compression) -> Self {
        Self { compression, level: None }
    }
}

/// Writes entries in the order given, which is the caller's promise to keep
/// stable. A hard link must come after its target.
pub struct LayerWriter<W: Write> {
    tar: Compressor<W>,
    /// What was written, if it is to be known.
    index: Option<LayerIndex>,
    /// The last entry was a large file.
    large: bool,
}

/// A layer that was written.
#[derive(Debug)]
pub struct Written<W> {
    /// Where it was written to.
    pub to: W,
    pub diff_id: DiffId,
    /// Its table of contents; empty if the writer was no [indexed](LayerWriter::indexed) one.
    pub index: LayerIndex,
    /// What its blocks became; empty if that was not [asked for](LayerWriter::tabled).
    pub blocks: BlockTable,
}

/// A file of at least this size begins and ends a block: it may be noise between text, or the
/// other way round, and its blocks are the same wherever it comes to lie.
const LARGE: u64 = 1 << 20;

/// ustar's fields hold this much.
const MAX_NAME: usize = 100;
const MAX_ID: u32 = 0o777_7777;
const MAX_NUMBER: u64 = 0o777_7777_7777;

impl<W: Write> LayerWriter<W> {
    pub fn new(to: W, form: LayerForm) -> Self {
        Self { tar: Compressor::new(to, form), index: None, large: false }
    }

    /// As [`LayerWriter::new`], and keeps the table of contents as well, some 20 bytes
    /// for each entry.
    pub fn indexed(to: W, form: LayerForm) -> Self {
        Self { index: Some(LayerIndex::default()), ..Self::new(to, form) }
    }

    /// Lets the writer take blocks from an earlier layer, if there is one, and make a table
    /// of its own for later ones. The layer is the same in any case.
    #[must_use]
    pub fn tabled(mut self, earlier: Option<Earlier>) -> Self {
        self.tar.tabled(earlier);
        self
    }

    /// Adds an entry; of a file, `content` must give exactly its size.
    ///
    /// # Errors
    /// If writing fails or the content is shorter than the entry says.
    pub fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        let mut records: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut path = entry.name.as_bytes().to_vec();
        if entry.name.is_root() {
            path.push(b'.');
        }
        if entry.kind == Kind::Dir {
            path.push(b'/');
        }
        let mut link: &[u8] = b"";
        let kind = match &entry.kind {
            Kind::Dir => tar::EntryType::Directory,
            Kind::File { .. } => tar::EntryType::Regular,
            Kind::Symlink { target } => {
                link = &target.0;
                tar::EntryType::Symlink
            }
            Kind::Hardlink { target } => {
                link = target.as_bytes();
                tar::EntryType::Link
            }
            Kind::Char { major, minor } => {
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                tar::EntryType::Char
            }
            Kind::Block { major, minor } => {
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                tar::EntryType::Block
            }
            Kind::Fifo => tar::EntryType::Fifo,
        };
        header.set_entry_type(kind);
        if path.len() > MAX_NAME {
            records.insert("path".into(), path.clone());
            path.truncate(MAX_NAME);
        }
        if link.len() > MAX_NAME {
            records.insert("linkpath".into(), link.to_vec());
            link = &link[..MAX_NAME];
        }
        let fields = header.as_old_mut();
        fields.name[..path.len()].copy_from_slice(&path);
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_mode(entry.mode & 0o7777);
        let mut id = |key: &str, value: u32| {
            if value > MAX_ID {
                records.insert(key.into(), value.to_string().into_bytes());
            }
            u64::from(value.min(MAX_ID))
        };
        header.set_uid(id("uid", entry.uid));
        header.set_gid(id("gid", entry.gid));
        match u64::try_from(entry.mtime) {
            Ok(mtime) if mtime <= MAX_NUMBER => header.set_mtime(mtime),
            _ => {
                records.insert("mtime".into(), entry.mtime.to_string().into_bytes());
                header.set_mtime(0);
            }
        }
        let size = entry.size();
        if size > MAX_NUMBER {
            records.insert("size".into(), size.to_string().into_bytes());
        }
        // The tar crate falls back to a binary form beyond octal, as GNU tar does.
        header.set_size(size);
        for (key, value) in &entry.xattrs {
            records.insert(format!("SCHILY.xattr.{key}"), value.0.clone());
        }
        let large = size >= LARGE;
        if large || self.large {
            self.tar.border()?;
        }
        self.large = large;
        if !records.is_empty() {
            self.pax(&pax::write(&records))?;
        }
        header.set_cksum();
        self.tar.write_all(header.as_bytes())?;
        let copied = self.tar.fill(content, size)?;
        if copied != size {
            let name = entry.name.display();
            return Err(io::Error::other(format!(
                "{name} changed while it was read: {copied} of {size} bytes"
            )));
        }
        if let Some(index) = &mut self.index {
            index.push(entry);
        }
        self.pad(size)
    }

    fn pax(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.tar.write_all(header.as_bytes())?;
        self.tar.write_all(records)?;
        self.pad(records.len() as u64)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % 512) as usize;
        if over == 0 { Ok(()) } else { self.tar.write_all(&[0; 512][over..]) }
    }

    /// Adds the mark that a lower layer's entry is gone.
    ///
    /// # Errors
    /// If writing fails.
    pub fn gone(&mut self, name: &Name, mtime: i64) -> io::Result<()> {
        self.mark(whiteout::mark(name), mtime)
    }

    /// Adds the mark that a folder hides what lower layers have in it.
    ///
    /// # Errors
    /// If writing fails.
    pub fn opaque(&mut self, folder: &Name, mtime: i64) -> io::Result<()> {
        self.mark(whiteout::mark_opaque(folder), mtime)
    }

    fn mark(&mut self, name: Name, mtime: i64) -> io::Result<()> {
        let entry = Entry { kind: Kind::File { size: 0 }, mode: 0, ..Entry::dir(name, mtime) };
        self.entry(&entry, &mut io::empty())
    }

    /// Ends the archive; gives the destination back and what the tar hashes to.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(self) -> io::Result<(W, DiffId)> {
        let written = self.finish_whole()?;
        Ok((written.to, written.diff_id))
    }

    /// As [`LayerWriter::finish`], with all else that is known of the layer.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish_whole(mut self) -> io::Result<Written<W>> {
        self.tar.write_all(&[0; 1024])?;
        let (to, digest, blocks) = self.tar.finish_hashed()?;
        Ok(Written { to, diff_id: DiffId(digest), index: self.index.unwrap_or_default(), blocks })
    }
}
