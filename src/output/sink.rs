//! Where archives are written to, and how blobs of the store get there.

use std::fs::File;
use std::io::{self, Seek as _, Write};

use super::{OutputError, Work};
use crate::digest::BlobDigest;
use crate::store::Store;

/// Bytes that the kernel copies at a time: between two, the work can be stopped.
const PORTION: u64 = 16 << 20;

/// A destination. Into some, the kernel can copy files by itself.
pub trait Sink: Write {
    /// Adds bytes of a file, from `at` and up to `count` of them, which do not pass
    /// through this process; says how many. 0 means that it cannot be done here.
    ///
    /// # Errors
    /// If it can be done, and fails.
    fn append(&mut self, from: &File, at: u64, count: u64) -> io::Result<u64> {
        let _ = (from, at, count);
        Ok(0)
    }
}

impl Sink for Vec<u8> {}

impl Sink for File {
    /// By copy_file_range(2), which shares the blocks where the file system can do that.
    fn append(&mut self, from: &File, at: u64, count: u64) -> io::Result<u64> {
        use rustix::io::Errno;
        let (mut at, count) = (at, usize::try_from(count).unwrap_or(usize::MAX));
        match rustix::fs::copy_file_range(from, Some(&mut at), &*self, None, count) {
            Ok(copied) => Ok(copied as u64),
            // Pipes and devices, files opened to append, two file systems, kernels and
            // filters without the call.
            Err(
                Errno::INVAL
                | Errno::BADF
                | Errno::XDEV
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::ISDIR,
            ) => Ok(0),
            Err(Errno::INTR) => self.append(from, at, count as u64),
            Err(error) => Err(error.into()),
        }
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn append(&mut self, from: &File, at: u64, count: u64) -> io::Result<u64> {
        (**self).append(from, at, count)
    }
}

/// Writes a layer's blob, and says how many bytes it had. It is verified on its way, unless
/// this very process has put it into the store, and so hashed it before.
pub(super) fn blob(
    to: &mut impl Sink,
    store: &Store,
    digest: &BlobDigest,
    work: &Work<'_>,
) -> Result<u64, OutputError> {
    let unreadable = |source| OutputError::LayerUnreadable { layer: *digest, source };
    let Some(file) = store.made_here(digest) else {
        return work.copy(store.open_blob(digest)?, to, unreadable, OutputError::Write);
    };
    let size = file.metadata().map_err(unreadable)?.len();
    let mut done = 0;
    while done < size {
        let copied = to.append(&file, done, (size - done).min(PORTION));
        match copied.map_err(OutputError::Write)? {
            // What is there of it was not read: the file's own place is at its beginning.
            0 if done == 0 => return work.copy(&file, to, unreadable, OutputError::Write),
            0 => {
                // The kernel goes no further here.
                (&file).seek(io::SeekFrom::Start(done)).map_err(unreadable)?;
                let rest = work.copy(&file, to, unreadable, OutputError::Write)?;
                return Ok(done + rest);
            }
            copied => {
                done += copied;
                work.moved(copied)?;
            }
        }
    }
    Ok(done)
}
