//! What processes make belongs to them, or to the group of a folder that says so.
//!
//! The kernel would make it root's. Where that is right, it does. Else the supervisor
//! makes it, with the caller's umask, and records the owner; an open file is handed
//! over in the same moment. If anything is in the way the kernel is asked after all:
//! its errors are the right ones.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, getxattr, linkat, major, makedev, minor,
    mkdirat, mknodat, openat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::super::record::{Device, Owner};
use super::super::spec::Emulation;
use super::Supervisor;
use super::calls::Call;
use super::notify::{Answer, Notice};
use super::own::{gives_group, holds_capability};
use super::owners::MakingIt;
use super::place::{CWD_ARGUMENT, Named, look, of_fd};

/// `CAP_MKNOD`, in a set of capabilities.
const CAP_MKNOD: u32 = 27;

/// A file that comes and goes is looked at again this often.
const TRIES: usize = 16;

/// What an open call asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) flags: OFlags,
    pub(super) mode: u32,
    pub(super) resolve: ResolveFlags,
}

/// `struct open_how` of openat2(2), as far as this kiln knows it.
const HOW_SIZE: usize = 24;
/// A page: the kernel refuses longer ones.
const HOW_MAX: u64 = 4096;

impl How {
    /// What one of the open calls asks for, and the folder and the address of its path;
    /// `None` if it is for the kernel to judge.
    pub(super) fn of(notice: &Notice, call: Call) -> Option<(u64, u64, Self)> {
        let [a, b, c, d, ..] = notice.data.arguments;
        // The older calls.
        let how = |flags: u64, mode: u64| Self {
            flags: OFlags::from_bits_retain(flags as u32),
            mode: mode as u32,
            resolve: ResolveFlags::empty(),
        };
        Some(match call {
            Call::Open => (CWD_ARGUMENT, a, how(b, c)),
            Call::Openat => (a, b, how(c, d)),
            Call::Creat => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                (CWD_ARGUMENT, a, how(flags.bits().into(), b))
            }
            _ => (a, b, Self::read(notice, c, d)?),
        })
    }

    /// Reads the argument of openat2; `None` if it is for the kernel to judge.
    pub(super) fn read(notice: &Notice, address: u64, size: u64) -> Option<Self> {
        if !(HOW_SIZE as u64..=HOW_MAX).contains(&size) {
            return None;
        }
        let mut bytes = [0; HOW_SIZE];
        notice.read(address, &mut bytes).ok()?;
        let word = |at: usize| {
            bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map(u64::from_ne_bytes)
        };
        Some(Self {
            flags: OFlags::from_bits_retain(u32::try_from(word(0)?).ok()?),
            mode: u32::try_from(word(8)?).ok()?,
            resolve: ResolveFlags::from_bits_retain(word(16)?),
        })
    }

    pub(super) fn makes_nameless(self) -> bool {
        self.flags.contains(OFlags::TMPFILE)
    }

    /// Whether it may make a file.
    pub(super) fn creates(self) -> bool {
        self.flags.contains(OFlags::CREATE) || self.makes_nameless()
    }
}

/// Who owns what is made in a folder, if it is not simply root's.
struct Making {
    owner: Owner,
    umask: u32,
    /// The group is the folder's, and not one of whoever makes it.
    foreign: bool,
}

impl Making {
    /// The mode of anything but a folder, which cannot be marked with a foreign group.
    fn mode(&self, mode: u32) -> Mode {
        let marked = libc::S_ISGID | libc::S_IXGRP;
        let taken = if self.foreign && mode & marked == marked { libc::S_ISGID } else { 0 };
        Mode::from_raw_mode(mode & 0o7777 & !self.umask & !taken)
    }
}

impl Supervisor {
    /// Whether something made in this folder needs a record.
    fn making(&self, notice: &Notice, folder: &OwnedFd) -> Option<Making> {
        let known = self.sets.of(notice.pid);
        let who = &known.credentials;
        let mut value = [0; 64];
        let settled = self.settled();
        let recorded = getxattr(of_fd(folder), super::super::record::OWNER, &mut value);
        drop(settled);
        let recorded = recorded.ok().and_then(|got| Owner::parse(value.get(..got)?));
        if recorded.is_none() && who.root_of_files() && who.gid.file == 0 {
            return None;
        }
        let inherited = gives_group(folder);
        let gid = if inherited { recorded.map_or(0, |owner| owner.gid) } else { who.gid.file };
        let owner = Owner { uid: who.uid.file, gid };
        let foreign = inherited && !who.in_group(gid) && !who.rules_files();
        (!owner.is_root()).then_some(Making { owner, umask: known.umask, foreign })
    }

