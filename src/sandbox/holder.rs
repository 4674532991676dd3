//! The helper's side: this program once more, single-threaded, in the sandbox's
//! user namespace and a mount namespace of its own, where it does one thing.
//!
//! The one that runs a process executes this program a second time, through a
//! read-only mount made for it: what runs inside can have its own `/proc/1/exe`
//! be this program (a script that names `/proc/self/exe` as its interpreter) and
//! must not be able to write to it then.
//!
//! A helper starts with nothing of its parent but a socket as its standard
//! input. It is killed when the thread that waits for it ends (a job), or ends
//! itself when the socket does (a run).
#![expect(unsafe_code, reason = "namespaces are entered, and descriptors taken over, here")]

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::{fs, io, ptr};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, fsconfig_create, fsmount,
    fsopen, mount_change,
};
use rustix::process::{Signal, getppid, set_parent_process_death_signal, setsid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::message::{Channel, Doing as _, Event, Failure, Request, RunRequest, What};
use super::{chroot, init, mount};

/// What a helper can be asked to do by name: the bytes of a request in, the
/// bytes of the answer or an error text out.
pub type Job = fn(&[u8]) -> Result<Vec<u8>, String>;

/// The name a helper is started under.
pub(super) const NAME: &str = "kiln-sandbox";
/// The argument of its second execution.
const ENTERED: &CStr = c"entered";

/// Does a helper's work if this process is one, and returns its exit code.
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
    let served = if entered { run(&channel) } else { serve(&channel, jobs) };
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
    rustix::fs::fstat(std::io::stdin())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_socket())
}

fn serve(channel: &Channel, jobs: &[(&str, Job)]) -> Result<(), Failure> {
    let Some((request, mut fds)) =
        channel.hear::<Request>().doing(|| "read the request".to_owned())?
    else {
        return Ok(());
    };
    // Ctrl-C in the terminal is kiln's to answer.
    setsid().doing(|| "leave the terminal's session".to_owned())?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if request.enter {
        if fds.is_empty() {
            return Err(Failure::Job("no user namespace came with the request".to_owned()));
        }
        let user = fds.remove(0);
        enter_user(&user)?;
    }
    match request.what {
        What::NewUser { own } => {
            die_with_parent(request.parent)?;
            new_user(own)?;
            channel.tell(&Event::Done, &[]).doing(|| "answer".to_owned())?;
            // Kiln ends this process once it holds the namespace.
            let _ = channel.recv();
            Ok(())
        }
        What::Probe => {
            own_mounts()?;
            let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
                .and_then(|fs| {
                    fsconfig_create(&fs)?;
                    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
                })
                .doing(|| "mount a tmpfs".to_owned())?;
            drop(tmpfs);
            channel.tell(&Event::Done, &[]).doing(|| "answer".to_owned())
        }
        What::TryStore { folder, user_xattr } => {
            own_mounts()?;
            let overlay = mount::try_overlay(&folder, user_xattr).err();
            let proc = init::try_proc()?;
            channel.tell(&Event::Tried { overlay, proc }, &[]).doing(|| "answer".to_owned())
        }
        What::Call { job, bare } => {
            if !bare {
                own_mounts()?;
            }
            die_with_parent(request.parent)?;
            let Some((body, _)) = channel.recv().doing(|| "read the job's request".to_owned())?
            else {
                return Ok(());
            };
            let (_, run) = jobs
                .iter()
                .find(|(name, _)| *name == job)
                .ok_or_else(|| Failure::Job(format!("this program knows no job `{job}`")))?;
            let answer = run(&body).map_err(Failure::Job)?;
            channel
                .tell(&Event::Done, &[])
                .and_then(|()| channel.send(&answer, &[]))
                .doing(|| "answer".to_owned())
        }
        What::RunBare => run_bare(channel),
        What::ProbeBare => {
            rustix::process::chroot("/").doing(|| "change the root".to_owned())?;
            channel.tell(&Event::Done, &[]).doing(|| "answer".to_owned())
        }
        What::Run => {
            own_mounts()?;
            let Err(failure) = execute_again();
            Err(failure)
        }
    }
}

/// The second execution: all is entered, the next frame says what to run.
fn run(channel: &Channel) -> Result<(), Failure> {
    let Some((run, fds)) = channel.hear::<RunRequest>().doing(|| "read what to run".to_owned())?
    else {
        return Ok(());
    };
    let exit = init::supervise(channel, &run, fds)?;
    channel.tell(&Event::Exited(exit), &[]).doing(|| "answer".to_owned())
}

fn run_bare(channel: &Channel) -> Result<(), Failure> {
    let Some((run, fds)) = channel.hear::<RunRequest>().doing(|| "read what to run".to_owned())?
    else {
        return Ok(());
    };
    let exit = chroot::supervise(channel, &run, fds)?;
    channel.tell(&Event::Exited(exit), &[]).doing(|| "answer".to_owned())
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

/// Set late: the kernel forgets it when a process changes its credentials.
fn die_with_parent(parent: i32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "ask to die with the parent".to_owned())?;
    if getppid().map_or(0, |pid| pid.as_raw_nonzero().get()) == parent {
        return Ok(());
    }
    Err(Failure::Job("the process that asked is gone".to_owned()))
}

fn enter_user(user: &OwnedFd) -> Result<(), Failure> {
    move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
        .doing(|| "enter the user namespace".to_owned())?;
    let root = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    // Where setgroups is denied, the groups of the user stay: they show as `nogroup`.
    if fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "allow") {
        rustix::thread::set_thread_groups(&[]).doing(|| "drop supplementary groups".to_owned())?;
    }
    rustix::thread::set_thread_res_gid(root.1, root.1, root.1)
        .doing(|| "become gid 0".to_owned())?;
    rustix::thread::set_thread_res_uid(root.0, root.0, root.0).doing(|| "become uid 0".to_owned())
}

fn own_mounts() -> Result<(), Failure> {
    // SAFETY: this process is single-threaded, and no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .doing(|| "make a mount namespace".to_owned())?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".to_owned())
}

fn new_user(own: Option<(u32, u32)>) -> Result<(), Failure> {
    // SAFETY: this process is single-threaded, and no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }
        .doing(|| "make a user namespace".to_owned())?;
    if let Some((uid, gid)) = own {
        for (file, text) in [
            // Without it an unprivileged process may not write its gid_map (user_namespaces(7)).
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {uid} 1\n")),
            ("gid_map", format!("0 {gid} 1\n")),
        ] {
            let path = format!("/proc/self/{file}");
            fs::write(&path, text).doing(|| format!("write {path}"))?;
        }
    }
    Ok(())
}
