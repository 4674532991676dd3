//! What a call does at one of the kernel's files.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, accessat,
    chmodat, chownat, fcntl_getfl, fcntl_setfl, linkat, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::super::TO_KERNEL;
use super::super::calls::{Abi, Call};
use super::super::create::How;
use super::super::notify::{Answer, Notice};
use super::super::place::{CWD_ARGUMENT, Named};
use super::super::stat::{Form, file_system, kernels};
use super::mirror::Names;
use super::rights::{Caller, Rights};
use super::walk::{Area, File, Tree as _, is_hidden, process_of};
use super::{Server, Walker, table};

/// What a call wants of its path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Open(How),
    Stat {
        out: u64,
        form: Form,
    },
    Access(Access, AtFlags),
    Readlink {
        out: u64,
        room: u64,
    },
    Chdir,
    Statfs {
        out: u64,
    },
    Attribute,
    Attributes,
    SetAttribute,
    Execute {
        address: u64,
    },
    Mode(Mode),
    Owner(Option<Uid>, Option<Gid>),
    /// A further name, by the folder and the path of it.
    Link(u64, u64),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) ask: Ask,
    /// A link at the end of the path is followed.
    pub(super) follow: bool,
}

/// The folder and the path of a call, as arguments.
pub(super) fn path_of(call: Call, notice: &Notice) -> (u64, u64) {
    let [a, b, ..] = notice.data.arguments;
    match call {
        Call::Openat
        | Call::Openat2
        | Call::Fstatat
        | Call::Statx
        | Call::Faccessat
        | Call::Faccessat2
        | Call::Readlinkat
        | Call::Execveat
        | Call::Fchmodat
        | Call::Fchownat
        | Call::Linkat => (a, b),
        _ => (CWD_ARGUMENT, a),
    }
}

/// Those that change nothing here.
const STAT_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW
    .union(AtFlags::NO_AUTOMOUNT)
    .union(AtFlags::STATX_FORCE_SYNC)
    .union(AtFlags::STATX_DONT_SYNC);

