//! In what two contents of a file differ: by bytes, and by their format if it is known.
//!
//! Formats are told by their first bytes. Whatever breaks its format is compared as plain
//! data. Nothing is read whole but small parts with a ceiling.

mod ar;
mod elf;
mod packed;
mod pyc;
mod text;
mod tree;
mod zip;

use std::io::{self, Read as _};

use super::report::{Content, FieldChange};
use super::spool::Section;
use super::told::Told;
use super::{Work, document};

/// A JSON document is read up to this size.
const MOST_JSON: u64 = 1 << 20;
/// Compressed files in compressed files are opened so deep.
const DEPTH: u32 = 2;

/// Where contents first differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Difference {
    offset: u64,
    /// Bytes that differ, of those that both have.
    bytes: u64,
    /// Lines that end before the offset.
    lines: u64,
    /// Where the line begins that the offset is in.
    line_start: u64,
}

/// Compares two contents of the file of that name.
///
/// # Errors
/// If they cannot be read, or kept while they are looked into.
pub(super) fn compare(
    path: &[u8],
    a: Section<'_>,
    b: Section<'_>,
    work: Work<'_>,
) -> io::Result<Content> {
    deep(path, a, b, work, DEPTH)
}

fn deep(
    path: &[u8],
    a: Section<'_>,
    b: Section<'_>,
    work: Work<'_>,
    depth: u32,
) -> io::Result<Content> {
    let mut content = Content { format: "data", ..Content::default() };
    let Some(first) = difference(&a, &b, work)? else { return Ok(content) };
    content.offset = Some(first.offset);
    content.bytes = (a.size() == b.size()).then_some(first.bytes);
    let heads = [a.bytes(0, 300)?, b.bytes(0, 300)?];
    let both = |test: &dyn Fn(&[u8]) -> bool| heads.iter().all(|head| test(head));
    let begins = |magic: &'static [u8]| both(&|head| head.starts_with(magic));
    let fields = if begins(b"\x7fELF") {
        elf::compare(&a, &b, work)?.map(|fields| ("elf", fields))
    } else if begins(b"!<arch>\n") {
        ar::compare(&a, &b, work)?.map(|fields| ("ar", fields))
    } else if begins(b"PK\x03\x04") || begins(b"PK\x05\x06") {
        zip::compare(&a, &b)?.map(|fields| ("zip", fields))
    } else if both(&|head| head.get(257..262) == Some(b"ustar")) {
        tree::compare(&a, &b, work).map(|fields| ("tar", fields))
    } else if path.ends_with(b".pyc") && both(&pyc::is) {
        pyc::compare(&a, &b, first, work)?.map(|fields| ("pyc", told(fields)))
    } else if let Some(format) = packed::format(&heads[0])
        && packed::format(&heads[1]) == Some(format)
    {
        let (fields, inside) = packed::compare(path, a, b, work, depth)?;
        content.inside = inside.map(Box::new);
        Some((format, told(fields)))
    } else if both(&|head| matches!(head.trim_ascii_start().first(), Some(b'{' | b'['))) {
        json(&a, &b)?.map(|fields| ("json", fields))
    } else {
        None
    };
    if let Some((format, fields)) = fields {
        content.format = format;
        (content.fields, content.more) = fields.into_parts();
    } else if let Some(diff) = text::compare(&a, &b, first)? {
        content.format = "text";
        content.diff = diff;
    } else {
        content.fields.extend(strings(&a, &b, first.offset)?);
    }
    Ok(content)
}

/// Compares byte by byte; `None` if they are the same.
fn difference(a: &Section<'_>, b: &Section<'_>, work: Work<'_>) -> io::Result<Option<Difference>> {
    let mut found = Difference::default();
    let mut at = 0;
    let mut differs = false;
    let (mut one, mut other) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut from_a, mut from_b) = (a.reader(), b.reader());
    let common = a.size().min(b.size());
    while at < common {
        work.go_on()?;
        let length = usize::try_from(common - at).unwrap_or(usize::MAX).min(one.len());
        from_a.read_exact(&mut one[..length])?;
        from_b.read_exact(&mut other[..length])?;
        let (x, y) = (&one[..length], &other[..length]);
        if x != y {
            found.bytes += x.iter().zip(y).filter(|(x, y)| x != y).count() as u64;
        }
        if !differs {
            let same = x.iter().zip(y).take_while(|(x, y)| x == y).count();
            found.offset = at + same as u64;
            differs = same < length;
            found.lines += x[..same].iter().filter(|c| **c == b'\n').count() as u64;
            if let Some(last) = x[..same].iter().rposition(|c| *c == b'\n') {
                found.line_start = at + last as u64 + 1;
            }
        }
        at += length as u64;
    }
    Ok((differs || a.size() != b.size()).then_some(found))
}

