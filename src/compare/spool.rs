//! Contents of files on disk, where any part of them can be read.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;

use super::{Blobs, CompareError, Work};
use crate::layer::{Decompressor, Kind, Layer, Located, RawHeader, Reader};

/// Entries that are taken out, by the layer's number and their place in it, and whether their
/// content is wanted besides the header.
pub(super) type Wanted = BTreeMap<Located, bool>;

/// Most bytes of headers that are kept in memory.
const MOST_HEADERS: u64 = 64 << 20;

/// Contents one after the other in a file without a name.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    places: HashMap<Located, (u64, u64)>,
    headers: HashMap<Located, RawHeader>,
}

impl Spool {
    /// Takes entries out of layers.
    pub(super) fn fill(
        blobs: &dyn Blobs,
        layers: &[Layer],
        wanted: &Wanted,
        work: Work<'_>,
    ) -> Result<Self, CompareError> {
        let file = tempfile::tempfile_in(work.scratch).map_err(CompareError::Scratch)?;
        let mut spool = Self { file, places: HashMap::new(), headers: HashMap::new() };
        let mut end = 0;
        let mut room = MOST_HEADERS;
        for (number, layer) in layers.iter().enumerate() {
            let of = |layer| Located { layer, ordinal: 0 };
            let mut wanted = wanted.range(of(number)..of(number + 1)).peekable();
            if wanted.peek().is_none() {
                continue;
            }
            let wrong = |source| CompareError::Layer { digest: layer.digest, source };
            let tar = Decompressor::new(blobs.open(&layer.digest)?, layer.compression)
                .map_err(|source| CompareError::Blob { digest: layer.digest, source })?;
            let mut reader = Reader::new(tar).keeping_headers();
            let mut ordinal = 0;
            while let Some(entry) = reader.next().map_err(wrong)? {
                work.stopped()?;
                if let Some((at, content)) = wanted.next_if(|(at, _)| at.ordinal == ordinal) {
                    if let Some(header) = reader.raw_header()
                        && let Some(left) = room.checked_sub(weight(header))
                    {
                        room = left;
                        spool.headers.insert(*at, header.clone());
                    }
                    if let Kind::File { .. } = entry.kind
                        && *content
                    {
                        let size = copy(&mut reader, &mut spool.file, layer, work)?;
                        spool.places.insert(*at, (end, size));
                        end += size;
                    }
                }
                ordinal += 1;
                // The layer was read to its end before, and its digest compared.
                if wanted.peek().is_none() {
                    break;
                }
            }
        }
        Ok(spool)
    }

    pub(super) fn content(&self, at: Located) -> Option<Section<'_>> {
        let (begin, size) = self.places.get(&at)?;
        Some(Section { file: &self.file, begin: *begin, size: *size })
    }

    pub(super) fn header(&self, at: Located) -> Option<&RawHeader> {
        self.headers.get(&at)
    }
}

/// Bytes of a header in memory.
fn weight(header: &RawHeader) -> u64 {
    let records = header.records.iter().map(|(key, value)| key.len() + value.len() + 64);
    512 + records.sum::<usize>() as u64
}

fn copy(
    from: &mut impl Read,
    to: &mut File,
    layer: &Layer,
    work: Work<'_>,
) -> Result<u64, CompareError> {
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        work.stopped()?;
        let count = from
            .read(&mut buffer)
            .map_err(|source| CompareError::Blob { digest: layer.digest, source })?;
        if count == 0 {
            return Ok(size);
        }
        to.write_all(&buffer[..count]).map_err(CompareError::Scratch)?;
        size += count as u64;
    }
}

/// A part of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'f> {
    file: &'f File,
    begin: u64,
    size: u64,
}

impl<'f> Section<'f> {
    /// All of a file.
    pub(super) fn whole(file: &'f File, size: u64) -> Self {
        Self { file, begin: 0, size }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// A part of it, if it has so much.
    pub(super) fn part(&self, at: u64, size: u64) -> Option<Self> {
        at.checked_add(size).filter(|end| *end <= self.size)?;
        Some(Self { file: self.file, begin: self.begin + at, size })
    }

    /// Bytes from a place on, fewer at the end; `most` is to be small.
    pub(super) fn bytes(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = self.size.saturating_sub(at);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; length];
        if length > 0 {
            self.file.read_exact_at(&mut bytes, self.begin + at)?;
        }
        Ok(bytes)
    }

    /// Exactly so many bytes, if they are there.
    pub(super) fn exact<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        self.part(at, N as u64)?;
        self.bytes(at, N).ok()?.try_into().ok()
    }

    pub(super) fn reader(&self) -> impl Read + use<'f> {
        Reading { section: *self, at: 0 }
    }
}

struct Reading<'f> {
    section: Section<'f>,
    at: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.section.size - self.at;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.section.file.read_at(&mut buf[..most], self.section.begin + self.at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}
