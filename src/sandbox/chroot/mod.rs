//! A process without namespaces, for uid 0 that may neither mount nor make any: as in
//! the default container of an engine.
//!
//! ```text
//! kiln
//!  └─ helper             puts in what is mounted elsewhere, and takes it out again
//!      ├─ server         of a secret, which lives in its memory only (`secret.rs`)
//!      └─ keeper         ends what the process has started; threads of it serve `/proc`
//!          └─ the command, in a plain folder as its root
//! ```
//! What holds as in the other tiers: the root, the user and the exact owners (they are
//! the kernel's), the environment and the descriptors, and that everything the command
//! starts ends with it and with kiln. Orphans come to the keeper and, if somebody kills
//! that one, to the helper (PR_SET_CHILD_SUBREAPER); each kills what it has until
//! nothing is left.
//!
//! What does not: processes and network are the container's, and nothing is read-only.
//! There is no filter of system calls of kiln's own that refuses any; the engine's own
//! filter holds. CAP_SYS_CHROOT is not left to the command, since with it
//! the way out of a root is known; and so it has fewer rights than kiln and its
//! container, which therefore it cannot trace (ptrace(2)). Two steps at once are no
//! secret to each other: they have the same rights over each other's processes.
//!
//! `/proc` and `/sys` are empty folders to the kernel, and are served to those who name
//! them (`supervise/files/`). For that calls wait, and without CAP_SYS_ADMIN this needs
//! no_new_privs, under which set-user-ID programs gain nothing. So a step of uid 0 has them,
//! which needs no such program (`su` and `gosu` change to others without one); a step
//! of another user has `sudo`, and finds both empty. Where the container has no_new_privs
//! already, or kiln CAP_SYS_ADMIN, every step has them.

mod given;
mod kill;
mod secret;

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{
    DumpableBehavior, Pid, Signal, chroot, fchdir, getppid, set_child_subreaper,
    set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use self::given::Given;
use super::init::{attend, end, fork, own_keyring, pipe, tell_end, wait};
use super::message::{Channel, Doing as _, Event, Failure, RunRequest, retry};
use super::seccomp::{self, Purpose};
use super::spec::{Emulation, Exit};
use super::supervise::files;
use super::{privilege, program};

type Streams = [Option<OwnedFd>; 3];

/// Runs the process to its end, and takes out what was put into its root.
pub(super) fn supervise(
    channel: &Channel,
    run: &RunRequest,
    fds: Vec<OwnedFd>,
) -> Result<Exit, Failure> {
    let mut fds = fds.into_iter();
    let streams = run.streams.map(|present| if present { fds.next() } else { None });
    set_child_subreaper(Pid::from_raw(1)).doing(|| "take in orphans".to_owned())?;
    // It holds what the step is given, and so does the keeper.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .doing(|| "become undumpable".to_owned())?;
    let processes = kill::list()?;
    let mut given = Given::new(run)?;
    let ended = given.put_in(run).and_then(|cwd| start(channel, run, streams, &given, &cwd));
    // In this order: nothing may run any more when what was put in is taken out.
    let killed = kill::descendants(&processes);
    let taken = given.take_out();
    let exit = ended?;
    killed?;
    taken?;
    Ok(exit)
}

fn start(
    channel: &Channel,
    run: &RunRequest,
    streams: Streams,
    given: &Given,
    cwd: &OwnedFd,
) -> Result<Exit, Failure> {
    let (alive, hold) = pipe()?;
    let (reports, report) = pipe()?;
    let (exits, exit) = pipe()?;
    let Some(keeper) = fork()? else {
        drop((hold, reports, exits));
        let place = Place { root: given.root(), cwd };
        end(keep(channel, run, streams, &place, &alive, report, exit))
    };
    drop((alive, report, exit, streams));
    let mut text = String::new();
    File::from(reports).read_to_string(&mut text).doing(|| "read the report".to_owned())?;
    let failure = serde_json::from_str::<Failure>(&text).ok();
    if failure.is_none() {
        // If kiln is gone the keeper notices as well.
        let _ = channel.tell(&Event::Running, &[]);
    }
    let mut text = String::new();
    File::from(exits).read_to_string(&mut text).doing(|| "read the exit".to_owned())?;
    wait(keeper)?;
    match failure {
        Some(failure) => Err(failure),
        None => serde_json::from_str::<Result<Exit, Failure>>(&text)
            .unwrap_or_else(|_| Err(Failure::Job("the process's keeper was killed".to_owned()))),
    }
}

struct Place<'a> {
    root: &'a OwnedFd,
    cwd: &'a OwnedFd,
}

