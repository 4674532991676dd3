//! What is denied to a process that is no root by its belief. To the kernel it is the
//! namespace's root, which has one ID and may do everything; so each call that names a
//! file is looked at first, and refused where the kernel would refuse another user, with
//! the error that would come first. All other errors are left to the kernel.

use rustix::fs::{AtFlags, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::calls::{Abi, Call};
use super::create::How;
use super::execute::{SCRIPTS, START, interpreter_of};
use super::notify::Notice;
use super::permission::{EXECUTE, READ, Viewer, WRITE};
use super::place::{CWD_ARGUMENT, Named};
use super::walk::{End, MAX_LINKS, Seen, Walked};
use super::{STAT_FLAGS, Supervisor, TO_KERNEL};

/// What a call needs of the file that it names.
#[derive(Debug, Clone, Copy)]
enum Need {
    /// The way to it.
    Reach,
    /// The same, for a look at it. What is not there is so for sure, while the kernel might
    /// find it a moment later, made and not yet recorded.
    See,
    /// These rights to it, if it is of this kind.
    File(u32, Option<u32>),
    Open(How),
    /// That nothing has the name, and the folder may be written.
    Make(Kind),
    Remove(Kind),
    /// To own it, or to write it.
    Touch,
    Own,
    /// An attribute of the user's own kind.
    Attribute(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    Other,
}

/// `IN_DONT_FOLLOW` of inotify_add_watch(2).
const DONT_FOLLOW: u64 = 0x0200_0000;
/// The longest address of a Unix socket, and where its path begins.
const ADDRESS_MAX: u64 = 110;
const ADDRESS_PATH: usize = 2;
/// A name of an attribute is no longer.
const NAME_MAX: usize = 256;

impl Supervisor {
    /// Fails where the kernel would deny the call to who the process believes to be.
    pub(super) fn permit(&self, notice: &Notice, call: Call, abi: Abi) -> Result<(), Errno> {
        if !self.denies || !self.sets.any_others() {
            return Ok(());
        }
        let credentials = self.sets.of(notice.pid).credentials;
        let [.., flags, _, _] = notice.data.arguments;
        let effective = flags as i32 & libc::AT_EACCESS != 0;
        let viewer = match call {
            Call::Access | Call::Faccessat => Viewer::real(&credentials),
            Call::Faccessat2 if !effective => Viewer::real(&credentials),
            _ => Viewer::acting(&credentials),
        };
        let Some(viewer) = viewer else { return Ok(()) };
        let looked = self.in_root(notice, || match call {
            Call::Rename | Call::Renameat => self.may_rename(notice, &viewer, call),
            Call::Link | Call::Linkat => self.may_link(notice, &viewer, call),
            _ => {
                let Some((named, need)) = need(notice, call, abi)? else { return Ok(()) };
                self.meets(notice, &viewer, &named, need)?;
                if matches!(call, Call::Execve | Call::Execveat) {
                    self.may_interpret(notice, &viewer, &named)?;
                }
                Ok(())
            }
        });
        if looked == Err(TO_KERNEL) { Ok(()) } else { looked }
    }

    fn meets(
        &self,
        notice: &Notice,
        viewer: &Viewer,
        named: &Named,
        need: Need,
    ) -> Result<(), Errno> {
        let end = match need {
            Need::Make(_) | Need::Remove(_) => End::Name,
            Need::Open(how) if how.flags.contains(OFlags::CREATE | OFlags::EXCL) => End::Stay,
            Need::Open(how) if how.flags.contains(OFlags::NOFOLLOW) => End::Stay,
            _ if named.follow => End::Follow,
            _ => End::Stay,
        };
        let links = match need {
            Need::Open(how) if how.resolve.contains(ResolveFlags::NO_SYMLINKS) => 0,
            _ => MAX_LINKS,
        };
        let walked = self.walk(notice, viewer, named, end, links)?;
        let file = walked.file.as_ref();
        match need {
            Need::Reach => Ok(()),
            Need::See => granted(file.is_some(), Errno::NOENT),
            Need::Open(how) => self.may_open(viewer, &walked, how),
            Need::Make(kind) => self.may_make(viewer, &walked, kind),
            Need::Remove(kind) => self.may_remove(viewer, &walked, kind),
            Need::File(want, kind) => {
                let file = file.ok_or(TO_KERNEL)?;
                if kind.is_some_and(|kind| !file.is(kind)) {
                    return Ok(());
                }
                granted(self.may(viewer, file, want), Errno::ACCESS)
            }
            Need::Touch | Need::Own => {
                let file = file.ok_or(TO_KERNEL)?;
                if file.is_on_read_only() || viewer.owns(self.owned(viewer, file)) {
                    return Ok(());
                }
                match need {
                    Need::Touch => granted(self.may(viewer, file, WRITE), Errno::ACCESS),
                    _ => Err(Errno::PERM),
                }
            }
            Need::Attribute(want) => {
                let file = file.ok_or(TO_KERNEL)?;
                let folder = file.is(libc::S_IFDIR);
                if !(folder || file.is(libc::S_IFREG)) || (want == WRITE && file.is_on_read_only())
                {
                    return Ok(());
                }
                let owned = self.owned(viewer, file);
                if want == WRITE && folder && !viewer.may_unname(owned, owned) {
                    return Err(Errno::PERM);
                }
                granted(self.may(viewer, file, want), Errno::ACCESS)
            }
        }
    }

    fn may_open(&self, viewer: &Viewer, walked: &Walked, how: How) -> Result<(), Errno> {
        let How { flags, .. } = how;
        let creates = flags.contains(OFlags::CREATE);
        if flags.contains(OFlags::PATH) || (creates && (walked.slash || walked.dots)) {
            return Ok(());
        }
        let Some(file) = &walked.file else {
            return if creates { self.may_make(viewer, walked, Kind::Other) } else { Ok(()) };
        };
        let folder = file.is(libc::S_IFDIR);
        if how.makes_nameless() {
            let fits = folder && !file.is_on_read_only();
            return granted(!fits || self.may(viewer, file, WRITE | EXECUTE), Errno::ACCESS);
        }
        let mut want = match flags.bits() & OFlags::ACCMODE.bits() {
            0 => READ,
            1 => WRITE,
            _ => READ | WRITE,
        };
        if flags.contains(OFlags::TRUNC) {
            want |= WRITE;
        }
        // What it is comes before whose it is.
        if file.is(libc::S_IFLNK)
            || flags.contains(OFlags::CREATE | OFlags::EXCL)
            || (folder && (creates || want & WRITE != 0))
            || (!folder && (walked.slash || flags.contains(OFlags::DIRECTORY)))
        {
            return Ok(());
        }
        if creates
            && let Some(folder) = &walked.folder
            && !viewer.may_take(self.owned(viewer, folder), self.owned(viewer, file), self.settings)
        {
            return Err(Errno::ACCESS);
        }
        let truncates = flags.contains(OFlags::TRUNC) && file.is(libc::S_IFREG);
        if !self.may(viewer, file, want) {
            return granted(truncates && file.is_on_read_only(), Errno::ACCESS);
        }
        let own = || viewer.owns(self.owned(viewer, file));
        granted(!flags.contains(OFlags::NOATIME) || own(), Errno::PERM)
    }

    /// The rights to put a name into a folder, if it is free and could be.
    fn may_make(&self, viewer: &Viewer, walked: &Walked, kind: Kind) -> Result<(), Errno> {
        let (Some(folder), None) = (&walked.folder, &walked.file) else { return Ok(()) };
        let nowhere = (walked.slash && kind == Kind::Other) || self.is_of_proc(folder);
        if nowhere || self.may(viewer, folder, WRITE | EXECUTE) {
            return Ok(());
        }
        granted(folder.is_on_read_only(), Errno::ACCESS)
    }

    fn may_remove(&self, viewer: &Viewer, walked: &Walked, kind: Kind) -> Result<(), Errno> {
        let (Some(folder), Some(file)) = (&walked.folder, &walked.file) else { return Ok(()) };
        if walked.dots || (walked.slash && kind == Kind::Other) || folder.is_on_read_only() {
            return Ok(());
        }
        self.may_unname(viewer, folder, file)
    }

    fn may_unname(&self, viewer: &Viewer, folder: &Seen, file: &Seen) -> Result<(), Errno> {
        granted(self.may(viewer, folder, WRITE | EXECUTE), Errno::ACCESS)?;
        let sticky = folder.mode() & libc::S_ISVTX != 0;
        let free =
            !sticky || viewer.may_unname(self.owned(viewer, folder), self.owned(viewer, file));
        granted(free, Errno::PERM)
    }

    fn may_rename(&self, notice: &Notice, viewer: &Viewer, call: Call) -> Result<(), Errno> {
        let [a, b, c, d, e, _] = notice.data.arguments;
        let (from, to, flags) = match call {
            Call::Rename => (plain(notice, a)?, plain(notice, b)?, 0),
            _ => (beside(notice, a, b)?, beside(notice, c, d)?, flags_of(notice, e)),
        };
        let from = self.walk(notice, viewer, &from, End::Name, MAX_LINKS)?;
        let to = self.walk(notice, viewer, &to, End::Name, MAX_LINKS)?;
        let (Some(old_folder), Some(old), Some(new_folder)) =
            (&from.folder, &from.file, &to.folder)
        else {
            return Ok(());
        };
        let folder = old.is(libc::S_IFDIR);
        let one_mount = old_folder.stat.stx_mnt_id == new_folder.stat.stx_mnt_id;
        if from.dots
            || to.dots
            || !one_mount
            || old_folder.is_on_read_only()
            || (!folder && (from.slash || to.slash))
            || (flags & libc::RENAME_NOREPLACE != 0 && to.file.is_some())
            || (flags & libc::RENAME_EXCHANGE != 0 && to.file.is_none())
            || to.file.as_ref().is_some_and(|new| is_same(old, new))
        {
            return Ok(());
        }
        self.may_unname(viewer, old_folder, old)?;
        match &to.file {
            Some(new) => self.may_unname(viewer, new_folder, new)?,
            None => granted(self.may(viewer, new_folder, WRITE | EXECUTE), Errno::ACCESS)?,
        }
        // A folder's own `..` changes.
        if is_same(old_folder, new_folder) {
            return Ok(());
        }
        let moved = |moved: &Seen| !moved.is(libc::S_IFDIR) || self.may(viewer, moved, WRITE);
        let back = to.file.as_ref().filter(|_| flags & libc::RENAME_EXCHANGE != 0);
        granted(moved(old) && back.is_none_or(moved), Errno::ACCESS)
    }

    fn may_link(&self, notice: &Notice, viewer: &Viewer, call: Call) -> Result<(), Errno> {
        let [a, b, c, d, e, _] = notice.data.arguments;
        let (old, new) = match call {
            Call::Link => (plain(notice, a)?, plain(notice, b)?),
            _ => {
                let follow = e as i32 & libc::AT_SYMLINK_FOLLOW != 0;
                let old = Named { follow, ..Named::read(notice, a, b, e as u32)? };
                (old, beside(notice, c, d)?)
            }
        };
        let end = if old.follow { End::Follow } else { End::Stay };
        let old = self.walk(notice, viewer, &old, end, MAX_LINKS)?.file.ok_or(TO_KERNEL)?;
        let new = self.walk(notice, viewer, &new, End::Name, MAX_LINKS)?;
        let Some(folder) = &new.folder else { return Ok(()) };
        if new.file.is_some()
            || new.slash
            || folder.is_on_read_only()
            || folder.stat.stx_mnt_id != old.stat.stx_mnt_id
        {
            return Ok(());
        }
        granted(viewer.may_link(self.owned(viewer, &old), self.settings), Errno::PERM)?;
        granted(self.may(viewer, folder, WRITE | EXECUTE), Errno::ACCESS)
    }

    /// The interpreters of a script must be executable too.
    fn may_interpret(
        &self,
        notice: &Notice,
        viewer: &Viewer,
        program: &Named,
    ) -> Result<(), Errno> {
        use std::io::Read as _;
        let mut program = self.walk(notice, viewer, program, End::Follow, MAX_LINKS)?;
        for _ in 0..SCRIPTS {
            let file = program.file.filter(|file| file.is(libc::S_IFREG)).ok_or(TO_KERNEL)?;
            let path = std::path::Path::new(std::ffi::OsStr::new(
                file.path().to_str().map_err(|_| TO_KERNEL)?,
            ));
            let mut start = Vec::new();
            let source = std::fs::File::open(path).map_err(|_| TO_KERNEL)?;
            source.take(START).read_to_end(&mut start).map_err(|_| TO_KERNEL)?;
            let Some(interpreter) = interpreter_of(&start) else { return Ok(()) };
            let named = Named { folder: libc::AT_FDCWD, path: interpreter.to_vec(), follow: true };
            program = self.walk(notice, viewer, &named, End::Follow, MAX_LINKS)?;
            let file = program.file.as_ref().ok_or(TO_KERNEL)?;
            granted(self.may(viewer, file, EXECUTE), Errno::ACCESS)?;
        }
        Ok(())
    }
}

fn granted(granted: bool, error: Errno) -> Result<(), Errno> {
    if granted { Ok(()) } else { Err(error) }
}

fn is_same(one: &Seen, other: &Seen) -> bool {
    let key = |seen: &Seen| {
        let stat = &seen.stat;
        (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino)
    };
    key(one) == key(other)
}

/// A name, from the working folder.
fn plain(notice: &Notice, address: u64) -> Result<Named, Errno> {
    Named::plain(notice, address, false)
}

/// A name, from a descriptor.
fn beside(notice: &Notice, folder: u64, address: u64) -> Result<Named, Errno> {
    Named::read(notice, folder, address, AtFlags::SYMLINK_NOFOLLOW.bits())
}

/// Those of renameat2(2); the older call has none, and whatever is in its place.
fn flags_of(notice: &Notice, flags: u64) -> u32 {
    let number = libc::c_long::from(notice.data.number);
    if number == libc::SYS_renameat2 || number == I386_RENAMEAT2 { flags as u32 } else { 0 }
}

/// No other call has this number that changes names.
const I386_RENAMEAT2: libc::c_long = 353;

/// What a call with one path needs; `None` if it has none.
fn need(notice: &Notice, call: Call, abi: Abi) -> Result<Option<(Named, Need)>, Errno> {
    let [a, b, c, d, e, _] = notice.data.arguments;
    let follow = |address: u64| Named::plain(notice, address, true);
    let stay = |address: u64| Named::plain(notice, address, false);
    let at =
        |folder: u64, address: u64, flags: u64| Named::read(notice, folder, address, flags as u32);
    let name = |folder: u64, address: u64| beside(notice, folder, address);
    let access = |mode: u64| match u32::try_from(mode) {
        Ok(mode) if mode <= READ | WRITE | EXECUTE => Need::File(mode, None),
        _ => Need::Reach,
    };
    let flags_fit = |flags: u64| flags as u32 & !STAT_FLAGS.bits() == 0;
    let folder = Need::File(EXECUTE, Some(libc::S_IFDIR));
    let program = Need::File(EXECUTE, Some(libc::S_IFREG));
    Ok(Some(match call {
        Call::Access => (follow(a)?, access(b)),
        Call::Faccessat => (at(a, b, 0)?, access(c)),
        Call::Faccessat2 => (at(a, b, d)?, access(c)),
        Call::Open | Call::Openat | Call::Openat2 | Call::Creat => {
            let (folder, address, how) = How::of(notice, call).ok_or(TO_KERNEL)?;
            if how.resolve.contains(ResolveFlags::IN_ROOT) {
                return Ok(None);
            }
            (at(folder, address, 0)?, Need::Open(how))
        }
        Call::Mkdir => (stay(a)?, Need::Make(Kind::Folder)),
        Call::Mkdirat => (name(a, b)?, Need::Make(Kind::Folder)),
        Call::Mknod => (stay(a)?, Need::Make(Kind::Other)),
        Call::Mknodat => (name(a, b)?, Need::Make(Kind::Other)),
        Call::Symlink => (stay(b)?, Need::Make(Kind::Other)),
        Call::Symlinkat => (name(b, c)?, Need::Make(Kind::Other)),
        Call::Rmdir => (stay(a)?, Need::Remove(Kind::Folder)),
        Call::Unlink => (stay(a)?, Need::Remove(Kind::Other)),
        Call::Unlinkat if c as i32 & libc::AT_REMOVEDIR != 0 => {
            (name(a, b)?, Need::Remove(Kind::Folder))
        }
        Call::Unlinkat => (name(a, b)?, Need::Remove(Kind::Other)),
        Call::Truncate => (follow(a)?, Need::File(WRITE, Some(libc::S_IFREG))),
        Call::Utime => (follow(a)?, if b == 0 { Need::Touch } else { Need::Own }),
        Call::Futimesat | Call::Utimensat => {
            let named = match b {
                0 => Named::descriptor(a),
                _ if call == Call::Utimensat => at(a, b, d)?,
                _ => at(a, b, 0)?,
            };
            match times(notice, call, abi, c)? {
                Some(need) => (named, need),
                None => return Ok(None),
            }
        }
        Call::Chdir | Call::Chroot => (follow(a)?, folder),
        Call::Fchdir => (Named::descriptor(a), folder),
        Call::Execve => (follow(a)?, program),
        Call::Execveat => (at(a, b, e)?, program),
        Call::Stat => (follow(a)?, Need::See),
        Call::Lstat => (stay(a)?, Need::See),
        Call::Fstatat => (at(a, b, d)?, if flags_fit(d) { Need::See } else { Need::Reach }),
        Call::Statx => (at(a, b, c)?, if flags_fit(c) { Need::See } else { Need::Reach }),
        Call::Statfs | Call::Chown | Call::Chmod | Call::ListXattr => (follow(a)?, Need::Reach),
        Call::Lchown | Call::LlistXattr | Call::Readlink => (stay(a)?, Need::Reach),
        Call::Readlinkat => (
            at(a, b, (AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH).bits().into())?,
            Need::Reach,
        ),
        Call::Fchmodat2 => (at(a, b, d)?, Need::Reach),
        Call::ListXattrAt => (at(a, b, c)?, Need::Reach),
        Call::Fchownat => (at(a, b, e)?, Need::Reach),
        Call::Fchmodat => (at(a, b, 0)?, Need::Reach),
        Call::SetXattr | Call::GetXattr | Call::RemoveXattr => {
            (follow(a)?, attribute(notice, call, b))
        }
        Call::LsetXattr | Call::LgetXattr | Call::LremoveXattr => {
            (stay(a)?, attribute(notice, call, b))
        }
        Call::FsetXattr | Call::FgetXattr | Call::FremoveXattr => {
            (Named::descriptor(a), attribute(notice, call, b))
        }
        Call::SetXattrAt | Call::GetXattrAt | Call::RemoveXattrAt => {
            (at(a, b, c)?, attribute(notice, call, d))
        }
        Call::InotifyAddWatch => {
            let named = if c & DONT_FOLLOW == 0 { follow(b)? } else { stay(b)? };
            (named, Need::File(READ, None))
        }
        Call::Bind => (address(notice, b, c)?, Need::Make(Kind::Other)),
        Call::Connect => (address(notice, b, c)?, Need::File(WRITE, None)),
        _ => return Ok(None),
    }))
}

/// What a change of times needs: "now" is for who may write too.
fn times(notice: &Notice, call: Call, abi: Abi, address: u64) -> Result<Option<Need>, Errno> {
    if address == 0 {
        return Ok(Some(Need::Touch));
    }
    if call != Call::Utimensat {
        return Ok(Some(Need::Own));
    }
    // Two pairs of words; of the second of each the lower half counts.
    let word: usize = match abi {
        #[cfg(target_arch = "x86_64")]
        Abi::I386Short => 4,
        _ => 8,
    };
    let mut bytes = [0; 32];
    let bytes = bytes.get_mut(..4 * word).ok_or(TO_KERNEL)?;
    notice.read(address, bytes)?;
    let nanoseconds = |at: usize| {
        let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(i32::from_ne_bytes).map(i64::from)
    };
    Ok(match (nanoseconds(word), nanoseconds(3 * word)) {
        (Some(libc::UTIME_OMIT), Some(libc::UTIME_OMIT)) => None,
        (Some(libc::UTIME_NOW), Some(libc::UTIME_NOW)) => Some(Need::Touch),
        _ => Some(Need::Own),
    })
}

fn attribute(notice: &Notice, call: Call, name: u64) -> Need {
    let Ok(name) = notice.text(name, NAME_MAX) else { return Need::Reach };
    let gets = call.gets_attribute();
    if name.starts_with(b"user.") {
        return Need::Attribute(if gets { READ } else { WRITE });
    }
    if name.starts_with(b"system.posix_acl_") && !gets { Need::Own } else { Need::Reach }
}

/// The path in the address of a socket.
fn address(notice: &Notice, address: u64, length: u64) -> Result<Named, Errno> {
    let length = length & u64::from(u32::MAX);
    let mut bytes = [0; ADDRESS_MAX as usize];
    let bytes = usize::try_from(length).ok().and_then(|length| bytes.get_mut(..length));
    let bytes = bytes.ok_or(TO_KERNEL)?;
    notice.read(address, bytes)?;
    let (family, path) = bytes.split_at_checked(ADDRESS_PATH).ok_or(TO_KERNEL)?;
    let unix = u16::try_from(libc::AF_UNIX).unwrap_or(0).to_ne_bytes();
    let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
    if family != unix || path.is_empty() {
        return Err(TO_KERNEL);
    }
    Ok(Named { folder: CWD_ARGUMENT as i32, path: path.to_vec(), follow: true })
}
