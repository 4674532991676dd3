//! What kiln and its helpers say to each other, and the socket they say it over.
//!
//! Frames of a length and a body on a stream socket; descriptors travel with
//! the first byte of a frame. The end of the stream means the other side is gone:
//! both sides take that as the order to stop.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::conditions::{Conditions, Found};
use super::mount::Proc;
use super::spec::{Emulation, Exit, SandboxSpec};

/// Descriptors one frame may carry: three streams are the most by far.
const MAX_FDS: usize = 8;

/// The first frame a zygote reads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) space: Space,
    /// Without a mount namespace.
    pub(super) bare: bool,
    pub(super) conditions: Conditions,
}

/// The user namespace of a sandbox.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Space {
    /// That of kiln.
    Own,
    /// A new one, whose maps kiln has written between [`Event::Done`] and [`Event::Go`].
    Mapped,
    /// A new one, with this uid and gid as 0.
    Single { uid: u32, gid: u32 },
}

/// What a helper is forked for; its socket and one for its status come along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum What {
    /// Try an overlay, and its marks, on `lower`, `upper` and `work` in a folder; and
    /// which `/proc` there is.
    TryStore { folder: PathBuf, user_xattr: bool },
    /// Try whether `/proc` can be served where it cannot be mounted.
    TryFiles,
    /// Look at what conditions there are.
    Look,
    /// Run a registered job; the next frame is its request.
    Call { job: String },
    /// Run a process, `bare` without namespaces; the next frame is a [`RunRequest`] with
    /// its streams.
    Run { bare: bool },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunRequest {
    pub(super) spec: SandboxSpec,
    /// Which of the standard streams follow as descriptors.
    pub(super) streams: [bool; 3],
    /// Overlay attributes are `user.overlay.*`.
    pub(super) user_xattr: bool,
    /// Nothing need survive a crash.
    pub(super) volatile: bool,
    /// `setgroups` is allowed, and gid 5 exists.
    pub(super) many_ids: bool,
    /// IDs below this exist.
    pub(super) ids: u64,
    /// What a supervisor does.
    pub(super) emulation: Option<Emulation>,
}

/// What a zygote or a helper answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// The request is done; from a zygote, with the pidfd of a helper.
    Done,
    /// What [`What::TryStore`] has found; `None` is an overlay that works.
    Tried {
        overlay: Option<Failure>,
        proc: Proc,
        /// The host can be given a name.
        named: bool,
    },
    /// Whether `/proc` can be served, or why not.
    TriedFiles(Result<(), String>),
    Looked(Found),
    /// The process exists and waits for [`Event::Go`]; a pidfd comes along.
    Started,
    /// From kiln: it may go on.
    Go,
    /// The program was executed.
    Running,
    Exited(Exit),
    Failed(Failure),
}

/// An error that crosses the socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// A step of the set-up, on what, and the error number.
    Setup { what: String, errno: i32 },
    /// The program could not be executed.
    Exec { program: String, errno: i32 },
    /// A job's own words.
    Job(String),
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, error: &io::Error) -> Self {
        Self::Setup { what: what.into(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// Names what was attempted when a call of the kernel failed.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(what(), &error.into()))
    }
}

/// One end of the socket.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Kiln's end, and the end that becomes the helper's standard input.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Self(own), other))
    }

    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(super) fn send(&self, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = u32::try_from(body.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "message above 4 GiB"))?;
        let header = length.to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        let mut sent = retry(|| {
            sendmsg(
                &self.0,
                &[IoSlice::new(&header), IoSlice::new(body)],
                &mut control,
                SendFlags::NOSIGNAL,
            )
        })?;
        while sent < header.len() + body.len() {
            let mut none = SendAncillaryBuffer::default();
            let rest = [
                IoSlice::new(header.get(sent..).unwrap_or_default()),
                IoSlice::new(&body[sent.saturating_sub(header.len())..]),
            ];
            sent += retry(|| sendmsg(&self.0, &rest, &mut none, SendFlags::NOSIGNAL))?;
        }
        Ok(())
    }

    /// The next frame; `None` at the end of the stream.
    pub(super) fn recv(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let mut fds = Vec::new();
        let mut header = [0; 4];
        if !self.fill(&mut header, &mut fds)? {
            return Ok(None);
        }
        let mut body = vec![0; u32::from_le_bytes(header) as usize];
        if !self.fill(&mut body, &mut fds)? {
            return Ok(None);
        }
        Ok(Some((body, fds)))
    }

    fn fill(&self, mut into: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
        while !into.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = retry(|| {
                recvmsg(
                    &self.0,
                    &mut [IoSliceMut::new(into)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC,
                )
            });
            let got = match got {
                Ok(got) => got.bytes,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(error),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
            if got == 0 {
                return Ok(false);
            }
            into = &mut into[got..];
        }
        Ok(true)
    }

    pub(super) fn tell<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send(&serde_json::to_vec(message)?, fds)
    }

    pub(super) fn hear<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((body, fds)) = self.recv()? else { return Ok(None) };
        Ok(Some((serde_json::from_slice(&body)?, fds)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Again while a signal interrupts.
pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn frames_and_descriptors_arrive_whole() {
        let (one, other) = Channel::pair().unwrap();
        let other = Channel::from_fd(other);
        let body = vec![7; 3_000_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                one.send(b"first", &[std::io::stderr().as_fd()]).unwrap();
                one.send(&body, &[]).unwrap();
                one.send(b"", &[]).unwrap();
            });
            let (first, fds) = other.recv().unwrap().unwrap();
            assert_eq!((&first[..], fds.len()), (&b"first"[..], 1));
            assert!(other.recv().unwrap().unwrap().0 == body);
            assert!(other.recv().unwrap().unwrap().0.is_empty());
        });
        drop(one);
        assert!(other.recv().unwrap().is_none());
    }
}
