//! The helper's work for one process: a keeper, the namespaces, the root, and
//! the steps from there to the program.
//!
//! Two pid namespaces, one in the other. The program is the first process of the
//! inner one, as it expects to be. The keeper is the first of the outer one and
//! runs only this code: it dies with the helper (parent-death signal) and ends
//! when kiln hangs up, and either takes the whole outer namespace along. The
//! program's own parent-death signal would not do: the kernel forgets it when a
//! set-user-ID program is executed.
//!
//! The mounts belong to a namespace that the program's process makes from the
//! helper's. It vanishes with the process; the helper still holds the bare root
//! and removes the mount points there.
#![expect(unsafe_code, reason = "processes are forked and namespaces made here")]

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, fchdir, pidfd_open, pivot_root,
    set_dumpable_behavior, set_parent_process_death_signal, waitpid,
};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::message::{Channel, Doing as _, Event, Failure, RunRequest, retry};
use super::seccomp::Purpose;
use super::spec::{Emulation, Exit, Network, Root};
use super::supervise::Waiting;
use super::target::{Places, Stub};
use super::{device, given, mount, network, privilege, program, seccomp, supervise, target};

/// What the process reports on its way to the program, one JSON text a line.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Made(Vec<Stub>),
    Failed(Failure),
}

type Streams = [Option<OwnedFd>; 3];

/// Where the process tells what the helper must know of it.
struct Reports {
    report: OwnedFd,
    /// Takes the descriptor that calls wait at, and the root they are made in.
    handing: Channel,
    /// Which calls these are.
    waiting: Option<Waiting>,
}

/// Runs the process to its end, and removes what was made for it.
pub(super) fn supervise(
    channel: &Channel,
    run: &RunRequest,
    fds: Vec<OwnedFd>,
) -> Result<Exit, Failure> {
    let mut fds = fds.into_iter();
    let streams = run.streams.map(|present| if present { fds.next() } else { None });
    let root = mount::overlay(&run.spec.root, run.user_xattr, run.volatile)?;
    // In a user namespace the kernel refuses them whatever the mount says.
    if run.spec.privileged && !run.user_xattr {
        mount::allow_devices(&root).doing(|| "allow devices on the root".to_owned())?;
    }
    let ready = run.emulation.map(|emulation| supervise::Ready::new(run, emulation)).transpose()?;
    let waiting = ready.as_ref().map(supervise::Ready::waiting);
    let (alive, hold) = pipe()?;
    let (reports, report) = pipe()?;
    let (exits, exit) = pipe()?;
    let (handed, handing) = Channel::pair().doing(|| "make a socket".to_owned())?;
    let Some(child) = fork_into_new_pids()? else {
        drop((hold, reports, exits, handed));
        let handing = Channel::from_fd(handing);
        let reports = Reports { report, handing, waiting };
        end(keep(channel, run, streams, &root, &alive, reports, exit))
    };
    drop((alive, report, exit, streams, handing));
    if let Some(ready) = ready {
        // One that failed before sends nothing, and reports why.
        if let Ok(Some((_, fds))) = handed.recv()
            && let Ok([listener, root]) = <[OwnedFd; 2]>::try_from(fds)
        {
            ready.start(listener, root)?;
        }
    }
    drop(handed);

    let mut text = String::new();
    File::from(reports).read_to_string(&mut text).doing(|| "read the reports".to_owned())?;
    let mut made = Vec::new();
    let mut failure = None;
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(Report::Made(stubs)) => made.extend(stubs),
            Ok(Report::Failed(why)) => failure = Some(why),
            // The process was killed while it wrote.
            Err(_) => {}
        }
    }
    if failure.is_none() {
        // If kiln is gone the keeper notices as well.
        let _ = channel.tell(&Event::Running, &[]);
    }
    let mut text = String::new();
    File::from(exits).read_to_string(&mut text).doing(|| "read the exit".to_owned())?;
    wait(child)?;
    target::remove(&root, &made)?;
    match failure {
        Some(failure) => Err(failure),
        None => serde_json::from_str::<Result<Exit, Failure>>(&text)
            .unwrap_or_else(|_| Err(Failure::Job("the process's keeper was killed".to_owned()))),
    }
}

/// The keeper: starts the process, and waits for its end or kiln's.
fn keep(
    channel: &Channel,
    run: &RunRequest,
    streams: Streams,
    root: &OwnedFd,
    helper: &OwnedFd,
    reports: Reports,
    exit: OwnedFd,
) -> i32 {
    let kept = || -> Result<Option<Exit>, Failure> {
        set_parent_process_death_signal(Some(Signal::KILL))
            .doing(|| "ask to die with the helper".to_owned())?;
        let (wait_for_go, go) = pipe()?;
        let Some(child) = fork_into_new_pids()? else {
            drop(go);
            end(become_program(run, streams, root, wait_for_go, reports))
        };
        drop((streams, reports, wait_for_go));
        attend(channel, child, &go, helper)
    };
    tell_end(exit, kept())
}

