//! Blobs: bytes under their digest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lease::Leases;
use super::unsynced::Unsynced;
use super::{Store, StoreError};
use crate::atomic::{self, AtPath as _};
use crate::digest::{BlobDigest, Hashing};
use crate::image::MAX_DOCUMENT;
use crate::layer::Layer;

impl Store {
    /// Where a blob lies or would lie.
    #[must_use]
    pub fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// True if the blob is here with the size that its descriptor states. No clean-up
    /// takes it away then as long as this process lives.
    #[must_use]
    pub fn has_blob(&self, digest: &BlobDigest, size: u64) -> bool {
        let meta = self.leases.hold(&self.blob_path(digest));
        meta.is_some_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Keeps a blob from being cleaned up as long as this process or session lives; false if
    /// it is not here.
    pub fn hold_blob(&self, digest: &BlobDigest) -> bool {
        self.leases.hold(&self.blob_path(digest)).is_some_and(|meta| meta.is_file())
    }

    /// Has a blob of another store, if that has it: shared where one file system holds both.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn take_blob(&self, from: &Self, digest: &BlobDigest, size: u64) -> Result<(), StoreError> {
        if self.has_blob(digest, size) || !from.has_blob(digest, size) {
            return Ok(());
        }
        let (source, target) = (from.blob_path(digest), self.blob_path(digest));
        // Nothing ever writes to a blob that has its name.
        if std::fs::hard_link(&source, &target).is_ok() {
            return Ok(());
        }
        let mut writer = self.writer()?;
        std::io::copy(&mut from.open_blob(digest)?, &mut writer).at("copy", &source)?;
        writer.commit(Some((digest, size)))?;
        Ok(())
    }

    /// True if the blobs of all these layers are here.
    #[must_use]
    pub fn has_layers(&self, layers: &[Layer]) -> bool {
        layers.iter().all(|layer| self.has_blob(&layer.digest, layer.size))
    }

    /// Begins a blob. Nothing is visible before [`BlobWriter::commit`].
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let tmp = self.root.join("tmp");
        self.leases.begin()?;
        let _making = self.making()?;
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .tempfile_in(&tmp)
            .at("create a file in", &tmp)?;
        // A lock marks the file as in use, for whoever clears up after a crash.
        file.as_file().lock_shared().at("lock", file.path())?;
        Ok(BlobWriter {
            file: Hashing::new(file),
            shelf: Shelf {
                folder: self.root.join("blobs/sha256"),
                unsynced: Arc::clone(&self.unsynced),
                leases: Arc::clone(&self.leases),
            },
        })
    }

    /// Begins a blob that another process of ours writes and hashes: the
    /// sandbox's helper, which alone may read what it packs.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn pending(&self) -> Result<PendingBlob, StoreError> {
        let BlobWriter { file, shelf } = self.writer()?;
        Ok(PendingBlob { file: file.finish().0, shelf })
    }

    /// Stores bytes that are at hand.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobDigest, StoreError> {
        let digest = BlobDigest::of(bytes);
        if !self.has_blob(&digest, bytes.len() as u64) {
            let mut writer = self.writer()?;
            writer.write_all(bytes).at("write", self.blob_path(&digest))?;
            writer.commit(Some((&digest, bytes.len() as u64)))?;
        }
        Ok(digest)
    }

    /// Reads a document (manifest, index, config) whole, and verifies it.
    ///
    /// # Errors
    /// If it is absent, damaged or larger than documents may be.
    pub fn document(&self, digest: &BlobDigest) -> Result<Vec<u8>, StoreError> {
        // What cannot be held is about to be taken away, or cannot be read either.
        let _ = self.leases.hold(&self.blob_path(digest));
        self.peek(digest)
    }

    /// As [`Store::document`], for those who look and use nothing: no time of use changes.
    ///
    /// # Errors
    /// As those of [`Store::document`].
    pub fn peek(&self, digest: &BlobDigest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(|error| self.absent(digest, error))?;
        // Not in steps that double: documents may be large.
        let length = file.metadata().at("read", &path)?.len().min(MAX_DOCUMENT + 1);
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).at("read", &path)?;
        let found = BlobDigest::of(&bytes);
        if found != *digest {
            return Err(StoreError::Damaged { expected: *digest, found, path });
        }
        Ok(bytes)
    }

    /// Opens a blob for reading; a damaged one shows at its end, as an error.
    ///
    /// # Errors
    /// If it is absent.
    pub fn open_blob(&self, digest: &BlobDigest) -> Result<BlobReader, StoreError> {
        let path = self.blob_path(digest);
        // Others may open it by its path; this one has it by its descriptor in any case.
        let _ = self.leases.hold(&path);
        let file = File::open(&path).map_err(|error| self.absent(digest, error))?;
        BlobReader::over(file, digest, path)
    }

    /// Opens a blob's file, and gives its size, for whoever has the bytes compared with the
    /// digest elsewhere, as a registry does with what it is sent.
    ///
    /// # Errors
    /// If it is absent.
    pub fn open_unchecked(&self, digest: &BlobDigest) -> Result<(File, u64), StoreError> {
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(|error| self.absent(digest, error))?;
        let size = file.metadata().at("read", &path)?.len();
        Ok((file, size))
    }

    /// The file of a blob that this process itself has put into the store: it was hashed
    /// then, and need not be again.
    #[must_use]
    pub fn made_here(&self, digest: &BlobDigest) -> Option<File> {
        if !self.unsynced.is_own(digest) {
            return None;
        }
        File::open(self.blob_path(digest)).ok()
    }

    fn absent(&self, digest: &BlobDigest, error: io::Error) -> StoreError {
        if error.kind() == io::ErrorKind::NotFound {
            return StoreError::NoBlob(*digest);
        }
        atomic::PathError { what: "open", path: self.blob_path(digest), source: error }.into()
    }
}

