//! The walk along a path on behalf of a process that may not go everywhere: as the
//! kernel walks (path_resolution(7)), with every folder asked for the right to search.
//!
//! A path is looked at from its beginning, each time one name further: what was passed
//! is free of symbolic links, since these are replaced by what they say. `..`, mounts and
//! the root are the kernel's. Whatever else than the right to search is in the way is for
//! the kernel to say, which walks again.

use std::ffi::CString;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statvfs, statx,
};
use rustix::io::Errno;

use super::super::record::Owner;
use super::notify::Notice;
use super::own::NOBODY;
use super::permission::{EXECUTE, Owned, Viewer, by_mode_alone};
use super::place::{Named, proc_of};
use super::{Supervisor, TO_KERNEL};

/// The kernel's limit of links in one walk.
pub(super) const MAX_LINKS: usize = 40;
/// Major numbers of the terminals below `/dev/pts`.
const TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;

/// A file on the way.
#[derive(Debug)]
pub(super) struct Seen {
    /// As the worker finds it.
    path: CString,
    pub(super) stat: Statx,
    /// Reached through a link of `/proc` that is no path: it is followed by the kernel.
    jumped: bool,
}

/// What a walk came to.
#[derive(Debug)]
pub(super) struct Walked {
    /// Where the last name was looked up, if there was one.
    pub(super) folder: Option<Seen>,
    /// `None` if nothing has this name.
    pub(super) file: Option<Seen>,
    /// The last part of the path is `.` or `..`.
    pub(super) dots: bool,
    /// Slashes follow it.
    pub(super) slash: bool,
}

/// What becomes of a symbolic link at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Follow,
    /// It is not followed, unless a slash asks for what it leads to.
    Stay,
    /// It is its name that is asked for.
    Name,
}

impl Seen {
    pub(super) fn mode(&self) -> u32 {
        u32::from(self.stat.stx_mode)
    }

    pub(super) fn is(&self, kind: u32) -> bool {
        self.mode() & libc::S_IFMT == kind
    }

    pub(super) fn path(&self) -> &CString {
        &self.path
    }

    /// Whether nothing on its mount can be changed.
    pub(super) fn is_on_read_only(&self) -> bool {
        use rustix::fs::StatVfsMountFlags;
        statvfs(&self.path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY))
    }
}

impl Supervisor {
    /// Walks to what is named, over so many links. `EACCES` is where the kernel would say
    /// so; every other trouble is left to it.
    pub(super) fn walk(
        &self,
        notice: &Notice,
        viewer: &Viewer,
        named: &Named,
        end: End,
        max_links: usize,
    ) -> Result<Walked, Errno> {
        let mut rest = named.path.clone();
        let mut current = match named.folder {
            _ if rest.first() == Some(&b'/') => root()?,
            libc::AT_FDCWD => jump(format!("{}/cwd", notice.pid).into())?,
            fd => jump(format!("{}/fd/{fd}", notice.pid).into())?,
        };
        let mut walked = Walked { folder: None, file: None, dots: false, slash: false };
        let mut links = 0;
        let mut at = 0;
        loop {
            at += rest.iter().skip(at).take_while(|&&byte| byte == b'/').count();
            let after = rest.get(at..).unwrap_or_default();
            if after.is_empty() {
                walked.file = Some(current);
                return Ok(walked);
            }
            let length = after.iter().position(|&byte| byte == b'/').unwrap_or(after.len());
            let (name, after) = after.split_at(length);
            let name = name.to_vec();
            let last = after.iter().all(|&byte| byte == b'/');
            walked.slash = last && !after.is_empty();
            walked.dots = name == b"." || name == b"..";
            at += length;
            if !current.is(libc::S_IFDIR) {
                return Err(TO_KERNEL);
            }
            if !self.may(viewer, &current, EXECUTE) {
                return Err(Errno::ACCESS);
            }
            let mut path = current.path.to_bytes().to_vec();
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let next = match look_at(path, false) {
                Err(Errno::NOENT) if last => {
                    walked.folder = Some(current);
                    return Ok(walked);
                }
                other => other.map_err(|_| TO_KERNEL)?,
            };
            let follows = !last || end == End::Follow || (end == End::Stay && walked.slash);
            if !next.is(libc::S_IFLNK) || !follows {
                walked.folder = Some(std::mem::replace(&mut current, next));
                continue;
            }
            links += 1;
            if links > max_links {
                return Err(TO_KERNEL);
            }
            if last
                && self.settings.symbolic_links != 0
                && !viewer.may_follow(
                    self.owned(viewer, &current),
                    self.owned(viewer, &next),
                    self.settings,
                )
            {
                return Err(Errno::ACCESS);
            }
            match self.target(notice, &next, &name)? {
                Some(target) => {
                    rest = [&target, rest.get(at..).unwrap_or_default()].concat();
                    at = 0;
                    if target.first() == Some(&b'/') {
                        current = root()?;
                    }
                }
                None => {
                    let next = jump(next.path.into_bytes())?;
                    walked.folder = Some(std::mem::replace(&mut current, next));
                }
            }
        }
    }

