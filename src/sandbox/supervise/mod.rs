//! What a user namespace cannot express, emulated: owners, set*id, devices, peers.
//!
//! Calls that need it wait (a seccomp filter with user notification) until a worker
//! here has looked at them. It answers in the kernel's stead, or lets the kernel go on.
//! Who a process believes to be is kept with the process (`cookie.rs`), who a file belongs
//! to with the file (`owners.rs`, [`super::record`]).
//!
//! Promises: what a process makes and changes is recorded as real root would have
//! made it, and it sees that. What the kernel decides alone stays with the kernel;
//! where a record is wanting, its answer is the one given.
//!
//! Where neither namespaces nor mounts can be had there is another one, which emulates
//! nothing but the kernel's file systems: `files/`.
//!
//! This is no security boundary: the namespaces are. A worker has what root of the
//! namespace has, its root is the step's, and it acts on files only after it made sure
//! that the call still waits. A race in what it reads harms the step's own records only.
//!
//! What is denied (`deny.rs`): to a process that is another user by its belief alone, what
//! the kernel would deny it. In a step that begins as such a user every call with a path
//! waits for that. In one that begins as root most calls cost no wait, so that package
//! managers stay fast: there only those are looked at that wait for another reason.
//!
//! Known differences from real root: in a step of root's, a process that became another
//! user may still open what is there, change folder, rename and remove; nobody is denied a
//! message to a socket by its path, what is asked by RESOLVE_IN_ROOT or
//! `name_to_handle_at`, or files of other processes in `/proc/PID`, which are root's;
//! messages over sockets name root (SCM_CREDENTIALS); sockets that `bind` makes are
//! root's; a device node is a file to `readdir` and opens as an empty one; ACLs for
//! other IDs are refused by the kernel; root may see what a user makes in that moment as
//! root's.

mod calls;
mod cookie;
mod create;
mod deny;
mod execute;
pub(super) mod files;
mod identity;
mod ids;
mod notify;
mod own;
mod owners;
mod permission;
mod place;
mod stat;
mod walk;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

#[cfg(target_arch = "x86_64")]
pub(super) use calls::i386;
pub(super) use calls::native;
pub(super) use calls::{Waiting, When};

use self::calls::{Abi, Call};
use self::cookie::Sets;
use self::create::How;
use self::ids::Credentials;
use self::notify::{Answer, Listener, Notice};
use self::owners::Specials;
use self::permission::Settings;
use self::place::Named;
use self::stat::Form;
use super::message::{Doing as _, Failure, RunRequest};
use super::spec::{Emulation, Root};

/// More than one, since a walk may wait for a disk.
pub(super) const WORKERS: usize = 2;
/// The error of a handler that leaves the answer to the kernel; no handler answers with it.
const TO_KERNEL: Errno = Errno::NOSYS;
/// What a step begins with.
const UMASK: u32 = 0o022;

/// Whether calls can be emulated here.
///
/// # Errors
/// What is missing, in words.
pub(super) fn usable() -> Result<(), String> {
    notify::usable()?;
    cookie::usable()
}

/// A mount and a file on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    device: u64,
    inode: u64,
    mount: u64,
}

#[derive(Debug)]
struct Supervisor {
    listener: Listener,
    emulation: Emulation,
    /// IDs below this exist for the kernel.
    ids: u64,
    sets: Sets,
    specials: Specials,
    /// Held while something is made, until its owner is recorded.
    unrecorded: RwLock<()>,
    /// The step's root, and the `/proc` of this side.
    root: OwnedFd,
    proc: OwnedFd,
    root_place: Place,
    /// The file system of the step's `/proc`.
    proc_device: u64,
    /// Files are closed to who may not have them.
    denies: bool,
    settings: Settings,
    /// Some process may have another root.
    roots_differ: AtomicBool,
}

/// What must be opened before the step's process exists.
#[derive(Debug)]
pub(super) struct Ready {
    emulation: Emulation,
    ids: u64,
    sets: Sets,
    specials: Specials,
    proc: OwnedFd,
    denies: bool,
    /// It begins as one to whom something may be denied.
    denials: bool,
    settings: Settings,
    roots_differ: bool,
}

