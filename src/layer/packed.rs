//! Entries in few bytes, one after the other, each told by its difference to the one before.
//!
//! An entry is a byte that says what follows, then, as far as it is there: how many bytes of
//! the name are those of the last one, the rest of it, the mode, owner and group, time,
//! what the kind has besides, attributes. Numbers have seven bits in a byte, the lowest
//! first, and a set eighth bit if another byte follows; a text has its length before it.

use std::collections::BTreeMap;

use super::entry::{Entry, Kind, Name, RawBytes};

/// The lower bits say which kind it is.
const KIND: u8 = 0b111;
/// Otherwise that of the last entry of the same kind holds.
const MODE: u8 = 1 << 3;
/// Otherwise those of the last entry hold.
const OWNER: u8 = 1 << 4;
const TIME: u8 = 1 << 5;
const ATTRIBUTES: u8 = 1 << 6;

/// What the next entry is told by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Last {
    name: Vec<u8>,
    modes: [u32; 8],
    owner: (u32, u32),
    time: i64,
}

fn kind(entry: &Entry) -> u8 {
    match entry.kind {
        Kind::Dir => 0,
        Kind::File { .. } => 1,
        Kind::Symlink { .. } => 2,
        Kind::Hardlink { .. } => 3,
        Kind::Char { .. } => 4,
        Kind::Block { .. } => 5,
        Kind::Fifo => 6,
    }
}

impl Last {
    /// Adds an entry to what was packed before.
    pub(super) fn pack(&mut self, entry: &Entry, to: &mut Vec<u8>) {
        let kind = kind(entry);
        let (name, owner) = (entry.name.as_bytes(), (entry.uid, entry.gid));
        let mode = &mut self.modes[usize::from(kind)];
        let mut what = kind;
        for (flag, differs) in [
            (MODE, *mode != entry.mode),
            (OWNER, self.owner != owner),
            (TIME, self.time != entry.mtime),
            (ATTRIBUTES, !entry.xattrs.is_empty()),
        ] {
            what |= if differs { flag } else { 0 };
        }
        to.push(what);
        let same = self.name.iter().zip(name).take_while(|(a, b)| a == b).count();
        number(same as u64, to);
        text(&name[same..], to);
        if what & MODE != 0 {
            number(entry.mode.into(), to);
        }
        if what & OWNER != 0 {
            number(entry.uid.into(), to);
            number(entry.gid.into(), to);
        }
        if what & TIME != 0 {
            // The sign comes last, so that small numbers stay small.
            number((entry.mtime << 1 ^ entry.mtime >> 63).cast_unsigned(), to);
        }
        match &entry.kind {
            Kind::Dir | Kind::Fifo => (),
            Kind::File { size } => number(*size, to),
            Kind::Symlink { target } => text(&target.0, to),
            Kind::Hardlink { target } => text(target.as_bytes(), to),
            Kind::Char { major, minor } | Kind::Block { major, minor } => {
                number((*major).into(), to);
                number((*minor).into(), to);
            }
        }
        if what & ATTRIBUTES != 0 {
            number(entry.xattrs.len() as u64, to);
            for (key, value) in &entry.xattrs {
                text(key.as_bytes(), to);
                text(&value.0, to);
            }
        }
        *mode = entry.mode;
        self.name.truncate(same);
        self.name.extend_from_slice(&name[same..]);
        (self.owner, self.time) = (owner, entry.mtime);
    }
}

fn number(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn text(text: &[u8], to: &mut Vec<u8>) {
    number(text.len() as u64, to);
    to.extend_from_slice(text);
}

/// Gives packed entries back; ends at what cannot be one.
pub(super) struct Packed<'p> {
    rest: &'p [u8],
    last: Last,
    wrong: bool,
}

impl<'p> Packed<'p> {
    pub(super) fn of(packed: &'p [u8]) -> Self {
        Self { rest: packed, last: Last::default(), wrong: false }
    }

    /// What the next entry is told by, if all that came before was right.
    pub(super) fn end(self) -> Option<Last> {
        (!self.wrong).then_some(self.last)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << (7 * place) >> (7 * place) != part {
                return None;
            }
            number |= part << (7 * place);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn text(&mut self) -> Option<&'p [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(text)
    }

    fn entry(&mut self) -> Option<Entry> {
        let what = self.byte()?;
        let same = usize::try_from(self.number()?).ok()?;
        if same > self.last.name.len() {
            return None;
        }
        let rest = self.text()?;
        self.last.name.truncate(same);
        self.last.name.extend_from_slice(rest);
        let kind = usize::from(what & KIND);
        if what & MODE != 0 {
            self.last.modes[kind] = self.small()?;
        }
        if what & OWNER != 0 {
            self.last.owner = (self.small()?, self.small()?);
        }
        if what & TIME != 0 {
            let time = self.number()?;
            self.last.time = (time >> 1).cast_signed() ^ -(time & 1).cast_signed();
        }
        let mode = self.last.modes[kind];
        let kind = match kind {
            0 => Kind::Dir,
            1 => Kind::File { size: self.number()? },
            2 => Kind::Symlink { target: RawBytes(self.text()?.to_vec()) },
            3 => Kind::Hardlink { target: Name::again(self.text()?.to_vec()) },
            4 => Kind::Char { major: self.small()?, minor: self.small()? },
            5 => Kind::Block { major: self.small()?, minor: self.small()? },
            6 => Kind::Fifo,
            _ => return None,
        };
        let mut xattrs = BTreeMap::new();
        if what & ATTRIBUTES != 0 {
            for _ in 0..self.number()? {
                let key = String::from_utf8(self.text()?.to_vec()).ok()?;
                xattrs.insert(key, RawBytes(self.text()?.to_vec()));
            }
        }
        let Last { owner: (uid, gid), time: mtime, .. } = self.last;
        let name = Name::again(self.last.name.clone());
        Some(Entry { name, kind, mode, uid, gid, mtime, xattrs })
    }
}

impl Iterator for Packed<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.rest.is_empty() || self.wrong {
            return None;
        }
        let entry = self.entry();
        self.wrong = entry.is_none();
        entry
    }
}
