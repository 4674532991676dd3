//! Threads that carry bytes between a container's standard streams, its log and
//! whoever is attached.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::logs::LogWriter;

/// Rung once the container has ended: what is in the pipes then is all there is.
#[derive(Debug, Clone)]
pub(super) struct Ended(Arc<OwnedFd>);

impl Ended {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?)))
    }

    pub(super) fn ring(&self) -> io::Result<()> {
        rustix::io::write(&*self.0, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

fn wait(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(fds, None) {
            Err(Errno::INTR) => (),
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Carries one output stream into the log, and to `attached` while somebody
/// takes it there. The thread gives the log's first error; the container is
/// read on regardless, or it would block.
pub(super) fn drain(
    from: OwnedFd,
    mut log: LogWriter,
    attached: Option<OwnedFd>,
    ended: Ended,
) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        let mut from = File::from(from);
        let mut attached = attached.map(File::from);
        let mut result = Ok(());
        let mut buffer = vec![0; 64 << 10];
        loop {
            let mut fds =
                [PollFd::new(&from, PollFlags::IN), PollFd::new(&*ended.0, PollFlags::IN)];
            wait(&mut fds)?;
            if fds[0].revents().is_empty() {
                // Ended, and nothing is left in the pipe.
                break;
            }
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if result.is_ok() {
                result = log.write(&buffer[..count]);
            }
            if let Some(file) = &mut attached
                && file.write_all(&buffer[..count]).is_err()
            {
                // Nobody reads any more; the log still has it.
                attached = None;
            }
        }
        result.and(log.finish())
    })
}

/// Carries `from` into a pipe until one of its ends is closed. The thread ends
/// then; nobody need wait for it.
pub(super) fn feed(from: OwnedFd) -> io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    thread::spawn(move || {
        let (mut from, mut to) = (File::from(from), File::from(writer));
        let mut buffer = vec![0; 64 << 10];
        loop {
            let mut fds = [PollFd::new(&from, PollFlags::IN), PollFd::new(&to, PollFlags::empty())];
            if wait(&mut fds).is_err() || !fds[1].revents().is_empty() {
                break;
            }
            match from.read(&mut buffer) {
                Ok(count) if count > 0 && to.write_all(&buffer[..count]).is_ok() => (),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Ok(_) | Err(_) => break,
            }
        }
    });
    Ok(reader)
}
