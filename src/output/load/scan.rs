//! Where the entries of a tar lie (POSIX.1-2017 pax, "ustar Interchange Format",
//! with GNU's long names and large numbers).
//!
//! Stricter than readers that unpack: names are UTF-8 and stay below the root,
//! none occurs twice, sizes agree with the file, kinds other than files, folders
//! and links are refused, and nothing follows the end. Only the names are held
//! in memory, and both their number and length have a ceiling.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use super::super::{OutputError, Work};
use super::volume::ReadAt;

const BLOCK: u64 = 512;
const MOST_ENTRIES: usize = 100_000;
const LONGEST_NAME: usize = 1024;
const LONGEST_EXTENSION: u64 = 64 << 10;
/// Links that lead to links.
const MOST_HOPS: usize = 8;

/// The files of an archive by name.
#[derive(Debug, Default)]
pub(super) struct Entries {
    files: BTreeMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
}

impl Entries {
    /// Where a file lies: its first byte, and how many it has. Links inside the archive are
    /// followed (old docker versions write a layer that occurs twice as a link).
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = name;
        for _ in 0..MOST_HOPS {
            if let Some(found) = self.files.get(name) {
                return Some(*found);
            }
            name = self.links.get(name)?;
        }
        None
    }

    /// A file or link that other entries lie below: who unpacks would follow it,
    /// or fail.
    fn with_children(&self) -> Option<&str> {
        let names = || self.files.keys().chain(self.links.keys());
        let folders: BTreeSet<&str> =
            names().flat_map(|name| name.match_indices('/').map(|(at, _)| &name[..at])).collect();
        names().map(String::as_str).find(|name| folders.contains(name))
    }

    /// The files' names and sizes, without links.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, (_, size))| (name.as_str(), *size))
    }

    /// Bytes of all files.
    pub(super) fn total(&self) -> u64 {
        self.files.values().map(|(_, size)| size).sum()
    }
}

/// A part of an archive, without a position that others share.
#[derive(Debug)]
pub(super) struct Section<'a> {
    from: &'a dyn ReadAt,
    at: u64,
    end: u64,
}

impl<'a> Section<'a> {
    pub(super) fn new(from: &'a dyn ReadAt, at: u64, size: u64) -> Self {
        Self { from, at, end: at.saturating_add(size) }
    }

    /// Bytes that are left.
    #[must_use]
    pub(super) fn size(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.size()).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.from.read_at(&mut buf[..most], self.at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}

/// What extension records say of the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    any: bool,
}

/// Finds the entries of a tar.
pub(super) fn scan(from: &dyn ReadAt, work: &Work<'_>) -> Result<Entries, OutputError> {
    let length = from.size().map_err(OutputError::Read)?;
    let mut entries = Entries::default();
    let mut folders = BTreeSet::new();
    let mut extension = Extension::default();
    let mut at = 0;
    let mut count = 0;
    loop {
        work.check()?;
        let wrong = |why: String| {
            if at == 0 {
                OutputError::NotAnArchive(why)
            } else {
                OutputError::Malformed { at, why }
            }
        };
        let refuse = |why: &str| wrong(why.to_owned());
        if length - at < BLOCK {
            return Err(refuse("it ends early"));
        }
        let mut block = [0; BLOCK as usize];
        Section::new(from, at, BLOCK).read_exact(&mut block).map_err(OutputError::Read)?;
        if block.iter().all(|byte| *byte == 0) {
            if extension.any {
                return Err(refuse("an extension record has no entry"));
            }
            if let Some(name) = entries.with_children() {
                return Err(wrong(format!("`{name}` is no folder, yet has entries below it")));
            }
            only_zeros(from, at, length, work)?;
            return Ok(entries);
        }
        count += 1;
        if count > MOST_ENTRIES {
            return Err(wrong(format!("it has more than {MOST_ENTRIES} entries")));
        }
        check_sum(&block).map_err(refuse)?;
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let kind = block[156];
        let stated = number(&block[124..136]).map_err(refuse)?;
        // An extension's size speaks of the entry after it, not of further records.
        let size = match kind {
            b'x' | b'g' | b'L' | b'K' => stated,
            _ => extension.size.unwrap_or(stated),
        };
        let data = at + BLOCK;
        let next = size
            .checked_next_multiple_of(BLOCK)
            .and_then(|padded| data.checked_add(padded))
            .filter(|_| size <= length - data)
            .ok_or_else(|| refuse("an entry is larger than the archive"))?;
        let record = || -> Result<Vec<u8>, OutputError> {
            if size > LONGEST_EXTENSION {
                return Err(wrong(format!("an extension record has {size} bytes")));
            }
            let mut bytes = Vec::new();
            Section::new(from, data, size).read_to_end(&mut bytes).map_err(OutputError::Read)?;
            Ok(bytes)
        };
        match kind {
            b'x' => {
                pax(&record()?, &mut extension).map_err(refuse)?;
            }
            b'g' => {
                let mut all = Extension::default();
                pax(&record()?, &mut all).map_err(refuse)?;
                if all.path.is_some() || all.link.is_some() || all.size.is_some() {
                    return Err(refuse("a global record names or sizes entries"));
                }
            }
            b'L' => long(&record()?, &mut extension.path).map_err(refuse)?,
            b'K' => long(&record()?, &mut extension.link).map_err(refuse)?,
            b'0' | 0 | b'2' | b'5' => {
                let extension = std::mem::take(&mut extension);
                let raw = match extension.path {
                    Some(path) => path,
                    None => utf8(&header.path_bytes()).map_err(refuse)?,
                };
                let name = inside(&[], &raw).map_err(refuse)?;
                if kind == b'5' {
                    if size != 0 {
                        return Err(refuse("a folder has content"));
                    }
                    folders.insert(name);
                } else {
                    let twice = if kind == b'2' {
                        if size != 0 {
                            return Err(refuse("a link has content"));
                        }
                        let to = match extension.link {
                            Some(link) => link,
                            None => {
                                let bytes = header.link_name_bytes();
                                utf8(&bytes.unwrap_or_default()).map_err(refuse)?
                            }
                        };
                        let parts: Vec<&str> = name.split('/').collect();
                        let target = inside(&parts[..parts.len() - 1], &to).map_err(refuse)?;
                        entries.files.contains_key(&name)
                            || entries.links.insert(name.clone(), target).is_some()
                    } else {
                        entries.links.contains_key(&name)
                            || entries.files.insert(name.clone(), (data, size)).is_some()
                    };
                    if twice {
                        return Err(wrong(format!("`{name}` occurs twice")));
                    }
                    if name.is_empty() {
                        return Err(refuse("an entry has no name"));
                    }
                }
                if folders.len() > MOST_ENTRIES {
                    return Err(refuse("it has too many folders"));
                }
            }
            other => {
                return Err(wrong(format!("entries of type {other:#04x} have no place in it")));
            }
        }
        if matches!(kind, b'x' | b'L' | b'K') {
            extension.any = true;
        }
        at = next.min(length);
    }
}

