//! What can go wrong with containers.

use std::io;
use std::path::PathBuf;

use super::request::Port;
use crate::atomic::PathError;
use crate::net::Offline;
use crate::platform::Platform;
use crate::rootfs::RootfsError;
use crate::sandbox::SandboxError;
use crate::sandbox::binfmt::Foreign;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    Io(#[from] PathError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Cgroup(#[from] crate::sandbox::cgroup::CgroupError),
    #[error("image {image} is for {platform}, which cannot run on this machine: {why}")]
    Foreign { image: String, platform: Box<Platform>, why: Foreign },
    #[error("no container `{0}`")]
    NoContainer(String),
    #[error("`{prefix}` is the beginning of {count} containers' IDs")]
    Ambiguous { prefix: String, count: usize },
    #[error("the name `{name}` is taken by container {id}; remove or rename one of them")]
    NameTaken { name: String, id: String },
    #[error("`{0}` is no name for a container: letters, digits, `_`, `.` and `-` are")]
    BadName(String),
    #[error("image {0} says no command to run; give one after its name")]
    NoCommand(String),
    #[error("`{0}` is no signal")]
    BadSignal(String),
    #[error("working directory `{}` is not an absolute path", .0.display())]
    RelativeWorkdir(PathBuf),
    #[error("`{0}` is no variable: NAME=VALUE is expected")]
    BadVariable(String),
    #[error("the place `{}` of a volume is not an absolute path without `..`", .0.display())]
    VolumeTarget(PathBuf),
    #[error("volume `{}`: {source}", path.display())]
    Volume { path: PathBuf, source: io::Error },
    #[error("port {0} cannot be published: only TCP ports can")]
    UdpPort(Port),
    #[error(
        "port {0} cannot be published under another number on the host's network, where the \
         container's ports are the host's; leave --network out"
    )]
    HostPort(Port),
    #[error("port {0} cannot be published without a network; leave --network none out")]
    PortWithoutNetwork(Port),
    #[error("listen on port {port}: {source}{}", port_hint(port, source))]
    Listen { port: Port, source: io::Error },
    #[error(transparent)]
    Offline(#[from] Offline),
    #[error("container `{0}` is running; stop it first or use force")]
    Running(String),
    #[error("container `{0}` is not running")]
    NotRunning(String),
    #[error("container `{0}` is being started or removed by another process")]
    Busy(String),
    #[error("container `{0}` did not end after it was killed")]
    WillNotEnd(String),
    #[error("{what}: {source}")]
    Monitor { what: &'static str, source: io::Error },
    /// What the monitor said, with the exit code that fits.
    #[error("{message}")]
    Start { message: String, code: u8 },
    #[error("the container's monitor ended without a word ({0})")]
    MonitorDied(String),
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
}

fn port_hint(port: &Port, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied if port.host < 1024 => {
            "; ports below net.ipv4.ip_unprivileged_port_start (usually 1024) are root's"
        }
        io::ErrorKind::AddrInUse => "; another program listens there",
        _ => "",
    }
}

impl ContainerError {
    /// The exit code of `run` as docker has it: 127 if the command was not
    /// found, 126 if it cannot be executed, 125 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start { code, .. } => *code,
            Self::Sandbox(SandboxError::Exec { errno, .. }) => {
                if *errno == libc::ENOENT || *errno == libc::ENOTDIR { 127 } else { 126 }
            }
            _ => 125,
        }
    }
}
