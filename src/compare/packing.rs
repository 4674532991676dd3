//! How a layer's tar is compressed: what the headers of gzip (RFC 1952, 2.3) and zstd
//! (RFC 8878, 3.1) say, and into how many pieces it is cut.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use serde_json::Value;

use super::report::FieldChange;
use super::{Blobs, CompareError, Work};
use crate::digest::{DiffId, Hashing};
use crate::layer::{Compression, Decompressor, Layer};

/// Facts in the order of their names.
pub(super) type Facts = BTreeMap<&'static str, Value>;

/// The field of a blob that does not unpack to what its config says.
pub(super) const UNPACKS_TO: &str = "unpacksTo";

/// Bytes in which a header is looked for.
const HEAD: u64 = 4096;

/// In what two facts differ.
pub(super) fn differing(a: &Facts, b: &Facts) -> Vec<FieldChange> {
    let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    let value = |of: &Facts, key: &str| of.get(key).cloned().unwrap_or_default();
    let changes = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    changes.map(|key| FieldChange::new(*key, value(a, key), value(b, key))).collect()
}

/// In what the headers of two layers differ.
pub(super) fn heads(sides: [(&dyn Blobs, &Layer); 2]) -> Result<Vec<FieldChange>, CompareError> {
    let mut facts = [Facts::new(), Facts::new()];
    for (facts, (blobs, layer)) in facts.iter_mut().zip(sides) {
        *facts = head(blobs, layer)?;
    }
    Ok(differing(&facts[0], &facts[1]))
}

fn head(blobs: &dyn Blobs, layer: &Layer) -> Result<Facts, CompareError> {
    let mut bytes = Vec::new();
    let read = blobs.open(&layer.digest)?.take(HEAD).read_to_end(&mut bytes);
    read.map_err(|source| CompareError::Blob { digest: layer.digest, source })?;
    let mut facts = match layer.compression {
        Compression::None => Facts::new(),
        Compression::Gzip => gzip(&bytes),
        Compression::Zstd => zstd(&bytes).0,
    };
    let name = match layer.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    facts.insert("compression", name.into());
    Ok(facts)
}

/// In what two blobs of one tar differ.
pub(super) fn whole(
    sides: [(&dyn Blobs, &Layer); 2],
    work: Work<'_>,
) -> Result<Vec<FieldChange>, CompareError> {
    let mut facts = [Facts::new(), Facts::new()];
    for (facts, (blobs, layer)) in facts.iter_mut().zip(sides) {
        *facts = head(blobs, layer)?;
        facts.insert("size", layer.size.into());
        let wrong = |source| CompareError::Blob { digest: layer.digest, source };
        let from = BufReader::with_capacity(64 << 10, blobs.open(&layer.digest)?);
        match layer.compression {
            Compression::None => (),
            Compression::Gzip => {
                facts.insert("gzip.members", members(from).map_err(wrong)?.into());
            }
            Compression::Zstd => {
                let (frames, blocks) = frames(from).map_err(wrong)?;
                facts.insert("zstd.frames", frames.into());
                facts.insert("zstd.blocks", blocks.into());
            }
        }
        // Two layers of one diff ID must have one tar.
        let mut hash = Hashing::new(io::sink());
        let tar =
            Decompressor::new(blobs.open(&layer.digest)?, layer.compression).map_err(wrong)?;
        work.copy(tar, &mut hash).map_err(wrong)?;
        let found = DiffId(hash.finish().1);
        if found != layer.diff_id {
            facts.insert(UNPACKS_TO, found.to_string().into());
        }
    }
    let mut changes = differing(&facts[0], &facts[1]);
    let [(blobs_a, a), (blobs_b, b)] = sides;
    let one = BufReader::new(blobs_a.open(&a.digest)?);
    let other = BufReader::new(blobs_b.open(&b.digest)?);
    let wrong = |source| CompareError::Blob { digest: a.digest, source };
    if a.compression == b.compression
        && let Some(offset) = first_difference(one, other).map_err(wrong)?
    {
        let settled =
            changes.iter().any(|change| change.field.contains('.') || change.field == UNPACKS_TO);
        let note = if settled {
            "the first byte that differs"
        } else {
            "the headers say the same: another compressor, or another level of it"
        };
        changes.push(FieldChange::new("offset", offset, offset).note(note));
    }
    Ok(changes)
}

fn first_difference(mut a: impl BufRead, mut b: impl BufRead) -> io::Result<Option<u64>> {
    let mut at = 0;
    loop {
        let (one, other) = (a.fill_buf()?, b.fill_buf()?);
        if one.is_empty() || other.is_empty() {
            return Ok((one.len() != other.len()).then_some(at));
        }
        let length = one.len().min(other.len());
        if let Some(place) = one.iter().zip(other).position(|(a, b)| a != b) {
            return Ok(Some(at + place as u64));
        }
        a.consume(length);
        b.consume(length);
        at += length as u64;
    }
}