    /// What a symbolic link says; `None` of one that is no path, but a way to a file.
    fn target(&self, notice: &Notice, link: &Seen, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let of_proc = self.is_of_proc(link);
        // The walker's own, which the worker is not.
        match name {
            b"self" if of_proc => return proc_of(notice, false).map(Some),
            b"thread-self" if of_proc => return proc_of(notice, true).map(Some),
            _ => {}
        }
        let target = readlinkat(CWD, &link.path, Vec::new()).map_err(|_| TO_KERNEL)?.into_bytes();
        // The few that are paths say `self/mounts` and the like; others `pipe:[7]`, or
        // where the file was found.
        let is_way = of_proc && (target.first() == Some(&b'/') || target.contains(&b':'));
        Ok((!is_way).then_some(target))
    }

    /// Whether a file's mode lets the viewer do all of this.
    pub(super) fn may(&self, viewer: &Viewer, seen: &Seen, want: u32) -> bool {
        self.is_for_kernel(seen)
            || by_mode_alone(seen.mode(), want)
                .unwrap_or_else(|| viewer.may(self.owned(viewer, seen), want))
    }

    pub(super) fn owned(&self, viewer: &Viewer, seen: &Seen) -> Owned {
        let owner = self.owner(seen).unwrap_or_else(|| viewer.own());
        Owned { owner, mode: seen.mode() }
    }

    /// Whether the kernel alone knows who may: what is a process's own in `/proc`.
    fn is_for_kernel(&self, seen: &Seen) -> bool {
        let inside = seen.path.to_bytes().strip_prefix(b"/proc");
        let settings = inside.is_some_and(|rest| !rest.get(1).is_some_and(u8::is_ascii_digit));
        self.is_of_proc(seen) && !settings
    }

    /// Whether it is in `/proc`, where nothing can be made.
    pub(super) fn is_of_proc(&self, seen: &Seen) -> bool {
        device_of(&seen.stat) == self.proc_device
    }

    /// Whose a file is; `None` for what is made where nothing sees by whom (pipes and the
    /// like, sockets with a name, terminals), and for what is gone by now: then the kernel
    /// says so.
    fn owner(&self, seen: &Seen) -> Option<Owner> {
        let Seen { path, stat, jumped } = seen;
        let kind = seen.mode() & libc::S_IFMT;
        let plain = kind == libc::S_IFREG || kind == libc::S_IFDIR;
        if *jumped && !plain {
            return None;
        }
        let mut found = self.record_at(path, *jumped).ok()?;
        if found.is_none() && self.specials.any() {
            let nofollow = if *jumped { OFlags::empty() } else { OFlags::NOFOLLOW };
            let flags = OFlags::PATH | OFlags::CLOEXEC | nofollow;
            let file = openat(CWD, path, flags, Mode::empty()).ok()?;
            found = self.recorded(&file, stat).ok().flatten();
        }
        let terminal = kind == libc::S_IFCHR && TERMINALS.contains(&stat.stx_rdev_major);
        match (stat.stx_uid, stat.stx_gid) {
            _ if found.is_some() => found,
            _ if kind == libc::S_IFSOCK || terminal => None,
            // The machine's root, who is nobody here.
            (NOBODY, NOBODY) => Some(Owner::default()),
            (uid, gid) => Some(Owner { uid, gid }),
        }
    }
}

/// The device that a path is on.
pub(super) fn device_at(folder: impl std::os::fd::AsFd, path: &str) -> rustix::io::Result<u64> {
    statx(folder, path, AtFlags::empty(), StatxFlags::INO).map(|stat| device_of(&stat))
}

fn device_of(stat: &Statx) -> u64 {
    u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
}

fn root() -> Result<Seen, Errno> {
    look_at(b"/".to_vec(), false).map_err(|_| TO_KERNEL)
}

/// The file at the end of a link in `/proc`.
fn jump(path: Vec<u8>) -> Result<Seen, Errno> {
    let seen = look_at(path, true).map_err(|_| TO_KERNEL)?;
    Ok(Seen { jumped: true, ..seen })
}

fn look_at(path: Vec<u8>, follow: bool) -> Result<Seen, Errno> {
    let path = CString::new(path).map_err(|_| TO_KERNEL)?;
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let stat = statx(CWD, &path, flags | AtFlags::NO_AUTOMOUNT, mask)?;
    Ok(Seen { path, stat, jumped: false })
}
