//! The table `Packages` of an SQLite database (SQLite, "Database File Format").

use super::super::content::{Content, number};
use super::MOST_HEADER;

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Most levels of a tree; SQLite itself has no deeper ones.
const MOST_DEPTH: usize = 20;
/// Most bytes of what describes a table.
const MOST_SCHEMA: u64 = 1 << 20;
/// Most rows of the schema: rpm has some twenty.
const MOST_TABLES: usize = 10_000;

const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

struct Database<'c> {
    content: &'c Content<'c>,
    page: u64,
    /// Bytes of a page that are not kept free at its end.
    usable: u64,
    /// Pages that may be read yet: each is read once by a tree that has no circle.
    left: u64,
}

/// Calls `each` with the blob of each row.
pub(super) fn each(
    content: &Content<'_>,
    each: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let head = content.part(0, 100).ok_or("it is shorter than a database's header")?;
    if !head.starts_with(MAGIC) {
        return Err("it is no SQLite database".into());
    }
    let page = match number(&head, 16, 2, true) {
        Some(1) => 65536,
        Some(size) if size >= 512 && size.is_power_of_two() => size,
        _ => return Err("its pages have no size".into()),
    };
    let usable = page - number(&head, 20, 1, true).unwrap_or_default();
    if usable < 480 {
        return Err("its pages have no room".into());
    }
    if !content.size().is_multiple_of(page) {
        return Err("it does not end with a page: it is cut off".into());
    }
    let pages = content.size() / page;
    // Tables that were begun and not ended have no count here (a version before 3.7.0).
    let counted = number(&head, 28, 4, true).unwrap_or_default();
    if counted > pages {
        return Err(format!("it is cut off: it says that it has {counted} pages, not {pages}"));
    }
    // The schema is read, too.
    let mut database = Database { content, page, usable, left: 2 * pages + 2 };
    let (mut root, mut rows) = (None, 0);
    database.walk(1, 0, MOST_SCHEMA, &mut |row| {
        rows += 1;
        if rows > MOST_TABLES {
            return Err(format!("its schema has more than {MOST_TABLES} rows"));
        }
        let (columns, body) = columns(row).ok_or("a row of its schema is damaged")?;
        let text = |at: usize| {
            let (kind, from) = columns.get(at)?;
            body.get(*from..from.checked_add(length(*kind)?)?)
        };
        if text(0) == Some(b"table") && text(1) == Some(b"Packages") {
            root = text(3).and_then(|bytes| number(bytes, 0, bytes.len(), true));
        }
        Ok(())
    })?;
    let root = root.ok_or("it has no table `Packages`")?;
    database.walk(root, 0, MOST_HEADER, &mut |row| {
        let (columns, body) = columns(row).ok_or("a row is damaged")?;
        // hnum is the row's number, and stored as nothing.
        let (kind, from) = *columns.get(1).ok_or("a row has no header")?;
        let size = length(kind).filter(|_| kind >= 12).ok_or("a row has no header")?;
        let end = from.checked_add(size).ok_or("a row is damaged")?;
        each(body.get(from..end).ok_or("a row is cut off")?)
    })
}

/// The serial types of a record's columns with their places in its body, and the body.
#[expect(clippy::type_complexity, reason = "it is taken apart where it is called")]
fn columns(row: &[u8]) -> Option<(Vec<(u64, usize)>, &[u8])> {
    let (size, begin) = varint(row)?;
    let size = usize::try_from(size).ok()?;
    let mut kinds = row.get(begin..size)?;
    let mut columns = Vec::new();
    let mut at = 0usize;
    while !kinds.is_empty() && columns.len() < 16 {
        let (kind, taken) = varint(kinds)?;
        kinds = kinds.get(taken..)?;
        columns.push((kind, at));
        at = at.checked_add(length(kind)?)?;
    }
    Some((columns, row.get(size..)?))
}

/// Bytes of a value by its serial type.
fn length(kind: u64) -> Option<usize> {
    Some(match kind {
        0 | 8 | 9 => 0,
        1..=4 => kind as usize,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return None,
        _ => usize::try_from((kind - 12) / 2).ok()?,
    })
}

/// A number of one to nine bytes, and how many they are.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut all: u64 = 0;
    for at in 0..8 {
        let byte = *bytes.get(at)?;
        all = all << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((all, at + 1));
        }
    }
    Some((all << 8 | u64::from(*bytes.get(8)?), 9))
}

impl Database<'_> {
    fn page(&mut self, number: u64) -> Result<Vec<u8>, String> {
        self.left = self.left.checked_sub(1).ok_or("its pages lead in a circle")?;
        let at = number.checked_sub(1).and_then(|before| before.checked_mul(self.page));
        at.and_then(|at| self.content.part(at, self.page))
            .ok_or_else(|| format!("it has no page {number}"))
    }

    /// Calls `each` with the rows of a table's tree, from one of its pages down.
    fn walk(
        &mut self,
        root: u64,
        depth: usize,
        most: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let damaged = || format!("its page {root} is damaged");
        if depth > MOST_DEPTH {
            return Err("its tree is very deep".into());
        }
        let page = self.page(root)?;
        let begin = if root == 1 { 100 } else { 0 };
        let kind = *page.get(begin).ok_or_else(damaged)?;
        let head = match kind {
            INTERIOR => 12,
            LEAF => 8,
            _ => return Err(damaged()),
        };
        let cells = number(&page, begin + 3, 2, true).ok_or_else(damaged)? as usize;
        for cell in 0..cells {
            let at = number(&page, begin + head + 2 * cell, 2, true).ok_or_else(damaged)? as usize;
            let cell = page.get(at..).ok_or_else(damaged)?;
            if kind == INTERIOR {
                let child = number(cell, 0, 4, true).ok_or_else(damaged)?;
                self.walk(child, depth + 1, most, each)?;
            } else {
                let row = self.row(cell, most)?.ok_or_else(damaged)?;
                each(&row)?;
            }
        }
        if kind == INTERIOR {
            let last = number(&page, begin + 8, 4, true).ok_or_else(damaged)?;
            self.walk(last, depth + 1, most, each)?;
        }
        Ok(())
    }

    /// A row, with what of it is on other pages.
    fn row(&mut self, cell: &[u8], most: u64) -> Result<Option<Vec<u8>>, String> {
        let Some((size, taken)) = varint(cell) else { return Ok(None) };
        let Some((_, more)) = cell.get(taken..).and_then(varint) else { return Ok(None) };
        if size > most {
            return Err("it has a very long row".into());
        }
        let Some(cell) = cell.get(taken + more..) else { return Ok(None) };
        // "B-tree Pages": how much of a row is on its own page.
        let (usable, fits) = (self.usable, self.usable - 35);
        let local = if size <= fits {
            size
        } else {
            let least = (usable - 12) * 32 / 255 - 23;
            let rest = least + (size - least) % (usable - 4);
            if rest <= fits { rest } else { least }
        };
        let Some(own) = cell.get(..local as usize) else { return Ok(None) };
        let mut row = own.to_vec();
        let mut next = number(cell, local as usize, 4, true).filter(|_| local < size);
        while (row.len() as u64) < size {
            let Some(page) = next.filter(|next| *next != 0) else { return Ok(None) };
            let page = self.page(page)?;
            let left = (size - row.len() as u64).min(usable - 4) as usize;
            let Some(part) = page.get(4..4 + left) else { return Ok(None) };
            row.extend_from_slice(part);
            next = number(&page, 0, 4, true);
        }
        Ok(Some(row))
    }
}
