//! Conditions of a process that no result of it may depend on, changed on purpose: how many
//! processors there are, and what the clocks say that a time namespace can shift
//! (time_namespaces(7): the monotonic and the boot-time clock, not the time of day).
//!
//! The zygote changes them as well as the machine lets it, and says nothing of it: what has
//! come of it is measured in a helper.

use std::fs;
use std::io;

use rustix::thread::{CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::SandboxError;
use super::message::{Event, What};
use super::tier::Sandbox;

/// Which conditions processes have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Conditions {
    /// The machine's.
    #[default]
    Usual,
    /// One processor, shifted clocks; roots are plain folders, filled from the last name to
    /// the first.
    Changed,
}

/// Seconds by which clocks are shifted: about eleven days and a half.
const SHIFT: i64 = 1_000_000;

/// What a process finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub processors: u32,
    /// Seconds of the monotonic clock.
    pub clock: i64,
}

impl Found {
    /// What this process finds.
    #[must_use]
    pub fn here() -> Self {
        let processors = sched_getaffinity(None).map_or(0, |set| set.count());
        Self { processors, clock: clock_gettime(ClockId::Monotonic).tv_sec }
    }

    /// Whether another process's clocks are shifted against this one's.
    #[must_use]
    pub fn is_shifted(&self, other: &Self) -> bool {
        self.clock.abs_diff(other.clock) > SHIFT.unsigned_abs() / 2
    }
}

impl Conditions {
    /// Leaves this process, and those that it starts, one processor.
    pub(super) fn take_processors(self) {
        if self == Self::Usual {
            return;
        }
        let Ok(all) = sched_getaffinity(None) else { return };
        let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|at| all.is_set(*at)) else { return };
        let mut one = CpuSet::new();
        one.set(last);
        // What has come of it is measured.
        let _ = sched_setaffinity(None, &one);
    }

    /// Shifts the clocks of the processes that this one starts.
    pub(super) fn shift_clocks(self) {
        if self == Self::Usual {
            return;
        }
        let shifted = || -> io::Result<()> {
            super::zygote::unshare(UnshareFlags::NEWTIME)?;
            let offsets = format!("monotonic {SHIFT} 0\nboottime {SHIFT} 0\n");
            fs::write("/proc/self/timens_offsets", offsets)
        };
        // What has come of it is measured.
        let _ = shifted();
    }
}

impl Sandbox {
    /// What processes find in it.
    ///
    /// # Errors
    /// If no helper can be had.
    pub fn found(&self) -> Result<Found, SandboxError> {
        let helper = self.helper(&What::Look)?;
        match helper.event("look at its conditions")? {
            (Event::Looked(found), _) => Ok(found),
            _ => Err(SandboxError::Channel(io::ErrorKind::InvalidData.into())),
        }
    }
}