impl Request {
    /// What this kiln does not know is for the kernel to judge.
    pub(super) fn read(notice: &Notice, call: Call, abi: Abi) -> Result<Self, Errno> {
        let [a, b, c, d, e, _] = notice.data.arguments;
        let open = |how: How| {
            let never = how.flags.contains(OFlags::NOFOLLOW);
            Self { ask: Ask::Open(how), follow: !never }
        };
        let plain = |flags: u64, mode: u64| {
            let flags = OFlags::from_bits_retain(flags as u32);
            How { flags, mode: mode as u32, resolve: ResolveFlags::empty() }
        };
        let flagged = |flags: u64, known: AtFlags, ask: Ask| {
            let flags = AtFlags::from_bits_retain(flags as u32);
            let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
            if known.contains(flags) { Ok(Self { ask, follow }) } else { Err(TO_KERNEL) }
        };
        let followed = |ask: Ask| Ok(Self { ask, follow: true });
        let stat = |out: u64| Ask::Stat { out, form: Form::Stat(abi) };
        let access = |mode: u64| Access::from_bits_retain(mode as u32);
        let none = AtFlags::empty();
        let mode = |mode: u64| Ask::Mode(Mode::from_raw_mode(mode as u32 & 0o7777));
        let owner = |uid: u64, gid: u64| {
            let id = |id: u64| Some(abi.id(id)).filter(|id| *id != u32::MAX);
            Ask::Owner(id(uid).map(Uid::from_raw), id(gid).map(Gid::from_raw))
        };
        match call {
            Call::Open => Ok(open(plain(b, c))),
            Call::Openat => Ok(open(plain(c, d))),
            Call::Openat2 => {
                let how = How::read(notice, c, d).ok_or(TO_KERNEL)?;
                if how.resolve.is_empty() { Ok(open(how)) } else { Err(TO_KERNEL) }
            }
            Call::Creat => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                Ok(open(plain(flags.bits().into(), b)))
            }
            Call::Stat => followed(stat(b)),
            Call::Lstat => Ok(Self { ask: stat(b), follow: false }),
            Call::Fstatat => flagged(d, STAT_FLAGS, stat(c)),
            Call::Statx => {
                let form = Form::Statx { flags: c as u32, mask: d as u32 };
                flagged(c, STAT_FLAGS, Ask::Stat { out: e, form })
            }
            Call::Access => followed(Ask::Access(access(b), none)),
            // The call itself has no flags.
            Call::Faccessat => followed(Ask::Access(access(c), none)),
            Call::Faccessat2 => {
                let flags = AtFlags::from_bits_retain(d as u32);
                let known = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
                flagged(d, known, Ask::Access(access(c), flags & AtFlags::EACCESS))
            }
            Call::Readlink => Ok(Self { ask: Ask::Readlink { out: b, room: c }, follow: false }),
            Call::Readlinkat => Ok(Self { ask: Ask::Readlink { out: c, room: d }, follow: false }),
            Call::Chdir => followed(Ask::Chdir),
            Call::Statfs => followed(Ask::Statfs { out: b }),
            Call::GetXattr => followed(Ask::Attribute),
            Call::LgetXattr => Ok(Self { ask: Ask::Attribute, follow: false }),
            Call::ListXattr => followed(Ask::Attributes),
            Call::LlistXattr => Ok(Self { ask: Ask::Attributes, follow: false }),
            Call::SetXattr | Call::RemoveXattr => followed(Ask::SetAttribute),
            Call::LsetXattr | Call::LremoveXattr => {
                Ok(Self { ask: Ask::SetAttribute, follow: false })
            }
            Call::Execve => followed(Ask::Execute { address: a }),
            Call::Execveat => flagged(e, none, Ask::Execute { address: b }),
            Call::Chmod => followed(mode(b)),
            // The call itself has no flags.
            Call::Fchmodat => followed(mode(c)),
            Call::Chown => followed(owner(b, c)),
            Call::Fchownat => flagged(e, AtFlags::SYMLINK_NOFOLLOW, owner(c, d)),
            Call::Linkat => flagged(e, AtFlags::SYMLINK_FOLLOW, Ask::Link(c, d)),
            _ => Err(TO_KERNEL),
        }
    }
}

/// One call of one caller.
pub(super) struct Act<'a> {
    pub(super) server: &'a Server,
    pub(super) notice: &'a Notice,
    pub(super) walker: Walker<'a>,
    pub(super) caller: &'a Caller,
    pub(super) rights: &'a mut Rights,
}

