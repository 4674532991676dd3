//! The tar that image archives are written as: regular files and folders of
//! root, all of the first second of 1970, in the order given.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};

use super::{OutputError, Sink, Work, sink};
use crate::digest::BlobDigest;
use crate::store::Store;

pub(super) struct ArchiveWriter<'a, W: Write> {
    to: W,
    work: &'a Work<'a>,
    made: BTreeSet<String>,
}

impl<'a, W: Write> ArchiveWriter<'a, W> {
    pub(super) fn new(to: W, work: &'a Work<'a>) -> Self {
        Self { to, work, made: BTreeSet::new() }
    }

    /// Adds a file that is at hand, unless one of that name is there.
    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        self.stream(name, bytes.len() as u64, || Ok(bytes), OutputError::Read)
    }

    /// Adds a file of a known size, unless one of that name is there. It is read
    /// to its end, where a reader that verifies says what it has found.
    pub(super) fn stream<R: Read>(
        &mut self,
        name: &str,
        size: u64,
        open: impl FnOnce() -> Result<R, OutputError>,
        bad_read: impl Fn(std::io::Error) -> OutputError,
    ) -> Result<(), OutputError> {
        if !self.made.insert(name.to_owned()) {
            return Ok(());
        }
        self.header(name, size, tar::EntryType::Regular, 0o644)?;
        let to = Exact { to: &mut self.to, left: size };
        let copied = self.work.copy(open()?, to, bad_read, OutputError::Write)?;
        self.pad(name, size, copied)
    }

    fn pad(&mut self, name: &str, size: u64, copied: u64) -> Result<(), OutputError> {
        if copied != size {
            let short = format!("{name} has {copied} bytes, {size} were expected");
            return Err(OutputError::Write(std::io::Error::other(short)));
        }
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.to.write_all(&[0; 512][..padding]).map_err(OutputError::Write)
    }

    /// Adds a blob of the store under its digest, unless it is there.
    pub(super) fn blob(
        &mut self,
        name: &str,
        size: u64,
        digest: &BlobDigest,
        store: &Store,
    ) -> Result<(), OutputError>
    where
        W: Sink,
    {
        if !self.made.insert(name.to_owned()) {
            return Ok(());
        }
        self.header(name, size, tar::EntryType::Regular, 0o644)?;
        let mut to = Exact { to: &mut self.to, left: size };
        let copied = sink::blob(&mut to, store, digest, self.work)?;
        self.pad(name, size, copied)
    }

    pub(super) fn folder(&mut self, name: &str) -> Result<(), OutputError> {
        self.header(name, 0, tar::EntryType::Directory, 0o755)
    }

    fn header(
        &mut self,
        name: &str,
        size: u64,
        kind: tar::EntryType,
        mode: u32,
    ) -> Result<(), OutputError> {
        // GNU's form, since ustar ends at 8 GiB; every reader of images knows it.
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(OutputError::Write)?;
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.to.write_all(header.as_bytes()).map_err(OutputError::Write)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<(), OutputError> {
        self.to.write_all(&[0; 1024]).and_then(|()| self.to.flush()).map_err(OutputError::Write)
    }
}

/// Takes no more than what the header promised.
struct Exact<W> {
    to: W,
    left: u64,
}

impl<W: Write> Write for Exact<W> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if buf.len() as u64 > self.left {
            return Err(std::io::Error::other("the content is longer than it was promised to be"));
        }
        let n = self.to.write(buf)?;
        self.left -= n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

impl<W: Sink> Sink for Exact<W> {
    fn append(&mut self, from: &File, at: u64, count: u64) -> std::io::Result<u64> {
        let copied = self.to.append(from, at, count.min(self.left))?;
        self.left -= copied;
        Ok(copied)
    }
}
