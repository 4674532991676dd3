//! Where owners are recorded while a step runs, and found again.
//!
//! Files and folders have theirs in an attribute, which the overlay copies up,
//! renames and removes with them. What can have no attribute is known by its handle
//! in the upper folder; in lower layers by its path, which the list beside the layer's
//! folder has. On other mounts it is known for as long as the step runs.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, XattrFlags, getxattr, lgetxattr,
    openat2, readlinkat, removexattr, setxattr, statat,
};
use rustix::io::Errno;

use super::super::record::{self, Device, Handle, Listed, Owner, handle};
use super::place::of_fd;
use super::{Place, Supervisor};

/// As much as an owner or a device takes.
const VALUE_MAX: usize = 64;

/// The owners of what can carry no attribute.
#[derive(Debug)]
pub(super) struct Specials {
    /// There are some: else nothing need be looked up.
    any: AtomicBool,
    upper: OwnedFd,
    lowers: Vec<(OwnedFd, Listed)>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    owners: HashMap<Key, Owner>,
    log: File,
}

/// What identifies a file for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Upper(Handle),
    /// On another mount: the device and what names the file there.
    Elsewhere(u64, Handle),
}

/// What was found out of a file that can carry no attribute.
struct Found {
    /// `None` as long as it is in no upper folder.
    key: Option<Key>,
    /// Its path below the root, if it is on the root's mount.
    path: Option<PathBuf>,
}

impl Specials {
    /// `upper` and `lowers` are folders with their lists beside them, the topmost
    /// lower first; without lowers the root is `upper`, and its list holds.
    pub(super) fn open(upper: &Path, lowers: &[PathBuf]) -> std::io::Result<Self> {
        let upper_too = [upper.to_path_buf()];
        let lowers = if lowers.is_empty() { &upper_too } else { lowers };
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path, flags, Mode::empty())
        };
        let owners: HashMap<_, _> = record::handles(upper)?
            .into_iter()
            .map(|(handle, owner)| (Key::Upper(handle), owner))
            .collect();
        let lists: std::io::Result<Vec<Listed>> =
            lowers.iter().map(|l| record::listed(l)).collect();
        let lists = lists?;
        let lists_any = lists.iter().any(|list| !list.is_empty());
        let any = AtomicBool::new(!owners.is_empty() || lists_any);
        // Which layer a file is of must be asked only if it matters.
        let lowers = if lists_any {
            let with = lowers.iter().zip(lists).map(|(path, list)| Ok((open(path)?, list)));
            with.collect::<std::io::Result<_>>()?
        } else {
            Vec::new()
        };
        let log = File::options().append(true).create(true).open(record::handles_file(upper))?;
        let known = Mutex::new(Known { owners, log });
        Ok(Self { any, upper: open(upper)?, lowers, known })
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether lower layers have some, which are known by their paths.
    pub(super) fn any_below(&self) -> bool {
        !self.lowers.is_empty()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self, path: &Path) -> Option<Owner> {
        for (lower, list) in &self.lowers {
            match statat(lower, path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => return list.get(path.as_os_str().as_bytes()).copied(),
                Err(Errno::NOENT) => {}
                // A file or a link where a higher layer's path goes on: it is not there.
                Err(_) => return None,
            }
        }
        None
    }
}

/// Something is being made, and has no record yet.
pub(super) type MakingIt<'a> = RwLockWriteGuard<'a, ()>;

