//! tar archives that are files of an image.

use std::io::BufReader;

use super::super::Work;
use super::super::files::Pair;
use super::super::report::FieldChange;
use super::super::spool::Section;
use super::super::table::Table;
use super::super::told::Told;

/// Entries that differ; `None` if one of the two cannot be read.
pub(super) fn compare(a: &Section<'_>, b: &Section<'_>, work: Work<'_>) -> Option<Told> {
    let read = |file: &Section<'_>| {
        Table::of_archive(BufReader::new(file.reader()), file.size(), work).ok()?
    };
    let (one, other) = (read(a)?, read(b)?);
    let pair = Pair { a: &one, b: &other };
    let mut changes = pair.members();
    if let Some(order) = pair.order() {
        changes.push(|| order);
    }
    if changes.count() == 0 {
        let note = "what differs is in headers, or behind the last entry";
        changes.push(|| FieldChange::new("tar.other", one.size, other.size).note(note));
    }
    Some(changes)
}
