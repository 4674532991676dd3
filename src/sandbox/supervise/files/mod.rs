//! `/proc` and `/sys` where they cannot be mounted: calls that name a path wait until a
//! worker has seen whether it leads there. If so the worker answers, from the real ones of
//! the container; else the kernel goes on.
//!
//! ```text
//! walk.rs    where a path leads          rights.rs  the caller's IDs and capabilities
//! mirror.rs  folders to hand out         table.rs   the one mount that a step has
//! act.rs     what is then done
//! ```
//! The workers are threads of the keeper, which is an ancestor of all that it looks into
//! (Yama allows nobody else) and whose root is the step's. Most paths cost it one
//! look: what does not go through a link to itself, and is no file that it made, is not the
//! kernel's.
//!
//! Promises: a step sees its own processes and no others, not even kiln's. What is done is
//! done with the caller's IDs and capabilities. Nothing outside `/proc/PID` can be written,
//! and what other tiers hide is hidden. No descriptor of a real folder is handed out, for
//! the way up from there leads past the step's root. A race in what is read gains nothing:
//! at the kernel's own names there are empty files only.
//!
//! Known differences from the real ones: a process that changed its user and executed nothing
//! since may not be looked into, and finds both empty (ptrace(2): it is not dumpable), and so
//! does one whose real and effective IDs differ; `chdir` works by paths without `/proc/self`
//! and links; a program that `/proc/PID/exe` names is executed by another name, and one in
//! memory cannot be; what changes names, times or attributes finds no file; `O_PATH` opens
//! a file and no link; folders are of the root's file system to `fstat` (not to `stat`); the
//! table of mounts is made up.

mod act;
mod mirror;
mod rights;
mod table;
mod walk;

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use self::act::Request;
use self::mirror::Mirror;
use self::rights::{Caller, Rights};
use self::table::Mounts;
use self::walk::{Area, Found, Tree};
use super::super::message::{Channel, Doing as _, Failure};
use super::super::seccomp::{self, Purpose};
use super::super::spec::Emulation;
use super::super::target;
use super::notify::{self, Answer, Listener, Notice};
use super::place::Named;
use super::{TO_KERNEL, Waiting, calls};

/// Which calls wait.
pub(in super::super) const WAITING: Waiting =
    Waiting { emulation: Emulation::Files, names: false, denials: false };

#[derive(Debug)]
struct Server {
    listener: Listener,
    tree: Kernels,
    mirror: Mirror,
    mounts: Mounts,
    /// Everything may be written that the caller may write.
    writable: bool,
}

/// The real file systems.
#[derive(Debug)]
struct Kernels {
    proc: OwnedFd,
    sys: OwnedFd,
    keeper: u32,
}

/// What must be opened while the container's root is still this process's.
#[derive(Debug)]
pub(in super::super) struct Ready {
    tree: Kernels,
    mirror: Mirror,
    mounts: Mounts,
    writable: bool,
}

impl Ready {
    /// For a root in which `/proc` and `/sys` are empty folders.
    pub(in super::super) fn new(root: &OwnedFd, writable: bool) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let real =
            |path: &str| openat(CWD, path, flags, Mode::empty()).doing(|| format!("open {path}"));
        let own = |path: &str| {
            target::find(root.as_fd(), path.as_ref()).doing(|| format!("find {path} in the root"))
        };
        let (proc, sys) = (real("/proc")?, real("/sys")?);
        let mirror = Mirror::new(own("/proc")?, own("/sys")?)
            .doing(|| "prepare /proc of the root".to_owned())?;
        let mounts = Mounts::read(root, &proc, &sys).doing(|| "look at mounts".to_owned())?;
        let tree = Kernels { proc, sys, keeper: std::process::id() };
        Ok(Self { tree, mirror, mounts, writable })
    }

    /// Makes the step's root this process's, and starts the workers, which take the
    /// descriptor that calls wait at from who hands it over.
    pub(in super::super) fn start(self, root: &OwnedFd, handed: Channel) -> Result<(), Failure> {
        rustix::process::fchdir(root)
            .and_then(|()| rustix::process::chroot("."))
            .doing(|| "change the keeper's root".to_owned())?;
        rustix::process::umask(Mode::empty());
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name("supervisor".into()).spawn(work);
            thread.map(drop).doing(|| "start the supervisor".to_owned())
        };
        let Self { tree, mirror, mounts, writable } = self;
        spawn(Box::new(move || {
            // One that failed before sends nothing, and reports why.
            let Ok(Some((_, fds))) = handed.recv() else { return };
            drop(handed);
            let Ok([listener]) = <[OwnedFd; 1]>::try_from(fds) else { return };
            let listener = Listener::new(listener);
            let server = Arc::new(Server { listener, tree, mirror, mounts, writable });
            for _ in 1..super::WORKERS {
                let worker = server.clone();
                // One is enough if there cannot be more.
                let _ = std::thread::Builder::new().spawn(move || worker.work());
            }
            server.work();
        }))
    }
}

/// Whether calls can wait here. The process that tries it names no path any more: nobody
/// would answer.
///
/// # Errors
/// What is missing, in words.
pub(in super::super) fn try_it() -> Result<(), String> {
    notify::usable()?;
    if !has_admin() {
        rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;
    }
    let listener = seccomp::install(Purpose { confine: false, waiting: Some(WAITING) })
        .map_err(|error| format!("no listener of system calls can be installed: {error}"))?
        .ok_or("no listener of system calls came back")?;
    Listener::new(listener).usable()
}

/// Whether the filter can be had without `no_new_privs`.
pub(in super::super) fn has_admin() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|held| held.effective.contains(CapabilitySet::SYS_ADMIN))
}

