//! What somebody asks of `run` and `update`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::Image;
use crate::sandbox::{Own, Tier};

/// A container that is wanted. What is empty or absent comes from the image.
#[derive(Debug, Clone)]
pub struct RunRequest {
    pub image: Image,
    /// The image's name as it was given: for `list` and messages.
    pub image_name: String,
    /// Two words are chosen if it is absent.
    pub name: Option<String>,
    /// Do not wait for the end.
    pub detach: bool,
    /// Added to the image's; later ones win.
    pub env: Vec<(String, String)>,
    pub publish: Vec<Port>,
    /// Absent: `private` if a port is published, else `host`.
    pub network: Option<NetworkMode>,
    /// Take this sandbox and no other.
    pub sandbox: Option<Tier>,
    pub limits: Limits,
    /// What each of its processes has for itself.
    pub own_limits: Own,
    /// Replaces the image's CMD.
    pub command: Vec<String>,
    /// Replaces the image's ENTRYPOINT, and drops its CMD. Empty is none.
    pub entrypoint: Option<Vec<String>>,
    /// `name`, `uid`, `name:group` or `uid:gid`.
    pub user: Option<String>,
    pub workdir: Option<PathBuf>,
    pub hostname: Option<String>,
    pub volumes: Vec<Volume>,
    /// Remove the container when it has ended.
    pub remove: bool,
    /// Keep standard input open.
    pub interactive: bool,
    /// Name or number of the signal that asks it to end.
    pub stop_signal: Option<String>,
    /// How long it may take to end after that, before it is killed.
    pub stop_timeout: Option<Duration>,
}

impl RunRequest {
    /// A request that leaves everything to the image.
    #[must_use]
    pub fn new(image: Image, image_name: impl Into<String>) -> Self {
        Self {
            image,
            image_name: image_name.into(),
            name: None,
            detach: false,
            env: Vec::new(),
            publish: Vec::new(),
            network: None,
            sandbox: None,
            limits: Limits::default(),
            own_limits: Own::default(),
            command: Vec::new(),
            entrypoint: None,
            user: None,
            workdir: None,
            hostname: None,
            volumes: Vec::new(),
            remove: false,
            interactive: false,
            stop_signal: None,
            stop_timeout: None,
        }
    }
}

/// Which network a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The host's.
    Host,
    /// A loopback interface and nothing else.
    None,
    /// As `none`, but its published ports can be reached from the host. There
    /// is no way out of it.
    Private,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A port of the container that is reachable on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address to listen on; absent is every one.
    pub host_ip: Option<IpAddr>,
    /// 0 lets the host choose.
    pub host: u16,
    pub container: u16,
    pub proto: Protocol,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => (),
        }
        let proto = match self.proto {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}:{}/{proto}", self.host, self.container)
    }
}

/// A file or folder of the host inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

/// What a container may use. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; without it limited memory has no swap.
    /// [`u64::MAX`] is swap without a limit.
    #[serde(default)]
    pub memory_swap: Option<u64>,
    /// Processors, as in 1.5.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Limits {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What an update changes: `None` leaves a limit as it is, `Some(None)` lifts it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LimitChanges {
    pub memory: Option<Option<u64>>,
    pub memory_swap: Option<Option<u64>>,
    pub cpus: Option<Option<f64>>,
    pub pids: Option<Option<u64>>,
}

impl LimitChanges {
    #[must_use]
    pub fn apply(&self, old: &Limits) -> Limits {
        let memory = self.memory.unwrap_or(old.memory);
        Limits {
            memory,
            // Swap is limited beside memory only.
            memory_swap: self.memory_swap.unwrap_or(old.memory_swap.filter(|_| memory.is_some())),
            cpus: self.cpus.unwrap_or(old.cpus),
            pids: self.pids.unwrap_or(old.pids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let old = Limits {
            memory: Some(64),
            memory_swap: Some(70),
            cpus: Some(0.5),
            ..Limits::default()
        };
        let change =
            LimitChanges { memory: Some(None), pids: Some(Some(9)), ..LimitChanges::default() };
        let expected = Limits { cpus: Some(0.5), pids: Some(9), ..Limits::default() };
        assert_eq!(change.apply(&old), expected);
        assert_eq!(LimitChanges::default().apply(&old), old);
        assert!(Limits::default().is_empty() && !old.is_empty());
    }

    #[test]
    fn ports_as_text() {
        let port = Port { host_ip: None, host: 8080, container: 80, proto: Protocol::Tcp };
        assert_eq!(port.to_string(), "8080:80/tcp");
        let host_ip = Some("::1".parse().unwrap());
        assert_eq!(Port { host_ip, ..port }.to_string(), "[::1]:8080:80/tcp");
    }
}
