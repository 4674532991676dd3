//! What each process has for itself: resource limits (getrlimit(2)) in docker's
//! names, the processors it may run on, the size of `/dev/shm`.
//!
//! They are set once, before the program, and handed down by fork and exec. A hard
//! limit above that of whoever calls is for real root alone; it is refused in words.
//! `locks` is no resource here: the kernel has not held it since 2.4.25, and a
//! sandbox may use it to mark processes.

use std::fmt;
use std::str::FromStr;

use rustix::process::{Resource as Kernel, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::message::Failure;

/// What a process may use of something, as docker names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl Resource {
    /// In the order of their names.
    pub const ALL: [Self; 14] = [
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nice,
        Self::Nofile,
        Self::Nproc,
        Self::Rss,
        Self::Rtprio,
        Self::Rttime,
        Self::Sigpending,
        Self::Stack,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rss => "rss",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }

    fn kernel(self) -> Kernel {
        match self {
            Self::Core => Kernel::Core,
            Self::Cpu => Kernel::Cpu,
            Self::Data => Kernel::Data,
            Self::Fsize => Kernel::Fsize,
            Self::Memlock => Kernel::Memlock,
            Self::Msgqueue => Kernel::Msgqueue,
            Self::Nice => Kernel::Nice,
            Self::Nofile => Kernel::Nofile,
            Self::Nproc => Kernel::Nproc,
            Self::Rss => Kernel::Rss,
            Self::Rtprio => Kernel::Rtprio,
            Self::Rttime => Kernel::Rttime,
            Self::Sigpending => Kernel::Sigpending,
            Self::Stack => Kernel::Stack,
        }
    }

    /// The hard limit of this process; `None` is no limit.
    pub(super) fn hard(self) -> Option<u64> {
        getrlimit(self.kernel()).maximum
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A limit in the kernel's unit for the resource. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    pub resource: Resource,
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |n| n.to_string());
        write!(f, "{}={}:{}", self.resource, text(self.soft), text(self.hard))
    }
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UlimitError {
    #[error("NAME=SOFT[:HARD] is expected, numbers or -1 for no limit, such as nofile=1024:4096")]
    Form,
    #[error("there is no limit `{0}`: {names} are", names = names())]
    Name(String),
    #[error(
        "`locks` cannot be limited: the kernel holds no such limit since 2.4.25, and the sandbox \
         marks processes by it; leave it out"
    )]
    Locks,
    #[error("the soft limit is above the hard one")]
    Order,
}

fn names() -> String {
    Resource::ALL.map(Resource::name).join(", ")
}

/// `NAME=SOFT[:HARD]`; the hard limit is the soft one if it is left out.
impl FromStr for Ulimit {
    type Err = UlimitError;

    fn from_str(text: &str) -> Result<Self, UlimitError> {
        let (name, limits) = text.split_once('=').ok_or(UlimitError::Form)?;
        if name == "locks" {
            return Err(UlimitError::Locks);
        }
        let resource = Resource::ALL.into_iter().find(|resource| resource.name() == name);
        let resource = resource.ok_or_else(|| UlimitError::Name(name.to_owned()))?;
        let number = |text: &str| match text {
            "-1" | "unlimited" => Ok(None),
            _ => text.parse().map(Some).map_err(|_| UlimitError::Form),
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(limits)?, number(limits)?),
        };
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(UlimitError::Order);
        }
        Ok(Self { resource, soft, hard })
    }
}

/// What is set of the process before the program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    pub ulimits: Vec<Ulimit>,
    /// The numbers of the processors it may run on; empty is all that the caller may.
    pub cpuset: Vec<usize>,
    /// Bytes of `/dev/shm`, instead of 64 MiB.
    pub shm: Option<u64>,
}

impl Own {
    /// A limit that is lowered, never raised; one that is lower already stays.
    pub(super) fn lower(&mut self, resource: Resource, most: u64) {
        let least = |limit: Option<u64>| Some(limit.unwrap_or(u64::MAX).min(most));
        let known = self.ulimits.iter_mut().find(|ulimit| ulimit.resource == resource);
        if let Some(ulimit) = known {
            (ulimit.soft, ulimit.hard) = (least(ulimit.soft), least(ulimit.hard));
        } else {
            let limit = least(resource.hard());
            self.ulimits.push(Ulimit { resource, soft: limit, hard: limit });
        }
    }

