//! An OCI image layout in a folder, as a stranger may have made it.
//!
//! Below the folder that the user names no link is followed and nothing but regular files
//! is read: a blob could else be any file of this machine, on its way to a registry.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::CopyError;
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Index, MAX_DOCUMENT};

/// A layout that is read.
#[derive(Debug)]
pub(super) struct Folder {
    place: String,
    root: OwnedFd,
    blobs: OwnedFd,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, CopyError> {
        let place = format!("oci:{}", path.display());
        let root: OwnedFd = File::open(path).at("open", path)?.into();
        let folder = |at: &OwnedFd, name: &str| {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(at, name, flags, Mode::empty()).map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR => hostile(&place, "blobs/sha256"),
                _ => CopyError::NotALayout {
                    place: place.clone(),
                    why: "it has no folder `blobs/sha256`".into(),
                },
            })
        };
        let blobs = folder(&folder(&root, "blobs")?, "sha256")?;
        Ok(Self { place, root, blobs })
    }

    /// A small file of the layout's own; `None` if it is not there.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, CopyError> {
        let Some(file) = self.file(&self.root, name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).at("read", name)?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            let why = format!("its {name} has more than {MAX_DOCUMENT} bytes");
            return Err(CopyError::NotALayout { place: self.place.clone(), why });
        }
        Ok(Some(bytes))
    }

    /// The file of a blob; `None` if it is not there.
    pub(super) fn blob(&self, digest: &BlobDigest) -> Result<Option<File>, CopyError> {
        self.file(&self.blobs, &digest.hex())
    }

    /// An index among the blobs, verified.
    pub(super) fn index(&self, at: &Descriptor) -> Result<Index, CopyError> {
        let (place, digest) = (self.place.clone(), at.digest);
        let Some(file) = self.blob(&digest)? else {
            return Err(CopyError::Absent { place, digest });
        };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).at("read", digest.hex())?;
        let found = BlobDigest::of(&bytes);
        if found != digest {
            let (expected, found) = (digest.to_string(), found.to_string());
            return Err(CopyError::Mismatch { place, what: "an index".into(), expected, found });
        }
        Index::read(&bytes).map_err(|source| CopyError::Document { place, digest, source })
    }

    fn file(&self, at: &OwnedFd, name: &str) -> Result<Option<File>, CopyError> {
        // A pipe without a writer would not open otherwise.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(at, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => return Err(hostile(&self.place, name)),
            Err(error) => return Err(Err::<(), _>(error).at("open", name).unwrap_err().into()),
        };
        if !file.metadata().at("read", name)?.is_file() {
            return Err(hostile(&self.place, name));
        }
        Ok(Some(file))
    }
}

fn hostile(place: &str, name: &str) -> CopyError {
    let why = "is a link or no regular file, and is not read";
    CopyError::Hostile { place: place.into(), name: name.into(), why }
}
