//! The end of everything a process has started: its children are killed until it has
//! none. Theirs become its own then, since it takes in orphans.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::super::message::{Doing as _, Failure};

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(1);

/// Kills and reaps all descendants of this process.
pub(super) fn descendants() -> Result<(), Failure> {
    loop {
        for child in children().doing(|| "look for processes that are left in /proc".to_owned())? {
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

fn children() -> io::Result<Vec<Pid>> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that is gone is nobody's child.
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { continue };
        let stat = String::from_utf8_lossy(&stat).into_owned();
        // The program's name, in parentheses, may hold any character.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent == Some(own.as_str()) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
