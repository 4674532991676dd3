//! What to run, and in what surroundings: plain data. The caller has decided
//! everything; names (users, paths) are resolved to numbers and host paths.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::process::SIGNALS;
use super::rlimit::Own;

/// One process in namespaces of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub root: Root,
    /// The program is searched for in the `PATH` of `env`, inside the root,
    /// unless it has a slash.
    pub argv: Vec<String>,
    /// The whole environment: nothing of the caller's passes.
    pub env: Vec<(String, String)>,
    /// Inside the root; it is made if it is absent.
    pub cwd: PathBuf,
    pub user: Ids,
    pub hostname: String,
    /// In order: a later mount may lie inside an earlier one.
    pub mounts: Vec<Mount>,
    pub network: Network,
    /// It keeps every capability that the tier has, no call of the kernel is filtered,
    /// nothing of `/proc` and `/sys` is hidden; for real root, with the host's devices.
    pub privileged: bool,
    pub limits: Limits,
    /// The signal that asks the process to end when the caller is cancelled.
    pub stop_signal: i32,
}

/// Where the process's root comes from. All paths are of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Root {
    /// Folders stacked by overlayfs, the topmost lower first. What the process
    /// changes is in `upper` afterwards. Whiteouts and opaque folders in the
    /// lowers are overlayfs's own (`user.overlay.*` attributes in a user
    /// namespace, `trusted.overlay.*` as real root). Without lowers the root is
    /// `upper` itself, and [`several`](super::several) tells of names that were used.
    Overlay { lowers: Vec<PathBuf>, upper: PathBuf, work: PathBuf },
}

/// What the kernel does not do by itself here, and a supervisor emulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Emulation {
    /// Everything about IDs: the namespace has only one.
    Ids,
    /// Device nodes, and owners beyond the IDs that exist.
    Records,
    /// The kernel's file systems, where none can be mounted.
    Files,
}

/// Numbers as the process sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Something put into the root, at a path inside it that is resolved there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    pub target: PathBuf,
    pub what: MountKind,
}

#[derive(Clone, Serialize, Deserialize)]
pub enum MountKind {
    /// A folder or file of the host.
    Bind { source: PathBuf, read_only: bool },
    /// Folders stacked by overlayfs, as those of a root, and of these what is at a
    /// path inside. What is changed is in `upper` afterwards, which with `keep`
    /// may be mounted again.
    Stack {
        lowers: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        path: PathBuf,
        read_only: bool,
        keep: bool,
    },
    /// A file with this content, which is in no layer afterwards. Its owner is a
    /// number as the process sees it.
    File { content: Vec<u8>, mode: u32, owner: (u32, u32) },
    /// As a file; its content may be on no disk.
    Secret { content: Vec<u8>, mode: u32, owner: (u32, u32) },
    /// An empty folder in memory.
    Tmpfs { size: Option<u64>, mode: u32, read_only: bool },
}

/// The content of a file may be a secret.
impl fmt::Debug for MountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { source, read_only } => {
                let mut bind = f.debug_struct("Bind");
                bind.field("source", source).field("read_only", read_only).finish()
            }
            Self::Stack { lowers, upper, path, read_only, .. } => {
                let mut stack = f.debug_struct("Stack");
                stack.field("lowers", lowers).field("upper", upper).field("path", path);
                stack.field("read_only", read_only).finish()
            }
            Self::File { content, mode, owner } | Self::Secret { content, mode, owner } => {
                let size = format_args!("{} bytes", content.len());
                let mut file = f.debug_struct("File");
                file.field("content", &size).field("mode", mode).field("owner", owner).finish()
            }
            Self::Tmpfs { size, mode, read_only } => {
                let mut tmpfs = f.debug_struct("Tmpfs");
                tmpfs.field("size", size).field("mode", mode).field("read_only", read_only).finish()
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// What the process and its children may use together, and each for itself. `None` is
/// no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; without it limited memory has no swap.
    /// [`u64::MAX`] is swap without a limit.
    pub memory_swap: Option<u64>,
    /// Processors, as in 1.5.
    pub cpus: Option<f64>,
    pub pids: Option<u64>,
    /// The cgroup's name, unique on the machine; empty if there are no limits.
    pub cgroup: String,
    pub own: Own,
}

impl Limits {
    /// Nothing needs a control group.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.memory.is_none() && self.cpus.is_none() && self.pids.is_none()
    }
}

/// The process's standard streams. A stream that is absent is `/dev/null`.
#[derive(Debug, Default)]
pub struct Io {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// `exit code 3`, `signal 11 (SIGSEGV)`.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "{}", SignalText(*number)),
        }
    }
}

/// A signal as messages have it.
struct SignalText(i32);

impl fmt::Display for SignalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signal {}", self.0)?;
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, " (SIG{name})"),
            None => Ok(()),
        }
    }
}

impl Exit {
    /// The signal that a shell tells of by this code: 128 and its number.
    #[must_use]
    pub fn told_signal(self) -> Option<String> {
        match self {
            Self::Code(code @ 129..=192) => Some(SignalText(code - 128).to_string()),
            Self::Code(_) | Self::Signal(_) => None,
        }
    }

    /// The code a shell would show: 128 and the signal's number if it was killed.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}
