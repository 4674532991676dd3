//! Limits where control groups are not to be had: by the limits of single
//! processes as far as those go, and in words where they do not.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SandboxError;
use super::cgroup::{Cgroup, CgroupError};
use super::rlimit::Resource;
use super::spec::Limits;
use super::tier::Sandbox;

/// The zygote, the helper, the keeper and the supervisor's threads, which count as processes of
/// the same user.
const OWN_PROCESSES: u64 = 3 + super::supervise::WORKERS as u64;

/// Limits that can be held here.
#[derive(Debug, Default)]
pub struct Held {
    pub limits: Limits,
    /// What of those that were asked for is not held, or not as it should be, and why.
    pub lacking: Vec<String>,
    /// How many groups have got a name.
    named: AtomicU64,
}

/// Begins the names of groups, so that those of a kiln that was killed are known.
const PREFIX: &str = "kiln-run-";

impl Sandbox {
    /// What of these limits can be held here, found by making control groups. Instead
    /// of groups the memory and the number of processes are limited one process, or
    /// one user, at a time.
    ///
    /// # Errors
    /// If a limit makes no sense.
    pub fn held(&self, limits: &Limits) -> Result<Held, SandboxError> {
        super::cgroup::check(limits)?;
        let cgroup = if limits.is_none() { String::new() } else { unique()? };
        let alone = Limits { cgroup: cgroup.clone(), ..Limits::default() };
        let limits = Limits { cgroup, ..limits.clone() };
        let Limits { memory, memory_swap, cpus, pids, .. } = limits;
        let mut held = Held { limits, ..Held::default() };
        if memory.is_some() {
            let mut tried = refusal(&Limits { memory, memory_swap, ..alone.clone() });
            if let Some(why) = tried.as_ref().filter(|_| memory_swap.is_some()) {
                let without = refusal(&Limits { memory, ..alone.clone() });
                if without.is_none() {
                    held.lacking.push(format!("--memory-swap: swap is not limited: {why}"));
                    held.limits.memory_swap = None;
                }
                tried = without;
            }
            if let Some(why) = tried {
                held.without_memory(&why);
            }
        }
        if let Some(why) = cpus.and_then(|_| refusal(&Limits { cpus, ..alone.clone() })) {
            held.limits.cpus = None;
            held.lacking.push(format!("--cpus: processor time is not limited: {why}"));
        }
        if let Some(why) = pids.and_then(|_| refusal(&Limits { pids, ..alone })) {
            held.without_pids(&why, self.counts_processes());
        }
        Ok(held)
    }

    /// Whether the kernel counts a step's processes apart from those of the user
    /// outside: in a user namespace, since 5.14; and never for the machine's root.
    fn counts_processes(&self) -> bool {
        self.has_user_namespace() && !rustix::process::geteuid().is_root() && kernel() >= (5, 14)
    }
}

impl Held {
    /// The limits of one more process, in a group of its own.
    #[must_use]
    pub fn step(&self) -> Limits {
        let mut limits = self.limits.clone();
        if !limits.is_none() {
            let number = self.named.fetch_add(1, Ordering::Relaxed);
            limits.cgroup = format!("{}-{number}", limits.cgroup);
        }
        limits
    }

    fn without_memory(&mut self, why: &CgroupError) {
        let swap = self.limits.memory_swap.take().map_or("", |_| ", nor swap at all");
        self.lacking.push(format!(
            "--memory: each process is limited for itself (RLIMIT_DATA), not all together{swap}, \
             and not shared memory and files in memory: {why}"
        ));
        if let Some(memory) = self.limits.memory.take() {
            self.limits.own.lower(Resource::Data, memory);
        }
    }

    fn without_pids(&mut self, why: &CgroupError, counted: bool) {
        let Some(pids) = self.limits.pids.take() else { return };
        self.lacking.push(if counted {
            self.limits.own.lower(Resource::Nproc, pids.saturating_add(OWN_PROCESSES));
            format!(
                "--pids-limit: the processes of each user are limited (RLIMIT_NPROC), together \
                 with those of steps that run at once: {why}"
            )
        } else {
            format!("--pids-limit: processes are not limited: {why}")
        });
    }
}

/// Why a group with these limits cannot be made.
pub(super) fn refusal(limits: &Limits) -> Option<CgroupError> {
    match Cgroup::create(limits) {
        Ok(group) => {
            group.sweep(PREFIX);
            group.remove().err()
        }
        Err(error) => Some(error),
    }
}

/// A name that no other kiln has, whatever namespaces it is in.
pub(super) fn unique() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{PREFIX}{:016x}", u64::from_ne_bytes(bytes)))
}

/// The kernel's version; what cannot be read is an old one.
fn kernel() -> (u32, u32) {
    version(&super::survey::kernel_release())
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, expected) in [
            ("6.18.44-fc-v669", (6, 18)),
            ("5.10.0-8-amd64", (5, 10)),
            ("4.4", (4, 4)),
            ("6", (6, 0)),
            ("x", (0, 0)),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_left_without_groups() {
        let why = CgroupError::Missing("x".into());
        let limits = Limits {
            memory: Some(64 << 20),
            memory_swap: Some(128 << 20),
            pids: Some(10),
            ..Limits::default()
        };
        let mut held = Held { limits, ..Held::default() };
        held.without_memory(&why);
        held.without_pids(&why, true);
        assert!(held.limits.is_none() && held.limits.memory_swap.is_none());
        let soft = |resource: Resource| {
            held.limits.own.ulimits.iter().find(|u| u.resource == resource).and_then(|u| u.soft)
        };
        assert_eq!(soft(Resource::Data), Some(64 << 20));
        assert_eq!(soft(Resource::Nproc), Some(10 + OWN_PROCESSES));
        for (said, expected) in held.lacking.iter().zip([
            ["--memory:", "nor swap at all", "no control group named x"],
            ["--pids-limit:", "RLIMIT_NPROC", "no control group named x"],
        ]) {
            assert!(expected.iter().all(|part| said.contains(part)), "{said}");
        }
        let limits = Limits { pids: Some(10), ..Limits::default() };
        let mut held = Held { limits, ..Held::default() };
        held.without_pids(&why, false);
        assert!(held.limits.own.ulimits.is_empty());
        assert!(held.lacking[0].contains("processes are not limited"), "{:?}", held.lacking);
    }
}
