//! Signals by name and number, and sending them to a process that is certainly
//! the one that was meant.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::sandbox::SIGNALS;

pub(super) const TERM: i32 = 15;
pub(super) const KILL: i32 = 9;
/// As glibc and docker count; glibc keeps 32 and 33 for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Reads `SIGTERM`, `term`, `15`, `RTMIN+3` or `RTMAX-1`.
#[must_use]
pub fn parse_signal(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let digits = |part: &str| {
        part.bytes().all(|c| c.is_ascii_digit()).then(|| part.parse::<i32>().ok()).flatten()
    };
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => digits(rest.strip_prefix(sign)?),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(offset(rest, '+')?).filter(|number| *number >= RTMIN)?
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        RTMAX.checked_sub(offset(rest, '-')?).filter(|number| *number >= RTMIN)?
    } else if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        *number
    } else {
        digits(&upper)?
    };
    (1..=RTMAX).contains(&number).then_some(number)
}

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks from boot to its start: field 22 of `/proc/PID/stat`.
    pub start: u64,
    /// Which boot that was.
    pub boot: String,
}

impl Process {
    /// The process that has this number now.
    pub(super) fn now(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start: start_of(pid)?, boot: boot()? })
    }

    /// A handle on the process; `None` if it is gone.
    pub(super) fn open(&self) -> io::Result<Option<Handle>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        if boot()? != self.boot {
            return Ok(None);
        }
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // After the open: the handle is of whoever has the number now, so if the
        // start time still fits it is the one that was meant.
        match start_of(self.pid) {
            Ok(start) if start == self.start => Ok(Some(Handle { fd })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn start_of(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| {
        // A process that ends between open and read.
        if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) {
            return io::ErrorKind::NotFound.into();
        }
        error
    })?;
    start_field(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is malformed")))
}

/// The name in parentheses may hold anything, so the fields count from its end.
fn start_field(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Refers to one process for ever, whatever becomes of its number.
#[derive(Debug)]
pub(super) struct Handle {
    fd: OwnedFd,
}

impl Handle {
    pub(super) fn of(pidfd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { fd: pidfd.try_clone_to_owned()? })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Sends a signal; false if the process is gone.
    pub(super) fn signal(&self, number: i32) -> io::Result<bool> {
        match crate::sandbox::signal(self.fd.as_fd(), number) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for its end; false if the time is over before.
    pub(super) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wait = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&wait)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("RTMAX-1", 63),
            ("SIGQUIT", 3),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(text), Some(number), "{text}");
        }
        for bad in ["", "SIG", "0", "65", "-1", "+9", "RTMIN-1", "RTMIN+31", "RTMAX-31", "NOPE"] {
            assert_eq!(parse_signal(bad), None, "{bad}");
        }
    }

    #[test]
    fn hostile_process_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_field(&format!("77 (a) b ) {rest}")), Some(4242));
        assert_eq!(start_field("77 (a"), None);
    }

    #[test]
    fn pid_reuse_is_noticed() {
        let me = Process::now(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.open().unwrap().is_some());
        let later = Process { start: me.start + 1, ..me.clone() };
        assert!(later.open().unwrap().is_none());
        let other_boot = Process { boot: "another".into(), ..me };
        assert!(other_boot.open().unwrap().is_none());
    }
}
