//! The zygote's side: this program once more, single-threaded, in the sandbox's user
//! namespace and a mount namespace of its own. It is started once for a [`Sandbox`] and
//! forks a helper for each thing to do, which costs a fraction of a start.
//!
//! It executes this program a second time, through a read-only mount made for it: what
//! runs inside can have its own `/proc/1/exe` be this program (a script that names
//! `/proc/self/exe` as its interpreter) and must not be able to write to it then.
//!
//! A zygote starts with nothing of its parent but a socket as its standard input, and a
//! helper with nothing of the zygote's: its own socket takes that place. The zygote ends
//! when kiln hangs up, and jobs with it; what runs a process notices by its own socket.
//!
//! [`Sandbox`]: super::Sandbox
#![expect(unsafe_code, reason = "namespaces are entered, and processes forked, here")]

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::{fs, io, ptr};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, pidfd_open, set_parent_process_death_signal, setsid,
};
use rustix::thread::UnshareFlags;

use super::conditions::Found;
use super::message::{Channel, Doing as _, Event, Failure, RunRequest, Setup, Space, What, retry};
use super::several::Watch;
use super::spec::Root;
use super::supervise::files;
use super::{chroot, init, mount};

/// What a helper can be asked to do by name: the bytes of a request in, the
/// bytes of the answer or an error text out.
pub type Job = fn(&[u8]) -> Result<Vec<u8>, String>;

type Jobs<'a> = &'a [(&'a str, Job)];

/// The name a zygote is started under.
pub(super) const NAME: &str = "kiln-sandbox";
/// The argument of its second execution.
const ENTERED: &CStr = c"entered";

/// Does a zygote's work if this process is one, and returns its exit code.
/// It must be the first thing in `main`, before any thread exists.
#[must_use]
pub fn enter(jobs: &[(&str, Job)]) -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()?.as_bytes() != NAME.as_bytes() || !is_socket() {
        return None;
    }
    let entered = arguments.next().is_some_and(|word| word.as_bytes() == ENTERED.to_bytes());
    // SAFETY: descriptor 0 is the socket; standard input is never touched otherwise.
    let channel = Channel::from_fd(unsafe { OwnedFd::from_raw_fd(0) });
    // A kernel without the call refuses it again where it decides, before the program.
    // SAFETY: nothing in this process owns a descriptor above the standard ones yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    let served = if entered { serve(&channel, jobs) } else { begin(&channel, jobs) };
    Some(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If even this cannot be said, the end of the stream says it.
            let _ = channel.tell(&Event::Failed(failure), &[]);
            ExitCode::FAILURE
        }
    })
}

fn is_socket() -> bool {
    rustix::fs::fstat(io::stdin())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_socket())
}

/// Enters what the sandbox is made of, and proves that it can be used.
fn begin(channel: &Channel, jobs: Jobs<'_>) -> Result<(), Failure> {
    let Some((setup, _)) = channel.hear::<Setup>().doing(|| "read the request".to_owned())? else {
        return Ok(());
    };
    // Ctrl-C in the terminal is kiln's to answer.
    setsid().doing(|| "leave the terminal's session".to_owned())?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    setup.conditions.take_processors();
    match setup.space {
        Space::Own => {}
        Space::Mapped => {
            new_user()?;
            channel.tell(&Event::Done, &[]).doing(|| "answer".to_owned())?;
            // Kiln has the maps written meanwhile.
            let Ok(Some((Event::Go, _))) = channel.hear::<Event>() else { return Ok(()) };
            become_root()?;
        }
        Space::Single { uid, gid } => {
            new_user()?;
            map_to_root(uid, gid)?;
            become_root()?;
        }
    }
    setup.conditions.shift_clocks();
    if setup.bare {
        rustix::process::chroot("/").doing(|| "change the root".to_owned())?;
        return serve(channel, jobs);
    }
    own_mounts()?;
    mount::fresh("tmpfs", &[], MountAttrFlags::empty()).doing(|| "mount a tmpfs".to_owned())?;
    let Err(failure) = execute_again();
    Err(failure)
}

