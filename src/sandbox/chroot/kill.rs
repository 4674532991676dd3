//! The end of everything a process has started: its children are killed until it has
//! none. Theirs become its own then, since it takes in orphans.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::super::message::{Doing as _, Failure};

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(1);

/// The list of processes, for when this process's root has none.
pub(super) fn list() -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, "/proc", flags, Mode::empty()).doing(|| "open /proc".to_owned())
}

/// Kills and reaps all descendants of this process.
pub(super) fn descendants(proc: &OwnedFd) -> Result<(), Failure> {
    loop {
        for child in children(proc.as_fd())
            .doing(|| "look for processes that are left in /proc".to_owned())?
        {
            // Gone in the meantime, at worst: only this process can reap it.
            let _ = kill_process(child, Signal::KILL);
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(Errno::CHILD) => return Ok(()),
                Err(error) => return Err(Failure::new("reap processes", &error.into())),
            }
        }
        std::thread::sleep(PAUSE);
    }
}

fn children(proc: BorrowedFd<'_>) -> io::Result<Vec<Pid>> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in Dir::read_from(proc)? {
        let entry = entry?;
        let name = entry.file_name().to_str().ok();
        let Some(pid) = name.and_then(|name| name.parse().ok()) else { continue };
        // One that is gone is nobody's child.
        let Ok(stat) = stat_of(proc, pid) else { continue };
        // The program's name, in parentheses, may hold any character.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent == Some(own.as_str()) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

fn stat_of(proc: BorrowedFd<'_>, pid: i32) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut file = File::from(openat(proc, format!("{pid}/stat"), flags, Mode::empty())?);
    let mut stat = Vec::new();
    file.read_to_end(&mut stat)?;
    Ok(String::from_utf8_lossy(&stat).into_owned())
}
