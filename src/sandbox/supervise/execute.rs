//! The execution of programs, whose set-ID bits are of recorded owners.

use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, StatVfsMountFlags, Statx, fstatvfs, getxattr};
use rustix::io::Errno;

use super::super::record::{self, Owner};
use super::Supervisor;
use super::notify::{Answer, Notice};
use super::place::{Named, look, of_fd};

/// As much of a file as the kernel reads to find an interpreter (execve(2)).
pub(super) const START: u64 = 256;
/// As many interpreters of interpreters as the kernel takes.
pub(super) const SCRIPTS: usize = 5;

impl Supervisor {
    /// A program is about to be executed. What cannot be is for the kernel to say.
    pub(super) fn execute(&self, notice: &Notice, named: &Named) -> Result<Answer, Errno> {
        let known = self.sets.of(notice.pid);
        let Some((program, stat)) = self.program(notice, named) else {
            return Ok(Answer::Continue);
        };
        let mode = u32::from(stat.stx_mode);
        let marked = mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        let (mut set_uid, mut set_gid) = (None, None);
        if marked && !known.credentials.no_new_privileges && is_usable(notice.pid, &program, &stat)
        {
            let mut value = [0; 64];
            let recorded = getxattr(of_fd(&program), record::OWNER, &mut value);
            let recorded = recorded.ok().and_then(|got| Owner::parse(value.get(..got)?));
            let owner = recorded.unwrap_or_default();
            set_uid = (mode & libc::S_ISUID != 0).then_some(owner.uid);
            // Without the group's right to execute it marks a mandatory lock.
            let group = libc::S_ISGID | libc::S_IXGRP;
            set_gid = (mode & group == group).then_some(owner.gid);
        }
        let new = known.credentials.executed(set_uid, set_gid);
        if new != *known.credentials {
            self.sets.set(notice.pid, &known, new)?;
        }
        Ok(Answer::Continue)
    }

    /// The program that will run: of a script it is the interpreter, whose bits count.
    fn program(&self, notice: &Notice, named: &Named) -> Option<(OwnedFd, Statx)> {
        let mut interpreter: Option<Named> = None;
        for _ in 0..=SCRIPTS {
            let file = self.open(notice, interpreter.as_ref().unwrap_or(named)).ok()?;
            let stat = look(&file).ok()?;
            let mode = u32::from(stat.stx_mode);
            let regular = FileType::from_raw_mode(mode) == FileType::RegularFile;
            if !regular || mode & 0o111 == 0 {
                return None;
            }
            let mut start = Vec::new();
            let source = std::fs::File::open(of_fd(&file)).ok()?;
            source.take(START).read_to_end(&mut start).ok()?;
            let Some(path) = interpreter_of(&start) else { return Some((file, stat)) };
            interpreter = Some(Named { folder: libc::AT_FDCWD, path: path.to_vec(), follow: true });
        }
        None
    }
}

/// The interpreter that the first line of a script names.
pub(super) fn interpreter_of(start: &[u8]) -> Option<&[u8]> {
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())
}

/// Whether set-ID bits of this file count: its mount must allow them, and be one of the
/// process's namespace, which that of files in memory is not.
fn is_usable(pid: u32, file: &OwnedFd, stat: &Statx) -> bool {
    let allowed = fstatvfs(file).is_ok_and(|fs| !fs.f_flag.contains(StatVfsMountFlags::NOSUID));
    let mounts = std::fs::read_to_string(format!("{pid}/mountinfo")).unwrap_or_default();
    let mount = stat.stx_mnt_id.to_string();
    allowed && mounts.lines().any(|line| line.split(' ').next() == Some(&mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        for (start, expected) in [
            (&b"#!/bin/sh\nid\n"[..], Some(&b"/bin/sh"[..])),
            (b"#! \t/bin/sh -e\n", Some(b"/bin/sh")),
            (b"#!/bin/sh", Some(b"/bin/sh")),
            (b"#!\n", None),
            (b"\x7fELF", None),
            (b"", None),
        ] {
            assert_eq!(interpreter_of(start), expected, "{start:?}");
        }
    }
}
