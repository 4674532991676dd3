//! Reads a layer's tar: strict, since its bytes are a stranger's.
//!
//! ustar, pax (POSIX.1-2008) and GNU long names are understood. Sizes from all
//! header forms are settled before the position moves. Files with holes are read
//! whole. Multi-volume archives and anything unknown are an error, as is a path with
//! `..`.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::entry::{Entry, Kind, Name, RawBytes};
use super::pax;
use super::sparse::{self, Part, Records, Sparse};

/// Most bytes of one extended header or long name.
const MAX_HEADER: u64 = 1 << 20;
/// Most bytes of a path, or a link's target: the kernel's own limit.
const MAX_PATH: usize = 4096;
/// Most entries of one archive.
const MAX_ENTRIES: u64 = 20_000_000;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the archive: {0}")]
    Io(#[from] io::Error),
    #[error("the archive's entry {number}{} is malformed: {why}", path.as_ref().map(|p| format!(" ({p})")).unwrap_or_default())]
    Malformed { number: u64, path: Option<String>, why: String },
}

/// Gives entries one after the other; between two calls of [`Reader::next`] it
/// reads as the content of the last one.
pub struct Reader<R: Read> {
    from: R,
    /// Content of the current entry that was not read yet, and the padding after it.
    left: u64,
    padding: u64,
    /// Set if the current entry has holes.
    sparse: Option<Sparse>,
    /// Entries of the root that are no folder are passed over.
    passes_nameless: bool,
    /// Set if headers are kept: that of the current entry.
    header: Option<Box<RawHeader>>,
    number: u64,
}

/// An entry's header as it stands in the archive, for whoever compares how archives were
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawHeader {
    pub block: [u8; 512],
    /// Records of the extended header before it.
    pub records: BTreeMap<String, Vec<u8>>,
    /// Whether GNU's entries for a long name and a long link's target came before it.
    pub long: [bool; 2],
}

impl Default for RawHeader {
    fn default() -> Self {
        Self { block: [0; 512], records: BTreeMap::new(), long: [false; 2] }
    }
}

