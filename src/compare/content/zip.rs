//! zip archives, jars and wheels: entries by their table of contents (PKWARE's APPNOTE.TXT,
//! 4.3.12 and 4.3.16). Archives of more than 4 GiB are not looked into.

use std::io;

use super::super::files::text;
use super::super::report::FieldChange;
use super::super::spool::Section;
use super::super::told::Told;
use super::{Member, members};

/// The end record with the longest comment.
const MOST_END: u64 = 22 + 65_535;
/// Most bytes of the table of contents.
const MOST_TABLE: u32 = 16 << 20;
/// Most entries of it.
const MOST: usize = 100_000;

/// Entries that differ; `None` if one of the two has no table that can be read.
pub(super) fn compare(a: &Section<'_>, b: &Section<'_>) -> io::Result<Option<Told>> {
    let (Some(one), Some(other)) = (list(a)?, list(b)?) else { return Ok(None) };
    let mut changes = members(&one, &other);
    if changes.count() == 0 {
        let note = "the table of contents says the same: local headers, or another compressor";
        changes.push(|| FieldChange::new("entries", a.size(), b.size()).note(note));
    }
    Ok(Some(changes))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn list(file: &Section<'_>) -> io::Result<Option<Vec<Member>>> {
    let tail = file.size().min(MOST_END);
    let end = file.bytes(file.size() - tail, tail as usize)?;
    let Some(at) = end.windows(4).rposition(|four| four == b"PK\x05\x06") else { return Ok(None) };
    let end = &end[at..];
    let (Some(size), Some(begin)) = (u32_at(end, 12), u32_at(end, 16)) else { return Ok(None) };
    if size > MOST_TABLE || begin == u32::MAX || file.part(begin.into(), size.into()).is_none() {
        return Ok(None);
    }
    let table = file.bytes(begin.into(), size as usize)?;
    let mut all = Vec::new();
    let mut rest = table.as_slice();
    while !rest.is_empty() {
        let Some((member, length)) = entry(rest) else { return Ok(None) };
        if all.len() == MOST {
            return Ok(None);
        }
        all.push(member);
        rest = &rest[length..];
    }
    Ok(Some(all))
}

fn entry(bytes: &[u8]) -> Option<(Member, usize)> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let name = usize::from(u16_at(bytes, 28)?);
    let extra = usize::from(u16_at(bytes, 30)?);
    let comment = usize::from(u16_at(bytes, 32)?);
    let length = 46 + name + extra + comment;
    bytes.get(..length)?;
    let (time, date) = (u16_at(bytes, 12)?, u16_at(bytes, 14)?);
    let shown = format!(
        "{}-{:02}-{:02} {:02}:{:02}:{:02}",
        1980 + (date >> 9),
        date >> 5 & 15,
        date & 31,
        time >> 11,
        time >> 5 & 63,
        (time & 31) * 2
    );
    let part = |begin: usize, length: usize| text(&bytes[begin..begin + length]);
    let member = Member {
        name: part(46, name),
        fields: vec![
            ("date", shown.into()),
            ("content", format!("crc {:08x}", u32_at(bytes, 16)?).into()),
            ("size", u32_at(bytes, 24)?.into()),
            ("packed size", u32_at(bytes, 20)?.into()),
            ("method", u16_at(bytes, 10)?.into()),
            ("version", u16_at(bytes, 4)?.into()),
            ("attributes", format!("{:08x}", u32_at(bytes, 38)?).into()),
            ("extra", part(46 + name, extra).into()),
            ("comment", part(46 + name + extra, comment).into()),
        ],
    };
    Some((member, length))
}
