//! Kiln's side of the zygote and its helpers: starts them, asks them, waits for their ends.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};

use super::SandboxError;
use super::message::{Channel, Event, Setup, Space, What};
use super::spec::Exit;
use super::zygote::NAME;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program to start as a zygote, where this one's `main` does not
/// begin with [`super::enter`]. The first call counts.
pub fn set_helper(path: PathBuf) {
    // A second call would change the program under running builds.
    let _ = PROGRAM.set(std::path::absolute(&path).unwrap_or(path));
}

/// The program that is started as a zygote.
#[must_use]
pub fn helper() -> PathBuf {
    PROGRAM.get().cloned().unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// The process that helpers are forked off; dropped, it is killed, and jobs with it.
#[derive(Debug)]
pub(super) struct Zygote {
    child: Child,
    channel: Mutex<Channel>,
}

impl Zygote {
    /// Starts one. `map` writes the maps of the process's new user namespace, where
    /// that is for kiln to do.
    pub(super) fn start(
        setup: &Setup,
        map: impl FnOnce(u32) -> Result<(), String>,
    ) -> Result<Arc<Self>, SandboxError> {
        let program = helper();
        let (channel, other) = Channel::pair()?;
        let child = Command::new(&program)
            .arg0(NAME)
            .env_clear()
            .stdin(other)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|source| SandboxError::Helper { program, source })?;
        let pid = child.id();
        // From here on it ends with its owner, whatever fails.
        let zygote = Self { child, channel: Mutex::new(channel) };
        {
            let channel = zygote.channel.lock().unwrap_or_else(PoisonError::into_inner);
            channel.tell(setup, &[])?;
            if matches!(setup.space, Space::Mapped) {
                done(&channel, "make a user namespace")?;
                map(pid).map_err(SandboxError::Job)?;
                channel.tell(&Event::Go, &[])?;
            }
            done(&channel, "enter the sandbox's namespaces")?;
        }
        Ok(Arc::new(zygote))
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // Both fail only if it is reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for word that something is done; gives the descriptors that come along.
fn done(channel: &Channel, doing: &str) -> Result<Vec<OwnedFd>, SandboxError> {
    match channel.hear::<Event>()? {
        Some((Event::Done, fds)) => Ok(fds),
        Some((Event::Failed(failure), _)) => Err(failure.into()),
        Some(_) => Err(SandboxError::Channel(io::ErrorKind::InvalidData.into())),
        None => Err(SandboxError::Died { doing: doing.to_owned(), how: HUNG_UP.to_owned() }),
    }
}

const HUNG_UP: &str = "it hung up";

/// A helper process; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Helper {
    pidfd: OwnedFd,
    /// The zygote writes how it ended.
    status: File,
    pub(super) channel: Channel,
    /// It waits for the helper's end.
    _zygote: Arc<Zygote>,
}

impl Helper {
    /// Has a helper forked that does this; the next frame is its request.
    pub(super) fn fork(zygote: &Arc<Zygote>, what: &What) -> Result<Self, SandboxError> {
        let (channel, other) = Channel::pair()?;
        let (status, to_status) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let mut fds = {
            let zygote = zygote.channel.lock().unwrap_or_else(PoisonError::into_inner);
            zygote.tell(what, &[other.as_fd(), to_status.as_fd()])?;
            done(&zygote, "start a helper")?
        };
        let pidfd = fds.pop().ok_or(SandboxError::Channel(io::ErrorKind::InvalidData.into()))?;
        Ok(Self { pidfd, status: status.into(), channel, _zygote: zygote.clone() })
    }

    /// The next event; a failure is an error.
    pub(super) fn event(&self, doing: &str) -> Result<(Event, Vec<OwnedFd>), SandboxError> {
        match self.channel.hear::<Event>()? {
            Some((Event::Failed(failure), _)) => Err(failure.into()),
            Some(event) => Ok(event),
            None => Err(self.died(doing)),
        }
    }

    /// Of a helper that hung up.
    pub(super) fn died(&self, doing: &str) -> SandboxError {
        let how = match self.reap() {
            Some(Exit::Code(code)) => format!("exit code {code}"),
            Some(Exit::Signal(signal)) => format!("signal {signal}"),
            None => HUNG_UP.to_owned(),
        };
        SandboxError::Died { doing: doing.to_owned(), how }
    }

    /// Waits until the helper is gone, and with it its mounts.
    pub(super) fn reap(&self) -> Option<Exit> {
        let mut text = String::new();
        // Without a zygote there is nobody who knows.
        (&self.status).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.reap();
    }
}