/// What a gzip member's header says.
pub(super) fn gzip(bytes: &[u8]) -> Facts {
    let mut facts = Facts::new();
    let Some((head, mut rest)) = bytes.split_first_chunk::<10>() else { return facts };
    let [0x1f, 0x8b, method, flags, m0, m1, m2, m3, extra, os] = *head else { return facts };
    if method != 8 {
        return facts;
    }
    let time = u32::from_le_bytes([m0, m1, m2, m3]);
    facts.insert(
        "gzip.mtime",
        if time == 0 { "none".into() } else { super::files::time(time.into(), 0).into() },
    );
    let level = match extra {
        2 => "best".into(),
        4 => "fastest".into(),
        0 => "ordinary".into(),
        other => format!("{other}"),
    };
    facts.insert("gzip.level", level.into());
    const SYSTEMS: [(u8, &str); 6] = [
        (0, "FAT"),
        (3, "Unix"),
        (7, "Macintosh"),
        (10, "TOPS-20"),
        (11, "NTFS"),
        (255, "unknown"),
    ];
    let system = SYSTEMS.iter().find(|(number, _)| *number == os);
    facts.insert(
        "gzip.os",
        system.map_or_else(|| os.to_string(), |(_, name)| (*name).to_owned()).into(),
    );
    if flags & 1 != 0 {
        facts.insert("gzip.text", true.into());
    }
    if flags & 2 != 0 {
        facts.insert("gzip.headerSum", true.into());
    }
    if flags & 4 != 0 {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { return facts };
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((field, after)) = after.split_at_checked(length) else { return facts };
        facts.insert("gzip.extra", super::files::text(field).into());
        rest = after;
    }
    for (flag, name) in [(8, "gzip.name"), (16, "gzip.comment")] {
        if flags & flag != 0 {
            let Some(end) = rest.iter().position(|c| *c == 0) else { return facts };
            facts.insert(name, super::files::text(&rest[..end]).into());
            rest = &rest[end + 1..];
        }
    }
    facts
}

/// How many members there are.
fn members(mut from: impl BufRead) -> io::Result<u64> {
    let mut count = 0;
    let mut buffer = vec![0; 64 << 10];
    while !from.fill_buf()?.is_empty() {
        let mut member = flate2::bufread::GzDecoder::new(&mut from);
        while member.read(&mut buffer)? > 0 {}
        count += 1;
    }
    Ok(count)
}

const FRAME: u32 = 0xfd2f_b528;

/// What a zstd frame's header says, and how long it is with its magic number.
pub(super) fn zstd(bytes: &[u8]) -> (Facts, usize) {
    let mut facts = Facts::new();
    let Some((head, rest)) = bytes.split_first_chunk::<5>() else { return (facts, 0) };
    let [m0, m1, m2, m3, what] = *head;
    if u32::from_le_bytes([m0, m1, m2, m3]) != FRAME {
        return (facts, 0);
    }
    let single = what & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(what & 3)];
    let size = match (what >> 6, single) {
        (0, false) => 0,
        (0, true) => 1,
        (number, _) => 1 << number,
    };
    if !single && let Some(window) = rest.first() {
        let base = 1_u64 << (10 + (window >> 3));
        facts.insert("zstd.window", (base + base / 8 * u64::from(window & 7)).into());
    }
    facts.insert("zstd.checksum", (what & 4 != 0).into());
    facts.insert("zstd.statesSize", (size > 0).into());
    if dictionary > 0 {
        facts.insert("zstd.dictionary", true.into());
    }
    (facts, 5 + usize::from(!single) + dictionary + size)
}

/// How many frames and blocks there are, from their headers alone.
fn frames(mut from: impl BufRead) -> io::Result<(u64, u64)> {
    let (mut frames, mut blocks) = (0, 0);
    while !from.fill_buf()?.is_empty() {
        let mut head = [0; 5];
        from.read_exact(&mut head[..4])?;
        let magic = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if magic & 0xffff_fff0 == 0x184d_2a50 {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            skip(&mut from, u32::from_le_bytes(length).into())?;
            continue;
        }
        if magic != FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no zstd frame"));
        }
        from.read_exact(&mut head[4..])?;
        skip(&mut from, (zstd(&head).1 - head.len()) as u64)?;
        frames += 1;
        loop {
            let mut block = [0; 3];
            from.read_exact(&mut block)?;
            let word = u32::from_le_bytes([block[0], block[1], block[2], 0]);
            // A block of one repeated byte has that alone.
            let size = if word >> 1 & 3 == 1 { 1 } else { u64::from(word >> 3) };
            skip(&mut from, size)?;
            blocks += 1;
            if word & 1 != 0 {
                break;
            }
        }
        if head[4] & 4 != 0 {
            skip(&mut from, 4)?;
        }
    }
    Ok((frames, blocks))
}

fn skip(from: &mut impl BufRead, count: u64) -> io::Result<()> {
    if io::copy(&mut from.take(count), &mut io::sink())? == count {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_gzip() {
        let mut bytes = vec![0x1f, 0x8b, 8, 8, 1, 0, 0, 0, 2, 3];
        bytes.extend_from_slice(b"layer.tar\0rest");
        let facts = gzip(&bytes);
        assert_eq!(facts["gzip.name"], "layer.tar");
        assert_eq!(facts["gzip.mtime"], "1970-01-01T00:00:01Z");
        assert_eq!((&facts["gzip.level"], &facts["gzip.os"]), (&"best".into(), &"Unix".into()));
        for end in 0..bytes.len() {
            gzip(&bytes[..end]);
        }
    }

    #[test]
    fn frames_of_zstd() {
        let one = zstd::encode_all(&[7; 300_000][..], 3).unwrap();
        let two = [one.clone(), b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(), one.clone()].concat();
        let (count, blocks) = frames(&one[..]).unwrap();
        assert_eq!(count, 1);
        assert_eq!(frames(&two[..]).unwrap(), (2, 2 * blocks));
        for end in 1..one.len() {
            assert!(frames(&one[..end]).is_err(), "cut at {end}");
        }
    }
}
