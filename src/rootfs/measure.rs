//! How much a folder takes on the disk, also where its files belong to IDs of a mapping.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RootfsError;
use crate::sandbox::Sandbox;

/// What a folder takes, itself included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Blocks on the disk, in bytes, of what has one name. Blocks that the file system
    /// shares between files (reflinks) count for each of them.
    pub bytes: u64,
    /// Of what has one name, folders among them.
    pub inodes: u64,
    /// Files with several names, wherever these are.
    pub linked: Vec<Linked>,
    /// Something in it could not be looked into.
    pub partial: bool,
}

/// A file with several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// Device and inode.
    pub file: (u64, u64),
    pub bytes: u64,
    /// All of its names, and those below the folder.
    pub names: u64,
    pub here: u64,
}

impl Measured {
    /// Adds one entry of a folder.
    pub fn add(&mut self, meta: &Metadata) {
        let bytes = meta.blocks() * 512;
        if meta.is_dir() || meta.nlink() < 2 {
            self.bytes += bytes;
            self.inodes += 1;
            return;
        }
        let file = (meta.dev(), meta.ino());
        self.linked.push(Linked { file, bytes, names: meta.nlink(), here: 1 });
    }

    /// Has each linked file once.
    fn settle(&mut self) {
        self.linked.sort_unstable_by_key(|linked| linked.file);
        self.linked.dedup_by(|next, first| {
            let same = next.file == first.file;
            first.here += if same { next.here } else { 0 };
            same
        });
    }
}

#[derive(Serialize, Deserialize)]
struct Request {
    path: PathBuf,
}

/// Measures a file or folder; one that is absent takes nothing. What this process may not
/// look into is left to a sandbox, which is asked for only then; without one the answer is
/// [partial](Measured::partial).
///
/// # Errors
/// If it cannot be read.
pub fn measure<'a>(
    path: &Path,
    sandbox: impl FnOnce() -> Option<&'a Sandbox>,
) -> Result<Measured, RootfsError> {
    use crate::atomic::AtPath as _;
    let own = of(path).at("read", path)?;
    if own.partial
        && let Some(sandbox) = sandbox()
    {
        return Ok(sandbox.call("measure", &Request { path: path.into() })?);
    }
    Ok(own)
}

fn of(path: &Path) -> io::Result<Measured> {
    let mut found = Measured::default();
    let meta = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        meta => meta?,
    };
    found.add(&meta);
    if meta.is_dir() {
        below(path, &mut found)?;
    }
    found.settle();
    Ok(found)
}

fn below(folder: &Path, found: &mut Measured) -> io::Result<()> {
    // One open folder at a time, however deep they lie.
    let mut left = vec![folder.to_path_buf()];
    while let Some(folder) = left.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                found.missed(error)?;
                continue;
            }
        };
        for entry in entries {
            let entry = entry?;
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(error) => {
                    found.missed(error)?;
                    continue;
                }
            };
            found.add(&meta);
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok(())
}

impl Measured {
    /// What cannot be looked at is being removed, or is somebody else's, or lies too deep to
    /// be named.
    fn missed(&mut self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidFilename => {
                self.partial = true;
                Ok(())
            }
            _ => Err(error),
        }
    }
}

pub(super) fn job(request: &[u8]) -> Result<Vec<u8>, String> {
    let request: Request = serde_json::from_slice(request).map_err(|e| e.to_string())?;
    let measured =
        of(&request.path).map_err(|error| format!("{}: {error}", request.path.display()))?;
    serde_json::to_vec(&measured).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("in")).unwrap();
        fs::write(at("in/a"), vec![1; 10_000]).unwrap();
        fs::hard_link(at("in/a"), at("in/b")).unwrap();
        fs::hard_link(at("in/a"), at("out")).unwrap();
        fs::write(at("in/c"), "c").unwrap();
        std::os::unix::fs::symlink("/nowhere", at("in/d")).unwrap();
        let found = measure(&at("in"), || None).unwrap();
        // The folder, one file, one symbolic link.
        assert_eq!((found.inodes, found.linked.len(), found.partial), (3, 1, false));
        assert_eq!((found.linked[0].names, found.linked[0].here), (3, 2));
        assert_eq!(found.linked[0].bytes, at("out").metadata().unwrap().blocks() * 512);
        assert_eq!(measure(&at("none"), || None).unwrap(), Measured::default());
    }
}