impl Server {
    /// Answers calls until no process is left.
    fn work(&self) {
        let Ok(mut rights) = Rights::own() else { return };
        while let Some(notice) = self.listener.next() {
            let answer = self.judge(&notice, &mut rights).unwrap_or_else(|error| match error {
                TO_KERNEL => Answer::Continue,
                error => Answer::Error(error),
            });
            self.listener.answer(&notice, answer);
        }
    }

    fn judge(&self, notice: &Notice, rights: &mut Rights) -> Result<Answer, Errno> {
        let (call, abi) = calls::meaning_of_path(notice.data.architecture, notice.data.number)
            .ok_or(TO_KERNEL)?;
        let (folder, address) = act::path_of(call, notice);
        let read = || Named::read(notice, folder, address, 0);
        let named = match read() {
            Ok(named) => named,
            Err(_) => {
                // Those of another user may be looked into by that user alone.
                let caller = Caller::read(&self.tree.proc, notice.pid)?;
                if !rights.be(&caller)? {
                    return Err(TO_KERNEL);
                }
                read()?
            }
        };
        let Request { ask, follow } = Request::read(notice, call, abi)?;
        let named = Named { follow, ..named };
        if !self.may_be_kernels(notice, &named) {
            return Ok(Answer::Continue);
        }
        let caller = Caller::read(&self.tree.proc, notice.pid)?;
        let walker = Walker { tree: &self.tree, process: caller.process, thread: notice.pid };
        let found = rights.acting(&caller, || {
            let folder = self.folder_of(notice, &named)?;
            walk::walk(&walker, &folder, &named.path, follow)
        })?;
        // All that was found is of this caller.
        if !self.listener.is_valid(notice) {
            return Err(TO_KERNEL);
        }
        let mut act = act::Act { server: self, notice, walker, caller: &caller, rights };
        match found {
            Found::Outside => Ok(Answer::Continue),
            Found::Kernels(file) => act.at_kernels(&file, ask, named.path.len()),
            Found::InRoot(path) => act.in_root(&path, ask, follow, named.path.len()),
        }
    }

    /// Whether a path may lead to the kernel's files, found out with one look mostly.
    fn may_be_kernels(&self, notice: &Notice, named: &Named) -> bool {
        let Named { folder, path, follow } = named;
        let absolute = path.first() == Some(&b'/');
        if absolute && walk::split(path).is_some() {
            return true;
        }
        let mut walked = match (absolute, *folder) {
            (true, _) => Vec::new(),
            (false, libc::AT_FDCWD) => format!("{}/cwd/", notice.pid).into_bytes(),
            (false, fd) => format!("{}/fd/{fd}/", notice.pid).into_bytes(),
        };
        walked.extend_from_slice(path);
        let look = |flags| statx(&self.tree.proc, &walked[..], flags, StatxFlags::INO);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        match look(if *follow { AtFlags::empty() } else { nofollow }) {
            Ok(found) => self.mirror.has(found.stx_ino),
            Err(Errno::LOOP) => true,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                // A link that leads to no name here, or a name that was not made yet.
                (*follow && look(nofollow).is_ok())
                    || path.windows(4).any(|part| part == b"proc" || part == b"sys/")
                    || !absolute
                        && self
                            .folder_of(notice, named)
                            .is_ok_and(|folder| walk::split(&folder).is_some())
            }
            Err(_) => false,
        }
    }

    /// Where a path begins; of an absolute one that is not asked for.
    fn folder_of(&self, notice: &Notice, named: &Named) -> Result<Vec<u8>, Errno> {
        let link = match named.folder {
            _ if named.path.first() == Some(&b'/') => return Ok(Vec::new()),
            libc::AT_FDCWD => format!("{}/cwd", notice.pid),
            fd => format!("{}/fd/{fd}", notice.pid),
        };
        let folder = rustix::fs::readlinkat(&self.tree.proc, link, Vec::new())
            .map_err(|_| TO_KERNEL)?
            .into_bytes();
        // A pipe is no folder.
        if folder.first() == Some(&b'/') { Ok(folder) } else { Err(TO_KERNEL) }
    }
}

impl Kernels {
    fn root(&self, area: Area) -> &OwnedFd {
        match area {
            Area::Proc => &self.proc,
            Area::Sys => &self.sys,
        }
    }

    fn parent(&self, pid: u32) -> Option<u32> {
        use std::io::Read as _;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.proc, format!("{pid}/stat"), flags, Mode::empty()).ok()?;
        let mut stat = Vec::new();
        std::fs::File::from(file).read_to_end(&mut stat).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The program's name, in parentheses, may hold any character.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    }

    /// Whether a process descends from the keeper.
    fn is_steps(&self, pid: u32) -> bool {
        let mut pid = pid;
        // As deep as there can be processes.
        for _ in 0..1 << 22 {
            match self.parent(pid) {
                Some(parent) if parent == self.keeper => return true,
                Some(parent) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        false
    }
}

/// What a path leads to for one caller.
#[derive(Debug, Clone, Copy)]
struct Walker<'a> {
    tree: &'a Kernels,
    process: u32,
    thread: u32,
}

impl Tree for Walker<'_> {
    fn link(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        target_of(rustix::fs::readlinkat(CWD, path, Vec::new()))
    }

    fn kernels_link(&self, area: Area, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        target_of(rustix::fs::readlinkat(self.tree.root(area), path, Vec::new()))
    }

    fn shows(&self, pid: u32) -> bool {
        pid == self.process || pid == self.thread || self.tree.is_steps(pid)
    }

    fn walker(&self) -> (u32, u32) {
        (self.process, self.thread)
    }
}

fn target_of(link: Result<std::ffi::CString, Errno>) -> Result<Option<Vec<u8>>, Errno> {
    match link {
        Ok(target) => Ok(Some(target.into_bytes())),
        // No link.
        Err(Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
    }
}
