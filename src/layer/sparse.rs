//! Files with holes, as GNU tar stores them: a map of what is stored, and then that
//! alone (GNU tar manual, "Storing Sparse Files"). The old form has the map in the
//! header and in blocks behind it, the pax forms 0.1 and 1.0 in a record and before the
//! content. Form 0.0, which repeats records, was of one release.

use std::collections::BTreeMap;

/// Most pieces of one file: the map stays below a few MiB.
pub(super) const MAX_PIECES: usize = 1 << 18;

/// Most bytes of one file: a header alone must not claim years of reading.
const MAX_SIZE: u64 = 1 << 40;

/// What is stored of a file, and how far it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Offset and length, without gaps in the stored bytes, last first.
    pieces: Vec<(u64, u64)>,
    at: u64,
    size: u64,
}

/// What comes next of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Hole(u64),
    Stored(u64),
}

impl Sparse {
    /// `stored` bytes follow in the archive.
    pub(super) fn new(pieces: &[(u64, u64)], size: u64, stored: u64) -> Result<Self, String> {
        if size > MAX_SIZE {
            return Err(format!("a sparse file of {size} bytes; {MAX_SIZE} are allowed"));
        }
        let mut end = 0;
        let mut sum = 0u64;
        for &(offset, length) in pieces {
            if offset < end {
                return Err("the pieces of a sparse file overlap".to_owned());
            }
            end = offset
                .checked_add(length)
                .filter(|end| *end <= size)
                .ok_or("a piece of a sparse file lies behind its end")?;
            sum += length;
        }
        if sum != stored {
            return Err("a sparse file's map does not fit to what is stored".to_owned());
        }
        let pieces = pieces.iter().rev().copied().filter(|(_, length)| *length > 0).collect();
        Ok(Self { pieces, at: 0, size })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn next(&self) -> Part {
        match self.pieces.last() {
            None => Part::Hole(self.size - self.at),
            Some((offset, _)) if self.at < *offset => Part::Hole(offset - self.at),
            Some((offset, length)) => Part::Stored(offset + length - self.at),
        }
    }

    /// That many bytes of what comes next were read.
    pub(super) fn advance(&mut self, count: u64) {
        self.at += count;
        if self.pieces.last().is_some_and(|(offset, length)| self.at >= offset + length) {
            self.pieces.pop();
        }
    }
}

/// What pax records say of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// Nothing.
    Plain,
    /// The map itself, and the file's size.
    Map(Vec<(u64, u64)>, u64),
    /// The file's size; the map is at the content's beginning.
    Inside(u64),
}

/// Takes the records of a sparse file out, and gives its path, if they have it.
pub(super) fn take(
    records: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(Records, Option<Vec<u8>>), String> {
    let mut take = |key: &str| records.remove(&format!("GNU.sparse.{key}"));
    let (major, minor) = (take("major"), take("minor"));
    let path = take("name");
    let number = |value: Option<Vec<u8>>, key: &str| {
        let text = value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        text.and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| format!("its GNU.sparse.{key} is no number"))
    };
    let read = match (major.as_deref(), minor.as_deref()) {
        (Some(b"1"), Some(b"0")) => Records::Inside(number(take("realsize"), "realsize")?),
        (None, None) | (Some(b"0"), Some(b"1")) => match take("map") {
            Some(map) => {
                let _ = take("numblocks");
                Records::Map(pairs(&map)?, number(take("size"), "size")?)
            }
            None => Records::Plain,
        },
        _ => return Err("a form of sparse files that is not known".to_owned()),
    };
    match records.keys().find(|key| key.starts_with("GNU.sparse.")) {
        Some(key) => Err(format!("sparse files with `{key}` are not read")),
        None => Ok((read, path)),
    }
}

/// `offset,length,offset,length`.
fn pairs(map: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    let wrong = || "the map of a sparse file is no list of numbers".to_owned();
    let text = std::str::from_utf8(map).map_err(|_| wrong())?;
    let numbers: Vec<u64> = text
        .split(',')
        .filter(|part| !text.is_empty() || !part.is_empty())
        .map(|part| part.parse().map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > MAX_PIECES {
        return Err(wrong());
    }
    Ok(pairs.iter().map(|&[offset, length]| (offset, length)).collect())
}

/// The pieces that a header or a block behind it has, and whether another block
/// follows. Of the `fields`, the first that is empty ends the map.
pub(super) fn old(
    fields: &[tar::GnuSparseHeader],
    pieces: &mut Vec<(u64, u64)>,
) -> Result<(), String> {
    for field in fields.iter().take_while(|field| !field.is_empty()) {
        let wrong = |_| "the map of a sparse file has what is no number".to_owned();
        if pieces.len() >= MAX_PIECES {
            return Err(format!("a sparse file of more than {MAX_PIECES} pieces"));
        }
        pieces.push((field.offset().map_err(wrong)?, field.length().map_err(wrong)?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        assert_eq!(pairs(b"0,5,100,1"), Ok(vec![(0, 5), (100, 1)]));
        assert_eq!(pairs(b""), Ok(vec![]));
        for bad in [&b"1"[..], b"1,", b"1,2,3", b"a,b", b"-1,2", b"\xff,1"] {
            assert!(pairs(bad).is_err(), "{bad:?}");
        }
        for (pieces, size, stored, good) in [
            (&[(0, 5), (10, 5)][..], 20, 10, true),
            (&[(0, 5), (10, 5), (20, 0)], 20, 10, true),
            (&[], 1 << 40, 0, true),
            (&[], (1 << 40) + 1, 0, false),
            (&[(0, 5), (4, 5)], 20, 10, false),
            (&[(0, 5)], 4, 5, false),
            (&[(0, 5)], 10, 6, false),
            (&[(u64::MAX, 2)], u64::MAX, 2, false),
        ] {
            assert_eq!(Sparse::new(pieces, size, stored).is_ok(), good, "{pieces:?}");
        }
    }

    #[test]
    fn parts() {
        let mut sparse = Sparse::new(&[(2, 3), (7, 1)], 10, 4).unwrap();
        let mut all = Vec::new();
        loop {
            let part = sparse.next();
            let (Part::Hole(count) | Part::Stored(count)) = part;
            if count == 0 {
                break;
            }
            all.push(part);
            sparse.advance(count);
        }
        use Part::{Hole, Stored};
        assert_eq!(all, [Hole(2), Stored(3), Hole(2), Stored(1), Hole(2)]);
    }
}