    pub(super) fn open_file(
        &self,
        notice: &Notice,
        named: &Named,
        how: How,
    ) -> Result<Answer, Errno> {
        if !how.creates() {
            return Ok(Answer::Continue);
        }
        if how.makes_nameless() {
            return self.open_nameless(notice, named, how);
        }
        if self.is_simply_roots(notice, named) {
            return Ok(Answer::Continue);
        }
        let (folder, base) = match self.parent(notice, named, how.resolve) {
            Ok(found) => found,
            Err(error) => return self.refused(notice, named, error),
        };
        let Some(making) = self.making(notice, &folder) else { return Ok(Answer::Continue) };
        let new = how.flags | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let making_it = self.making_it();
            match openat(&folder, &base, new, making.mode(how.mode)) {
                Ok(made) => {
                    let done = self.hand_over(notice, &made, how, &making, making_it);
                    return done.inspect_err(|_| {
                        // Nothing stays that has no owner.
                        let _ = unlinkat(&folder, &base, AtFlags::empty());
                    });
                }
                Err(Errno::EXIST) if !how.flags.contains(OFlags::EXCL) => drop(making_it),
                Err(_) => return Ok(Answer::Continue),
            }
            // What is there may be gone before the kernel opens it, which would make it
            // anew and root's.
            let there = statat(&folder, &base, AtFlags::SYMLINK_NOFOLLOW);
            match there.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Ok(FileType::RegularFile) => {
                    let old =
                        how.flags.difference(OFlags::CREATE) | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    match openat(&folder, &base, old, Mode::empty()) {
                        Ok(file) => {
                            let close = how.flags.contains(OFlags::CLOEXEC);
                            return Ok(self.listener.give(notice, &file, close));
                        }
                        Err(Errno::NOENT | Errno::LOOP) => {}
                        Err(error) => return Err(error),
                    }
                }
                // A link that leads nowhere yet: its target is made.
                Ok(FileType::Symlink)
                    if matches!(statat(&folder, &base, AtFlags::empty()), Err(Errno::NOENT)) =>
                {
                    return self.open_linked(notice, &folder, &base, how, &making);
                }
                Ok(_) => return Ok(Answer::Continue),
                Err(_) => {}
            }
        }
        Ok(Answer::Continue)
    }

    /// Nothing can be made where a folder is missing. The kernel would say so too, but not
    /// if another thread makes the folder meanwhile, and then what it makes is root's.
    fn refused(&self, notice: &Notice, named: &Named, error: Errno) -> Result<Answer, Errno> {
        let missing =
            matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG);
        // That a descriptor is none is another error, and no race.
        let relative = named.folder != libc::AT_FDCWD && named.path.first() != Some(&b'/');
        let start = format!("{}/fd/{}", notice.pid, named.folder);
        if relative && statat(CWD, start, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Ok(Answer::Continue);
        }
        if missing && !self.sets.of(notice.pid).credentials.root_of_files() {
            return Err(error);
        }
        Ok(Answer::Continue)
    }

    /// Whether what this process makes there is root's: it is root, and the folder has no
    /// record. Found out with one look, since most of what is made is.
    fn is_simply_roots(&self, notice: &Notice, named: &Named) -> bool {
        let who = self.sets.of(notice.pid).credentials;
        if !who.root_of_files() || who.gid.file != 0 {
            return false;
        }
        let unrecorded = named.parent().and_then(|(parent, _)| {
            self.at(notice, &parent, |path| Ok(self.recorded_at(path, true).is_none())).ok()
        });
        unrecorded == Some(true)
    }

    fn parent(
        &self,
        notice: &Notice,
        named: &Named,
        resolve: ResolveFlags,
    ) -> Result<(OwnedFd, CString), Errno> {
        // An open that ends in a slash makes nothing.
        if named.path.last() == Some(&b'/') {
            return Err(Errno::ISDIR);
        }
        if resolve.is_empty() {
            self.open_parent(notice, named)
        } else {
            self.open_parent_resolved(notice, named, resolve)
        }
    }

    fn open_linked(
        &self,
        notice: &Notice,
        folder: &OwnedFd,
        base: &CString,
        how: How,
        making: &Making,
    ) -> Result<Answer, Errno> {
        // With a limit on the walk, or where it is not to be followed, the kernel says no.
        if !how.resolve.is_empty() || how.flags.contains(OFlags::NOFOLLOW) {
            return Ok(Answer::Continue);
        }
        let flags = how.flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let making_it = self.making_it();
        let Ok(made) = openat(folder, base, flags, making.mode(how.mode)) else {
            return Ok(Answer::Continue);
        };
        if !how.flags.contains(OFlags::NONBLOCK) {
            let flags = rustix::fs::fcntl_getfl(&made)?.difference(OFlags::NONBLOCK);
            rustix::fs::fcntl_setfl(&made, flags)?;
        }
        self.hand_over(notice, &made, how, making, making_it)
    }

    fn open_nameless(&self, notice: &Notice, named: &Named, how: How) -> Result<Answer, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = if how.resolve.is_empty() {
            self.at(notice, named, |path| openat(CWD, path, flags, Mode::empty()))
        } else {
            // The kernel walks it; the folder is looked at beside that only.
            return Ok(Answer::Continue);
        };
        let Ok(folder) = opened else { return Ok(Answer::Continue) };
        self.still(notice)?;
        let Some(making) = self.making(notice, &folder) else { return Ok(Answer::Continue) };
        let flags = how.flags | OFlags::CLOEXEC;
        let making_it = self.making_it();
        let Ok(made) = openat(&folder, ".", flags, making.mode(how.mode)) else {
            return Ok(Answer::Continue);
        };
        self.hand_over(notice, &made, how, &making, making_it)
    }

    fn hand_over(
        &self,
        notice: &Notice,
        made: &OwnedFd,
        how: How,
        making: &Making,
        making_it: MakingIt<'_>,
    ) -> Result<Answer, Errno> {
        self.record(made, &look(made)?, making.owner, true)?;
        drop(making_it);
        Ok(self.listener.give(notice, made, how.flags.contains(OFlags::CLOEXEC)))
    }

    pub(super) fn make_folder(
        &self,
        notice: &Notice,
        named: &Named,
        mode: u32,
    ) -> Result<Answer, Errno> {
        self.make(notice, named, false, |folder, base, making| {
            mkdirat(folder, base, Mode::from_raw_mode(mode & 0o1777 & !making.umask))
        })
    }

    pub(super) fn make_link(
        &self,
        notice: &Notice,
        target: u64,
        named: &Named,
    ) -> Result<Answer, Errno> {
        let target = Named::plain(notice, target, false)?.path;
        let target = CString::new(target).map_err(|_| Errno::INVAL)?;
        if named.path.last() == Some(&b'/') {
            return Ok(Answer::Continue);
        }
        self.make(notice, named, true, |folder, base, _| symlinkat(&target, folder, base))
    }

    pub(super) fn make_node(
        &self,
        notice: &Notice,
        named: &Named,
        mode: u32,
        device: u64,
    ) -> Result<Answer, Errno> {
        if named.path.last() == Some(&b'/') {
            return Ok(Answer::Continue);
        }
        let kind = match mode & libc::S_IFMT {
            libc::S_IFCHR | libc::S_IFBLK => {
                return self.make_device(notice, named, mode, device);
            }
            libc::S_IFIFO => FileType::Fifo,
            libc::S_IFSOCK => FileType::Socket,
            0 | libc::S_IFREG => FileType::RegularFile,
            _ => return Ok(Answer::Continue),
        };
        if self.emulation != Emulation::Ids {
            return Ok(Answer::Continue);
        }
        self.make(notice, named, true, |folder, base, making| {
            mknodat(folder, base, kind, making.mode(mode), 0)
        })
    }

    /// Gives a name to an open file. The kernel lets only the one who opened it do so,
    /// and that may have been the supervisor.
    pub(super) fn name_open_file(
        &self,
        notice: &Notice,
        file: &Named,
        named: &Named,
    ) -> Result<Answer, Errno> {
        if !file.path.is_empty() || file.folder == libc::AT_FDCWD {
            return Ok(Answer::Continue);
        }
        let (Ok(file), Ok((folder, base))) =
            (self.open(notice, file), self.open_parent(notice, named))
        else {
            return Ok(Answer::Continue);
        };
        linkat(CWD, of_fd(&file), &folder, &base, AtFlags::SYMLINK_FOLLOW)?;
        Ok(Answer::Value(0))
    }

    /// Makes something by name, and records whose it is.
    fn make(
        &self,
        notice: &Notice,
        named: &Named,
        special: bool,
        make: impl FnOnce(&OwnedFd, &CString, &Making) -> rustix::io::Result<()>,
    ) -> Result<Answer, Errno> {
        let (folder, base) = match self.open_parent(notice, named) {
            Ok(found) => found,
            Err(error) => return self.refused(notice, named, error),
        };
        // A new file in the place of one that lower layers list is told from a copy of
        // that one by its record.
        let root = || {
            let umask = self.sets.of(notice.pid).umask;
            (special && self.specials.any_below()).then_some(Making {
                owner: Owner::default(),
                umask,
                foreign: false,
            })
        };
        let Some(making) = self.making(notice, &folder).or_else(root) else {
            return Ok(Answer::Continue);
        };
        let _making_it = self.making_it();
        make(&folder, &base, &making)?;
        self.record_made(&folder, &base, making.owner)?;
        Ok(Answer::Value(0))
    }

    fn record_made(&self, folder: &OwnedFd, base: &CString, owner: Owner) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(folder, base, flags, Mode::empty())?;
        let stat = look(&made)?;
        self.record(&made, &stat, owner, true).inspect_err(|_| {
            let kind = FileType::from_raw_mode(stat.stx_mode.into());
            let folders = kind == FileType::Directory;
            let flags = if folders { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // Nothing stays that has no owner.
            let _ = unlinkat(folder, base, flags);
        })
    }

    /// A device is an empty file that says so.
    fn make_device(
        &self,
        notice: &Notice,
        named: &Named,
        mode: u32,
        device: u64,
    ) -> Result<Answer, Errno> {
        let known = self.sets.of(notice.pid);
        let allowed = match self.emulation {
            Emulation::Ids => known.credentials.privileged(),
            Emulation::Records | Emulation::Files => holds_capability(notice.pid, CAP_MKNOD),
        };
        let block = mode & libc::S_IFMT == libc::S_IFBLK;
        let device = decode(device);
        let whiteout = !block && device == makedev(0, 0);
        // Overlayfs keeps 0:0 to itself, and refuses it for real root too.
        if !allowed || whiteout {
            return Err(Errno::PERM);
        }
        let (folder, base) = self.open_parent(notice, named)?;
        let umask = match self.emulation {
            Emulation::Ids => known.umask,
            Emulation::Records | Emulation::Files => umask_of(notice.pid),
        };
        let mode = Mode::from_raw_mode(mode & 0o7777 & !umask);
        let making = match self.emulation {
            Emulation::Ids => self.making(notice, &folder),
            Emulation::Records | Emulation::Files => None,
        };
        let _making_it = self.making_it();
        mknodat(&folder, &base, FileType::RegularFile, Mode::empty(), 0)?;
        let made = || -> Result<(), Errno> {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&folder, &base, flags, Mode::empty())?;
            let stat = look(&file)?;
            let owner = match self.emulation {
                Emulation::Ids => making.as_ref().map(|making| making.owner),
                Emulation::Records | Emulation::Files => {
                    Some(Owner { uid: stat.stx_uid, gid: stat.stx_gid })
                }
            };
            self.record(&file, &stat, owner.unwrap_or_default(), true)?;
            let record = Device { block, major: major(device), minor: minor(device) };
            self.record_device(&file, record)?;
            let path = format!("self/fd/{}", file.as_fd().as_raw_fd());
            rustix::fs::chmod(path, mode)
        };
        if let Err(error) = made() {
            // No half of a device stays.
            let _ = unlinkat(&folder, &base, AtFlags::empty());
            return Err(if error == Errno::NOTSUP { Errno::PERM } else { error });
        }
        Ok(Answer::Value(0))
    }
}

/// A device number as the call has it, which is narrower than the C library's: the
/// kernel's `new_decode_dev`.
fn decode(device: u64) -> u64 {
    let device = device as u32;
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | device >> 12 & 0xf_ff00;
    makedev(major, minor)
}

/// The umask of a process, as the kernel tells it.
fn umask_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("{pid}/status")).unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o022)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers() {
        for (call, major_minor) in
            [(0x0103, (1, 3)), (0x0800_u64 | 0x11, (8, 17)), (0xfff0_0103, (1, 0xf_ff03))]
        {
            let device = decode(call);
            assert_eq!((major(device), minor(device)), major_minor, "{call:x}");
        }
    }
}
