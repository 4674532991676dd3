//! Archives in parts, each as large as a medium takes.
//!
//! Parts are slices: one behind the other they are the archive, for `cat` too. `NAME.001`,
//! `NAME.002` and so on appear whole, one after the other, and `NAME.sha256` at last: the
//! digest of each part, as `sha256sum --check` reads it. Without it the archive is not whole.
//!
//! An archive that is written again, after a break or because little has changed, leaves
//! parts alone that already hold what they should.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{OutputError, Sink, temporary, to_file};
use crate::atomic::{AtPath as _, PathError};
use crate::digest::{Digest, Hashing};

/// Most parts: their names sort as their numbers do.
const MOST: usize = 999;

/// What was written in parts.
#[derive(Debug)]
pub struct Written {
    pub parts: Vec<PathBuf>,
    /// Parts of an earlier archive of this name that are none of this one.
    pub left: Vec<PathBuf>,
}

/// A name with something behind it.
fn with(name: &Path, ending: &str) -> PathBuf {
    let mut whole = name.as_os_str().to_owned();
    whole.push(ending);
    whole.into()
}

/// Where a part lies; the first has number 1.
pub(super) fn part(name: &Path, number: usize) -> PathBuf {
    with(name, &format!(".{number:03}"))
}

/// Where the digests of the parts are.
pub(super) fn list(name: &Path) -> PathBuf {
    with(name, ".sha256")
}

/// Said of a name that has both forms.
pub(super) const BOTH: &str = "it is there as one file and in parts; remove those that are old";

/// Whether there are parts of an archive.
pub(super) fn is_begun(name: &Path) -> bool {
    part(name, 1).exists()
}

/// Refuses to write an archive, whole or in parts, beside its other form: who reads it could
/// not tell which is meant.
///
/// # Errors
/// If the other form is there.
pub fn refuse_other_form(name: &Path, in_parts: bool) -> Result<(), OutputError> {
    let why = match in_parts {
        true if name.is_file() => "it is there as one file, and would be beside it in parts",
        false if is_begun(name) => "it is there in parts, and would be beside them as one file",
        _ => return Ok(()),
    };
    Err(OutputError::Parts { path: name.into(), why: format!("{why}; remove what is old") })
}

/// The archive that a part is of, and its number, if the file is called like a part.
pub(super) fn of(path: &Path) -> Option<(PathBuf, usize)> {
    let number = path.extension()?.to_str()?;
    if number.len() != 3 || !number.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some((path.with_extension(""), number.parse().ok()?))
}

/// The name of the archive that a file is, or is a part of.
#[must_use]
pub fn archive_name(path: &Path) -> PathBuf {
    match of(path) {
        Some((name, _)) if list(&name).exists() => name,
        _ => path.into(),
    }
}

/// The digests of a list, in the order of the parts; none if it is no such list.
pub(super) fn read_list(text: &str) -> Option<Vec<Digest>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let (hex, name) = line.split_once("  ")?;
        found.push(format!("sha256:{hex}").parse().ok()?);
        if of(Path::new(name))?.1 != found.len() {
            return None;
        }
    }
    Some(found).filter(|found| !found.is_empty())
}

/// Writes an archive in parts of a size.
///
/// # Errors
/// Those of `fill`, or of the file system. Parts that were finished stay then, and are not
/// written again the next time.
pub fn to_parts(
    name: &Path,
    size: u64,
    fill: impl FnOnce(&mut PartsWriter) -> Result<(), OutputError>,
) -> Result<Written, OutputError> {
    let shown = name.file_name().and_then(|name| name.to_str());
    // sha256sum would write such names in another way.
    let shown = shown.filter(|name| !name.contains(['\\', '\n', '\r']));
    let Some(shown) = shown else {
        let odd = io::Error::other("the name of an archive in parts is plain text");
        return Err(odd).at("create", name)?;
    };
    let mut to = PartsWriter { name: name.into(), size, done: Vec::new(), open: None };
    fill(&mut to)?;
    to.close().map_err(OutputError::Write)?;
    let lines = to.done.iter().enumerate();
    let lines = lines.map(|(at, digest)| format!("{}  {shown}.{:03}\n", digest.hex(), at + 1));
    let text: String = lines.collect();
    to_file(&list(name), |file| file.write_all(text.as_bytes()).map_err(OutputError::Write))?;
    let count = to.done.len();
    Ok(Written {
        parts: (1..=count).map(|number| part(name, number)).collect(),
        left: (count + 1..=MOST).map(|n| part(name, n)).take_while(|path| path.exists()).collect(),
    })
}

/// Cuts what is written to it.
#[derive(Debug)]
pub struct PartsWriter {
    name: PathBuf,
    size: u64,
    /// Digests of the parts that are whole.
    done: Vec<Digest>,
    open: Option<Open>,
}

/// A part that is not whole yet.
#[derive(Debug)]
struct Open {
    hash: Hashing<io::Sink>,
    to: To,
}

#[derive(Debug)]
enum To {
    /// The part is there, and so far the same.
    Old(File),
    New(NamedTempFile),
}

impl PartsWriter {
    fn path(&self) -> PathBuf {
        part(&self.name, self.done.len() + 1)
    }

