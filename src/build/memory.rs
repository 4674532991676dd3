//! What the files of a context hash to, remembered from one build to the next.
//!
//! A file is the one that was hashed if it has the same size, inode, and times of change
//! (content and status, in nanoseconds). No process can set the time of the last change of
//! status (inode(7)), so that what gives a file an old time of change, or an old file its
//! name, shows. Within the tick of a file system's clock a file can change without that
//! showing, so those that were changed shortly before they were looked at are not
//! remembered: git calls them racily clean, and reads them again too. What was hashed is
//! remembered only if the file was, before and after it was read, as when it was walked.
//!
//! Two things are remembered for each folder, each in one file of the store with a digest
//! over all of it: one that is damaged is as good as none.
//!
//! - the table: stamp and digest of each file, in the order of whole paths. It is read
//!   only if a file has to be hashed, and never as a whole.
//! - answers: what a step's files come to, by a digest over what the folder was as a whole
//!   (all names, and each file's stamp) and what the step asks for. A build in which
//!   nothing changed reads nothing else.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::tree::{Tree, What};
use crate::digest::{Digest, Hashing};
use crate::layer::Name;
use crate::store::{Store, StoreError};

/// The records' areas: by digest of the folder's path.
const AREA: &str = "context";
const ANSWERS_AREA: &str = "context-answers";
const HEADER: &[u8] = b"kiln context 2\n";
const ANSWERS_HEADER: &[u8] = b"kiln context answers 1\n";
/// The latest ones are kept: each takes 64 bytes.
const MAX_ANSWERS: usize = 256;
/// Seconds. FAT counts in twos, and no other file system is coarser.
const TICK: i64 = 2;

/// What tells one state of a file from another: the first half of a digest of size, device,
/// inode and both times of change. Nobody can choose these to meet another state's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp([u8; Stamp::LENGTH]);

impl Stamp {
    const LENGTH: usize = 16;

    #[allow(clippy::unnecessary_cast, reason = "the types differ between platforms")]
    pub(super) fn of(stat: &Stat) -> Self {
        let numbers = [
            stat.st_size as u64,
            stat.st_dev as u64,
            stat.st_ino as u64,
            stat.st_mtime as u64,
            stat.st_mtime_nsec as u64,
            stat.st_ctime as u64,
            stat.st_ctime_nsec as u64,
        ];
        let fields = numbers.map(u64::to_le_bytes);
        let digest = Digest::of(fields.as_flattened());
        Self(*digest.bytes().first_chunk().unwrap_or(&[0; Self::LENGTH]))
    }

    pub(super) fn bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

/// True for a file that was changed so lately that it may change once more unseen. `now` is a
/// time before it was looked at, in seconds.
#[allow(clippy::unnecessary_cast, reason = "the types differ between platforms")]
pub(super) fn is_fresh(stat: &Stat, now: i64) -> bool {
    (stat.st_mtime as i64).max(stat.st_ctime as i64) >= now - TICK
}

/// The time by the clock, in seconds.
#[expect(clippy::disallowed_methods, reason = "compared with times of files, and in no output")]
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

/// Where a folder is remembered.
#[derive(Debug)]
pub(super) struct Memory {
    key: Digest,
    table: PathBuf,
    answers: PathBuf,
}

impl Memory {
    pub(super) fn of(store: &Store, folder: &Path) -> Self {
        let whole = std::fs::canonicalize(folder);
        let key = Digest::of(whole.as_deref().unwrap_or(folder).as_os_str().as_bytes());
        let (table, answers) =
            (store.record_path(AREA, &key), store.record_path(ANSWERS_AREA, &key));
        Self { key, table, answers }
    }

    /// The answers that are known, the latest first: what was asked, and its answer.
    pub(super) fn answers(&self) -> Vec<(Digest, Digest)> {
        let read = || -> Option<Vec<(Digest, Digest)>> {
            let bytes = std::fs::read(&self.answers).ok()?;
            let (body, seal) = bytes.split_last_chunk::<32>()?;
            if Digest::of(body).bytes() != seal {
                return None;
            }
            let (lines, rest) = body.strip_prefix(ANSWERS_HEADER)?.as_chunks::<64>();
            let line = |line: &[u8; 64]| {
                let (asked, answer) = line.split_at(32);
                let digest = |bytes: &[u8]| Some(Digest::from_bytes(bytes.try_into().ok()?));
                Some((digest(asked)?, digest(answer)?))
            };
            rest.is_empty().then(|| lines.iter().map(line).collect())?
        };
        read().unwrap_or_default()
    }

    /// Keeps new answers before those that are known.
    pub(super) fn keep_answers(
        &self,
        store: &Store,
        new: &[(Digest, Digest)],
    ) -> Result<(), StoreError> {
        let old = self.answers();
        let old = old.iter().filter(|(asked, _)| new.iter().all(|(other, _)| other != asked));
        let mut bytes = ANSWERS_HEADER.to_vec();
        for (asked, answer) in new.iter().chain(old).take(MAX_ANSWERS) {
            bytes.extend_from_slice(asked.bytes());
            bytes.extend_from_slice(answer.bytes());
        }
        let seal = Digest::of(&bytes);
        bytes.extend_from_slice(seal.bytes());
        store.set_record_bytes(ANSWERS_AREA, &self.key, &bytes)
    }

