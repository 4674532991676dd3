//! One process in its own namespaces; runs what it is told, decides nothing.
//!
//! ```text
//! kiln (many threads)                 stays in the host's namespaces
//!  └─ zygote = this program again     user namespace (as the tier has it) and mount namespace
//!      ├─ helper, forked off: a job (unpack, diff, remove …)                   Sandbox::call
//!      └─ helper, forked off: a process                                        Sandbox::start
//!          ├─ threads of the supervisor, where calls are emulated              supervise/
//!          └─ keeper = 1 of an outer pid namespace, dies with the helper
//!              └─ the command = 1 of an inner one; own mount, ipc, uts (and net) namespaces
//! ```
//! Promises, in every [`Tier`] but the last (`chroot/` says what that one lacks): the
//! process sees its root, the mounts it was given and its own children; it has the
//! capabilities a container engine gives by default under a filter of system calls, an
//! environment and descriptors that are exactly those of the specification, and kernel
//! settings it cannot write. Everything it started ends with it, with the helper, and
//! with kiln, however they end. If one piece cannot be had the error names it. A
//! privileged process is the exception: it has what the tier has, and is held by its
//! namespaces alone. Mount points that had to be made are gone afterwards, and with them
//! every trace in their folder's times.
//!
//! `no_new_privs` is not set: `sudo` and `su` in a build step need it off. What
//! set-user-ID programs can gain is bounded by the capability bounding set.
//!
//! Not done here: choosing what to run, resolving user names, writing
//! `resolv.conf`, unpacking trees (a job does that).

pub mod binfmt;
pub mod cgroup;
mod chroot;
mod conditions;
mod device;
mod fallback;
mod given;
mod helper;
mod idmap;
mod init;
mod launch;
mod message;
mod mount;
mod network;
mod privilege;
mod process;
mod program;
pub mod record;
mod rlimit;
mod seccomp;
pub mod several;
mod spec;
mod supervise;
pub mod survey;
mod target;
mod tier;
mod words;
mod zygote;

use std::io;
use std::path::PathBuf;

pub use conditions::{Conditions, Found};
pub use fallback::Held;
pub use helper::{helper, set_helper};
pub use launch::{Cancel, Running};
pub use process::{SIGNALS, close_inherited, signal, take_stdin};
pub use rlimit::{Own, Resource, Ulimit, UlimitError};
pub use spec::{Exit, Ids, Io, Limits, Mount, MountKind, Network, Root, SandboxSpec};
pub use tier::{Sandbox, Tier};
pub use zygote::{Job, enter};

use self::cgroup::CgroupError;
use self::message::Failure;

/// What can go wrong with the sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("no sandbox can be had here: {}", reasons(refused))]
    NoTier { refused: Vec<(Tier, String)> },
    #[error("start the sandbox helper {}: {source}", program.display())]
    Helper { program: PathBuf, source: io::Error },
    #[error("talk to the sandbox helper: {0}")]
    Channel(#[from] io::Error),
    #[error("the sandbox helper ended before its work was done ({how}) while it should {doing}")]
    Died { doing: String, how: String },
    #[error("{what}: {}{}", io::Error::from_raw_os_error(*errno), advice(what, *errno))]
    Setup { what: String, errno: i32 },
    /// The program itself could not be executed.
    #[error("execute {program:?}: {}", io::Error::from_raw_os_error(*errno))]
    Exec { program: String, errno: i32 },
    /// A job's own words.
    #[error("{0}")]
    Job(String),
    #[error("{what} {id} does not exist in this sandbox, which has {range}; {hint}")]
    Unmapped { what: &'static str, id: u32, range: String, hint: String },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("cancelled")]
    Cancelled,
}

impl SandboxError {
    /// The root's overlay could not be mounted.
    #[must_use]
    pub fn is_of_overlay(&self) -> bool {
        matches!(self, Self::Setup { what, .. } if what.starts_with(mount::OVERLAY))
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Setup { what, errno } => Self::Setup { what, errno },
            Failure::Exec { program, errno } => Self::Exec { program, errno },
            Failure::Job(text) => Self::Job(text),
        }
    }
}

fn reasons(refused: &[(Tier, String)]) -> String {
    let lines: Vec<String> = refused.iter().map(|(tier, why)| format!("{tier}: {why}")).collect();
    lines.join("; ")
}

/// What the error number of these steps means on the machines where it is met.
fn advice(what: &str, errno: i32) -> &'static str {
    match errno {
        libc::EINVAL if what.starts_with(mount::OVERLAY) => {
            " (the file system of the store may not carry an overlay, as overlayfs itself and \
             network file systems do not: put the store on ext4, xfs, btrfs or tmpfs; or the \
             upper folder is left over from a build step, which may not be mounted again)"
        }
        libc::EPERM if what.starts_with(mount::PROC) => {
            " (parts of /proc are masked here, as in a container: run that one with \
             `--security-opt unmask=/proc/*` or as privileged)"
        }
        _ => "",
    }
}
