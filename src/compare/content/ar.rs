//! Static libraries and Debian packages: members and their headers (ar(5), with GNU's long
//! names).

use std::io;

use serde_json::Value;

use super::super::Work;
use super::super::files::{text, time};
use super::super::report::FieldChange;
use super::super::spool::Section;
use super::super::told::Told;
use super::{Member, cut, members};
use crate::digest::Hashing;

const MOST: usize = 100_000;
const MOST_NAMES: u64 = 1 << 20;

/// Members that differ; `None` if one of the two is no such archive.
pub(super) fn compare(
    a: &Section<'_>,
    b: &Section<'_>,
    work: Work<'_>,
) -> io::Result<Option<Told>> {
    let (Some(one), Some(other)) = (list(a, work)?, list(b, work)?) else { return Ok(None) };
    let mut changes = members(&one, &other);
    if changes.count() == 0 {
        let note =
            "the members are the same: what differs is between them, or in their headers' form";
        changes.push(|| FieldChange::new("outside of members", a.size(), b.size()).note(note));
    }
    Ok(Some(changes))
}

/// All members; `None` also if there are too many.
fn list(file: &Section<'_>, work: Work<'_>) -> io::Result<Option<Vec<Member>>> {
    let mut all = Vec::new();
    let mut names = Vec::new();
    let mut at = 8;
    while at < file.size() {
        if all.len() == MOST {
            return Ok(None);
        }
        work.go_on()?;
        let Some(head) = file.exact::<60>(at) else { return Ok(None) };
        if &head[58..] != b"`\n" {
            return Ok(None);
        }
        let field = |from: usize, to: usize| head[from..to].trim_ascii();
        let number = |from: usize, to: usize| {
            std::str::from_utf8(field(from, to)).ok().and_then(|text| text.parse::<u64>().ok())
        };
        let Some(size) = number(48, 58) else { return Ok(None) };
        let Some(content) = file.part(at + 60, size) else { return Ok(None) };
        at = (at + 60).saturating_add(size).saturating_add(size % 2);
        if field(0, 16) == b"//" {
            names = content.bytes(0, size.min(MOST_NAMES) as usize)?;
        }
        let long = field(0, 16).strip_prefix(b"/").and_then(|digits| {
            let place: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
            cut(names.get(place..)?).split(|c| *c == b'\n').next()
        });
        let name = long.unwrap_or(field(0, 16));
        let name = if name.len() > 1 { name.strip_suffix(b"/").unwrap_or(name) } else { name };
        let date = number(16, 28).and_then(|seconds| i64::try_from(seconds).ok());
        let mut hash = Hashing::new(io::sink());
        work.copy(content.reader(), &mut hash)?;
        let shown = |from: usize, to: usize| Value::from(text(field(from, to)));
        all.push(Member {
            name: text(name),
            fields: vec![
                ("date", date.map_or_else(|| shown(16, 28), |date| time(date, 0).into())),
                ("uid", shown(28, 34)),
                ("gid", shown(34, 40)),
                ("mode", shown(40, 48)),
                ("size", size.into()),
                ("content", hash.finish().1.short().into()),
            ],
        });
    }
    Ok(Some(all))
}
