//! Copies of files as they are: content (shared with the original where the file
//! system can), owner, mode, attributes, times to the nanosecond.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chmodat,
    chownat, ftruncate, mknodat, openat, readlinkat, seek, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::xattr;

/// A folder to look into.
pub(super) fn open_dir(at: impl std::os::fd::AsFd, path: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

/// The names in a folder, sorted, without `.` and `..`.
pub(super) fn names(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Copies one entry that is no folder to a folder that has none of its name.
pub(super) fn other(from: &OwnedFd, into: &OwnedFd, base: &[u8], stat: &Stat) -> io::Result<()> {
    let path = OsStr::from_bytes(base);
    let private = Mode::from_raw_mode(0o600);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = File::from(openat(from, path, OFlags::RDONLY | flags, Mode::empty())?);
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | flags;
            content(&source, &File::from(openat(into, path, new, private)?))?;
        }
        FileType::Symlink => symlinkat(readlinkat(from, path, Vec::new())?, into, path)?,
        kind => mknodat(into, path, kind, private, stat.st_rdev)?,
    }
    attributes(from, into, base, stat)
}

/// Owner, then mode (a change of owner clears set-ID bits), then attributes, then
/// times, of an entry; of the folders themselves if `base` is empty.
pub(super) fn attributes(
    from: &OwnedFd,
    into: &OwnedFd,
    base: &[u8],
    stat: &Stat,
) -> io::Result<()> {
    let path = OsStr::from_bytes(if base.is_empty() { b"." } else { base });
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(into, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        chmodat(into, path, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let (have, had) = (xattr::all(from.as_fd(), base)?, xattr::all(into.as_fd(), base)?);
    for key in had.keys().filter(|key| xattr::copied(key) && !have.contains_key(*key)) {
        xattr::remove(into.as_fd(), base, key)?;
    }
    for (key, value) in have.iter().filter(|(key, _)| xattr::copied(key)) {
        if had.get(key) == Some(value) {
            continue;
        }
        match xattr::set(into.as_fd(), base, key, &value.0) {
            // As when a layer is unpacked: the archive still has it.
            Err(Errno::NOTSUP | Errno::PERM) if xattr::carried(key) => {}
            set => set?,
        }
    }
    times(into, base, stat)
}

/// Gives an entry the times of another.
pub(super) fn times(into: &OwnedFd, base: &[u8], stat: &Stat) -> io::Result<()> {
    let path = OsStr::from_bytes(if base.is_empty() { b"." } else { base });
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(into, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// By reference if the file system can, else without the holes.
fn content(from: &File, into: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(into, from).is_ok() {
        return Ok(());
    }
    let size = from.metadata()?.len();
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // There is only a hole any more.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        seek(from, SeekFrom::Start(start))?;
        seek(into, SeekFrom::Start(start))?;
        let (mut part, mut into) = (from.take(end - start), into);
        if io::copy(&mut part, &mut into)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at = end;
    }
    Ok(ftruncate(into, size)?)
}