impl Ready {
    /// Opens what is beside the root's folders.
    pub(super) fn new(run: &RunRequest, emulation: Emulation) -> Result<Self, Failure> {
        let Root::Overlay { lowers, upper, .. } = &run.spec.root;
        let lowers: &[PathBuf] = lowers;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A privileged process has every capability, whoever it is.
        let denies = emulation == Emulation::Ids && !run.spec.privileged;
        Ok(Self {
            emulation,
            ids: run.ids,
            sets: Sets::new(Credentials::new(&run.spec.user), UMASK),
            specials: Specials::open(upper, lowers)
                .doing(|| "open the records of owners".to_owned())?,
            proc: openat(CWD, "/proc", flags, Mode::empty()).doing(|| "open /proc".to_owned())?,
            denies,
            denials: denies && run.spec.user.uid != 0,
            settings: Settings::read(),
            // It may have mounts of its own.
            roots_differ: run.spec.privileged,
        })
    }

    /// Which calls shall wait.
    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            emulation: self.emulation,
            names: self.specials.any_below(),
            denials: self.denials,
        }
    }

    /// Starts the workers, for the root that the process came to.
    pub(super) fn start(self, listener: OwnedFd, root: OwnedFd) -> Result<(), Failure> {
        let what = || "start the supervisor".to_owned();
        let mask = StatxFlags::INO | StatxFlags::MNT_ID;
        let place = statx(&root, "", AtFlags::EMPTY_PATH, mask).doing(what)?;
        let proc_device = walk::device_at(&root, "proc").doing(what)?;
        let supervisor = Arc::new(Supervisor {
            listener: Listener::new(listener),
            emulation: self.emulation,
            ids: self.ids,
            sets: self.sets,
            specials: self.specials,
            unrecorded: RwLock::new(()),
            root,
            proc: self.proc,
            root_place: Place::of(&place),
            proc_device,
            denies: self.denies,
            settings: self.settings,
            roots_differ: AtomicBool::new(self.roots_differ),
        });
        for _ in 0..WORKERS {
            let worker = supervisor.clone();
            std::thread::Builder::new()
                .name("supervisor".into())
                .spawn(move || worker.work())
                .doing(what)?;
        }
        Ok(())
    }
}

