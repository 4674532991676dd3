//! Texts: the first lines that differ, as a unified diff has them.

use std::io;

use super::super::align::{SAME, align};
use super::super::spool::Section;
use super::Difference;

/// Bytes that are looked at from the first line on that differs.
const WINDOW: usize = 32 << 10;
/// Lines that are shown, and characters of each.
const MOST_LINES: usize = 12;
const MOST_LETTERS: usize = 200;
/// Bytes of a long line before the first that differs.
const BEFORE: u64 = 40;
/// Lines that are compared.
const MOST_COMPARED: usize = 400;

/// The first lines that differ; `None` if one of the two is no text there.
pub(super) fn compare(
    a: &Section<'_>,
    b: &Section<'_>,
    first: Difference,
) -> io::Result<Option<Vec<String>>> {
    let mut begin = first.line_start;
    // Of a long line, what comes shortly before: both sides have it.
    let is_late = first.offset - first.line_start > MOST_LETTERS as u64 / 2;
    if is_late {
        begin = first.offset - BEFORE;
        let letters = a.bytes(begin, 4)?;
        begin += letters.iter().take_while(|byte| **byte & 0xc0 == 0x80).count() as u64;
    }
    let windows = [a.bytes(begin, WINDOW)?, b.bytes(begin, WINDOW)?];
    // A beginning that is no text makes all of it none.
    let heads = [a.bytes(0, WINDOW)?, b.bytes(0, WINDOW)?];
    if !windows.iter().chain(&heads).all(|bytes| is_text(bytes)) {
        return Ok(None);
    }
    let (one, a_whole) = lines(&windows[0], a, begin);
    let (other, b_whole) = lines(&windows[1], b, begin);
    let mut pairs = align(one.len(), other.len(), |i, j| if one[i] == other[j] { SAME } else { 0 });
    // Where a window ends, the other's lines have no twins that can be seen.
    if !(a_whole && b_whole)
        && let Some(last) = pairs.iter().rposition(|pair| pair.0.is_some() && pair.1.is_some())
    {
        pairs.truncate(last + 1);
    }
    let number = first.lines + 1;
    let mut shown = vec![format!("@@ -{number} +{number} @@")];
    let mut gap = false;
    for pair in pairs {
        let dots = |at: usize| if is_late && at == 0 { "…" } else { "" };
        let line = match pair {
            (Some(i), None) => format!("-{}{}", dots(i), cut(one[i])),
            (None, Some(j)) => format!("+{}{}", dots(j), cut(other[j])),
            _ => {
                gap = true;
                continue;
            }
        };
        if shown.len() > MOST_LINES {
            shown.push("…".to_owned());
            break;
        }
        if std::mem::take(&mut gap) && shown.len() > 1 {
            shown.push(" …".to_owned());
        }
        shown.push(line);
    }
    Ok(Some(shown))
}

fn is_text(bytes: &[u8]) -> bool {
    if bytes.contains(&0) {
        return false;
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // A character may be cut at the end.
        Err(error) => error.error_len().is_none(),
    }
}

/// Whole lines of a window, and whether these are all that are left.
fn lines<'w>(window: &'w [u8], of: &Section<'_>, begin: u64) -> (Vec<&'w [u8]>, bool) {
    let mut lines: Vec<&[u8]> = window.split_inclusive(|c| *c == b'\n').collect();
    let mut whole = begin + window.len() as u64 >= of.size();
    if !whole && lines.len() > 1 {
        lines.pop();
    }
    whole &= lines.len() <= MOST_COMPARED;
    lines.truncate(MOST_COMPARED);
    (lines, whole)
}

fn cut(line: &[u8]) -> String {
    let end = line.last() == Some(&b'\n');
    let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
    let mut shown: String = text.chars().take(MOST_LETTERS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    if !end {
        shown.push_str(" (no newline)");
    }
    shown
}
