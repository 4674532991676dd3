//! The bytes of one file: in memory if they are few, else in a file on disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// Most bytes that are held in memory for being read in parts.
const IN_MEMORY: u64 = 1 << 20;

pub(super) enum Content<'f> {
    Memory(Vec<u8>),
    File { file: &'f File, size: u64 },
}

impl<'f> Content<'f> {
    /// Takes all that a reader gives; `spool` is overwritten if that is much.
    pub(super) fn take(
        from: &mut impl Read,
        spool: &'f mut File,
        go_on: &dyn Fn() -> io::Result<()>,
    ) -> Result<Self, Taking> {
        use io::{Seek as _, Write as _};
        let mut bytes = Vec::new();
        from.by_ref().take(IN_MEMORY + 1).read_to_end(&mut bytes).map_err(Taking::Read)?;
        if bytes.len() as u64 <= IN_MEMORY {
            return Ok(Self::Memory(bytes));
        }
        spool.set_len(0).map_err(Taking::Write)?;
        spool.rewind().map_err(Taking::Write)?;
        let mut size = 0;
        loop {
            spool.write_all(&bytes).map_err(Taking::Write)?;
            size += bytes.len() as u64;
            go_on().map_err(Taking::Read)?;
            bytes.clear();
            from.by_ref().take(IN_MEMORY).read_to_end(&mut bytes).map_err(Taking::Read)?;
            if bytes.is_empty() {
                return Ok(Self::File { file: spool, size });
            }
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// Exactly so many bytes from a place on, if they are there; whoever asks has bounded them.
    pub(super) fn part(&self, at: u64, size: u64) -> Option<Vec<u8>> {
        let end = at.checked_add(size).filter(|end| *end <= self.size())?;
        match self {
            Self::Memory(bytes) => {
                bytes.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?).map(<[u8]>::to_vec)
            }
            Self::File { file, .. } => {
                let mut bytes = vec![0; usize::try_from(size).ok()?];
                file.read_exact_at(&mut bytes, at).ok()?;
                Some(bytes)
            }
        }
    }

    /// All of it, if it is not more than `most`.
    pub(super) fn all(&self, most: u64) -> Option<Vec<u8>> {
        if self.size() <= most { self.part(0, self.size()) } else { None }
    }
}

/// Which side failed.
pub(super) enum Taking {
    Read(io::Error),
    Write(io::Error),
}

/// Numbers in bytes.
pub(super) fn number(bytes: &[u8], at: usize, length: usize, big: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    let put = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
    Some(if big { bytes.iter().fold(0, put) } else { bytes.iter().rev().fold(0, put) })
}
