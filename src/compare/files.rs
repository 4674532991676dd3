//! Files of two tables that differ, and in what.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::Value;

use super::report::{Change, Content, FieldChange, FileChange, Files};
use super::spool::{Spool, Wanted};
use super::table::{Item, Table};
use super::told::Told;
use super::{CompareError, Work, content, hint};
use crate::layer::{Kind, Name, RawHeader, Whiteout, whiteout_of};

/// Bytes of each side's files that are kept on disk to be looked into.
const MOST_CONTENT: u64 = 8 << 30;

/// Two tables whose files are to be told apart.
pub(super) struct Pair<'t> {
    pub(super) a: &'t Table,
    pub(super) b: &'t Table,
}

/// A name that differs: where it stands in each table.
struct Found {
    rank: u8,
    a: Option<usize>,
    b: Option<usize>,
}

/// Ranks: what is told first.
const PRESENCE: u8 = 0;
const ATTRIBUTES: u8 = 1;
const TIMES: u8 = 2;
/// The header alone.
const FORM: u8 = 3;

impl<'t> Pair<'t> {
    /// The files that differ, of which `most` are told of one by one. `fill` takes contents
    /// out of A's and of B's layers.
    pub(super) fn files(
        &self,
        most: usize,
        fill: impl Fn(&[Wanted; 2]) -> Result<[Spool; 2], CompareError>,
        work: Work<'_>,
    ) -> Result<Files, CompareError> {
        let mut files = Files::default();
        let mut found = self.walk(&mut files);
        found.sort_by_key(|one| one.rank);
        files.omitted = found.len().saturating_sub(most);
        found.truncate(most);
        let mut wanted = [Wanted::new(), Wanted::new()];
        let mut room = MOST_CONTENT;
        for one in &found {
            let Some((a, b)) = self.both(one) else { continue };
            if let (Some((one, x)), Some((other, y))) = (a.content, b.content)
                && x != y
            {
                let Some(left) = room.checked_sub(one.max(other)) else { continue };
                room = left;
                wanted[0].insert(a.root, true);
                wanted[1].insert(b.root, true);
            } else if one.rank == FORM {
                wanted[0].insert(a.at, false);
                wanted[1].insert(b.at, false);
            }
        }
        let spools = fill(&wanted)?;
        for one in &found {
            work.stopped()?;
            files.files.push(self.told(one, &spools, work)?);
        }
        Ok(files)
    }

    fn both(&self, found: &Found) -> Option<(&'t Item, &'t Item)> {
        Some((&self.a.items[found.a?], &self.b.items[found.b?]))
    }

    /// All names in order, those that are the same left out.
    fn walk(&self, files: &mut Files) -> Vec<Found> {
        let (mut i, mut j) = (0, 0);
        let mut found = Vec::new();
        loop {
            let (a, b) = (self.a.items.get(i), self.b.items.get(j));
            let order = match (a, b) {
                (None, None) => return found,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.entry.name.cmp(&b.entry.name),
            };
            match order {
                Ordering::Less => {
                    files.removed += 1;
                    found.push(Found { rank: PRESENCE, a: Some(i), b: None });
                }
                Ordering::Greater => {
                    files.added += 1;
                    found.push(Found { rank: PRESENCE, a: None, b: Some(j) });
                }
                Ordering::Equal => {
                    if let (Some(a), Some(b)) = (a, b)
                        && let Some(rank) = self.rank(a, b, files)
                    {
                        files.changed += 1;
                        found.push(Found { rank, a: Some(i), b: Some(j) });
                    }
                }
            }
            i += usize::from(order.is_le());
            j += usize::from(order.is_ge());
        }
    }

