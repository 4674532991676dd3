//! Where a program's sections and segments are (System V ABI, chapters 4 and 5).

use super::content::{Content, number};

/// Most sections and segments that are looked at, and most bytes of their names.
const MOST: u64 = 4096;
const MOST_NAMES: u64 = 1 << 20;

/// A part of memory that is in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) writable: bool,
}

pub(super) struct Elf<'c> {
    pub(super) content: &'c Content<'c>,
    pub(super) big: bool,
    wide: bool,
    /// Names, with place and length if they take room in the file.
    sections: Vec<(String, Option<(u64, u64)>)>,
    pub(super) segments: Vec<Segment>,
}

impl<'c> Elf<'c> {
    /// Reads the tables. `None` if it has none that could be followed: then it is no program.
    pub(super) fn read(content: &'c Content<'c>) -> Option<Self> {
        let head = content.part(0, content.size().min(64))?;
        let mut elf = Self {
            content,
            wide: *head.get(4)? == 2,
            big: *head.get(5)? == 2,
            sections: Vec::new(),
            segments: Vec::new(),
        };
        let tail = if elf.wide { 54 } else { 42 };
        let short = |at: usize| number(&head, tail + at, 2, elf.big);
        let (segment, segments) = (short(0)?, short(2)?);
        let (section, sections, names) = (short(4)?, short(6)?, short(8)?);
        let at = elf.word(&head, 28, 32)?;
        elf.segments = elf.table(at, segment, segments, |elf, entry| {
            let is_loaded = number(entry, 0, 4, elf.big)? == 1;
            let flags = number(entry, if elf.wide { 4 } else { 24 }, 4, elf.big)?;
            let writable = flags & 2 != 0;
            let (at, address) = (elf.word(entry, 4, 8)?, elf.word(entry, 8, 16)?);
            let size = elf.word(entry, 16, 32)?;
            Some(is_loaded.then_some(Segment { address, at, size, writable }))
        })?;
        let at = elf.word(&head, 32, 40)?;
        if at == 0 {
            return Some(elf);
        }
        let all = elf.table(at, section, sections, |elf, entry| {
            let name = usize::try_from(number(entry, 0, 4, elf.big)?).ok()?;
            /// A section without bytes in the file.
            const NOBITS: u64 = 8;
            let is_there = number(entry, 4, 4, elf.big)? != NOBITS;
            let place = (elf.word(entry, 16, 24)?, elf.word(entry, 20, 32)?);
            Some(Some((name, is_there.then_some(place))))
        })?;
        let Some((_, Some((at, size)))) = all.get(usize::try_from(names).ok()?) else {
            return Some(elf);
        };
        let names = content.part(*at, (*size).min(MOST_NAMES))?;
        let name = |at: usize| {
            let end = names.len().min(at.checked_add(64)?);
            let bytes = names.get(at..end)?.split(|byte| *byte == 0).next()?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        elf.sections =
            all.iter().map(|(at, place)| Some((name(*at)?, *place))).collect::<Option<_>>()?;
        Some(elf)
    }

    /// A number that is four or eight bytes long, at places for each.
    fn word(&self, bytes: &[u8], narrow: usize, wide: usize) -> Option<u64> {
        if self.wide {
            number(bytes, wide, 8, self.big)
        } else {
            number(bytes, narrow, 4, self.big)
        }
    }

    fn table<T>(
        &self,
        at: u64,
        length: u64,
        count: u64,
        read: impl Fn(&Self, &[u8]) -> Option<Option<T>>,
    ) -> Option<Vec<T>> {
        if count > MOST {
            return None;
        }
        let bytes = self.content.part(at, length.checked_mul(count)?)?;
        let mut all = Vec::new();
        for entry in bytes.chunks_exact(usize::try_from(length).ok()?.max(1)) {
            all.extend(read(self, entry)?);
        }
        Some(all)
    }

    /// Place and length of a section; the inner one is `None` if it takes no room in the file.
    pub(super) fn section(&self, name: &str) -> Option<Option<(u64, u64)>> {
        self.sections.iter().find(|(other, _)| other == name).map(|(_, place)| *place)
    }

    /// Bytes by their address in memory, if they are in the file.
    pub(super) fn at(&self, address: u64, size: u64) -> Option<Vec<u8>> {
        self.segments.iter().find_map(|segment| {
            let from = address.checked_sub(segment.address)?;
            let end = from.checked_add(size)?;
            (end <= segment.size).then(|| self.content.part(segment.at.checked_add(from)?, size))?
        })
    }
}