    /// Sets them for this process, which must still have its privileges.
    pub(super) fn set(&self) -> Result<(), Failure> {
        for ulimit in &self.ulimits {
            let limit = Rlimit { current: ulimit.soft, maximum: ulimit.hard };
            setrlimit(ulimit.resource.kernel(), limit)
                .map_err(|error| refusal(ulimit, error, ulimit.resource.hard()))?;
        }
        self.pin()
    }

    fn pin(&self) -> Result<(), Failure> {
        if self.cpuset.is_empty() {
            return Ok(());
        }
        let mut set = CpuSet::new();
        for &cpu in &self.cpuset {
            if cpu >= CpuSet::MAX_CPU {
                return Err(no_processor(cpu));
            }
            set.set(cpu);
        }
        let absent = |allowed: &CpuSet| {
            self.cpuset.iter().copied().find(|&cpu| !allowed.is_set(cpu)).map(no_processor)
        };
        // The kernel drops what is not there as long as one is left.
        if let Some(refused) = sched_getaffinity(None).ok().as_ref().and_then(absent) {
            return Err(refused);
        }
        sched_setaffinity(None, &set)
            .map_err(|error| Failure::new("choose the processors", &error.into()))
    }
}

fn no_processor(cpu: usize) -> Failure {
    Failure::Job(format!(
        "--cpuset-cpus: processor {cpu} is not there, or not for whoever calls kiln; \
         `taskset -cp $$` lists those that are"
    ))
}

fn refusal(ulimit: &Ulimit, error: rustix::io::Errno, hard: Option<u64>) -> Failure {
    if error != rustix::io::Errno::PERM {
        return Failure::new(format!("set the limit {ulimit}"), &error.into());
    }
    let what = ulimit.resource;
    let hard = hard.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string());
    let above = if what == Resource::Nofile { ", up to fs.nr_open" } else { "" };
    Failure::Job(format!(
        "--ulimit {ulimit}: the hard limit of whoever calls kiln is {hard}, and only real root with \
         CAP_SYS_RESOURCE may raise it{above}; ask for no more, or raise that one (`prlimit`, limits.conf(5), \
         systemd's Limit{}=)",
        what.name().to_uppercase()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, soft, hard) in [
            ("nofile=1024", Some(1024), Some(1024)),
            ("nofile=1024:4096", Some(1024), Some(4096)),
            ("core=-1", None, None),
            ("core=0:-1", Some(0), None),
            ("nproc=unlimited", None, None),
        ] {
            let ulimit: Ulimit = text.parse().unwrap();
            assert_eq!((ulimit.soft, ulimit.hard), (soft, hard), "{text}");
            assert_eq!(ulimit.to_string().parse(), Ok(ulimit));
        }
        for (text, error) in [
            ("nofile", UlimitError::Form),
            ("nofile=", UlimitError::Form),
            ("nofile=-2", UlimitError::Form),
            ("nofile=1:x", UlimitError::Form),
            ("nofile=2:1", UlimitError::Order),
            ("nofile=-1:1", UlimitError::Order),
            ("as=1", UlimitError::Name("as".into())),
            ("locks=1", UlimitError::Locks),
        ] {
            assert_eq!(text.parse::<Ulimit>(), Err(error), "{text}");
        }
        let said = UlimitError::Name("x".into()).to_string();
        assert!(said.contains("core, cpu") && !said.contains("locks"), "{said}");
    }

    #[test]
    fn lowered_and_never_raised() {
        let mut own = Own { ulimits: vec!["nproc=5:50".parse().unwrap()], ..Own::default() };
        own.lower(Resource::Nproc, 20);
        assert_eq!(own.ulimits, ["nproc=5:20".parse().unwrap()]);
        own.lower(Resource::Data, 1 << 20);
        assert_eq!(own.ulimits[1], format!("data={}", 1 << 20).parse().unwrap());
    }
}