    /// Calls `each` for the files of a tree whose digest is known, with their numbers.
    pub(super) fn read_table(
        &self,
        tree: &Tree,
        stamps: &[Stamp],
        mut each: impl FnMut(u32, Digest),
    ) {
        let mut read = || -> io::Result<()> {
            let mut file = File::open(&self.table)?;
            if !is_whole(&file)? {
                return Ok(());
            }
            file.rewind()?;
            let mut rows = Rows::new(file)?;
            let mut walk = tree.walk(&Name::root());
            let mut at = walk.next();
            while let Some((name, stamp, digest)) = rows.next()? {
                // Both are in order.
                while at.is_some() && walk.path() < name {
                    at = walk.next();
                }
                if let Some(at) = at
                    && walk.path() == name
                    && tree.what(at) == What::File
                    && stamps[at as usize].bytes() == stamp
                {
                    each(at, Digest::from_bytes(*digest));
                }
            }
            Ok(())
        };
        // What cannot be read is not known; the files are read instead.
        let _ = read();
    }

    /// Remembers a folder's files, and nothing else of it.
    pub(super) fn save_table(
        &self,
        store: &Store,
        tree: &Tree,
        stamps: &[Stamp],
        known: impl Fn(u32) -> Option<Digest>,
    ) -> Result<(), StoreError> {
        store.write_record_bytes(AREA, &self.key, |to| {
            let mut to = Hashing::new(to);
            to.write_all(HEADER)?;
            let mut walk = tree.walk(&Name::root());
            while let Some(at) = walk.next() {
                if tree.what(at) != What::File {
                    continue;
                }
                let Some(digest) = known(at) else { continue };
                // No path is longer than the kernel takes.
                let length = u32::try_from(walk.path().len()).map_err(io::Error::other)?;
                to.write_all(&length.to_le_bytes())?;
                to.write_all(walk.path())?;
                to.write_all(stamps[at as usize].bytes())?;
                to.write_all(digest.bytes())?;
            }
            to.write_all(&END.to_le_bytes())?;
            let (to, seal, _) = to.finish();
            to.write_all(seal.bytes())
        })
    }
}

/// In place of a name's length.
const END: u32 = u32::MAX;
/// No file system takes a longer path.
const MAX_NAME: u32 = 1 << 16;

/// Whether a file is what was written: its last bytes are a digest of all others.
fn is_whole(file: &File) -> io::Result<bool> {
    let Some(length) = file.metadata()?.len().checked_sub(32) else { return Ok(false) };
    let mut body = Hashing::new(io::BufReader::with_capacity(1 << 16, file));
    io::copy(&mut (&mut body).take(length), &mut io::sink())?;
    let (mut rest, found, count) = body.finish();
    let mut seal = [0; 32];
    rest.read_exact(&mut seal)?;
    Ok(count == length && seal == *found.bytes())
}

/// A table, row by row.
struct Rows<R> {
    from: io::BufReader<R>,
    name: Vec<u8>,
    stamp: [u8; Stamp::LENGTH],
    digest: [u8; 32],
}

type Row<'a> = (&'a [u8], &'a [u8; Stamp::LENGTH], &'a [u8; 32]);

impl<R: Read> Rows<R> {
    fn new(from: R) -> io::Result<Self> {
        let mut from = io::BufReader::with_capacity(1 << 16, from);
        let mut header = [0; HEADER.len()];
        from.read_exact(&mut header)?;
        if header != HEADER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { from, name: Vec::new(), stamp: [0; _], digest: [0; _] })
    }

    fn next(&mut self) -> io::Result<Option<Row<'_>>> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == END {
            return Ok(None);
        }
        if length > MAX_NAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.name.resize(length as usize, 0);
        self.from.read_exact(&mut self.name)?;
        self.from.read_exact(&mut self.stamp)?;
        self.from.read_exact(&mut self.digest)?;
        Ok(Some((&self.name, &self.stamp, &self.digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_of_all_that_tells_files_apart() {
        let folder = tempfile::tempdir().unwrap();
        let stat = rustix::fs::stat(folder.path()).unwrap();
        let (stamp, late) = (Stamp::of(&stat), stat.st_mtime.max(stat.st_ctime));
        let changes: [fn(&mut Stat); 7] = [
            |stat| stat.st_size += 1,
            // Another file system at the same place.
            |stat| stat.st_dev += 1,
            |stat| stat.st_ino += 1,
            |stat| stat.st_mtime += 1,
            |stat| stat.st_mtime_nsec += 1,
            |stat| stat.st_ctime -= 1,
            |stat| stat.st_ctime_nsec += 1,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = stat;
            change(&mut other);
            assert!(Stamp::of(&other) != stamp, "{number}");
        }
        let mut touched = stat;
        (touched.st_atime, touched.st_nlink) = (stat.st_atime + 1, 7);
        assert!(Stamp::of(&touched) == stamp);
        assert!(is_fresh(&stat, late) && is_fresh(&stat, late + TICK) && is_fresh(&stat, late - 9));
        assert!(!is_fresh(&stat, late + TICK + 1));
    }
}