/// A blob being written; dropped without a commit it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    file: Hashing<tempfile::NamedTempFile>,
    shelf: Shelf,
}

/// Where blobs get their names.
#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    unsynced: Arc<Unsynced>,
    leases: Arc<Leases>,
}

impl BlobWriter {
    /// Gives the bytes their name. `expected` is what they were promised to be.
    ///
    /// # Errors
    /// If they are not what was expected, or cannot be stored; nothing stays then.
    pub fn commit(
        self,
        expected: Option<(&BlobDigest, u64)>,
    ) -> Result<(BlobDigest, u64), StoreError> {
        let (file, digest, size) = self.file.finish();
        let digest = BlobDigest(digest);
        if let Some((promised, promised_size)) = expected {
            let (what, expected, found) = if *promised != digest {
                ("digest", promised.to_string(), digest.to_string())
            } else {
                ("size", promised_size.to_string(), size.to_string())
            };
            if expected != found {
                return Err(StoreError::Mismatch { what, expected, found });
            }
        }
        self.shelf.persist(file, &digest, size)?;
        Ok((digest, size))
    }

    /// Bytes written so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.file.count()
    }
}

impl Shelf {
    fn persist(
        &self,
        file: tempfile::NamedTempFile,
        digest: &BlobDigest,
        size: u64,
    ) -> Result<(), StoreError> {
        let path = self.folder.join(digest.hex());
        self.leases.stamp(file.as_file())?;
        let naming = self.unsynced.naming();
        self.unsynced.note(digest, file.as_file())?;
        file.persist(&path).map_err(|error| error.error).at("create", &path)?;
        drop(naming);
        self.leases.grew(size.next_multiple_of(4096), 1);
        Ok(())
    }
}

/// A blob that a helper writes; dropped without a commit it leaves nothing.
#[derive(Debug)]
pub struct PendingBlob {
    file: tempfile::NamedTempFile,
    shelf: Shelf,
}

impl PendingBlob {
    /// The file to write.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Gives the bytes the name that the helper found them to have. Their
    /// digest is its word; their number is checked.
    ///
    /// # Errors
    /// If the file has another size, or cannot be stored.
    pub fn commit(self, digest: &BlobDigest, size: u64) -> Result<(), StoreError> {
        let found = self.file.as_file().metadata().at("read", self.file.path())?.len();
        if found != size {
            let (expected, found) = (size.to_string(), found.to_string());
            return Err(StoreError::Mismatch { what: "size", expected, found });
        }
        self.shelf.persist(self.file, digest, size)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads a blob and compares its digest at the end: whoever reads all of it
/// has read what the digest names, or got an error.
#[derive(Debug)]
pub struct BlobReader {
    inner: Option<Hashing<File>>,
    digest: BlobDigest,
    size: u64,
    path: PathBuf,
}

impl BlobReader {
    /// Reads a blob out of a file that was opened elsewhere; `path` is for the error.
    ///
    /// # Errors
    /// If the file's size cannot be read.
    pub fn over(file: File, digest: &BlobDigest, path: PathBuf) -> Result<Self, StoreError> {
        let size = file.metadata().at("read", &path)?.len();
        Ok(Self { inner: Some(Hashing::new(file)), digest: *digest, size, path })
    }

    /// The blob's bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Ok(0) };
        let n = inner.read(buf)?;
        if n == 0 && !buf.is_empty() {
            let Some((_, found, _)) = self.inner.take().map(Hashing::finish) else { return Ok(0) };
            if BlobDigest(found) != self.digest {
                let (expected, path) = (self.digest, self.path.clone());
                return Err(io::Error::other(StoreError::Damaged {
                    expected,
                    found: BlobDigest(found),
                    path,
                }));
            }
        }
        Ok(n)
    }
}
