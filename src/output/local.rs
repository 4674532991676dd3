//! The files of an image in a folder of the host.
//!
//! They are the caller's: owners, attributes and set-ID bits are not applied, as
//! the image's users are none of this machine's. Devices are left out. A folder
//! that has files already is merged with them: what the image has replaces what
//! is there, the rest stays. Every name is taken below the folder's descriptor
//! with no link followed, so nothing outside of it is touched, whatever links
//! the folder or the image has.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, chmodat, fchmod,
    linkat, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{OutputError, Split, Work, tree};
use crate::atomic::AtPath as _;
use crate::image::AnyImage;
use crate::layer::{Entry, Kind, Name};
use crate::store::Store;

/// What was left out of the folder.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Devices of the image, as it names them.
    pub devices: Vec<String>,
}

/// Writes the files into a folder, which is made if it is not there.
///
/// # Errors
/// If a layer is absent or damaged, a folder stands where a file must go or the
/// other way round, or nothing can be written.
pub fn write_local(
    image: &AnyImage,
    split: Split,
    store: &Store,
    folder: &Path,
    work: &Work<'_>,
) -> Result<LeftOut, OutputError> {
    std::fs::create_dir_all(folder).at("create folder", folder)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, folder, flags, Mode::empty()).at("open", folder)?;
    let mut writer = Writer { root, folders: BTreeMap::new() };
    let mut left = LeftOut::default();
    tree::walk(image, split, store, work, |entry, content| {
        if matches!(entry.kind, Kind::Char { .. } | Kind::Block { .. }) {
            left.devices.push(entry.name.display().into_owned());
            return Ok(());
        }
        if let Kind::Hardlink { target } = &entry.kind
            && left.devices.iter().any(|device| *device == target.display())
        {
            left.devices.push(entry.name.display().into_owned());
            return Ok(());
        }
        let path = folder.join(entry.name.as_path());
        Ok(writer.entry(entry, content).at("write", path)?)
    })?;
    writer.finish().at("write", folder)?;
    Ok(left)
}

struct Writer {
    root: OwnedFd,
    /// Mode and time of folders, set when nothing more comes into them.
    folders: BTreeMap<Name, (u32, i64)>,
}

impl Writer {
    fn folder(&self, name: &Name) -> io::Result<OwnedFd> {
        if name.is_root() {
            return self.root.try_clone();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, name.as_path(), flags, Mode::empty(), resolve).map_err(|error| {
            match error {
                Errno::LOOP | Errno::NOTDIR => io::Error::other(
                    "something that is no folder stands in the way; nothing is written through links",
                ),
                other => other.into(),
            }
        })
    }

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let parent = self.folder(&entry.name.parent().unwrap_or_default())?;
        let base = OsStr::from_bytes(entry.name.base());
        let there = match statat(&parent, base, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        match (there, &entry.kind) {
            (Some(FileType::Directory), Kind::Dir) => {
                // One that only its owner may not write to is opened up for now.
                let open = self.folder(&entry.name);
                if let Ok(open) = open {
                    fchmod(&open, Mode::from_raw_mode(0o700))?;
                }
            }
            (Some(FileType::Directory), _) => {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            (Some(_), _) => unlinkat(&parent, base, AtFlags::empty())?,
            (None, _) => (),
        }
        let private = Mode::from_raw_mode(0o600);
        match &entry.kind {
            Kind::Dir => {
                if there != Some(FileType::Directory) {
                    mkdirat(&parent, base, Mode::from_raw_mode(0o700))?;
                }
                self.folders.insert(entry.name.clone(), (entry.mode, entry.mtime));
                return Ok(());
            }
            Kind::File { .. } => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mut file = File::from(openat(&parent, base, flags, private)?);
                if let Err(error) = io::copy(content, &mut file) {
                    // A part of a file is worse than none; the first error is told.
                    let _ = unlinkat(&parent, base, AtFlags::empty());
                    return Err(error);
                }
                fchmod(&file, Mode::from_raw_mode(entry.mode & 0o777))?;
            }
            Kind::Symlink { target } => symlinkat(OsStr::from_bytes(&target.0), &parent, base)?,
            Kind::Hardlink { target } => {
                let source = self.folder(&target.parent().unwrap_or_default())?;
                let known = OsStr::from_bytes(target.base());
                return Ok(linkat(&source, known, &parent, base, AtFlags::empty())?);
            }
            Kind::Fifo => {
                mknodat(&parent, base, FileType::Fifo, private, 0)?;
                chmodat(&parent, base, Mode::from_raw_mode(entry.mode & 0o777), AtFlags::empty())?;
            }
            Kind::Char { .. } | Kind::Block { .. } => return Ok(()),
        }
        set_time(&parent, base, entry.mtime)
    }

    /// Modes and times of the folders, the deepest first.
    fn finish(self) -> io::Result<()> {
        for (name, (mode, mtime)) in self.folders.iter().rev() {
            let folder = self.folder(name)?;
            fchmod(&folder, Mode::from_raw_mode(mode & 0o1777))?;
            let parent = self.folder(&name.parent().unwrap_or_default())?;
            set_time(&parent, OsStr::from_bytes(name.base()), *mtime)?;
        }
        Ok(())
    }
}

fn set_time(folder: &OwnedFd, base: &OsStr, mtime: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(folder.as_fd(), base, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
