//! Programs and libraries: which sections differ (System V ABI, chapter 4).

use std::collections::HashMap;
use std::io;

use super::super::Work;
use super::super::files::text;
use super::super::report::FieldChange;
use super::super::spool::Section;
use super::super::told::Told;
use super::{cut, difference, strings};

/// Most sections that are looked at, and most bytes of their names.
const MOST: u64 = 4096;
const MOST_NAMES: u64 = 1 << 20;
/// Sections whose content is a text.
const TEXTS: [&str; 4] = [".comment", ".note.go.buildid", ".gnu_debuglink", ".interp"];
/// Bytes of such a text that are shown.
const SHOWN: usize = 200;

struct Named<'f> {
    name: String,
    /// `None` if it takes no room in the file.
    content: Option<Section<'f>>,
    size: u64,
}

/// Sections that differ; `None` if one of the two has no section table that can be read.
pub(super) fn compare(
    a: &Section<'_>,
    b: &Section<'_>,
    work: Work<'_>,
) -> io::Result<Option<Told>> {
    let (Some(one), Some(other)) = (sections(a), sections(b)) else { return Ok(None) };
    let mut changes = Told::of_file();
    let mut twins: HashMap<&str, Vec<&Named<'_>>> = HashMap::new();
    for section in other.iter().rev() {
        twins.entry(&section.name).or_default().push(section);
    }
    for section in &one {
        let field = format!("section {}", section.name);
        let Some(twin) = twins.get_mut(section.name.as_str()).and_then(Vec::pop) else {
            changes.push(|| FieldChange::new(field, section.size, ()));
            continue;
        };
        let (Some(x), Some(y)) = (section.content, twin.content) else {
            if section.size != twin.size {
                changes.push(|| FieldChange::new(field, section.size, twin.size));
            }
            continue;
        };
        let Some(first) = difference(&x, &y, work)? else { continue };
        let change = match (shown(&section.name, &x)?, shown(&section.name, &y)?) {
            (Some(x), Some(y)) => FieldChange::new(field, x, y),
            _ => match strings(&x, &y, first.offset)? {
                Some(strings) => FieldChange { field, ..strings },
                None => FieldChange::new(
                    field,
                    format!("{} bytes", x.size()),
                    format!("{} bytes", y.size()),
                ),
            }
            .note(format!("from its byte {} on", first.offset)),
        };
        changes.push(|| change);
    }
    for new in other.iter() {
        let left = twins
            .get(new.name.as_str())
            .is_some_and(|left| left.iter().any(|section| std::ptr::eq(*section, new)));
        if left {
            changes.push(|| FieldChange::new(format!("section {}", new.name), (), new.size));
        }
    }
    if changes.count() == 0 {
        let note = "all sections are the same: the header, or what lies between them";
        changes.push(|| FieldChange::new("outside of sections", a.size(), b.size()).note(note));
    }
    Ok(Some(changes))
}

/// What a section says, if people can read it.
fn shown(name: &str, content: &Section<'_>) -> io::Result<Option<String>> {
    let bytes = content.bytes(0, SHOWN)?;
    if name == ".note.gnu.build-id" {
        // Behind the lengths, the type and the name `GNU`.
        return Ok(bytes.get(16..).map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()));
    }
    let parts = bytes.split(|c| *c == 0).filter(|part| !part.is_empty());
    Ok(TEXTS.contains(&name).then(|| parts.map(text).collect::<Vec<_>>().join(" ")))
}

/// Where numbers stand in the header and in the section table, and how long they are.
struct Layout {
    wide: bool,
    big: bool,
}

impl Layout {
    fn number(&self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let bytes = bytes.get(at..at + length)?;
        let put = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        Some(if self.big { bytes.iter().fold(0, put) } else { bytes.iter().rev().fold(0, put) })
    }

    /// A number that is four or eight bytes long, at places for each.
    fn word(&self, bytes: &[u8], narrow: usize, wide: usize) -> Option<u64> {
        if self.wide { self.number(bytes, wide, 8) } else { self.number(bytes, narrow, 4) }
    }
}

fn sections<'f>(file: &Section<'f>) -> Option<Vec<Named<'f>>> {
    let head = file.bytes(0, 64).ok()?;
    let layout = Layout { wide: *head.get(4)? == 2, big: *head.get(5)? == 2 };
    let table = layout.word(&head, 32, 40)?;
    let tail = if layout.wide { 58 } else { 46 };
    let length = layout.number(&head, tail, 2)?;
    let count = layout.number(&head, tail + 2, 2)?;
    let names = layout.number(&head, tail + 4, 2)?;
    let least = if layout.wide { 64 } else { 40 };
    if table == 0 || count == 0 || count > MOST || length < least {
        return None;
    }
    let entry = |number: u64| {
        let at = table.checked_add(number.checked_mul(length)?)?;
        file.part(at, least)?.bytes(0, 64).ok()
    };
    /// A section without bytes in the file.
    const NOBITS: u64 = 8;
    let place = |entry: &[u8]| Some((layout.word(entry, 16, 24)?, layout.word(entry, 20, 32)?));
    let (at, size) = place(&entry(names)?)?;
    let names = file.part(at, size)?.bytes(0, size.min(MOST_NAMES) as usize).ok()?;
    let mut room = file.size().saturating_mul(2);
    // The first is none.
    (1..count)
        .map(|number| {
            let entry = entry(number)?;
            let name = usize::try_from(layout.number(&entry, 0, 4)?).ok()?;
            let name = cut(names.get(name..)?).split(|c| *c == 0).next()?;
            let (at, size) = place(&entry)?;
            let content = match layout.number(&entry, 4, 4)? {
                NOBITS => None,
                _ => {
                    // Sections that overlap again and again would be compared without end.
                    room = room.checked_sub(size)?;
                    Some(file.part(at, size)?)
                }
            };
            Some(Named { name: text(name), content, size })
        })
        .collect()
}
