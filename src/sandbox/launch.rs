//! What helpers are asked for: jobs, and processes with their ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cgroup::Cgroup;
use super::helper::Helper;
use super::message::{Event, RunRequest, What, retry};
use super::spec::{Exit, Io, Network, Root, SandboxSpec};
use super::tier::{Sandbox, Tier};
use super::{SandboxError, program};

/// How long a cancelled process may take to answer its stop signal.
const STOP_GRACE: Duration = Duration::from_secs(2);

impl Sandbox {
    /// Runs a registered job in a helper that is root of the sandbox's user
    /// namespace, and waits for its answer.
    ///
    /// # Errors
    /// The job's error text, or that the helper could not do its work.
    pub fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        job: &str,
        request: &Q,
    ) -> Result<A, SandboxError> {
        let doing = format!("run the job `{job}`");
        let helper = self.helper(&What::Call { job: job.to_owned() })?;
        let body = serde_json::to_vec(request).map_err(io::Error::from)?;
        // A helper that fails early says why; that is worth more than the broken pipe.
        let sent = helper.channel.send(&body, &[]);
        helper.event(&doing)?;
        sent?;
        match helper.channel.recv()? {
            Some((answer, _)) => Ok(serde_json::from_slice(&answer).map_err(io::Error::from)?),
            None => Err(helper.died(&doing)),
        }
    }

    /// Runs a build step to its end. The upper folder is mounted `volatile`:
    /// after a crash of the machine it must be thrown away.
    ///
    /// # Errors
    /// If the process could not be started, or [`SandboxError::Cancelled`].
    pub fn run(&self, spec: &SandboxSpec, io: Io, cancel: &Cancel) -> Result<Exit, SandboxError> {
        Ok(self.run_limited(spec, io, cancel)?.0)
    }

    /// As [`Sandbox::run`]; also tells whether a process was killed because the
    /// memory that [`super::Limits`] grant was used up.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub fn run_limited(
        &self,
        spec: &SandboxSpec,
        io: Io,
        cancel: &Cancel,
    ) -> Result<(Exit, bool), SandboxError> {
        if cancel.is_cancelled() {
            return Err(SandboxError::Cancelled);
        }
        let running = self.launch(spec, io, true)?;
        let exit = running.wait_or(cancel)?;
        Ok((exit, running.out_of_memory()))
    }

    /// Starts a container. Its upper folder survives a crash and may be mounted
    /// again, with the same work folder, by a later start.
    ///
    /// # Errors
    /// If the process could not be started.
    pub fn start(&self, spec: &SandboxSpec, io: Io) -> Result<Running, SandboxError> {
        self.launch(spec, io, false)
    }

    fn launch(&self, spec: &SandboxSpec, io: Io, volatile: bool) -> Result<Running, SandboxError> {
        self.check(spec)?;
        let streams = [&io.stdin, &io.stdout, &io.stderr];
        let request = RunRequest {
            spec: spec.clone(),
            streams: streams.map(Option::is_some),
            user_xattr: self.overlay_xattr() == "user.overlay.",
            volatile,
            many_ids: self.ids() > 1,
            ids: self.ids(),
            emulation: self.emulation_for(spec.user.uid),
        };
        let cgroup =
            if spec.limits.is_none() { None } else { Some(Group(Cgroup::create(&spec.limits)?)) };
        let fds: Vec<BorrowedFd<'_>> = streams.into_iter().flatten().map(AsFd::as_fd).collect();
        let helper = self.helper(&What::Run { bare: self.tier() == Tier::Chroot })?;
        let sent = helper.channel.tell(&request, &fds);
        drop(fds);
        drop(io);
        // A helper that fails early says why; that is worth more than the broken pipe.
        let started = helper.event("set up a process")?;
        sent?;
        let (Event::Started, mut fds) = started else {
            return Err(SandboxError::Channel(io::ErrorKind::InvalidData.into()));
        };
        let Some(pidfd) = fds.pop() else {
            return Err(SandboxError::Channel(io::ErrorKind::InvalidData.into()));
        };
        let pid = pid_of(&pidfd)?;
        if let Some(Group(cgroup)) = &cgroup {
            cgroup.add(pid)?;
        }
        helper.channel.tell(&Event::Go, &[])?;
        let (Event::Running, _) = helper.event("execute the program")? else {
            return Err(SandboxError::Channel(io::ErrorKind::InvalidData.into()));
        };
        let wait = Mutex::new(Wait { helper, exit: None });
        let stop = spec.stop_signal;
        Ok(Running { pid, pidfd, stop, wait, cgroup })
    }

    /// Refuses what no kernel call would refuse with a clear word.
    fn check(&self, spec: &SandboxSpec) -> Result<(), SandboxError> {
        self.check_id("user", spec.user.uid)?;
        self.check_id("group", spec.user.gid)?;
        for group in &spec.user.groups {
            // Group 0 beside gid 0 adds nothing, and needs no setgroups.
            self.check_id("group", *group)?;
        }
        let Root::Overlay { lowers, upper, work } = &spec.root;
        if self.tier() == Tier::Chroot {
            let why = if spec.network == Network::None {
                "a network of its own (--network=none, --offline) needs a network namespace"
            } else if !lowers.is_empty() {
                "a root of several folders needs a mount namespace"
            } else {
                ""
            };
            if !why.is_empty() {
                let tier = self.tier();
                return Err(SandboxError::Job(format!(
                    "{why}, which cannot be made here: the sandbox is of the tier {tier}"
                )));
            }
        }
        let spec_paths = lowers.iter().chain([upper, work]);
        for path in spec_paths {
            if !path.is_absolute() {
                return Err(SandboxError::Setup {
                    what: format!("use {} as a root folder: not an absolute path", path.display()),
                    errno: libc::EINVAL,
                });
            }
        }
        program::check(spec).map_err(Into::into)
    }
}

