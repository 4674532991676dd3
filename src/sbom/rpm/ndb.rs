//! rpm's own database, `Packages.db` (rpm, `lib/backend/ndb/rpmpkg.c`): slots that say where
//! each package's blob is.

use super::super::content::{Content, number};
use super::MOST_HEADER;

const PAGE: u64 = 4096;
const SLOT: u64 = 16;
const BLOCK: u64 = 16;
/// Most pages of slots: a million packages.
const MOST_PAGES: u64 = 4096;
/// Marks of the file, of a slot, of a blob's begin and its end.
const FILE: &[u8] = b"RpmP";
const IN_USE: &[u8] = b"Slot";
const BEGIN: &[u8] = b"BlbS";
const END: &[u8] = b"BlbE";

/// Calls `each` with each package's blob.
pub(super) fn each(
    content: &Content<'_>,
    each: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let head = content.part(0, 32).ok_or("it is shorter than a database's header")?;
    if !head.starts_with(FILE) {
        return Err("it is no package database".into());
    }
    if number(&head, 4, 4, false) != Some(0) {
        return Err("its version is not known".into());
    }
    let pages = number(&head, 12, 4, false).unwrap_or_default();
    if pages == 0 || pages > MOST_PAGES {
        return Err("it has no slots, or very many".into());
    }
    let slots = content.part(0, pages * PAGE).ok_or("its slots are cut off")?;
    // The header takes the place of the first two.
    for slot in slots.chunks_exact(SLOT as usize).skip(2) {
        let field = |at| number(slot, at, 4, false).unwrap_or_default();
        if !slot.starts_with(IN_USE) {
            return Err("it has a slot that is none".into());
        }
        let (package, block, blocks) = (field(4), field(8), field(12));
        if block == 0 {
            continue;
        }
        let damaged = || format!("the blob of its package {package} is damaged");
        let at = block * BLOCK;
        let begin = content.part(at, 16).ok_or_else(damaged)?;
        let size = number(&begin, 12, 4, false).ok_or_else(damaged)?;
        let fits = size <= MOST_HEADER && size + 28 <= blocks * BLOCK;
        if !begin.starts_with(BEGIN) || number(&begin, 4, 4, false) != Some(package) || !fits {
            return Err(damaged());
        }
        let end = content.part(at + blocks * BLOCK - 12, 12).ok_or_else(damaged)?;
        if !end.ends_with(END) || number(&end, 4, 4, false) != Some(size) {
            return Err(damaged());
        }
        each(&content.part(at + 16, size).ok_or_else(damaged)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of one page of slots with one blob, as rpm's writer lays them out.
    fn sample(blob: &[u8]) -> Vec<u8> {
        let put = |to: &mut [u8], at: usize, bytes: &[u8]| {
            to[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let mut file = vec![0; 4096];
        for slot in file.chunks_exact_mut(16).skip(2) {
            put(slot, 0, IN_USE);
        }
        put(&mut file, 0, FILE);
        put(&mut file, 12, &1u32.to_le_bytes());
        let blocks = (blob.len() + 28).div_ceil(16) as u32;
        for (at, number) in [(4, 7), (8, 256), (12, blocks)] {
            put(&mut file, 32 + at, &u32::to_le_bytes(number));
        }
        let mut area = vec![0; blocks as usize * 16];
        let (size, end) = (blob.len() as u32, area.len());
        put(&mut area, 0, BEGIN);
        put(&mut area, 4, &7u32.to_le_bytes());
        put(&mut area, 12, &size.to_le_bytes());
        put(&mut area, 16, blob);
        put(&mut area, end - 8, &size.to_le_bytes());
        put(&mut area, end - 4, END);
        [file, area].concat()
    }

    #[test]
    fn blobs() {
        let read = |file: &[u8]| {
            let mut all = Vec::new();
            let mut take = |blob: &[u8]| {
                all.push(blob.to_vec());
                Ok(())
            };
            each(&Content::Memory(file.to_vec()), &mut take).map(|()| all)
        };
        let file = sample(b"some header");
        assert_eq!(read(&file).unwrap(), [b"some header"]);
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_err(), "{end}");
        }
        for at in (0..64).chain(4096..file.len()) {
            let mut bent = file.clone();
            bent[at] ^= 0xff;
            let _ = read(&bent);
        }
    }
}