/// What extended headers said of the entry that follows them.
#[derive(Default)]
struct Extra {
    records: BTreeMap<String, Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            padding: 0,
            sparse: None,
            passes_nameless: false,
            header: None,
            number: 0,
        }
    }

    /// Keeps the header of each entry for [`Reader::raw_header`].
    #[must_use]
    pub fn keeping_headers(self) -> Self {
        Self { header: Some(Box::default()), ..self }
    }

    /// The current entry's header, if headers are kept.
    #[must_use]
    pub fn raw_header(&self) -> Option<&RawHeader> {
        self.header.as_deref()
    }

    /// Reads what is no layer: an entry without a name, which some programs write and
    /// others pass over, is passed over.
    pub fn of_archive(from: R) -> Self {
        Self { passes_nameless: true, ..Self::new(from) }
    }

    fn malformed(&self, path: Option<&Name>, why: impl Into<String>) -> ReadError {
        ReadError::Malformed {
            number: self.number,
            path: path.map(|p| p.display().into_owned()),
            why: why.into(),
        }
    }

    /// The next entry, or `None` at the archive's end. What of the last entry's
    /// content was not read is skipped.
    ///
    /// # Errors
    /// If the archive is damaged or has what kiln does not take.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and lends the content")]
    pub fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut extra = Extra::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if !extra.records.is_empty() || extra.path.is_some() || extra.link.is_some() {
                    return Err(self.malformed(None, "the archive ends after an extended header"));
                }
                return Ok(None);
            };
            self.number += 1;
            if self.number > MAX_ENTRIES {
                return Err(self.malformed(None, format!("more than {MAX_ENTRIES} entries")));
            }
            let sum =
                header.cksum().map_err(|_| self.malformed(None, "its checksum is no number"))?;
            let of = |bytes: &[u8]| bytes.iter().map(|&c| u32::from(c)).sum::<u32>();
            let bytes = header.as_bytes();
            if sum != of(&bytes[..148]) + 8 * 32 + of(&bytes[156..]) {
                return Err(self.malformed(None, "its checksum is wrong"));
            }
            let size =
                header.entry_size().map_err(|_| self.malformed(None, "its size is no number"))?;
            match header.entry_type().as_byte() {
                b'x' => {
                    let bytes = self.small(size)?;
                    extra
                        .records
                        .extend(pax::read(&bytes).map_err(|why| self.malformed(None, why))?);
                }
                b'g' => {
                    // git archive writes its commit here. What changes entries would have to
                    // hold for all of them, which readers do differently.
                    let bytes = self.small(size)?;
                    let records = pax::read(&bytes).map_err(|why| self.malformed(None, why))?;
                    if let Some(key) = records.keys().find(|key| has_meaning(key)) {
                        return Err(self.malformed(None, format!("global header sets `{key}`")));
                    }
                }
                b'L' => extra.path = Some(self.long(size)?),
                b'K' => extra.link = Some(self.long(size)?),
                _ => {
                    if let Some(kept) = &mut self.header {
                        kept.block = *header.as_bytes();
                        kept.long = [extra.path.is_some(), extra.link.is_some()];
                        kept.records.clone_from(&extra.records);
                    }
                    let entry = self.entry(&header, size, std::mem::take(&mut extra))?;
                    if !entry.name.is_root() || entry.kind == Kind::Dir {
                        return Ok(Some(entry));
                    }
                }
            }
        }
    }

    /// Skips the rest of the current entry.
    fn skip(&mut self) -> Result<(), ReadError> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink())?;
        if skipped != rest {
            return Err(self.malformed(None, "the archive is cut off"));
        }
        (self.left, self.padding, self.sparse) = (0, 0, None);
        Ok(())
    }

    /// One header block; `None` at the end, where the rest is read so that a
    /// digest over the stream covers all of it.
    fn header(&mut self) -> Result<Option<tar::Header>, ReadError> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            let n = self.from.read(&mut block[filled..])?;
            if n == 0 {
                break;
            }
            filled += n;
        }
        match filled {
            0 => Ok(None),
            512 if block.iter().all(|&c| c == 0) => {
                self.rest_is_zero()?;
                Ok(None)
            }
            512 => Ok(Some(header)),
            _ => Err(self.malformed(None, "the archive is cut off")),
        }
    }

    /// After the first zero block only zeros may come: another archive appended
    /// there would be seen by some readers only.
    fn rest_is_zero(&mut self) -> Result<(), ReadError> {
        let mut buffer = [0; 8192];
        loop {
            let n = self.from.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            if buffer[..n].iter().any(|&c| c != 0) {
                return Err(self.malformed(None, "there is more after the archive's end"));
            }
        }
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % 512;
    }

    fn small(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        if size > MAX_HEADER {
            return Err(self.malformed(
                None,
                format!("an extended header of {size} bytes; {MAX_HEADER} are allowed"),
            ));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(self.malformed(None, "the archive is cut off"));
        }
        Ok(bytes)
    }

    fn long(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = self.small(size)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn entry(&mut self, header: &tar::Header, size: u64, extra: Extra) -> Result<Entry, ReadError> {
        let Extra { mut records, path, link } = extra;
        let (holes, real_path) =
            sparse::take(&mut records).map_err(|why| self.malformed(None, why))?;
        let path = real_path
            .or(records.remove("path"))
            .or(path)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = records.remove("linkpath").or(link);
        let link = link
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        if path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(self.malformed(None, format!("a path of more than {MAX_PATH} bytes")));
        }
        let shown = String::from_utf8_lossy(&path).into_owned();
        let name = Name::clean(&path).ok_or_else(|| {
            self.malformed(None, format!("its path `{shown}` leads out of the archive"))
        })?;
        let bad = |this: &Self, why: &str| this.malformed(Some(&name), why);
        let size = match records.remove("size") {
            Some(text) => number(&text).ok_or_else(|| bad(self, "its size is no number"))?,
            None => size,
        };
        let kind = match header.entry_type().as_byte() {
            // In the oldest format a folder is a file whose name ends in a slash.
            0 | b'0' | b'7' if path.ends_with(b"/") && size == 0 => Kind::Dir,
            0 | b'0' | b'7' => Kind::File { size },
            b'1' => Kind::Hardlink {
                target: Name::clean(&link)
                    .ok_or_else(|| bad(self, "its link leads out of the archive"))?,
            },
            b'2' => Kind::Symlink { target: RawBytes(link) },
            b'3' | b'4' => {
                let half = |half: io::Result<Option<u32>>| half.ok().flatten();
                let (major, minor) =
                    half(header.device_major())
                        .zip(half(header.device_minor()))
                        .ok_or_else(|| bad(self, "its device numbers are no numbers"))?;
                if header.entry_type().as_byte() == b'3' {
                    Kind::Char { major, minor }
                } else {
                    Kind::Block { major, minor }
                }
            }
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            b'S' => Kind::File { size },
            other => {
                return Err(bad(
                    self,
                    &format!("its type `{}` is not known", other.escape_ascii()),
                ));
            }
        };
        if !matches!(kind, Kind::File { .. }) && size != 0 {
            return Err(bad(self, "it has content although it is no file"));
        }
        if let Kind::Symlink { target } = &kind
            && (target.0.is_empty() || target.0.contains(&0))
        {
            return Err(bad(self, "its link has no target"));
        }
        if name.is_root() && kind != Kind::Dir && !self.passes_nameless {
            return Err(bad(self, "the root is no folder"));
        }
        let mut id = |key: &str, field: io::Result<u64>| {
            let value = match records.remove(key) {
                Some(text) => number(&text),
                None => field.ok(),
            };
            // uid -1 means "no change" to the kernel.
            let fits =
                value.and_then(|value| u32::try_from(value).ok()).filter(|&id| id != u32::MAX);
            fits.ok_or_else(|| bad(self, &format!("its {key} is no number below 2^32 - 1")))
        };
        let uid = id("uid", header.uid())?;
        let gid = id("gid", header.gid())?;
        let mtime = match records.remove("mtime") {
            Some(text) => seconds(&text).ok_or_else(|| bad(self, "its mtime is no number"))?,
            None => header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
        };
        let mode = header.mode().map_err(|_| bad(self, "its mode is no number"))? & 0o7777;
        let mut xattrs = BTreeMap::new();
        for (key, value) in records {
            // Other records (atime, ctime, uname, LIBARCHIVE.*) say nothing that a layer keeps.
            if let Some(attribute) = key.strip_prefix("SCHILY.xattr.") {
                if attribute.is_empty() || attribute.len() > 255 || attribute.contains('\0') {
                    return Err(bad(self, "it has an extended attribute without a proper name"));
                }
                xattrs.insert(attribute.to_owned(), RawBytes(value));
            }
        }
        self.begin(if matches!(kind, Kind::File { .. }) { size } else { 0 });
        let sparse = match (header.entry_type().as_byte(), &holes) {
            (b'S', _) => Some(self.old_map(header)),
            (_, Records::Plain) => None,
            (_, Records::Map(pieces, size)) => Some(Sparse::new(pieces, *size, self.left)),
            (_, Records::Inside(size)) => Some(self.map_inside(*size)),
        };
        let sparse = sparse.transpose().map_err(|why| self.malformed(Some(&name), why))?;
        let kind = match (&sparse, kind) {
            (Some(sparse), Kind::File { .. }) => Kind::File { size: sparse.size() },
            (Some(_), _) => return Err(bad(self, "it has holes although it is no file")),
            (None, kind) => kind,
        };
        self.sparse = sparse;
        Ok(Entry { name, kind, mode, uid, gid, mtime, xattrs })
    }
}