/// A process in the sandbox. Dropped, it is killed with all its children.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    pidfd: OwnedFd,
    stop: i32,
    wait: Mutex<Wait>,
    /// Last: it can be removed once its processes are gone.
    cgroup: Option<Group>,
}

/// A group that goes with its process.
#[derive(Debug)]
struct Group(Cgroup);

impl Drop for Group {
    fn drop(&mut self) {
        // One that stays is empty, and its name is never used again.
        let _ = self.0.remove();
    }
}

#[derive(Debug)]
struct Wait {
    helper: Helper,
    exit: Option<Exit>,
}

impl Running {
    /// The container's first process, as the host numbers it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The container's group, if it has limits.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref().map(|group| &group.0)
    }

    /// Whether a process was killed because the memory it is limited to was used up.
    #[must_use]
    pub fn out_of_memory(&self) -> bool {
        self.cgroup().is_some_and(|group| group.killed_for_memory() > 0)
    }

    /// Sends a signal to the first process. One that is gone is no error.
    ///
    /// # Errors
    /// If there is no such signal.
    pub fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        let sent = if (1..=64).contains(&signal) {
            super::process::signal(self.pidfd.as_fd(), signal)
        } else {
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        };
        match sent {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(error) => Err(SandboxError::Setup {
                what: format!("send signal {signal}"),
                errno: error.raw_os_error().unwrap_or(libc::EINVAL),
            }),
        }
    }

    /// Waits for the end. Other threads may send signals meanwhile.
    ///
    /// # Errors
    /// If the helper was lost; the process is dead then as well.
    pub fn wait(&self) -> Result<Exit, SandboxError> {
        let mut wait = self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exit) = wait.exit {
            return Ok(exit);
        }
        let (Event::Exited(exit), _) = wait.helper.event("wait for the process")? else {
            return Err(SandboxError::Channel(io::ErrorKind::InvalidData.into()));
        };
        let _ = wait.helper.reap();
        wait.exit = Some(exit);
        Ok(exit)
    }

    /// Waits for the end, or stops the process when cancelled: first by the
    /// specification's signal if it handles that one, then by force.
    ///
    /// # Errors
    /// As [`Running::wait`], or [`SandboxError::Cancelled`].
    pub fn wait_or(&self, cancel: &Cancel) -> Result<Exit, SandboxError> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(io::Error::from)?);
        cancel.register(&bell);
        let ends = || -> Result<(bool, bool), SandboxError> { self.poll(Some(&bell), None) };
        let (ended, rung) = ends()?;
        if rung && !ended {
            let stop = if self.handles(self.stop) { self.stop } else { libc::SIGKILL };
            self.signal(stop)?;
            if !self.poll(None, Some(STOP_GRACE))?.0 {
                self.signal(libc::SIGKILL)?;
            }
        }
        let exit = self.wait()?;
        if rung && !ended { Err(SandboxError::Cancelled) } else { Ok(exit) }
    }

    /// Waits until the process has ended, or the bell rang, or the time is over.
    fn poll(
        &self,
        bell: Option<&OwnedFd>,
        limit: Option<Duration>,
    ) -> Result<(bool, bool), SandboxError> {
        let until = limit.map(|limit| Instant::now() + limit);
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        fds.extend(bell.map(|bell| PollFd::new(bell, PollFlags::IN)));
        retry(|| {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            poll(&mut fds, left.as_ref())
        })?;
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok((ready(0), ready(1)))
    }

    /// Whether a signal would reach a handler: the first process of a pid
    /// namespace ignores all others but KILL (pid_namespaces(7)).
    fn handles(&self, signal: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let caught = status.ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        });
        (1..=64).contains(&signal) && caught.is_some_and(|caught| caught >> (signal - 1) & 1 == 1)
    }
}

/// The pidfd of the first process.
impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let wait = self.wait.get_mut().unwrap_or_else(PoisonError::into_inner);
        if wait.exit.is_none() {
            // The helper then removes what it made and ends by itself.
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _ = wait.helper.event("end");
            let _ = wait.helper.reap();
        }
    }
}

/// The process behind a pidfd, in the numbers of kiln's own `/proc`.
fn pid_of(pidfd: &OwnedFd) -> io::Result<u32> {
    use std::os::fd::AsRawFd as _;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Ends what runs, from any thread. Clones are the same token.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Token>);

#[derive(Debug, Default)]
struct Token {
    cancelled: AtomicBool,
    bells: Mutex<Vec<Weak<OwnedFd>>>,
}

impl Cancel {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops everything that runs under this token, and what would start.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        let bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.iter().filter_map(Weak::upgrade).for_each(|bell| ring(&bell));
    }

    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    fn register(&self, bell: &Arc<OwnedFd>) {
        let mut bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(bell));
        if self.is_cancelled() {
            ring(bell);
        }
    }
}

fn ring(bell: &OwnedFd) {
    // Fails only if the counter is full, and then the bell has rung.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}
