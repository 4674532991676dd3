//! How a tree says that something of lower layers is gone.
//!
//! overlayfs has its own forms, and a store on a file system that can carry its upper
//! folders can hold them. Elsewhere (overlayfs itself refuses its device 0:0, network
//! file systems its attributes) kiln merges trees itself, and they have marks that
//! every file system takes: sockets, which no layer can hold. One with the name of
//! what is gone, and one named `.wh..wh..opq`, which no file of a layer can be, in a
//! folder that hides all below it.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, Mode, Stat, mknodat, statat, unlinkat};
use rustix::io::{self, Errno};
use serde::{Deserialize, Serialize};

use super::xattr;
use crate::sandbox::Sandbox;

/// The forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Marks {
    /// overlayfs's, mounted by real root.
    Trusted,
    /// overlayfs's, mounted in a user namespace.
    User,
    /// kiln's own.
    Plain,
}

/// The name of the mark in a folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

impl Marks {
    /// Those of a sandbox's trees.
    pub(super) fn of(sandbox: &Sandbox) -> Self {
        match (sandbox.is_plain(), sandbox.overlay_xattr()) {
            (true, _) => Self::Plain,
            (false, "user.overlay.") => Self::User,
            (false, _) => Self::Trusted,
        }
    }

    /// Whether what is there is a mark that its name is gone.
    pub(super) fn is_gone(self, stat: &Stat) -> bool {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == 0 && self != Self::Plain,
            FileType::Socket => self == Self::Plain,
            _ => false,
        }
    }

    /// Whether an entry is a mark for its folder.
    pub(super) fn is_of_folder(self, base: &[u8]) -> bool {
        self == Self::Plain && base == OPAQUE
    }

    /// Marks a name as gone.
    pub(super) fn set_gone(self, folder: BorrowedFd<'_>, base: &[u8]) -> io::Result<()> {
        let kind = match self {
            Self::Trusted | Self::User => FileType::CharacterDevice,
            Self::Plain => FileType::Socket,
        };
        mknodat(folder, OsStr::from_bytes(base), kind, Mode::empty(), 0)
    }

    /// Marks a folder's entry, itself a folder, as hiding what is below it; the
    /// folder itself if `base` is empty.
    pub(super) fn set_opaque(self, folder: BorrowedFd<'_>, base: &[u8]) -> io::Result<()> {
        let Some(key) = self.key() else {
            return match mknodat(folder, path(base), FileType::Socket, Mode::empty(), 0) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(error) => Err(error),
            };
        };
        xattr::set(folder, base, key, b"y")
    }

    pub(super) fn is_opaque(self, folder: BorrowedFd<'_>, base: &[u8]) -> io::Result<bool> {
        let Some(key) = self.key() else {
            return match statat(folder, path(base), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Socket),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
                Err(error) => Err(error),
            };
        };
        Ok(xattr::get(folder, base, key)?.is_some())
    }

    pub(super) fn clear_opaque(self, folder: BorrowedFd<'_>, base: &[u8]) -> io::Result<()> {
        match self.key() {
            Some(key) => xattr::remove(folder.as_fd(), base, key),
            None => unlinkat(folder, path(base), AtFlags::empty()),
        }
    }

    fn key(self) -> Option<&'static str> {
        match self {
            Self::Trusted => Some(xattr::opaque(true)),
            Self::User => Some(xattr::opaque(false)),
            Self::Plain => None,
        }
    }
}

/// Of the mark in a folder's entry.
fn path(base: &[u8]) -> std::path::PathBuf {
    std::path::Path::new(OsStr::from_bytes(base)).join(OsStr::from_bytes(OPAQUE))
}