    /// Counts in what two entries of a name differ; `None` if they do not.
    fn rank(&self, a: &Item, b: &Item, files: &mut Files) -> Option<u8> {
        // Most are the same.
        if a.entry == b.entry
            && (a.content, a.nanos, a.form, a.times) == (b.content, b.nanos, b.form, b.times)
            && self.a.names_digest(a) == self.b.names_digest(b)
        {
            return None;
        }
        let fields = self.attributes(a, b);
        let content = a.content.is_some() && b.content.is_some() && a.content != b.content;
        let mut count = |what: &str| match files.attributes.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(files.attributes.insert(what.to_owned(), 1)),
        };
        for field in &fields {
            // Of all attributes together.
            count(field.field.split('[').next().unwrap_or_default());
        }
        if content {
            count("content");
        }
        if content || fields.iter().any(|field| field.field == "type") {
            Some(PRESENCE)
        } else if fields.iter().any(|field| field.field != "mtime") {
            Some(ATTRIBUTES)
        } else if !fields.is_empty() {
            Some(TIMES)
        } else if a.form != b.form {
            count("header");
            Some(FORM)
        } else {
            None
        }
    }

    fn attributes(&self, a: &Item, b: &Item) -> Vec<FieldChange> {
        let mut fields = Vec::new();
        let mut field = |name: &str, a: Value, b: Value| {
            if a != b {
                fields.push(FieldChange::new(name, a, b));
            }
        };
        let (kind_a, kind_b) = (kind(a), kind(b));
        field("type", kind_a.into(), kind_b.into());
        let mode = |item: &Item| Value::from(format!("{:04o}", item.entry.mode));
        // A link's mode means nothing, but is in the archive.
        field("mode", mode(a), mode(b));
        field("uid", a.entry.uid.into(), b.entry.uid.into());
        field("gid", a.entry.gid.into(), b.entry.gid.into());
        let size = |item: &Item| item.content.map_or(Value::Null, |(size, _)| size.into());
        field("size", size(a), size(b));
        let time = |item: &Item| Value::from(time(item.entry.mtime, item.nanos));
        field("mtime", time(a), time(b));
        field("target", target(a), target(b));
        if self.a.names_digest(a) != self.b.names_digest(b) {
            let linked = |table: &Table, item: &Item| names(table.names(item), &item.entry.name);
            fields.push(FieldChange::new("hardlink", linked(self.a, a), linked(self.b, b)));
        }
        let mut field = |name: &str, a: Value, b: Value| {
            if a != b {
                fields.push(FieldChange::new(name, a, b));
            }
        };
        field("device", device(a), device(b));
        let keys: BTreeSet<&String> = a.entry.xattrs.keys().chain(b.entry.xattrs.keys()).collect();
        for key in keys {
            let value = |item: &Item| {
                item.entry.xattrs.get(key).map_or(Value::Null, |value| text(&value.0).into())
            };
            field(&format!("xattr[{key}]"), value(a), value(b));
        }
        field("occurrences", a.times.into(), b.times.into());
        fields
    }

    /// All that differs, in one list: of an archive in a file.
    pub(super) fn members(&self) -> Told {
        let mut changes = Told::of_file();
        for one in self.walk(&mut Files::default()) {
            let member = |item: &Item| format!("member {}", String::from(item.entry.name.clone()));
            match (self.both(&one), one.a) {
                (Some((a, b)), _) => {
                    for change in self.attributes(a, b) {
                        changes.push(|| FieldChange {
                            field: format!("{} {}", member(a), change.field),
                            ..change
                        });
                    }
                    if let (Some((_, x)), Some((_, y))) = (a.content, b.content)
                        && x != y
                    {
                        let field = || format!("{} content", member(a));
                        changes.push(|| FieldChange::new(field(), x.short(), y.short()));
                    }
                }
                (None, Some(at)) => {
                    changes.push(|| FieldChange::new(member(&self.a.items[at]), "there", ()));
                }
                (None, None) => {
                    let at = one.b.unwrap_or_default();
                    changes.push(|| FieldChange::new(member(&self.b.items[at]), (), "there"));
                }
            }
        }
        changes
    }

    fn told(
        &self,
        found: &Found,
        spools: &[Spool; 2],
        work: Work<'_>,
    ) -> Result<FileChange, CompareError> {
        let (change, item) = match (found.a, found.b) {
            (Some(at), None) => (Change::Removed, &self.a.items[at]),
            (_, Some(at)) if found.a.is_none() => (Change::Added, &self.b.items[at]),
            _ => (Change::Changed, &self.a.items[found.a.unwrap_or_default()]),
        };
        let name = &item.entry.name;
        let mut told = FileChange {
            path: name.clone().into(),
            change,
            kind: kind(item),
            fields: Vec::new(),
            content: None,
            hint: match whiteout_of(name) {
                Some(Whiteout::Gone(gone)) => hint::of(gone.as_bytes()),
                _ => hint::of(name.as_bytes()),
            },
        };
        let Some((a, b)) = self.both(found) else { return Ok(told) };
        told.fields = self.attributes(a, b);
        if told.hint.is_none() && found.rank == TIMES {
            told.hint = Some(hint::TIMES);
        }
        if a.content.is_some() && b.content.is_some() && a.content != b.content {
            let kept = spools[0].content(a.root).zip(spools[1].content(b.root));
            let content = match kept {
                Some((one, other)) => content::compare(name.as_bytes(), one, other, work)
                    .map_err(|error| work.wrong(error))?,
                None => Content { format: "large", ..Content::default() },
            };
            told.hint = told.hint.or_else(|| hint::of_content(&content));
            told.content = Some(content);
        }
        if told.fields.is_empty()
            && told.content.is_none()
            && let (Some(one), Some(other)) = (spools[0].header(a.at), spools[1].header(b.at))
        {
            told.fields = header(one, other);
        }
        Ok(told)
    }

    /// The first place at which names that both have stand in another order.
    pub(super) fn order(&self) -> Option<FieldChange> {
        let (mut i, mut j) = (0, 0);
        let mut both = Vec::new();
        while let (Some(a), Some(b)) = (self.a.items.get(i), self.b.items.get(j)) {
            let order = a.entry.name.cmp(&b.entry.name);
            if order.is_eq() {
                both.push((a.at.ordinal, b.at.ordinal, i));
            }
            i += usize::from(order.is_le());
            j += usize::from(order.is_ge());
        }
        both.sort_unstable();
        let mut other = both.clone();
        other.sort_unstable_by_key(|(_, place, _)| *place);
        let at = both.iter().zip(&other).position(|(a, b)| a != b)?;
        let name = |all: &[(usize, usize, usize)]| {
            String::from(self.a.items[all[at].2].entry.name.clone())
        };
        let note = format!("the same names in another order from entry {} on", at + 1);
        Some(FieldChange::new("tar.order", name(&both), name(&other)).note(note))
    }
}