/// Nothing may follow the end: readers that look beyond it would see another
/// archive.
fn only_zeros(from: &dyn ReadAt, at: u64, length: u64, work: &Work<'_>) -> Result<(), OutputError> {
    let mut rest = Section::new(from, at, length - at);
    let mut buffer = vec![0; 64 << 10];
    loop {
        work.check()?;
        let place = rest.at;
        let n = rest.read(&mut buffer).map_err(OutputError::Read)?;
        if n == 0 {
            return Ok(());
        }
        if buffer[..n].iter().any(|byte| *byte != 0) {
            return Err(OutputError::Malformed {
                at: place,
                why: "something follows its end".into(),
            });
        }
    }
}

fn check_sum(block: &[u8; BLOCK as usize]) -> Result<(), &'static str> {
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum();
    if number(&block[148..156])? == sum {
        Ok(())
    } else {
        Err("the check sum of a header is wrong")
    }
}

/// An octal number between spaces and NULs, or GNU's big-endian form.
fn number(field: &[u8]) -> Result<u64, &'static str> {
    const WRONG: &str = "a number in a header is malformed";
    if let [0x80, rest @ ..] = field {
        let (zeros, low) = rest.split_at(rest.len().saturating_sub(8));
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(WRONG);
        }
        let value = low.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        return if value <= i64::MAX as u64 { Ok(value) } else { Err(WRONG) };
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let end = field[start..].iter().position(blank).map_or(field.len(), |n| start + n);
    if !field[end..].iter().all(blank) {
        return Err(WRONG);
    }
    // At most 12 digits of 3 bits: no overflow.
    field[start..end].iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'7' => Ok(value << 3 | u64::from(byte - b'0')),
        _ => Err(WRONG),
    })
}

/// Records of the form `LENGTH KEY=VALUE\n`.
fn pax(mut data: &[u8], into: &mut Extension) -> Result<(), &'static str> {
    const WRONG: &str = "a pax record is malformed";
    let mut keys = BTreeSet::new();
    while !data.is_empty() {
        let space = data.iter().take(8).position(|byte| *byte == b' ').ok_or(WRONG)?;
        let length = std::str::from_utf8(&data[..space]).ok().and_then(|text| text.parse().ok());
        let length: usize = length.filter(|n| (space + 2..=data.len()).contains(n)).ok_or(WRONG)?;
        let (record, rest) = data.split_at(length);
        data = rest;
        let record = record[space + 1..].strip_suffix(b"\n").ok_or(WRONG)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
        let (key, value) = (utf8(&record[..equals])?, &record[equals + 1..]);
        if key.starts_with("GNU.sparse") {
            return Err("sparse files have no place in it");
        }
        match key.as_str() {
            "path" => into.path = Some(utf8(value)?),
            "linkpath" => into.link = Some(utf8(value)?),
            "size" => into.size = Some(utf8(value)?.parse().map_err(|_| WRONG)?),
            _ => (),
        }
        if !keys.insert(key) {
            return Err("a pax record says something twice");
        }
    }
    Ok(())
}

/// GNU's form of a long name.
fn long(data: &[u8], into: &mut Option<String>) -> Result<(), &'static str> {
    let text = data.strip_suffix(b"\0").unwrap_or(data);
    if into.replace(utf8(text)?).is_some() { Err("two long names for one entry") } else { Ok(()) }
}

fn utf8(bytes: &[u8]) -> Result<String, &'static str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err("a name is not UTF-8"),
    }
}

/// The path as parts below the root, without `.`; `from` is where it starts.
fn inside(from: &[&str], path: &str) -> Result<String, &'static str> {
    if path.len() > LONGEST_NAME {
        return Err("a name is too long");
    }
    if path.starts_with('/') {
        return Err("a name is absolute");
    }
    let mut parts = from.to_vec();
    for part in path.split('/') {
        match part {
            "" | "." => (),
            ".." => {
                parts.pop().ok_or("a name leads out of the archive")?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