/// Whether an extended header's record changes what an entry is; others are for
/// people, or tell what no layer keeps.
fn has_meaning(key: &str) -> bool {
    matches!(key, "charset" | "gid" | "hdrcharset" | "linkpath" | "mtime" | "path" | "size" | "uid")
        || key.starts_with("GNU.sparse.")
        || key.starts_with("SCHILY.xattr.")
}

/// The maps of files with holes that lie behind the header.
impl<R: Read> Reader<R> {
    /// The old form: four pieces in the header, more in blocks that are no part of
    /// the content's size.
    fn old_map(&mut self, header: &tar::Header) -> Result<Sparse, String> {
        let header = header.as_gnu().ok_or("a sparse file in a header that is not GNU's")?;
        let size = header.real_size().map_err(|_| "its real size is no number")?;
        let mut pieces = Vec::new();
        sparse::old(&header.sparse, &mut pieces)?;
        let mut more = header.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            let read = self.from.read_exact(block.as_mut_bytes());
            read.map_err(|_| "the archive is cut off")?;
            sparse::old(block.sparse(), &mut pieces)?;
            more = block.is_extended();
        }
        Sparse::new(&pieces, size, self.left)
    }

    /// Form 1.0: numbers, one a line, in whole blocks before what is stored.
    fn map_inside(&mut self, size: u64) -> Result<Sparse, String> {
        let mut block = [0; 512];
        let mut at = block.len();
        let mut number = |this: &mut Self| -> Result<u64, String> {
            let mut value = 0u64;
            for digits in 0.. {
                if at == block.len() {
                    // Not `read`: the content's own reader.
                    this.from.read_exact(&mut block).map_err(|_| "the archive is cut off")?;
                    this.left = this.left.checked_sub(512).ok_or("its map is cut off")?;
                    at = 0;
                }
                let next = match block[at] {
                    b'\n' if digits > 0 => None,
                    digit @ b'0'..=b'9' => {
                        let more = value.checked_mul(10);
                        more.and_then(|value| value.checked_add((digit - b'0').into()))
                            .map(Some)
                            .ok_or("its map has a number that is too large")?
                    }
                    _ => return Err("its map is no list of numbers".to_owned()),
                };
                at += 1;
                match next {
                    Some(more) => value = more,
                    None => break,
                }
            }
            Ok(value)
        };
        let count = number(self)?;
        if count > sparse::MAX_PIECES as u64 {
            return Err(format!("a sparse file of more than {} pieces", sparse::MAX_PIECES));
        }
        let mut pieces = Vec::new();
        for _ in 0..count {
            pieces.push((number(self)?, number(self)?));
        }
        Sparse::new(&pieces, size, self.left)
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// Whole seconds, rounded down: `12.5` is 12, `-12.5` is -13.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let down = whole.starts_with('-') && fraction.bytes().any(|c| c != b'0');
    whole.parse::<i64>().ok()?.checked_sub(i64::from(down))
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let next = self.sparse.as_ref().map_or(Part::Stored(self.left), Sparse::next);
        let (Part::Hole(most) | Part::Stored(most)) = next;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = match next {
            Part::Hole(_) => {
                buf[..most].fill(0);
                most
            }
            Part::Stored(_) => {
                let n = self.from.read(&mut buf[..most])?;
                if n == 0 {
                    let cut = "the archive is cut off";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut));
                }
                self.left -= n as u64;
                n
            }
        };
        if let Some(sparse) = &mut self.sparse {
            sparse.advance(n as u64);
        }
        Ok(n)
    }
}