/// The keeper: starts the process, and ends all of it at its end or kiln's.
fn keep(
    channel: &Channel,
    run: &RunRequest,
    streams: Streams,
    place: &Place<'_>,
    helper: &OwnedFd,
    report: OwnedFd,
    exit: OwnedFd,
) -> i32 {
    let kept = || -> Result<Option<Exit>, Failure> {
        set_child_subreaper(Pid::from_raw(1)).doing(|| "take in orphans".to_owned())?;
        let keeper = std::process::id();
        let serves = run.emulation == Some(Emulation::Files);
        let files = serves.then(|| files::Ready::new(place.root, run.spec.privileged));
        let files = files.transpose()?;
        let (handed, handing) = Channel::pair().doing(|| "make a socket".to_owned())?;
        let handing = serves.then(|| Channel::from_fd(handing));
        let (wait_for_go, go) = pipe()?;
        let Some(child) = fork()? else {
            drop((go, handed, files));
            let from = From { keeper, go: wait_for_go, handing };
            end(become_program(run, streams, place, from, report))
        };
        drop((streams, report, wait_for_go, handing));
        // Forked is nothing any more.
        if let Some(files) = files {
            files.start(place.root, handed)?;
        }
        attend(channel, child, &go, helper)
    };
    let processes = kill::list();
    let kept = kept();
    // What it started and left goes with it, and before anybody is told of the end.
    let kept = processes.and_then(|processes| kill::descendants(&processes)).and(kept);
    tell_end(exit, kept)
}

/// What the process has of the keeper.
struct From {
    keeper: u32,
    go: OwnedFd,
    /// Takes the descriptor that calls wait at.
    handing: Option<Channel>,
}

/// The process itself, up to the program.
fn become_program(
    run: &RunRequest,
    streams: Streams,
    place: &Place<'_>,
    from: From,
    report: OwnedFd,
) -> i32 {
    let Err(failure) = prepare(run, streams, place, from);
    if let Ok(text) = serde_json::to_vec(&failure) {
        // A reader that is gone is dying, and this process with it.
        let _ = File::from(report).write_all(&text);
    }
    127
}

fn prepare(
    run: &RunRequest,
    streams: Streams,
    place: &Place<'_>,
    From { keeper, go, handing }: From,
) -> Result<Infallible, Failure> {
    let spec = &run.spec;
    set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "ask to die with the keeper".to_owned())?;
    if getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()) != Some(keeper) {
        return Err(Failure::Job("the keeper is gone".to_owned()));
    }
    // Nothing else of this container may look into it while it still holds kiln's.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .doing(|| "become undumpable".to_owned())?;
    if retry(|| rustix::io::read(&go, &mut [0; 1])).doing(|| "wait to go".to_owned())? == 0 {
        return Err(Failure::Job("the keeper is gone".to_owned()));
    }
    // A session of its own: no terminal to push characters into.
    rustix::process::setsid().doing(|| "make a session".to_owned())?;
    fchdir(place.root).and_then(|()| chroot(".")).doing(|| "change to the root".to_owned())?;
    own_keyring();
    program::place_streams(streams, spec.user.uid)?;
    fchdir(place.cwd).doing(|| format!("enter {}", spec.cwd.display()))?;
    spec.limits.own.set()?;
    if let Some(handing) = handing {
        wait_at(&handing)?;
    }
    // Gone with the execution of the program.
    remove_capability_from_bounding_set(CapabilitySet::SYS_CHROOT)
        .doing(|| "drop CAP_SYS_CHROOT (which needs CAP_SETPCAP)".to_owned())?;
    if spec.privileged {
        privilege::keep_as(Some(&spec.user))?;
    } else {
        privilege::drop_to(Some(&spec.user))?;
    }
    program::execute(spec)
}

/// From here on this process's calls wait, and those of what it executes.
fn wait_at(keeper: &Channel) -> Result<(), Failure> {
    if !files::has_admin() {
        rustix::thread::set_no_new_privs(true).doing(|| "set no_new_privs".to_owned())?;
    }
    let purpose = Purpose { confine: false, waiting: Some(files::WAITING) };
    let listener = seccomp::install(purpose).doing(|| "install the seccomp filter".to_owned())?;
    let listener = listener.as_ref().map(AsFd::as_fd);
    keeper.send(&[], listener.as_slice()).doing(|| "hand over the waiting calls".to_owned())
}