/// The readable text around a place of data.
fn strings(a: &Section<'_>, b: &Section<'_>, at: u64) -> io::Result<Option<FieldChange>> {
    /// Bytes on each side that are looked at.
    const AROUND: u64 = 48;
    /// Shorter texts are chance.
    const LEAST: usize = 4;
    let around = |section: &Section<'_>| -> io::Result<Option<String>> {
        let begin = at.saturating_sub(AROUND);
        let bytes = section.bytes(begin, 2 * AROUND as usize)?;
        let place = usize::try_from(at - begin).unwrap_or_default().min(bytes.len());
        let readable = |c: &u8| (b' '..=b'~').contains(c);
        let start = bytes[..place].iter().rposition(|c| !readable(c)).map_or(0, |last| last + 1);
        let end = bytes[place..].iter().position(|c| !readable(c));
        let text = &bytes[start..end.map_or(bytes.len(), |end| place + end)];
        Ok((text.len() >= LEAST).then(|| String::from_utf8_lossy(text).into_owned()))
    };
    Ok(match (around(a)?, around(b)?) {
        (Some(a), Some(b)) if a != b => Some(FieldChange::new("strings", a, b)),
        _ => None,
    })
}

fn json(a: &Section<'_>, b: &Section<'_>) -> io::Result<Option<Told>> {
    if a.size().max(b.size()) > MOST_JSON {
        return Ok(None);
    }
    let [a, b] = [a.bytes(0, MOST_JSON as usize)?, b.bytes(0, MOST_JSON as usize)?];
    let mut found = Told::of_file();
    Ok(document::compare("JSON", &a, &b, |_| (), &mut found).is_ok().then_some(found))
}

/// As much of a table of names as one name may have.
fn cut(names: &[u8]) -> &[u8] {
    const LONGEST_NAME: usize = 4096;
    &names[..names.len().min(LONGEST_NAME)]
}

/// Fields that are few.
fn told(fields: Vec<FieldChange>) -> Told {
    let mut told = Told::of_file();
    fields.into_iter().for_each(|field| told.push(|| field));
    told
}

/// What one of two lists has of something called `name`: its fields, with one that stands for
/// its content.
struct Member {
    name: String,
    fields: Vec<(&'static str, serde_json::Value)>,
}

/// Members that differ, by name; of a name that occurs several times the first with the
/// first, and so on.
fn members(a: &[Member], b: &[Member]) -> Told {
    use std::collections::HashMap;
    let mut changes = Told::of_file();
    let mut twins: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, member) in b.iter().enumerate().rev() {
        twins.entry(&member.name).or_default().push(at);
    }
    let mut order = Vec::new();
    for one in a {
        let Some(at) = twins.get_mut(one.name.as_str()).and_then(Vec::pop) else {
            changes.push(|| FieldChange::new(format!("member {}", one.name), "there", ()));
            continue;
        };
        order.push(at);
        for ((what, x), (_, y)) in one.fields.iter().zip(&b[at].fields) {
            if x != y {
                let field = || format!("member {} {what}", one.name);
                changes.push(|| FieldChange::new(field(), x.clone(), y.clone()));
            }
        }
    }
    let mut new: Vec<usize> = twins.into_values().flatten().collect();
    new.sort_unstable();
    for at in new {
        changes.push(|| FieldChange::new(format!("member {}", b[at].name), (), "there"));
    }
    if let Some(at) = order.windows(2).position(|two| two[0] > two[1]) {
        let name = |at: usize| b[at].name.clone();
        let change = FieldChange::new("order", name(order[at]), name(order[at + 1]));
        changes.push(|| change.note("members in another order: in B the second comes first"));
    }
    changes
}
