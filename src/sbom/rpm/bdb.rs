//! A hash table of Berkeley DB, `Packages` (Berkeley DB 5, `dbinc/db_page.h`): pages of keys and
//! values, long ones on pages of their own.

use super::super::content::{Content, number};
use super::MOST_HEADER;

/// The mark of a hash table, and where it stands.
const MAGIC: u64 = 0x0006_1561;
const MAGIC_AT: usize = 12;
/// Bytes before a page's own.
const HEAD: usize = 26;
/// Kinds of pages.
const UNSORTED: u8 = 2;
const OVERFLOW: u64 = 7;
const SORTED: u8 = 13;
/// Kinds of items.
const INLINE: u8 = 1;
const ELSEWHERE: u8 = 3;

struct Database<'c> {
    content: &'c Content<'c>,
    page: u64,
    big: bool,
    /// Pages that may be read yet: each belongs to one value.
    left: u64,
}

/// Calls `each` with each package's blob.
pub(super) fn each(
    content: &Content<'_>,
    each: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let head = content.part(0, 72).ok_or("it is shorter than a database's header")?;
    let is = |big: &bool| number(&head, MAGIC_AT, 4, *big) == Some(MAGIC);
    let big = [false, true].into_iter().find(is).ok_or("it is no hash table of Berkeley DB")?;
    let page = number(&head, 20, 4, big).unwrap_or_default();
    if !(512..=65536).contains(&page) || !page.is_power_of_two() {
        return Err("its pages have no size".into());
    }
    if head.get(24).is_some_and(|cipher| *cipher != 0) {
        return Err("it is encrypted".into());
    }
    let last = number(&head, 32, 4, big).unwrap_or_default();
    if (last + 1).checked_mul(page).is_none_or(|end| end > content.size()) {
        return Err(format!("it is cut off: it says that it has {} pages", last + 1));
    }
    let mut database = Database { content, page, big, left: 2 * last + 2 };
    for number in 1..=last {
        database.values(number, each)?;
    }
    Ok(())
}

impl Database<'_> {
    fn page(&mut self, number: u64) -> Result<Vec<u8>, String> {
        self.left = self.left.checked_sub(1).ok_or("its pages lead in a circle")?;
        let at = number.checked_mul(self.page);
        at.and_then(|at| self.content.part(at, self.page))
            .ok_or_else(|| format!("it has no page {number}"))
    }

    /// The values of a page, if it is one of keys and values.
    fn values(
        &mut self,
        at: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let damaged = || format!("its page {at} is damaged");
        let page = self.page(at)?;
        if !matches!(page.get(25), Some(&(UNSORTED | SORTED))) {
            return Ok(());
        }
        let big = self.big;
        let count = number(&page, 20, 2, big).ok_or_else(damaged)? as usize;
        let place = |item: usize| number(&page, HEAD + 2 * item, 2, big).map(|at| at as usize);
        // Items are put from the page's end on: one ends where the one before begins.
        let item = |number: usize| {
            let end = if number == 0 { page.len() } else { place(number - 1)? };
            page.get(place(number)?..end)
        };
        for pair in 0..count / 2 {
            let key = item(2 * pair).ok_or_else(damaged)?;
            // Package numbers begin with 1: below 0 is the next one's.
            if key.get(1..).is_some_and(|number| number.iter().all(|byte| *byte == 0)) {
                continue;
            }
            let value = item(2 * pair + 1).ok_or_else(damaged)?;
            match value.split_first() {
                Some((&INLINE, blob)) => each(blob)?,
                Some((&ELSEWHERE, _)) => {
                    let first = number(value, 4, 4, big).ok_or_else(damaged)?;
                    let size = number(value, 8, 4, big).ok_or_else(damaged)?;
                    each(&self.long(first, size)?)?;
                }
                _ => return Err(damaged()),
            }
        }
        Ok(())
    }

    /// A value that is on pages of its own.
    fn long(&mut self, first: u64, size: u64) -> Result<Vec<u8>, String> {
        if size > MOST_HEADER {
            return Err("it has a very long value".into());
        }
        let mut blob = Vec::new();
        let mut next = first;
        while (blob.len() as u64) < size {
            let page = self.page(next)?;
            let used = number(&page, 22, 2, self.big).unwrap_or_default() as usize;
            let part = page.get(HEAD..HEAD + used).filter(|part| !part.is_empty());
            let kind = page.get(25).map(|kind| u64::from(*kind));
            let Some(part) = part.filter(|_| kind == Some(OVERFLOW)) else {
                return Err(format!("its page {next} is damaged"));
            };
            blob.extend_from_slice(part);
            next = number(&page, 16, 4, self.big).unwrap_or_default();
        }
        blob.truncate(size as usize);
        Ok(blob)
    }
}
