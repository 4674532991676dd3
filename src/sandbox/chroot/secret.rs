//! A secret without a mount in memory: a fifo, and a process that answers whoever
//! opens it. The secret is on no disk, whatever happens.
//!
//! It is read by one process at a time: of two that open it in the same instant, one may
//! find it empty. Each reader has a fifo of its own: before it is answered, a new one takes the place
//! of the one it has opened, so that nobody gets an answer twice or half.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, mknodat, open, renameat,
};

use super::super::init::end;
use super::super::message::{Doing as _, Failure};
use super::fork;
use super::given::{folder_time, set_folder_time};

/// What is read of it.
pub(super) struct Secret<'a> {
    pub(super) content: &'a [u8],
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

/// Makes the fifo `name` in a folder, and answers until this process kills its children.
/// `spare` is a path beside, on the same file system.
pub(super) fn serve(
    secret: &Secret<'_>,
    folder: &OwnedFd,
    name: &std::ffi::OsStr,
    spare: &Path,
) -> Result<(), Failure> {
    let what = || "make a fifo for a secret".to_owned();
    let make = || -> rustix::io::Result<OwnedFd> {
        mknodat(CWD, spare, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        let (uid, gid) = secret.owner;
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(CWD, spare, owner.0, owner.1, rustix::fs::AtFlags::empty())?;
        let mode = Mode::from_raw_mode(secret.mode & 0o7777);
        chmodat(CWD, spare, mode, rustix::fs::AtFlags::empty())?;
        let place = open(spare, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let time = folder_time(folder)?;
        renameat(CWD, spare, folder, name)?;
        set_folder_time(folder, time)?;
        Ok(place)
    };
    let first = make().doing(what)?;
    if fork()?.is_some() {
        return Ok(());
    }
    let answers = || -> rustix::io::Result<()> {
        let mut fifo = first;
        loop {
            // Its own descriptor leads to it, wherever the step has moved the name.
            let path =
                PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fifo)));
            // Waits for a reader.
            let mut writer =
                File::from(open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?);
            fifo = make()?;
            if matches!(fork(), Ok(None)) {
                // A reader that has read enough closes it.
                let _ = writer.write_all(secret.content);
                end(0);
            }
        }
    };
    end(i32::from(answers().is_err()))
}