impl Act<'_> {
    /// At a file of the kernel's; `length` is that of the caller's path.
    pub(super) fn at_kernels(
        &mut self,
        file: &File,
        ask: Ask,
        length: usize,
    ) -> Result<Answer, Errno> {
        let (server, rights) = (self.server, &mut *self.rights);
        let root = server.tree.root(file.area);
        let path = match file.path.as_slice() {
            b"" => c".".to_owned(),
            path => CString::new(path).map_err(|_| Errno::INVAL)?,
        };
        let path = if file.path == b"self" || file.path == b"thread-self" {
            // These would be the worker; as links they are answered for.
            return self.at_own_link(file, &path, ask);
        } else {
            path
        };
        if file.area == Area::Proc
            && process_of(&file.path).is_some_and(|pid| !self.walker.shows(pid))
            || is_hidden(file.area, &file.path)
        {
            return Err(Errno::NOENT);
        }
        let nofollow = if file.magic { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let stat = rights.acting(self.caller, || statat(root, &*path, nofollow))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // One that a magic link leads to is of the step's root.
        let folder = kind == FileType::Directory && !file.magic;
        match ask {
            Ask::Open(how) if folder => self.open_folder(file, &path, &stat, how),
            Ask::Open(how) => self.open(file, &path, kind, how),
            Ask::Stat { out, form } => {
                // Of a folder too, so that who stays on one file system does not enter it.
                let bytes = rights.acting(self.caller, || kernels(root, &path, nofollow, form))?;
                self.tell(out, &bytes, 0)
            }
            Ask::Access(access, flags) => {
                if access.contains(Access::WRITE_OK) && !server.may_write(file) {
                    return Err(Errno::ROFS);
                }
                let flags = flags | nofollow;
                rights.acting(self.caller, || accessat(root, &*path, access, flags))?;
                Ok(Answer::Value(0))
            }
            Ask::Readlink { out, room } => {
                let target = rights.acting(self.caller, || readlinkat(root, &*path, Vec::new()))?;
                self.tell_link(target.as_bytes(), out, room)
            }
            Ask::Chdir if folder => {
                server.mirror.folder(file, &stat)?;
                Ok(Answer::Continue)
            }
            Ask::Chdir if !file.magic => Err(Errno::NOTDIR),
            Ask::Chdir => Ok(Answer::Continue),
            Ask::Statfs { out } => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let opened =
                    rights.acting(self.caller, || openat(root, &*path, flags, Mode::empty()))?;
                self.tell(out, &file_system(&opened)?, 0)
            }
            Ask::Attribute => Err(Errno::NOTSUP),
            Ask::Attributes => Ok(Answer::Value(0)),
            Ask::Execute { address } if file.magic => {
                let target = rights.acting(self.caller, || readlinkat(root, &*path, Vec::new()))?;
                self.execute(target.as_bytes(), address, length)
            }
            Ask::Execute { .. } => Err(Errno::ACCESS),
            Ask::Mode(mode) if file.magic => {
                rights.acting(self.caller, || chmodat(root, &*path, mode, AtFlags::empty()))?;
                Ok(Answer::Value(0))
            }
            Ask::Owner(uid, gid) if file.magic => {
                rights.acting(self.caller, || chownat(root, &*path, uid, gid, nofollow))?;
                Ok(Answer::Value(0))
            }
            Ask::Link(folder, address) if file.magic => self.link(root, &path, folder, address),
            Ask::Mode(_) | Ask::Owner(..) | Ask::SetAttribute => Err(Errno::PERM),
            Ask::Link(..) => Err(Errno::XDEV),
        }
    }

    /// Gives a file a further name, which is found as the caller would find it.
    fn link(
        &mut self,
        from: impl AsFd,
        path: &CString,
        folder: u64,
        address: u64,
    ) -> Result<Answer, Errno> {
        let server = self.server;
        let to = Named::read(self.notice, folder, address, 0)?;
        let start = self.rights.acting(self.caller, || server.folder_of(self.notice, &to))?;
        let name = [start.as_slice(), b"/", to.path.as_slice()].concat();
        if !server.listener.is_valid(self.notice) {
            return Err(TO_KERNEL);
        }
        let follow = AtFlags::SYMLINK_FOLLOW;
        self.rights.acting(self.caller, || linkat(from, &**path, CWD, name, follow))?;
        Ok(Answer::Value(0))
    }

    /// At the link to the caller itself.
    fn at_own_link(&mut self, file: &File, path: &CString, ask: Ask) -> Result<Answer, Errno> {
        let root = self.server.tree.root(file.area);
        match ask {
            Ask::Readlink { out, room } => {
                let (process, thread) = self.walker.walker();
                let target = match file.path.as_slice() {
                    b"self" => process.to_string(),
                    _ => format!("{process}/task/{thread}"),
                };
                self.tell_link(target.as_bytes(), out, room)
            }
            Ask::Stat { out, form } => {
                let bytes = kernels(root, path, AtFlags::SYMLINK_NOFOLLOW, form)?;
                self.tell(out, &bytes, 0)
            }
            Ask::Attribute => Err(Errno::NOTSUP),
            Ask::Attributes => Ok(Answer::Value(0)),
            // With the link as such nothing else can be done.
            _ => Err(Errno::LOOP),
        }
    }

    fn open(
        &mut self,
        file: &File,
        path: &CString,
        kind: FileType,
        how: How,
    ) -> Result<Answer, Errno> {
        let flags = how.flags;
        let close = flags.contains(OFlags::CLOEXEC);
        let give = |file: &OwnedFd| self.server.listener.give(self.notice, file, close);
        let root = self.server.tree.root(file.area);
        // Mere places cannot be handed over: it is an open file then.
        let as_place = flags.contains(OFlags::PATH);
        let flags = if as_place { flags & PLACE | OFlags::NONBLOCK } else { flags };
        if kind == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        if flags.contains(OFlags::DIRECTORY) && kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let writes = writes(flags);
        if writes && !self.server.may_write(file) {
            return Err(Errno::ROFS);
        }
        if let Some(text) = self.server.mounts.of(file) {
            if writes {
                return Err(Errno::ACCESS);
            }
            let text = table::readable(text)?;
            return Ok(give(&table::opened(&self.server.tree.proc, &text)?));
        }
        // A fifo must not hold up the worker.
        let fifo = kind == FileType::Fifo && !flags.contains(OFlags::NONBLOCK);
        let mut real = flags.difference(OFlags::CREATE | OFlags::EXCL) | OFlags::CLOEXEC;
        real.set(OFlags::NONBLOCK, fifo || flags.contains(OFlags::NONBLOCK));
        real.set(OFlags::NOFOLLOW, !file.magic);
        let opened = self.rights.acting(self.caller, || openat(root, path, real, Mode::empty()))?;
        if fifo {
            let flags = fcntl_getfl(&opened)?.difference(OFlags::NONBLOCK);
            fcntl_setfl(&opened, flags)?;
        }
        Ok(give(&opened))
    }

    fn open_folder(
        &mut self,
        file: &File,
        path: &CString,
        stat: &Stat,
        how: How,
    ) -> Result<Answer, Errno> {
        let server = self.server;
        let as_place = how.flags.contains(OFlags::PATH);
        if !as_place && (writes(how.flags) || how.flags.contains(OFlags::CREATE)) {
            return Err(Errno::ISDIR);
        }
        let close = how.flags.contains(OFlags::CLOEXEC);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if as_place {
            let folder = server.mirror.folder(file, stat)?;
            return Ok(server.listener.give(self.notice, &folder, close));
        }
        let root = server.tree.root(file.area);
        let mut names: Names = self.rights.acting(self.caller, || {
            let real = openat(root, path, flags, Mode::empty())?;
            let entries = Dir::new(real)?.filter_map(Result::ok);
            Ok(entries.map(|entry| (entry.file_name().to_owned(), entry.file_type())).collect())
        })?;
        names.retain(|name, _| {
            let name = name.as_bytes();
            let mut below = file.path.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name);
            let process = file.area == Area::Proc && file.path.is_empty();
            let other = process && process_of(name).is_some_and(|pid| !self.walker.shows(pid));
            !name.starts_with(b".") && !other && !is_hidden(file.area, &below)
        });
        let folder = server.mirror.filled(file, stat, names)?;
        Ok(server.listener.give(self.notice, &folder, close))
    }

    /// At a file of the step's root that is reached by a way only a worker can go.
    pub(super) fn in_root(
        &mut self,
        path: &[u8],
        ask: Ask,
        follow: bool,
        length: usize,
    ) -> Result<Answer, Errno> {
        let at = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let server = self.server;
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        let rights = &mut *self.rights;
        match ask {
            Ask::Open(how) => {
                let mode = Mode::from_raw_mode(how.mode & 0o7777 & !self.caller.umask);
                let flags = how.flags | OFlags::CLOEXEC;
                let kind = rights.acting(self.caller, || statat(CWD, &*path, at));
                if kind.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo) {
                    return Err(Errno::NXIO);
                }
                let opened = rights.acting(self.caller, || openat(CWD, &*path, flags, mode))?;
                let close = how.flags.contains(OFlags::CLOEXEC);
                Ok(server.listener.give(self.notice, &opened, close))
            }
            Ask::Stat { out, form } => {
                let bytes = rights.acting(self.caller, || kernels(CWD, &path, at, form))?;
                self.tell(out, &bytes, 0)
            }
            Ask::Access(access, flags) => {
                rights.acting(self.caller, || accessat(CWD, &*path, access, flags | at))?;
                Ok(Answer::Value(0))
            }
            Ask::Readlink { out, room } => {
                let target = rights.acting(self.caller, || readlinkat(CWD, &*path, Vec::new()))?;
                self.tell_link(target.as_bytes(), out, room)
            }
            Ask::Execute { address } => self.execute(path.as_bytes(), address, length),
            Ask::Statfs { out } => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let opened =
                    rights.acting(self.caller, || openat(CWD, &*path, flags, Mode::empty()))?;
                self.tell(out, &file_system(&opened)?, 0)
            }
            Ask::Mode(mode) => {
                rights.acting(self.caller, || chmodat(CWD, &*path, mode, AtFlags::empty()))?;
                Ok(Answer::Value(0))
            }
            Ask::Owner(uid, gid) => {
                rights.acting(self.caller, || chownat(CWD, &*path, uid, gid, at))?;
                Ok(Answer::Value(0))
            }
            Ask::Link(folder, address) => self.link(CWD, &path, folder, address),
            // As without a /proc: who comes this way knows another one.
            Ask::Attribute | Ask::Attributes | Ask::SetAttribute => Err(Errno::NOENT),
            Ask::Chdir => Ok(Answer::Continue),
        }
    }

    /// The kernel executes what the caller's memory names: that becomes a name which the
    /// kernel finds too. It is no longer than the one that was there.
    fn execute(&mut self, target: &[u8], address: u64, length: usize) -> Result<Answer, Errno> {
        // What is in memory only has no name.
        if target.first() != Some(&b'/') || statat(CWD, target, AtFlags::empty()).is_err() {
            return Err(Errno::NOENT);
        }
        let mut name = self.server.mirror.alias(target)?;
        if name.len() > length {
            return Err(Errno::NOENT);
        }
        name.push(0);
        // It may be a constant of the program.
        let path = format!("{}/mem", self.notice.pid);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let memory = openat(&self.server.tree.proc, path, flags, Mode::empty())?;
        if !self.server.listener.is_valid(self.notice) {
            return Err(TO_KERNEL);
        }
        std::fs::File::from(memory).write_all_at(&name, address).map_err(|_| Errno::FAULT)?;
        Ok(Answer::Continue)
    }

    fn tell_link(&self, target: &[u8], out: u64, room: u64) -> Result<Answer, Errno> {
        // The kernel reads an `int`.
        let room = usize::try_from(room as i32).ok().filter(|room| *room > 0);
        let target = &target[..target.len().min(room.ok_or(Errno::INVAL)?)];
        self.tell(out, target, target.len() as i64)
    }

    fn tell(&self, out: u64, bytes: &[u8], value: i64) -> Result<Answer, Errno> {
        if !self.server.listener.is_valid(self.notice) {
            return Err(TO_KERNEL);
        }
        self.notice.write(out, bytes)?;
        Ok(Answer::Value(value))
    }
}

/// What counts beside `O_PATH`.
const PLACE: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Server {
    /// Outside `/proc/PID` everything is a setting of the machine.
    fn may_write(&self, file: &File) -> bool {
        let own = file.area == Area::Proc && process_of(&file.path).is_some();
        own || self.writable
    }
}

fn writes(flags: OFlags) -> bool {
    flags.contains(OFlags::TRUNC) || flags.intersects(OFlags::WRONLY | OFlags::RDWR)
}