fn known_by(fd: &OwnedFd) -> Result<Handle, Errno> {
    handle(fd).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn device_of(stat: &Statx) -> u64 {
    u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
}

fn has_attributes(stat: &Statx) -> bool {
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    matches!(kind, FileType::RegularFile | FileType::Directory)
}

impl Supervisor {
    /// To be held from the moment when something gets its name to that of its record, so
    /// that nobody takes it for root's in between.
    pub(super) fn making_it(&self) -> MakingIt<'_> {
        self.unrecorded.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held where a record is looked for: what is being made has its own by then.
    pub(super) fn settled(&self) -> RwLockReadGuard<'_, ()> {
        self.unrecorded.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of a file at a path, if it can carry one and has it.
    pub(super) fn recorded_at(&self, path: &std::ffi::CStr, follow: bool) -> Option<Owner> {
        self.record_at(path, follow).ok().flatten()
    }

    /// The same; an error is that there may be no such file.
    pub(super) fn record_at(
        &self,
        path: &std::ffi::CStr,
        follow: bool,
    ) -> Result<Option<Owner>, Errno> {
        let mut value = [0; VALUE_MAX];
        let _settled = self.settled();
        let got = if follow {
            getxattr(path, record::OWNER, &mut value)
        } else {
            lgetxattr(path, record::OWNER, &mut value)
        };
        match got {
            Ok(length) => Ok(value.get(..length).and_then(Owner::parse)),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record of an open file.
    pub(super) fn recorded(&self, fd: &OwnedFd, stat: &Statx) -> Result<Option<Owner>, Errno> {
        if has_attributes(stat) {
            let mut value = [0; VALUE_MAX];
            let settled = self.settled();
            let found = getxattr(of_fd(fd), record::OWNER, &mut value);
            drop(settled);
            match found {
                Ok(got) => return Ok(value.get(..got).and_then(Owner::parse)),
                Err(Errno::NOTSUP) => {}
                Err(_) => return Ok(None),
            }
        }
        if !self.specials.any() {
            return Ok(None);
        }
        let Found { key, path } = self.find(fd, stat)?;
        let _settled = self.settled();
        let known = key.and_then(|key| self.specials.known().owners.get(&key).copied());
        // A copy in the upper folder that has no record is of the file below.
        Ok(known.or_else(|| self.specials.below(&path?)))
    }

    /// The device that an open file stands for.
    pub(super) fn recorded_device(&self, fd: &OwnedFd, stat: &Statx) -> Option<Device> {
        let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
        if kind != FileType::RegularFile || stat.stx_size != 0 {
            return None;
        }
        let mut value = [0; VALUE_MAX];
        let got = getxattr(of_fd(fd), record::DEVICE, &mut value).ok()?;
        Device::parse(value.get(..got)?)
    }

    /// Records an owner; one that is the kernel's anyway needs no record.
    pub(super) fn record(
        &self,
        fd: &OwnedFd,
        stat: &Statx,
        owner: Owner,
        needed: bool,
    ) -> Result<(), Errno> {
        if has_attributes(stat) {
            let path = of_fd(fd);
            let done = if needed {
                let text = owner.to_string();
                setxattr(path, record::OWNER, text.as_bytes(), XattrFlags::empty())
            } else {
                match removexattr(path, record::OWNER) {
                    Err(Errno::NODATA) => Ok(()),
                    other => other,
                }
            };
            if done != Err(Errno::NOTSUP) {
                return done;
            }
        }
        if !needed && !self.specials.any() {
            return Ok(());
        }
        // Only what was changed, and so is in the upper folder, is recorded.
        let key = self.find(fd, stat)?.key.ok_or(Errno::IO)?;
        let mut known = self.specials.known();
        if let Key::Upper(handle) = &key {
            let line = record::handle_line(handle, owner);
            known.log.write_all(line.as_bytes()).map_err(|_| Errno::NOSPC)?;
        }
        known.owners.insert(key, owner);
        self.specials.any.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn record_device(&self, fd: &OwnedFd, device: Device) -> Result<(), Errno> {
        let text = device.to_string();
        setxattr(of_fd(fd), record::DEVICE, text.as_bytes(), XattrFlags::empty())
    }

    fn find(&self, fd: &OwnedFd, stat: &Statx) -> Result<Found, Errno> {
        if stat.stx_mnt_id == self.root_place.mount {
            // By the root of this thread, which is the step's.
            let path = readlinkat(CWD, of_fd(fd), Vec::new())?.into_bytes();
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(
                path.strip_prefix(b"/").unwrap_or(&path),
            ));
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            let found = openat2(&self.specials.upper, &path, flags, Mode::empty(), resolve);
            let key = match found {
                Ok(file) => Some(Key::Upper(known_by(&file)?)),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error),
            };
            return Ok(Found { key, path: Some(path) });
        }
        Ok(Found { key: Some(Key::Elsewhere(device_of(stat), known_by(fd)?)), path: None })
    }
}

impl Place {
    pub(super) fn of(stat: &Statx) -> Self {
        Self { device: device_of(stat), inode: stat.stx_ino, mount: stat.stx_mnt_id }
    }
}
