//! What else this machine grants that a sandbox can use, found by asking the kernel.
#![expect(unsafe_code, reason = "seccomp(2) has no safe form")]

use std::io;
use std::path::Path;

use super::cgroup::CgroupError;
use super::spec::Limits;
use super::{SandboxError, fallback};

/// The kernel's release, as `6.1.0-25-amd64`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether this process and its children may not gain privileges (`no_new_privs`).
#[must_use]
pub fn no_new_privs() -> bool {
    rustix::thread::no_new_privs().unwrap_or(false)
}

/// Whether a process can answer for the system calls of others: seccomp user
/// notification, since Linux 5.0.
///
/// # Errors
/// What the kernel says.
pub fn seccomp_notification() -> io::Result<()> {
    let mut sizes = [0_u16; 3];
    // SAFETY: the kernel fills in a `struct seccomp_notif_sizes`, which is three u16.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0_u32, sizes.as_mut_ptr())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether limits can be held by control groups, for each controller.
#[derive(Debug)]
pub struct Controllers {
    pub memory: Result<(), CgroupError>,
    pub cpu: Result<(), CgroupError>,
    pub pids: Result<(), CgroupError>,
}

impl Controllers {
    /// Makes groups, and removes them.
    ///
    /// # Errors
    /// If nothing can be tried.
    pub fn of_machine() -> Result<Self, SandboxError> {
        let none = Limits { cgroup: fallback::unique()?, ..Limits::default() };
        let tried = |limits: &Limits| fallback::refusal(limits).map_or(Ok(()), Err);
        Ok(Self {
            memory: tried(&Limits { memory: Some(1 << 30), ..none.clone() }),
            cpu: tried(&Limits { cpus: Some(1.0), ..none.clone() }),
            pids: tried(&Limits { pids: Some(1 << 10), ..none }),
        })
    }
}

/// The type of the file system that a path is on, as in mount(8); its number where it
/// has no name here.
#[must_use]
pub fn file_system(path: &Path) -> Option<String> {
    let kind = rustix::fs::statfs(path).ok()?.f_type;
    #[allow(clippy::unnecessary_cast, reason = "the type is the platform's")]
    let number = kind as u32;
    let name = match number {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlay",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        0xCA45_1A4E => "bcachefs",
        0x0102_1997 => "9p",
        0xFF53_4D42 => "cifs",
        _ => return Some(format!("{number:#x}")),
    };
    Some(name.to_owned())
}