    fn begin(&self) -> io::Result<Open> {
        if self.done.len() == MOST {
            let said = format!("it would have more than {MOST} parts; make them larger");
            return Err(io::Error::other(said));
        }
        let path = self.path();
        let old = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        let to = match File::open(&path) {
            Ok(file) if old => To::Old(file),
            _ => To::New(self.anew(None)?),
        };
        Ok(Open { hash: Hashing::new(io::sink()), to })
    }

    /// A file for the part, with the beginning of what is there.
    fn anew(&self, beginning: Option<(&File, u64)>) -> io::Result<NamedTempFile> {
        let told = |error: PathError| io::Error::new(error.source.kind(), error);
        let path = self.path();
        // What the old list says of this part will not be so.
        let list = list(&self.name);
        match std::fs::remove_file(&list) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).at("remove", &list).map_err(told);
            }
            _ => (),
        }
        let mut file = temporary(path.parent().unwrap_or(Path::new(""))).map_err(told)?;
        if let Some((from, count)) = beginning {
            io::copy(&mut from.take(count), &mut file).at("copy", &path).map_err(told)?;
        }
        Ok(file)
    }

    /// Adds to a part what it has room for.
    fn add(&self, open: &mut Open, bytes: &[u8]) -> io::Result<()> {
        let at = open.hash.count();
        if let To::Old(file) = &open.to {
            let mut there = vec![0; bytes.len()];
            if file.read_exact_at(&mut there, at).is_err() || there != bytes {
                open.to = To::New(self.anew(Some((file, at)))?);
            }
        }
        if let To::New(file) = &mut open.to {
            file.write_all(bytes)?;
        }
        open.hash.write_all(bytes)
    }

    /// Ends a part, and gives it its name.
    fn close(&mut self) -> io::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let count = open.hash.count();
        if let To::Old(file) = &open.to
            && file.metadata()?.len() != count
        {
            open.to = To::New(self.anew(Some((file, count)))?);
        }
        if let To::New(file) = open.to {
            file.persist(self.path()).map_err(|error| error.error)?;
        }
        self.done.push(open.hash.finish().1);
        Ok(())
    }
}

impl Write for PartsWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let room = self.size.max(1) - open.hash.count();
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(buf.len());
        self.add(&mut open, &buf[..count])?;
        let full = open.hash.count() == self.size.max(1);
        self.open = Some(open);
        if full {
            self.close()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for PartsWriter {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = Path::new("a/x.tar");
        assert_eq!(part(name, 7), Path::new("a/x.tar.007"));
        assert_eq!(of(&part(name, 999)), Some((name.to_owned(), 999)));
        for none in ["x", "x.1", "x.0001", "x.tar", "x.00a", ".001"] {
            assert_eq!(of(Path::new(none)), None, "{none}");
        }
    }

    #[test]
    fn lists() {
        let hex = Digest::of(b"").hex();
        let two = format!("{hex}  x.001\n{hex}  x.002\n");
        assert_eq!(read_list(&two).map(|all| all.len()), Some(2));
        for wrong in [
            String::new(),
            format!("{hex}  x.002\n"),
            format!("{hex} x.001\n"),
            format!("{hex}  x\n"),
            format!("{}  x.001\n", &hex[1..]),
            format!("{two}{hex}  x.002\n"),
        ] {
            assert_eq!(read_list(&wrong), None, "{wrong}");
        }
    }

    /// What is there and right is not touched; what is not is made anew.
    #[test]
    fn parts_that_are_right_stay() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("x");
        let write = |bytes: &[u8]| {
            let fill = |to: &mut PartsWriter| to.write_all(bytes).map_err(OutputError::Write);
            to_parts(&name, 4, fill).unwrap()
        };
        let read = || -> Vec<u8> {
            let parts = (1..).map(|number| part(&name, number)).take_while(|path| path.exists());
            parts.flat_map(|path| std::fs::read(path).unwrap()).collect()
        };
        let inode = |number: usize| {
            use std::os::unix::fs::MetadataExt as _;
            part(&name, number).metadata().unwrap().ino()
        };
        assert_eq!(write(b"0123456789").parts.len(), 3);
        assert_eq!(read(), b"0123456789");
        let held: Vec<File> = (1..=3).map(|n| File::open(part(&name, n)).unwrap()).collect();
        let before = [inode(1), inode(2), inode(3)];
        write(b"0123456789");
        assert_eq!(before, [inode(1), inode(2), inode(3)]);
        // In the middle, and at the end: the last one grows.
        write(b"0123X56789ab");
        assert_eq!(read(), b"0123X56789ab");
        assert_eq!(before[0], inode(1));
        assert!(before[1] != inode(2) && before[2] != inode(3));
        // And shrinks, with a part that is left.
        let written = write(b"01234");
        assert_eq!((written.parts.len(), written.left), (2, vec![part(&name, 3)]));
        assert_eq!(std::fs::read(part(&name, 2)).unwrap(), b"4");
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 4, "three parts, a list");
        drop(held);
    }

    #[test]
    fn a_break_leaves_whole_parts() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("x");
        let broken = to_parts(&name, 4, |to| {
            to.write_all(b"012345").map_err(OutputError::Write)?;
            Err(OutputError::Stopped)
        });
        assert!(matches!(broken, Err(OutputError::Stopped)));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(std::fs::read(part(&name, 1)).unwrap(), b"0123");
    }
}
