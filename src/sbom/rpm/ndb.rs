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
