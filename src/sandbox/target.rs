//! Paths inside the root: found without leaving it, made where they are
//! missing, and removed again.
//!
//! What a stranger's tree holds cannot lead out: every look-up is openat2(2) with
//! `RESOLVE_IN_ROOT`, and what is made is made under its parent's descriptor.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, fstat, mkdirat,
    openat, openat2, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::message::{Doing as _, Failure};

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;
/// A walk is disturbed again and again only where something is badly wrong.
const MAX_WALKS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

/// A mount point that was made, and its folder's time before and after.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stub {
    parent: PathBuf,
    name: OsString,
    folder: bool,
    inode: u64,
    before: (i64, i64),
    after: (i64, i64),
}

fn time_of(stat: &Stat) -> (i64, i64) {
    // Nanoseconds are below 10^9; the type is the platform's.
    #[allow(clippy::unnecessary_cast, reason = "the types differ between platforms")]
    (stat.st_mtime as i64, stat.st_mtime_nsec as i64)
}

/// Opens a path inside the root as a mere place.
pub(super) fn find(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    open(root, path, OFlags::PATH, ResolveFlags::NO_MAGICLINKS)
}

/// Opens a path inside the root. The kernel answers EAGAIN where a `..` met a
/// rename or mount, anywhere on the machine, and it cannot prove that the walk
/// stayed inside (openat2(2)): then it walks again.
fn open(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let (flags, resolve) = (flags | OFlags::CLOEXEC, resolve | ResolveFlags::IN_ROOT);
    for _ in 0..MAX_WALKS {
        match openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_micros(50)),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// The root that mount points are made in.
pub(super) struct Places<'a> {
    root: BorrowedFd<'a>,
    /// Where the root is mounted in the present namespace.
    at: PathBuf,
    device: u64,
    stubs: Vec<Stub>,
}

impl<'a> Places<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Result<Self, Failure> {
        let device = fstat(root).doing(|| "look at the root".to_owned())?.st_dev;
        let at = path_of(root)?;
        Ok(Self { root, at, device, stubs: Vec::new() })
    }

    pub(super) fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    pub(super) fn stubs(self) -> Vec<Stub> {
        self.stubs
    }

    /// The place at a path, made with its parents if it is missing, and
    /// remembered to be removed.
    pub(super) fn stub(&mut self, path: &Path, kind: Kind) -> Result<OwnedFd, Failure> {
        self.ensure(path, kind, true, MAX_LINKS)
    }

    /// The folder at a path, made with its parents if it is missing, to stay.
    pub(super) fn folder(&mut self, path: &Path) -> Result<OwnedFd, Failure> {
        self.ensure(path, Kind::Folder, false, MAX_LINKS)
    }

    fn ensure(
        &mut self,
        path: &Path,
        kind: Kind,
        forget: bool,
        links: usize,
    ) -> Result<OwnedFd, Failure> {
        let place = || format!("make {} in the root", path.display());
        match find(self.root, path) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Failure::new(place(), &error.into())),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // `..` at the end: its folder is missing.
            let shorter = path.parent().unwrap_or(Path::new("/"));
            return self.ensure(shorter, kind, forget, links);
        };
        // A chain of missing parents is as long as the path, which the kernel limits.
        let folder = self.ensure(parent, Kind::Folder, forget, links)?;
        match readlinkat(&folder, name, Vec::new()) {
            Ok(link) => {
                // It hangs: what it points to is made instead.
                let links = links
                    .checked_sub(1)
                    .ok_or_else(|| Failure::Setup { what: place(), errno: libc::ELOOP })?;
                let link = parent.join(OsStr::from_bytes(link.as_bytes()));
                return self.ensure(&link, kind, forget, links);
            }
            Err(Errno::NOENT) => {}
            // There by now, made by an earlier call for the same place with `..` in it.
            Err(Errno::INVAL) => return find(self.root, path).doing(place),
            Err(error) => return Err(Failure::new(place(), &error.into())),
        }
        self.make(folder, name, kind, forget).doing(place)
    }

    fn make(
        &mut self,
        folder: OwnedFd,
        name: &OsStr,
        kind: Kind,
        forget: bool,
    ) -> std::io::Result<OwnedFd> {
        let before = fstat(&folder)?;
        let made = match kind {
            Kind::Folder => mkdirat(&folder, name, Mode::from_raw_mode(0o755)),
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(&folder, name, flags, Mode::from_raw_mode(0o644)).map(drop)
            }
        };
        let forget = match made {
            Ok(()) => forget,
            // A shared cache: another step has made it for itself in the meantime.
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let made = openat(
            &folder,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        // Whatever is made inside another mount is that mount's.
        if forget && before.st_dev == self.device {
            let parent = path_of(folder.as_fd()).map_err(|_| std::io::ErrorKind::Other)?;
            if let Ok(parent) = parent.strip_prefix(&self.at) {
                self.stubs.push(Stub {
                    parent: Path::new("/").join(parent),
                    name: name.to_owned(),
                    folder: kind == Kind::Folder,
                    inode: fstat(&made)?.st_ino,
                    before: time_of(&before),
                    after: time_of(&fstat(&folder)?),
                });
            }
        }
        Ok(made)
    }
}

/// Where a descriptor is, in the present mount namespace.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> Result<PathBuf, Failure> {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = readlinkat(CWD, &link, Vec::new()).doing(|| format!("read {link}"))?;
    Ok(PathBuf::from(OsStr::from_bytes(path.as_bytes())))
}

/// Removes the mount points that are as they were made: empty, and the same
/// inodes. A folder nothing else changed gets its time back.
pub(super) fn remove(root: impl AsFd, stubs: &[Stub]) -> Result<(), Failure> {
    for stub in stubs.iter().rev() {
        let what = || format!("remove the mount point {}", stub.parent.join(&stub.name).display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let parent = open(&root, &stub.parent, flags, ResolveFlags::NO_SYMLINKS);
        let parent = match parent {
            Ok(parent) => parent,
            // The process removed or replaced the folder.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(Failure::new(what(), &error.into())),
        };
        remove_one(&parent, stub).doing(what)?;
    }
    Ok(())
}

fn remove_one(parent: &OwnedFd, stub: &Stub) -> std::io::Result<()> {
    let found = match statat(parent, &stub.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let kind = FileType::from_raw_mode(found.st_mode);
    let unchanged = found.st_ino == stub.inode
        && if stub.folder { kind.is_dir() } else { kind.is_file() && found.st_size == 0 };
    if !unchanged {
        return Ok(());
    }
    let now = time_of(&fstat(parent)?);
    let flags = if stub.folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match unlinkat(parent, &stub.name, flags) {
        Ok(()) => {}
        Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let (seconds, nanoseconds) = if now == stub.after { stub.before } else { now };
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    rustix::fs::futimens(parent, &times)?;
    Ok(())
}