pub(super) fn kind(item: &Item) -> &'static str {
    match whiteout_of(&item.entry.name) {
        Some(Whiteout::Gone(_)) => return "whiteout",
        Some(Whiteout::Opaque(_)) => return "opaque",
        Some(Whiteout::Malformed) | None => (),
    }
    match &item.entry.kind {
        Kind::Dir => "folder",
        Kind::File { .. } => "file",
        Kind::Symlink { .. } => "symlink",
        Kind::Hardlink { .. } if item.content.is_some() => "file",
        Kind::Hardlink { .. } => "hardlink",
        Kind::Char { .. } => "char",
        Kind::Block { .. } => "block",
        Kind::Fifo => "fifo",
    }
}

pub(super) fn time(seconds: i64, nanos: u32) -> String {
    let nanos = i32::try_from(nanos).unwrap_or_default();
    match jiff::Timestamp::new(seconds, 0) {
        // Nanoseconds are those after the second, also before 1970.
        Ok(whole) => {
            let exact = whole.checked_add(jiff::SignedDuration::new(0, nanos));
            exact.unwrap_or(whole).to_string()
        }
        Err(_) => format!("{seconds}.{nanos:09} seconds since 1970"),
    }
}

fn target(item: &Item) -> Value {
    match &item.entry.kind {
        Kind::Symlink { target } => String::from(target.clone()).into(),
        Kind::Hardlink { target } if item.content.is_none() => String::from(target.clone()).into(),
        _ => Value::Null,
    }
}

fn device(item: &Item) -> Value {
    match item.entry.kind {
        Kind::Char { major, minor } | Kind::Block { major, minor } => {
            format!("{major}:{minor}").into()
        }
        _ => Value::Null,
    }
}

/// The other names of a file, the first few.
fn names(all: &[Name], own: &Name) -> Value {
    const MOST: usize = 8;
    let others = all.iter().filter(|name| *name != own).take(MOST);
    let mut names: Vec<String> = others.cloned().map(String::from).collect();
    if names.is_empty() {
        return Value::Null;
    }
    if let Some(more @ 1..) = all.len().checked_sub(MOST + 1) {
        names.push(format!("… {more} more"));
    }
    names.into()
}

/// Bytes as text if they are one, else in hex.
pub(super) fn text(bytes: &[u8]) -> String {
    const MOST: usize = 256;
    let cut = &bytes[..bytes.len().min(MOST)];
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    match std::str::from_utf8(cut) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text}{dots}"),
        _ => {
            let hex: String = cut.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex}{dots}")
        }
    }
}

/// Fields of a header block (POSIX.1-2017, pax, "ustar Interchange Format") and where they
/// begin. What GNU has from byte 345 on is called as in ustar.
const HEADER: &[(&str, usize)] = &[
    ("name", 0),
    ("mode", 100),
    ("uid", 108),
    ("gid", 116),
    ("size", 124),
    ("mtime", 136),
    ("chksum", 148),
    ("typeflag", 156),
    ("linkname", 157),
    ("magic", 257),
    ("version", 263),
    ("uname", 265),
    ("gname", 297),
    ("devmajor", 329),
    ("devminor", 337),
    ("prefix", 345),
    ("padding", 500),
];

/// In what two headers differ that mean the same.
fn header(a: &RawHeader, b: &RawHeader) -> Vec<FieldChange> {
    let mut fields = Vec::new();
    for (at, (name, begin)) in HEADER.iter().enumerate() {
        let end = HEADER.get(at + 1).map_or(512, |(_, next)| *next);
        let (one, other) = (&a.block[*begin..end], &b.block[*begin..end]);
        // The sum follows from the rest.
        if one != other && *name != "chksum" {
            let shown = |bytes: &[u8]| {
                let end = bytes.iter().rposition(|c| *c != 0).map_or(0, |last| last + 1);
                bytes[..end].escape_ascii().to_string()
            };
            fields.push(FieldChange::new(format!("header.{name}"), shown(one), shown(other)));
        }
    }
    for (at, name) in ["longName", "longLink"].into_iter().enumerate() {
        if a.long[at] != b.long[at] {
            fields.push(FieldChange::new(name, a.long[at], b.long[at]));
        }
    }
    let keys: BTreeSet<&String> = a.records.keys().chain(b.records.keys()).collect();
    for key in keys {
        let value = |of: &RawHeader| of.records.get(key).map_or(Value::Null, |v| text(v).into());
        if a.records.get(key) != b.records.get(key) {
            fields.push(FieldChange::new(format!("pax[{key}]"), value(a), value(b)));
        }
    }
    fields
}