/// Tells kiln of a keeper's child, lets it go, and waits for its end; `None` once kiln or
/// the helper is gone.
pub(super) fn attend(
    channel: &Channel,
    child: Pid,
    go: &OwnedFd,
    helper: &OwnedFd,
) -> Result<Option<Exit>, Failure> {
    let pidfd = pidfd_open(child, PidfdFlags::empty()).doing(|| "hold the process".to_owned())?;
    channel.tell(&Event::Started, &[pidfd.as_fd()]).doing(|| "report the process".to_owned())?;
    let Ok(Some((Event::Go, _))) = channel.hear::<Event>() else { return Ok(None) };
    rustix::io::write(go, b"g").doing(|| "let the process go".to_owned())?;
    loop {
        let mut fds = [
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(channel, PollFlags::IN),
            PollFd::new(helper, PollFlags::empty()),
        ];
        retry(|| poll(&mut fds, None)).doing(|| "wait for the process".to_owned())?;
        let [ended, kiln, helper] = fds.map(|fd| !fd.revents().is_empty());
        if ended {
            return wait(child).map(Some);
        }
        if helper || kiln {
            return Ok(None);
        }
    }
}

/// Leaves word for the helper how it ended, and gives the keeper's exit code.
pub(super) fn tell_end(exit: OwnedFd, kept: Result<Option<Exit>, Failure>) -> i32 {
    let text = match kept {
        // Nobody is left to be told; ending takes the process along.
        Ok(None) => return 1,
        Ok(Some(exit)) => serde_json::to_vec(&Ok::<_, Failure>(exit)),
        Err(failure) => serde_json::to_vec(&Err::<Exit, _>(failure)),
    };
    let written = text.map_err(Into::into).and_then(|text| File::from(exit).write_all(&text));
    i32::from(written.is_err())
}

/// The process itself, up to the program.
fn become_program(
    run: &RunRequest,
    streams: Streams,
    root: &OwnedFd,
    go: OwnedFd,
    Reports { report, handing, waiting }: Reports,
) -> i32 {
    let mut report = File::from(report);
    let Err(failure) = prepare(run, streams, root, go, &mut report, (handing, waiting));
    // A reader that is gone is dying, and this process with it.
    let _ = tell(&mut report, &Report::Failed(failure));
    127
}

fn prepare(
    run: &RunRequest,
    streams: Streams,
    root: &OwnedFd,
    go: OwnedFd,
    report: &mut File,
    (handing, waiting): (Channel, Option<Waiting>),
) -> Result<Infallible, Failure> {
    let spec = &run.spec;
    // Nothing inside may look into this process while it still holds the host.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .doing(|| "become undumpable".to_owned())?;
    if retry(|| rustix::io::read(&go, &mut [0; 1])).doing(|| "wait to go".to_owned())? == 0 {
        return Err(Failure::Job("the keeper is gone".to_owned()));
    }
    // A session of its own: no terminal to push characters into.
    rustix::process::setsid().doing(|| "make a session".to_owned())?;
    let mut spaces = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if spec.network == Network::None {
        spaces |= UnshareFlags::NEWNET;
    }
    unshare(spaces, "make namespaces")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".to_owned())?;
    if spec.network == Network::None {
        network::loopback_up()?;
    }

    let Root::Overlay { upper, .. } = &spec.root;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, upper, flags, Mode::empty())
        .and_then(|place| mount::attach(root, &place))
        .doing(|| "attach the root".to_owned())?;
    let mut places = Places::new(root.as_fd())?;
    let mounted = mounts(&mut places, run);
    tell(report, &Report::Made(places.stubs())).doing(|| "report mount points".to_owned())?;
    let cwd = mounted?;

    fchdir(root)
        .and_then(|()| pivot_root(".", "."))
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .doing(|| "change to the root".to_owned())?;
    match set_host_name(&spec.hostname) {
        // `can_name_host` has found that out, and it is said.
        Err(Failure::Setup { errno: libc::EPERM, .. }) => {}
        set => set?,
    }
    own_keyring();
    program::place_streams(streams, spec.user.uid)?;
    fchdir(&cwd).doing(|| format!("enter {}", spec.cwd.display()))?;
    let purpose = Purpose { confine: !spec.privileged, waiting };
    // Opened before calls wait for somebody who does not have it yet.
    let inside = openat(CWD, "/", flags, Mode::empty()).doing(|| "open the root".to_owned())?;
    if purpose.confine || waiting.is_some() {
        let listener =
            seccomp::install(purpose).doing(|| "install the seccomp filter".to_owned())?;
        if let Some(listener) = listener {
            handing
                .send(&[], &[listener.as_fd(), inside.as_fd()])
                .doing(|| "hand over the waiting calls".to_owned())?;
        }
    }
    drop((handing, inside));
    // Where IDs are emulated the process begins as its user without a call.
    let user = (run.emulation != Some(Emulation::Ids)).then_some(&spec.user);
    spec.limits.own.set()?;
    if spec.privileged {
        privilege::keep_as(user)?;
    } else {
        privilege::drop_to(user)?;
    }
    program::execute(spec)
}

