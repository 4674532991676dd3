//! Files that appear whole or not at all, and locks that die with their process.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// An I/O error that names what it happened to.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct PathError {
    /// A verb: `read`, `create`, `rename`.
    pub what: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// Attaches verb and path to an I/O result.
pub trait AtPath<T> {
    /// # Errors
    /// The same error, with the path it happened at.
    fn at(self, what: &'static str, path: impl AsRef<Path>) -> Result<T, PathError>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, what: &'static str, path: impl AsRef<Path>) -> Result<T, PathError> {
        self.map_err(|error| PathError { what, path: path.as_ref().into(), source: error.into() })
    }
}

/// Writes a file so that other processes see the old content or the new, never
/// a part: temporary file beside it, fsync, rename, fsync of the folder. The
/// file's mode is 0600.
///
/// # Errors
/// Whatever the file system says; nothing stays behind then.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    put(path, |file| file.write_all(bytes), true)?;
    sync_folder(folder_of(path))
}

/// As [`write`], without waiting for the disk: after a crash of the machine the file may
/// be the old one, or empty.
///
/// # Errors
/// As those of [`write`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    put(path, |file| file.write_all(bytes), false)
}

/// As [`replace`], with what a function writes.
///
/// # Errors
/// As those of [`write`], and the function's.
pub fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<(), PathError> {
    let buffered = |file: &mut File| {
        let mut to = io::BufWriter::with_capacity(1 << 16, file);
        write(&mut to)?;
        to.flush()
    };
    put(path, buffered, false)
}

/// Writes a file that must not be there yet, with a mode: whole or not at all.
///
/// # Errors
/// If it is there, or whatever the file system says; nothing stays behind then.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PathError> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder_of(path);
    let mut file = tempfile::NamedTempFile::new_in(folder).at("create a file in", folder)?;
    let filled = file.write_all(bytes).and_then(|()| {
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()
    });
    filled.at("write", path)?;
    file.persist_noclobber(path).map_err(|e| e.error).at("create", path)?;
    sync_folder(folder)
}

/// The folder that a file is in; that of a name alone is the current one.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn put(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
    sync: bool,
) -> Result<(), PathError> {
    let folder = folder_of(path);
    let mut file = tempfile::NamedTempFile::new_in(folder).at("create a file in", folder)?;
    fill(file.as_file_mut()).at("write", path)?;
    if sync {
        file.as_file().sync_all().at("write", path)?;
    }
    file.persist(path).map_err(|e| e.error).at("replace", path)?;
    Ok(())
}

/// Makes renames into `folder` durable.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_folder(folder: &Path) -> Result<(), PathError> {
    File::open(folder).and_then(|dir| dir.sync_all()).at("sync", folder)
}

/// Makes a folder that only its owner may enter, with its parents.
///
/// # Errors
/// Whatever the file system says.
pub fn private_folder(path: &Path) -> Result<(), PathError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("create folder", path)
}

/// A lock on a file, given back when dropped or when the process ends.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    fn file(path: &Path) -> Result<File, PathError> {
        File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .at("open", path)
    }

    /// Waits until nobody else holds the lock.
    ///
    /// # Errors
    /// If the file cannot be made or locked.
    pub fn exclusive(path: &Path) -> Result<Self, PathError> {
        let file = Self::file(path)?;
        file.lock().at("lock", path)?;
        Ok(Self { _file: file })
    }

    /// As [`FileLock::exclusive`] for a file that is removed by whoever holds the
    /// lock, with [`FileLock::remove`]: a lock on a removed file is none.
    ///
    /// # Errors
    /// If the file cannot be made or locked.
    pub fn exclusive_removable(path: &Path) -> Result<Self, PathError> {
        use std::os::unix::fs::MetadataExt as _;
        loop {
            let lock = Self::exclusive(path)?;
            let held = lock._file.metadata().at("read", path)?;
            match path.metadata() {
                Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {
                    return Ok(lock);
                }
                // Its last holder removed it while this one waited.
                Ok(_) => (),
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(error).at("read", path),
            }
        }
    }

    /// As [`FileLock::exclusive_removable`] of a file that is there, if nobody has the lock
    /// now.
    #[must_use]
    pub fn try_removable(path: &Path) -> Option<Self> {
        let file = File::options().read(true).write(true).open(path).ok()?;
        file.try_lock().ok()?;
        Some(Self { _file: file }).filter(|lock| lock.is_named(path))
    }

    /// As [`FileLock::exclusive_removable`], if nobody else has the lock now.
    ///
    /// # Errors
    /// If the file cannot be made or locked.
    pub fn try_exclusive_removable(path: &Path) -> Result<Option<Self>, PathError> {
        // A file that its last holder has removed meanwhile was somebody's a moment ago.
        Ok(Self::try_exclusive(path)?.filter(|lock| lock.is_named(path)))
    }

    /// Whether the lock's file still has its name.
    fn is_named(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let (Ok(held), Ok(named)) = (self._file.metadata(), path.metadata()) else { return false };
        (held.dev(), held.ino()) == (named.dev(), named.ino())
    }

    /// Removes the lock's file, and with it the lock. A file that cannot be removed
    /// stays; it harms nobody.
    pub fn remove(self, path: &Path) {
        let _ = fs::remove_file(path);
    }

    /// Shares the lock with others that share it.
    ///
    /// # Errors
    /// If the file cannot be made or locked.
    pub fn shared(path: &Path) -> Result<Self, PathError> {
        let file = Self::file(path)?;
        file.lock_shared().at("lock", path)?;
        Ok(Self { _file: file })
    }

    /// A share of the lock if nobody holds it alone now.
    ///
    /// # Errors
    /// If the file cannot be made or locked.
    pub fn try_shared(path: &Path) -> Result<Option<Self>, PathError> {
        let file = Self::file(path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error).at("lock", path),
        }
    }

    /// The exclusive lock if it is free now.
    ///
    /// # Errors
    /// If the file cannot be made or locked.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, PathError> {
        let file = Self::file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error).at("lock", path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removable_locks_exclude() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = FileLock::exclusive_removable(&path).unwrap();
                        let before = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(before, 0, "two at once");
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        lock.remove(&path);
                    }
                });
            }
        });
        assert!(!path.exists());
    }
}
