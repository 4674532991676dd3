//! What `run`, a monitor and its connector say to each other, over a socket
//! that keeps messages whole and carries descriptors. Its end means that the
//! other side is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// From `run` to the monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Order {
    /// The first message. With it come the container's lock and then the
    /// streams that are named here.
    Begin { lowers: Vec<std::path::PathBuf>, streams: [bool; 3] },
    /// Hand this signal to the container's first process.
    Signal(i32),
}

/// From the monitor to `run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    Started,
    /// It could not be started, and nothing of it runs.
    Failed {
        message: String,
        code: u8,
    },
    Ended {
        code: i32,
        /// A process was killed because the memory it is limited to was used up.
        out_of_memory: bool,
    },
}

/// Longer than any message: an image has at most some hundred layers.
const MAX_MESSAGE: usize = 160 << 10;
/// The lock and three streams.
const MAX_FDS: usize = 4;

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Our end, and the one that becomes another process's standard input.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that was given as standard input, which `/dev/null` replaces.
    pub(super) fn from_stdin() -> io::Result<Self> {
        Ok(Self(crate::sandbox::take_stdin()?))
    }

    pub(super) fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        if body.len() > MAX_MESSAGE {
            return Err(io::Error::other("a message to the container's monitor is too long"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many descriptors"));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&body)], &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => (),
                other => return other.map(drop).map_err(Into::into),
            }
        }
    }

    /// The next message; `None` if the other side is gone.
    pub(super) fn recv<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut body = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let mut parts = [IoSliceMut::new(&mut body)];
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => (),
                Err(Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a message was cut off"));
        }
        Ok(Some((serde_json::from_slice(&body[..got.bytes])?, fds)))
    }
}

/// Whether standard input is a socket, as it is for kiln's own helpers.
pub(super) fn is_socket() -> bool {
    rustix::fs::fstat(io::stdin())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_socket())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn messages_stay_whole() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs);
        let lowers = vec!["/some/folder".into(); 500];
        let begin = Order::Begin { lowers, streams: [false; 3] };
        ours.send(&begin, &[io::stderr().as_fd()]).unwrap();
        ours.send(&Order::Signal(15), &[]).unwrap();
        let (first, fds) = theirs.recv::<Order>().unwrap().unwrap();
        assert!(matches!(first, Order::Begin { lowers, .. } if lowers.len() == 500));
        assert_eq!(fds.len(), 1);
        assert!(matches!(theirs.recv::<Order>().unwrap(), Some((Order::Signal(15), _))));
        drop(ours);
        assert!(theirs.recv::<Order>().unwrap().is_none());
        assert!(theirs.send(&Report::Started, &[]).is_err());
    }
}
