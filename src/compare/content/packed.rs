//! Compressed files: what the header says, and what differs inside.

use std::io::{self, Read as _, Write as _};

use super::super::report::{Content, FieldChange};
use super::super::spool::Section;
use super::super::{Work, packing};
use crate::layer::{Compression, Decompressor, Packing};

/// What unpacks to more than this is not looked into.
const MOST: u64 = 256 << 20;

/// What a file that begins like this is packed with.
pub(super) fn format(head: &[u8]) -> Option<&'static str> {
    match Decompressor::detect(head) {
        Packing::Layer(Compression::None) => None,
        Packing::Layer(Compression::Gzip) => Some("gzip"),
        Packing::Layer(Compression::Zstd) => Some("zstd"),
        Packing::Bzip2 => Some("bzip2"),
        Packing::Xz => Some("xz"),
    }
}

/// Fields of the headers, and what differs inside if something does.
pub(super) fn compare(
    path: &[u8],
    a: Section<'_>,
    b: Section<'_>,
    work: Work<'_>,
    depth: u32,
) -> io::Result<(Vec<FieldChange>, Option<Content>)> {
    let heads = [a.bytes(0, 4096)?, b.bytes(0, 4096)?];
    let facts = |head: &[u8]| match Decompressor::detect(head) {
        Packing::Layer(Compression::Gzip) => packing::gzip(head),
        Packing::Layer(Compression::Zstd) => packing::zstd(head).0,
        _ => packing::Facts::new(),
    };
    let mut fields = packing::differing(&facts(&heads[0]), &facts(&heads[1]));
    if depth == 0 {
        return Ok((fields, None));
    }
    let (Some(one), Some(other)) = (unpacked(a, work)?, unpacked(b, work)?) else {
        let note = "it cannot be unpacked, or is too large to be looked into";
        fields.push(FieldChange::new("inside", a.size(), b.size()).note(note));
        return Ok((fields, None));
    };
    let size = |file: &std::fs::File| file.metadata().map(|meta| meta.len());
    let one = Section::whole(&one, size(&one)?);
    let other = Section::whole(&other, size(&other)?);
    // The name tells some formats: without the ending it is the inner file's.
    let dot = path.iter().rposition(|c| *c == b'.').unwrap_or(path.len());
    let inside = super::deep(&path[..dot], one, other, work, depth - 1)?;
    if inside.offset.is_some() {
        return Ok((fields, Some(inside)));
    }
    if fields.is_empty() {
        let note = "the same inside, and the headers say the same: another compressor, or level";
        fields.push(FieldChange::new("packed size", a.size(), b.size()).note(note));
    }
    Ok((fields, None))
}

fn unpacked(file: Section<'_>, work: Work<'_>) -> io::Result<Option<std::fs::File>> {
    let head = file.bytes(0, 8)?;
    let Ok(from) = Decompressor::new(file.reader(), Decompressor::detect(&head)) else {
        return Ok(None);
    };
    let mut from = from.take(MOST + 1);
    let mut to = tempfile::tempfile_in(work.scratch)?;
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        work.go_on()?;
        // A stranger's bytes may be no such file after all.
        let Ok(count) = from.read(&mut buffer) else { return Ok(None) };
        if count == 0 {
            return Ok((size <= MOST).then_some(to));
        }
        to.write_all(&buffer[..count])?;
        size += count as u64;
    }
}
