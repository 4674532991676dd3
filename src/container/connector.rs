//! A process inside a container's network namespace that makes sockets there.
//!
//! A socket belongs to the namespace it was made in, whoever uses it: the
//! monitor stays in the host's namespaces and connects through sockets it gets
//! from here. Only a process of one thread may enter a user namespace, and only
//! after that may an ordinary user enter the network namespace it owns, so this
//! is a process of its own. It ends with the monitor's end of the socket.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

use super::control::Channel;

/// The name it is started under.
pub(super) const NAME: &str = "kiln-connector";

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Ask {
    /// Enter the namespaces of the process whose handle comes along.
    Enter,
    SocketV4,
    SocketV6,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done,
    Error { what: String, errno: i32 },
}

/// The monitor's side.
#[derive(Debug)]
pub(super) struct Connector {
    channel: Option<Channel>,
    child: Child,
}

impl Connector {
    /// Starts the process and has it enter the namespaces of `process`.
    pub(super) fn start(process: BorrowedFd<'_>) -> io::Result<Self> {
        let (channel, theirs) = Channel::pair()?;
        let child = Command::new(crate::sandbox::helper())
            .arg0(NAME)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let connector = Self { channel: Some(channel), child };
        connector.ask(Ask::Enter, &[process])?;
        Ok(connector)
    }

    /// An unconnected TCP socket of the container.
    pub(super) fn socket(&self, v6: bool) -> io::Result<OwnedFd> {
        let ask = if v6 { Ask::SocketV6 } else { Ask::SocketV4 };
        self.ask(ask, &[])?.ok_or_else(|| io::Error::other("the connector sent no socket"))
    }

    fn ask(&self, ask: Ask, fds: &[BorrowedFd<'_>]) -> io::Result<Option<OwnedFd>> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the connector is gone");
        let channel = self.channel.as_ref().ok_or_else(gone)?;
        channel.send(&ask, fds)?;
        match channel.recv::<Answer>()?.ok_or_else(gone)? {
            (Answer::Done, mut fds) => Ok(fds.pop()),
            (Answer::Error { what, errno }, _) => {
                let error = io::Error::from_raw_os_error(errno);
                Err(io::Error::new(error.kind(), format!("{what}: {error}")))
            }
        }
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        drop(self.channel.take());
        // It ends with the socket; an error means it is reaped already.
        let _ = self.child.wait();
    }
}

/// The process's side.
pub(super) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let channel = Channel::from_stdin()?;
    while let Some((ask, fds)) = channel.recv::<Ask>()? {
        let done = match ask {
            Ask::Enter => {
                let process = fds.first().ok_or_else(|| io::Error::other("no process came"))?;
                enter(process).map(|()| None)
            }
            Ask::SocketV4 => socket(AddressFamily::INET).map(Some),
            Ask::SocketV6 => socket(AddressFamily::INET6).map(Some),
        };
        match done {
            Ok(None) => channel.send(&Answer::Done, &[])?,
            Ok(Some(socket)) => channel.send(&Answer::Done, &[socket.as_fd()])?,
            Err((what, errno)) => {
                let what = what.to_owned();
                channel.send(&Answer::Error { what, errno: errno.raw_os_error() }, &[])?;
            }
        }
    }
    Ok(())
}

fn enter(process: &OwnedFd) -> Result<(), (&'static str, Errno)> {
    let both = ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK;
    match move_into_thread_name_spaces(process.as_fd(), both) {
        Ok(()) => (),
        // The user namespace is ours already: kiln runs as real root.
        Err(Errno::INVAL) => {
            move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::NETWORK)
                .map_err(|errno| ("enter the container's network", errno))?;
        }
        Err(errno) => return Err(("enter the container's network", errno)),
    }
    // Set late: the kernel forgets it when a process changes its credentials.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| ("ask to die with the monitor", errno))
}

fn socket(family: AddressFamily) -> Result<OwnedFd, (&'static str, Errno)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
        .map_err(|errno| ("make a socket in the container's network", errno))
}
