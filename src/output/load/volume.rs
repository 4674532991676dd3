//! What archives are read from: a file, or the parts of one.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::super::{OutputError, Work, parts};
use super::scan::Section;
use crate::atomic::AtPath as _;
use crate::digest::{Digest, Hashing};

/// Lists of digests are short.
const LONGEST_LIST: u64 = 1 << 20;

/// Bytes that can be read at any place.
pub trait ReadAt: std::fmt::Debug {
    /// Reads some bytes from a place on; 0 at the end.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// All bytes.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn size(&self) -> io::Result<u64>;

    /// Says more of an error in what was read, if the bytes themselves are known to be wrong.
    fn blame(&self, error: OutputError, work: &Work<'_>) -> OutputError {
        let _ = work;
        error
    }
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match std::os::unix::fs::FileExt::read_at(self, buf, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                done => return done,
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// An archive on disk.
#[derive(Debug)]
pub enum Volume {
    File(File),
    Parts(Parts),
}

/// An archive in parts, each with the digest that its list says.
#[derive(Debug)]
pub struct Parts {
    list: PathBuf,
    parts: Vec<Part>,
    size: u64,
    /// The part that was read last: a process may not have as many files open as there may be
    /// parts.
    open: Mutex<Option<(usize, File)>>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    start: u64,
    size: u64,
    digest: Digest,
}

impl Volume {
    /// Opens an archive by its name, or by that of its first part.
    ///
    /// # Errors
    /// If it cannot be opened, or a part is missing or not of the size it should have.
    pub fn open(path: &Path, work: &Work<'_>) -> Result<Self, OutputError> {
        let (name, number) = match parts::of(path) {
            Some(part) => part,
            // Which of the two is meant cannot be told.
            None if path.exists() && parts::is_begun(path) => {
                let (path, why) = (path.into(), parts::BOTH.into());
                return Err(OutputError::Parts { path, why });
            }
            // Parts alone are left of it.
            None if !path.exists() && parts::list(path).is_file() => (path.into(), 1),
            None => return Ok(Self::File(File::open(path).at("open", path)?)),
        };
        let list = parts::list(&name);
        let wrong = |why: String| OutputError::Parts { path: path.into(), why };
        if !list.exists() {
            if number == 1 && !parts::part(&name, 2).exists() {
                return Ok(Self::File(File::open(path).at("open", path)?));
            }
            return Err(wrong(format!(
                "it is part {number} of an archive, and the list of parts is not there: {}",
                list.display()
            )));
        }
        if number != 1 {
            let first = parts::part(&name, 1);
            return Err(wrong(format!(
                "it is part {number} of an archive; name the first: {}",
                first.display()
            )));
        }
        Parts::open(&name, list, work).map(Self::Parts)
    }
}

impl ReadAt for Volume {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => ReadAt::read_at(file, buf, at),
            Self::Parts(parts) => parts.read_at(buf, at),
        }
    }

    fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.size(),
            Self::Parts(parts) => Ok(parts.size),
        }
    }

    fn blame(&self, error: OutputError, work: &Work<'_>) -> OutputError {
        match self {
            Self::File(_) => error,
            Self::Parts(parts) => parts.blame(error, work),
        }
    }
}

impl Parts {
    fn open(name: &Path, list: PathBuf, work: &Work<'_>) -> Result<Self, OutputError> {
        let mut text = Vec::new();
        let file = File::open(&list).at("open", &list)?;
        file.take(LONGEST_LIST).read_to_end(&mut text).at("read", &list)?;
        let digests = std::str::from_utf8(&text).ok().and_then(parts::read_list);
        let Some(digests) = digests else {
            let why = "it is no list of parts, as `sha256sum` writes one".into();
            return Err(OutputError::Parts { path: list, why });
        };
        let (mut found, mut missing, mut start) = (Vec::new(), Vec::new(), 0);
        for (at, digest) in digests.into_iter().enumerate() {
            let path = parts::part(name, at + 1);
            match File::open(&path) {
                Ok(file) => {
                    let meta = file.metadata().at("read", &path)?;
                    if !meta.is_file() {
                        return Err(OutputError::Parts { path, why: "it is no file".into() });
                    }
                    let size = meta.len();
                    found.push(Part { path, start, size, digest });
                    start += size;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing.push((path, "is not there".to_owned()));
                }
                Err(error) => return Err(error).at("open", &path)?,
            }
        }
        if !missing.is_empty() {
            return Err(OutputError::PartsDamaged { parts: missing, source: None });
        }
        let parts = Self { list, parts: found, size: start, open: Mutex::default() };
        // A cut one shows here, and is not guessed at.
        let largest = parts.parts.first().map_or(0, |first| first.size);
        let whole = |(at, part): (usize, &Part)| {
            part.size == largest || at + 1 == parts.parts.len() && (1..largest).contains(&part.size)
        };
        if !parts.parts.iter().enumerate().all(whole) {
            parts.check(work)?;
        }
        Ok(parts)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let next = self.parts.partition_point(|part| part.start <= at);
        let found = next.checked_sub(1).and_then(|index| Some((index, self.parts.get(index)?)));
        let Some((index, part)) = found else { return Ok(0) };
        let within = at - part.start;
        let left = usize::try_from(part.size.saturating_sub(within)).unwrap_or(usize::MAX);
        let most = left.min(buf.len());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, file) = match open.take() {
            Some(last) if last.0 == index => open.insert(last),
            _ => open.insert((index, File::open(&part.path)?)),
        };
        ReadAt::read_at(file, &mut buf[..most], within)
    }

    /// Compares each part with its digest; all that are wrong are named.
    fn check(&self, work: &Work<'_>) -> Result<(), OutputError> {
        let mut wrong = Vec::new();
        let list = self.list.file_name().unwrap_or_default().to_string_lossy();
        for part in &self.parts {
            let mut hash = Hashing::new(io::sink());
            let file = File::open(&part.path).at("open", &part.path)?;
            let section = Section::new(&file, 0, part.size);
            work.copy(section, &mut hash, OutputError::Read, OutputError::Read)?;
            let found = hash.finish().1;
            if found == part.digest {
                continue;
            }
            let other = self.parts.iter().position(|other| other.digest == found);
            let why = match other {
                Some(at) => format!("has what {list} lists as part {}", at + 1),
                None => format!("is not what {list} says: it is damaged, or of another archive"),
            };
            wrong.push((part.path.clone(), why));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(OutputError::PartsDamaged { parts: wrong, source: None })
    }

    fn blame(&self, error: OutputError, work: &Work<'_>) -> OutputError {
        let ours = matches!(error, OutputError::Stopped | OutputError::Store(_))
            || matches!(error, OutputError::Path(_) | OutputError::PartsDamaged { .. });
        if ours {
            return error;
        }
        match self.check(work) {
            Ok(()) => error,
            Err(OutputError::PartsDamaged { parts, .. }) => {
                OutputError::PartsDamaged { parts, source: Some(Box::new(error)) }
            }
            Err(other) => other,
        }
    }
}