impl Supervisor {
    /// Answers calls until no process is left.
    fn work(&self) {
        // SAFETY: no descriptor table is unshared.
        #[expect(unsafe_code, reason = "root and working folder of a worker are its own")]
        let own = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) };
        // A worker that is not in the step's root must not look at any path.
        if own.is_err() || self.enter().is_err() {
            return;
        }
        rustix::process::umask(Mode::empty());
        while let Some(notice) = self.listener.next() {
            let answer = self.judge(&notice).unwrap_or_else(|error| match error {
                TO_KERNEL => Answer::Continue,
                error => Answer::Error(error),
            });
            self.listener.answer(&notice, answer);
        }
    }

    fn judge(&self, notice: &Notice) -> Result<Answer, Errno> {
        let data = &notice.data;
        let Some((call, abi)) = calls::meaning(data.architecture, data.number) else {
            return Ok(Answer::Continue);
        };
        self.permit(notice, call, abi)?;
        let [a, b, c, d, e, _] = data.arguments;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW.bits();
        let path = |address: u64, follow: bool| Named::plain(notice, address, follow);
        let path_at = |folder: u64, address: u64, flags: u64| {
            Named::read(notice, folder, address, flags as u32)
        };
        // Flags that this kiln does not know are for the kernel to judge.
        let known = |flags: u64| {
            let known = nofollow | AtFlags::EMPTY_PATH.bits();
            if flags as u32 & !known == 0 { Ok(flags) } else { Err(TO_KERNEL) }
        };
        match call {
            Call::Chown => self.chown(notice, &path(a, true)?, abi.id(b), abi.id(c)),
            Call::Lchown => self.chown(notice, &path(a, false)?, abi.id(b), abi.id(c)),
            Call::Fchown => self.fchown(notice, a, abi.id(b), abi.id(c)),
            Call::Fchownat => self.chown(notice, &path_at(a, b, known(e)?)?, abi.id(c), abi.id(d)),
            Call::Chmod => self.chmod(notice, &path(a, true)?, b as u32),
            Call::Fchmod => self.fchmod(notice, a, b as u32),
            Call::Fchmodat => self.chmod(notice, &path_at(a, b, 0)?, c as u32),
            Call::Fchmodat2 => self.chmod(notice, &path_at(a, b, known(d)?)?, c as u32),
            Call::Mknod => self.make_node(notice, &path(a, false)?, b as u32, c),
            Call::Mknodat => self.make_node(notice, &path_at(a, b, 0)?, c as u32, d),
            Call::Stat | Call::Lstat | Call::Fstat | Call::Fstatat | Call::Statx => {
                Ok(self.look_at(notice, call, abi))
            }
            Call::ListXattr => self.list_attributes(notice, &path(a, true)?, b, c),
            Call::LlistXattr => self.list_attributes(notice, &path(a, false)?, b, c),
            Call::FlistXattr => self.list_attributes(notice, &Named::descriptor(a), b, c),
            Call::ListXattrAt => self.list_attributes(notice, &path_at(a, b, c)?, d, e),
            Call::SetXattr | Call::LsetXattr | Call::FsetXattr => {
                self.one_attribute(notice, call, b)
            }
            Call::GetXattr | Call::LgetXattr | Call::FgetXattr => {
                self.one_attribute(notice, call, b)
            }
            Call::RemoveXattr | Call::LremoveXattr | Call::FremoveXattr => {
                self.one_attribute(notice, call, b)
            }
            Call::SetXattrAt | Call::RemoveXattrAt | Call::GetXattrAt => {
                self.one_attribute(notice, call, d)
            }
            Call::Chroot => {
                if self.emulation == Emulation::Ids
                    && !self.sets.of(notice.pid).credentials.privileged()
                {
                    let there =
                        Named { path: [&*path(a, true)?.path, b"/"].concat(), ..path(a, true)? };
                    return Err(self.open(notice, &there).err().unwrap_or(Errno::PERM));
                }
                self.roots_differ.store(true, Ordering::Release);
                Ok(Answer::Continue)
            }
            Call::Open | Call::Openat | Call::Openat2 | Call::Creat => self.open_call(notice, call),
            Call::Mkdir => self.make_folder(notice, &path(a, false)?, b as u32),
            Call::Mkdirat => self.make_folder(notice, &path_at(a, b, 0)?, c as u32),
            Call::Symlink => self.make_link(notice, a, &path(b, false)?),
            Call::Symlinkat => self.make_link(notice, a, &path_at(b, c, 0)?),
            Call::Execve => self.execute(notice, &path(a, true)?),
            Call::Execveat => {
                // A link at the end is refused by the kernel then.
                self.execute(notice, &path_at(a, b, e & !u64::from(nofollow))?)
            }
            Call::Umask => self.take_umask(notice),
            Call::Getuid | Call::Geteuid | Call::Getgid | Call::Getegid => {
                Ok(self.tell(notice, call, abi))
            }
            Call::Getresuid | Call::Getresgid => self.tell_three(notice, call, abi),
            Call::Getgroups => self.tell_groups(notice, abi),
            Call::Setuid
            | Call::Setgid
            | Call::Setreuid
            | Call::Setregid
            | Call::Setresuid
            | Call::Setresgid
            | Call::Setfsuid
            | Call::Setfsgid => self.take(notice, call, abi),
            Call::Setgroups => self.take_groups(notice, abi),
            Call::Prctl => self.setting(notice),
            Call::Capget => self.tell_capabilities(notice),
            Call::Capset => self.take_capabilities(notice),
            Call::Getsockopt if b == libc::SOL_SOCKET as u64 => self.peer(notice, [a, b, c, d, e]),
            Call::Getsockopt => Ok(Answer::Continue),
            #[cfg(target_arch = "x86_64")]
            Call::Socketcall => self.peer_by_socketcall(notice),
            Call::Setrlimit => Ok(Answer::Value(0)),
            Call::Getrlimit => self.tell_limit(notice, b, abi),
            Call::Rename => self.carry(notice, &[path(a, false)?, path(b, false)?]),
            Call::Renameat => {
                let nofollow = nofollow.into();
                self.carry(notice, &[path_at(a, b, nofollow)?, path_at(c, d, nofollow)?])
            }
            Call::Link => self.carry(notice, &[path(a, false)?]),
            Call::Linkat => {
                let follow = e as u32 & AtFlags::SYMLINK_FOLLOW.bits() != 0;
                let file = Named { follow, ..path_at(a, b, e)? };
                if self.specials.any_below() {
                    self.carry(notice, std::slice::from_ref(&file))?;
                }
                if self.emulation == Emulation::Ids {
                    self.name_open_file(notice, &file, &path_at(c, d, 0)?)
                } else {
                    Ok(Answer::Continue)
                }
            }
            // What is not denied is the kernel's.
            Call::Access | Call::Faccessat | Call::Faccessat2 | Call::Truncate => {
                Ok(Answer::Continue)
            }
            Call::Rmdir | Call::Unlink | Call::Unlinkat => Ok(Answer::Continue),
            Call::Utime | Call::Futimesat | Call::Utimensat => Ok(Answer::Continue),
            Call::Chdir | Call::Fchdir | Call::Readlink | Call::Readlinkat => Ok(Answer::Continue),
            Call::Statfs | Call::InotifyAddWatch | Call::Bind | Call::Connect => {
                Ok(Answer::Continue)
            }
            // Of either width the caller is, these are of 64 bits.
            Call::Prlimit => self.tell_limit(notice, d, Abi::Native),
        }
    }

    /// The stat family. Whatever goes wrong, the kernel says it better.
    fn look_at(&self, notice: &Notice, call: Call, abi: Abi) -> Answer {
        let [a, b, c, d, e, _] = notice.data.arguments;
        let seen = || {
            let asked = match call {
                Call::Fstatat => d,
                Call::Statx => c,
                _ => 0,
            };
            if asked as u32 & !STAT_FLAGS.bits() != 0 {
                return Ok(Answer::Continue);
            }
            let named = match call {
                Call::Stat => Named::plain(notice, a, true)?,
                Call::Lstat => Named::plain(notice, a, false)?,
                Call::Fstat => Named::descriptor(a),
                Call::Fstatat => Named::read(notice, a, b, d as u32)?,
                _ => Named::read(notice, a, b, c as u32)?,
            };
            let (out, form) = match call {
                Call::Fstatat => (c, Form::Stat(abi)),
                Call::Statx => (e, Form::Statx { flags: c as u32, mask: d as u32 }),
                _ => (b, Form::Stat(abi)),
            };
            self.stat(notice, &named, out, form)
        };
        seen().unwrap_or_else(|error: Errno| match error {
            Errno::FAULT | Errno::OVERFLOW => Answer::Error(error),
            _ => Answer::Continue,
        })
    }

    fn open_call(&self, notice: &Notice, call: Call) -> Result<Answer, Errno> {
        let Some((folder, address, how)) = How::of(notice, call) else {
            return Ok(Answer::Continue);
        };
        let (true, Ok(named)) = (how.creates(), Named::read(notice, folder, address, 0)) else {
            return Ok(Answer::Continue);
        };
        self.open_file(notice, &named, how)
    }
}

/// Those of the stat family: `AT_NO_AUTOMOUNT`, and how fresh the answer must be.
const STAT_FLAGS: AtFlags = AtFlags::EMPTY_PATH
    .union(AtFlags::SYMLINK_NOFOLLOW)
    .union(AtFlags::NO_AUTOMOUNT)
    .union(AtFlags::STATX_FORCE_SYNC)
    .union(AtFlags::STATX_DONT_SYNC);