/// Which `/proc` a new pid namespace can have here.
pub(super) fn try_proc() -> Result<mount::Proc, Failure> {
    let (answers, answer) = pipe()?;
    let Some(child) = fork_into_new_pids()? else {
        let text = mount::any_proc()
            .map_err(|error| Failure::new(mount::PROC, &error))
            .map(|(_, proc)| proc);
        let text = serde_json::to_vec(&text).unwrap_or_default();
        end(i32::from(File::from(answer).write_all(&text).is_err()))
    };
    drop(answer);
    let mut text = String::new();
    File::from(answers).read_to_string(&mut text).doing(|| "read the answer".to_owned())?;
    wait(child)?;
    serde_json::from_str::<Result<_, Failure>>(&text)
        .unwrap_or_else(|_| Err(Failure::Job("the process that tries /proc was killed".into())))
}

/// Everything below the root; gives the working folder.
fn mounts(places: &mut Places<'_>, run: &RunRequest) -> Result<OwnedFd, Failure> {
    let spec = &run.spec;
    mount::proc(places)?;
    mount::sys(places, spec.privileged)?;
    mount::dev(places, run.many_ids, spec.limits.own.shm)?;
    if !spec.privileged {
        mount::mask(places)?;
    } else if !run.user_xattr {
        // Real root of the machine; in a user namespace they could not be used.
        device::host(places)?;
    }
    given::mounts(places, run)?;
    let cwd = std::path::Path::new("/").join(&spec.cwd);
    places.folder(&cwd)
}

/// Whether a namespace of its own can be given a name: the filter of a container around
/// may refuse that alone, as podman's does. Leaves this process with such a namespace.
pub(super) fn can_name_host() -> bool {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    unshare(UnshareFlags::NEWUTS, "make a namespace").is_ok() && set_host_name(&name).is_ok()
}

fn set_host_name(name: &str) -> Result<(), Failure> {
    // SAFETY: the pointer and the length are of one string.
    let result = unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) };
    if result == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("set the host name {name:?}"), &std::io::Error::last_os_error()))
}

/// Leaves the user's session keyring, which may hold Kerberos and disk keys.
pub(super) fn own_keyring() {
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    // Refused where an outer container hides keyrings, and absent from some kernels:
    // then there are no keys to leave.
    let _ = result;
}

fn tell(report: &mut File, what: &Report) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    report.write_all(&line)
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".to_owned())
}

fn unshare(flags: UnshareFlags, what: &str) -> Result<(), Failure> {
    // SAFETY: this process is single-threaded, and no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(flags) }.doing(|| what.to_owned())
}

/// Forks a child that is the first process of a new pid namespace; `None` in it. By
/// the bare call: a process that unshares its pid namespace can start no threads.
fn fork_into_new_pids() -> Result<Option<Pid>, Failure> {
    let flags = libc::CLONE_NEWPID | libc::SIGCHLD;
    // SAFETY: as fork(2): without a stack and CLONE_VM the child is a copy. This process is
    // single-threaded, so the child may go on as it likes.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(Failure::new("make a pid namespace", &std::io::Error::last_os_error())),
        // A process ID fits: the kernel's limit is 2^22.
        child => Ok(Pid::from_raw(i32::try_from(child).unwrap_or_default())),
    }
}

/// `None` in the child.
pub(super) fn fork() -> Result<Option<Pid>, Failure> {
    // SAFETY: this process is single-threaded: the child may go on as it likes.
    match unsafe { libc::fork() } {
        -1 => Err(Failure::new("fork", &std::io::Error::last_os_error())),
        child => Ok(Pid::from_raw(child)),
    }
}

pub(super) fn wait(child: Pid) -> Result<Exit, Failure> {
    let what = || "wait for the child".to_owned();
    let status = retry(|| waitpid(Some(child), WaitOptions::empty())).doing(what)?;
    match status.map(|(_, status)| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => Ok(Exit::Code(code)),
        Some((_, Some(signal))) => Ok(Exit::Signal(signal)),
        _ => Err(Failure::Job("the child is neither alive nor dead".to_owned())),
    }
}

/// Ends a forked process without running what its parent would.
pub(super) fn end(code: i32) -> ! {
    // SAFETY: ends this process alone.
    unsafe { libc::_exit(code) }
}