/// A forked helper; kiln waits for its status.
struct Helper {
    pid: Pid,
    pidfd: OwnedFd,
    status: OwnedFd,
}

/// Says that all is entered, and forks helpers as long as kiln asks for some.
fn serve(channel: &Channel, jobs: Jobs<'_>) -> Result<(), Failure> {
    channel.tell(&Event::Done, &[]).doing(|| "answer".to_owned())?;
    let zygote = rustix::process::getpid();
    let mut helpers: Vec<Helper> = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(channel, PollFlags::IN)];
        fds.extend(helpers.iter().map(|helper| PollFd::new(&helper.pidfd, PollFlags::IN)));
        retry(|| poll(&mut fds, None)).doing(|| "wait for requests".to_owned())?;
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>();
        let asked = ready.remove(0);
        let mut ready = ready.into_iter();
        helpers.retain(|helper| {
            let ended = ready.next().unwrap_or(false);
            if ended {
                helper.tell_end();
            }
            !ended
        });
        if !asked {
            continue;
        }
        // Kiln has ended, or is done.
        let Some((what, fds)) = channel.hear::<What>().doing(|| "read a request".to_owned())?
        else {
            return Ok(());
        };
        let Ok([socket, status]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(Failure::Job("a request came without its descriptors".to_owned()));
        };
        let Some(pid) = init::fork()? else {
            drop((status, helpers));
            init::end(help(channel, socket, &what, zygote, jobs));
        };
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).doing(|| "hold the helper".to_owned())?;
        channel.tell(&Event::Done, &[pidfd.as_fd()]).doing(|| "answer".to_owned())?;
        helpers.push(Helper { pid, pidfd, status });
    }
}

impl Helper {
    /// Nobody may be left who listens.
    fn tell_end(&self) {
        let text = init::wait(self.pid).ok().and_then(|exit| serde_json::to_vec(&exit).ok());
        if let (Some(text), Ok(status)) = (text, self.status.try_clone()) {
            let _ = fs::File::from(status).write_all(&text);
        }
    }
}

/// A helper's work, and its exit code.
fn help(channel: &Channel, socket: OwnedFd, what: &What, zygote: Pid, jobs: Jobs<'_>) -> i32 {
    // SAFETY: descriptor 0 is the channel's, and is replaced as a whole.
    let placed =
        unsafe { libc::dup3(socket.as_raw_fd(), channel.as_fd().as_raw_fd(), libc::O_CLOEXEC) };
    drop(socket);
    if placed < 0 {
        return 1;
    }
    match answer(channel, what, zygote, jobs) {
        Ok(()) => 0,
        Err(failure) => {
            // If even this cannot be said, the end of the stream says it.
            let _ = channel.tell(&Event::Failed(failure), &[]);
            1
        }
    }
}

fn answer(channel: &Channel, what: &What, zygote: Pid, jobs: Jobs<'_>) -> Result<(), Failure> {
    let told = || "answer".to_owned();
    match what {
        What::TryStore { folder, user_xattr } => {
            let overlay = mount::try_overlay(folder, *user_xattr).err();
            let proc = init::try_proc()?;
            let named = init::can_name_host();
            channel.tell(&Event::Tried { overlay, proc, named }, &[]).doing(told)
        }
        What::TryFiles => channel.tell(&Event::TriedFiles(files::try_it()), &[]).doing(told),
        What::Look => channel.tell(&Event::Looked(Found::here()), &[]).doing(told),
        What::Call { job } => {
            die_with(zygote)?;
            let Some((body, _)) = channel.recv().doing(|| "read the job's request".to_owned())?
            else {
                return Ok(());
            };
            let (_, run) = jobs
                .iter()
                .find(|(name, _)| name == job)
                .ok_or_else(|| Failure::Job(format!("this program knows no job `{job}`")))?;
            let answer = run(&body).map_err(Failure::Job)?;
            channel.tell(&Event::Done, &[]).and_then(|()| channel.send(&answer, &[])).doing(told)
        }
        What::Run { bare } => {
            let request = channel.hear::<RunRequest>().doing(|| "read what to run".to_owned())?;
            let Some((run, fds)) = request else { return Ok(()) };
            let supervise = if *bare { chroot::supervise } else { init::supervise };
            let Root::Overlay { lowers, upper, .. } = &run.spec.root;
            let watch = if lowers.is_empty() { Watch::begin(upper) } else { None };
            let exit = supervise(channel, &run, fds)?;
            if let Some(watch) = watch {
                watch.end().doing(|| "read which names were used".to_owned())?;
            }
            channel.tell(&Event::Exited(exit), &[]).doing(told)
        }
    }
}

/// This program by a mount that cannot be written through, unless it was replaced
/// on disk since it was started. `/proc/self/exe` itself still belongs to the
/// mount namespace left behind, where nothing can be copied from.
fn own_program_read_only() -> Result<Option<OwnedFd>, Failure> {
    let what = || "look at /proc/self/exe".to_owned();
    let path = fs::read_link("/proc/self/exe").doing(what)?;
    let running = rustix::fs::stat("/proc/self/exe").doing(what)?;
    match rustix::fs::stat(&path) {
        Ok(found) if (found.st_dev, found.st_ino) == (running.st_dev, running.st_ino) => {
            let copy = mount::read_only_copy(&path)?;
            let copied = rustix::fs::fstat(&copy).doing(what)?;
            let same = (copied.st_dev, copied.st_ino) == (running.st_dev, running.st_ino);
            Ok(same.then_some(copy))
        }
        _ => Ok(None),
    }
}

/// A sealed copy of this program.
fn own_program_in_memory() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let copy = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = fs::File::from(copy);
    io::copy(&mut fs::File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

fn execute_again() -> Result<Infallible, Failure> {
    let program = match own_program_read_only()? {
        Some(program) => program,
        None => own_program_in_memory().doing(|| "copy the helper to memory".to_owned())?,
    };
    let name = CString::new(NAME).map_err(|_| Failure::Job("a name with NUL".to_owned()))?;
    let argv = [name.as_ptr(), ENTERED.as_ptr(), ptr::null()];
    let env: [*const libc::c_char; 1] = [ptr::null()];
    // SAFETY: the strings and the lists, which end in null, live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(Failure::new("execute the helper from a read-only mount", &io::Error::last_os_error()))
}

/// As the call of that name.
pub(super) fn unshare(what: UnshareFlags) -> io::Result<()> {
    // SAFETY: this process is single-threaded, and no descriptor table is unshared.
    Ok(unsafe { rustix::thread::unshare_unsafe(what) }?)
}

/// A user namespace whose maps are still to be written.
fn new_user() -> Result<(), Failure> {
    unshare(UnshareFlags::NEWUSER).doing(|| "make a user namespace".to_owned())
}

/// Maps one uid and gid to 0, without anybody's help.
fn map_to_root(uid: u32, gid: u32) -> Result<(), Failure> {
    for (file, text) in [
        // Without it an unprivileged process may not write its gid_map (user_namespaces(7)).
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1\n")),
        ("gid_map", format!("0 {gid} 1\n")),
    ] {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).doing(|| format!("write {path}"))?;
    }
    Ok(())
}

fn become_root() -> Result<(), Failure> {
    let root = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    // Where setgroups is denied, the groups of the user stay: they show as `nogroup`.
    if fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "allow") {
        rustix::thread::set_thread_groups(&[]).doing(|| "drop supplementary groups".to_owned())?;
    }
    rustix::thread::set_thread_res_gid(root.1, root.1, root.1)
        .doing(|| "become gid 0".to_owned())?;
    rustix::thread::set_thread_res_uid(root.0, root.0, root.0).doing(|| "become uid 0".to_owned())
}

/// Set late: the kernel forgets it when a process changes its credentials.
fn die_with(zygote: Pid) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "ask to die with the zygote".to_owned())?;
    if getppid() == Some(zygote) {
        return Ok(());
    }
    Err(Failure::Job("the zygote is gone".to_owned()))
}

fn own_mounts() -> Result<(), Failure> {
    unshare(UnshareFlags::NEWNS).doing(|| "make a mount namespace".to_owned())?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".to_owned())
}
