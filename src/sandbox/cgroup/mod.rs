//! Limits by control groups: the unified hierarchy (cgroups(7), version 2), the
//! separate ones of version 1, and machines that have some controllers in each.
//!
//! A group is made below kiln's own, so that kiln's own limits hold for what it
//! starts; only where that cannot carry controllers, further up. Without the
//! right to do so there is no emulation: the error says what to delegate to whom.

mod place;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::place::{Controller, Layout, Parent};
use super::spec::Limits;

/// Less memory than this starts no program.
const LEAST_MEMORY: u64 = 6 << 20;
/// The kernel's least quota is a millisecond in a period.
const LEAST_CPUS: f64 = 0.01;
const PERIOD: u64 = 100_000;
/// No controller of its own, but a limit that may be missing.
const SWAP: &str = "swap";

/// Groups with one name, one in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    name: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    folder: PathBuf,
    controllers: Vec<Controller>,
    unified: bool,
}

/// What can go wrong with limits.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("a limit of {value} {what} is too small: the least is {least}")]
    TooSmall { what: &'static str, value: String, least: String },
    #[error("{0:?} is no name for a control group: letters, digits, `-`, `_` and `.` are")]
    Name(String),
    #[error("limits on {controller} cannot be set: {why}")]
    Unavailable { controller: &'static str, why: String },
    #[error("a limit of {both} bytes of memory and swap together is none beside {}", of_memory(*memory))]
    Swap { both: u64, memory: Option<u64> },
    #[error("no control group named {0}")]
    Missing(String),
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

fn of_memory(memory: Option<u64>) -> String {
    memory.map_or_else(
        || "memory that is not limited: limit that as well".to_owned(),
        |memory| format!("{memory} of memory alone: it is the sum of both"),
    )
}

impl CgroupError {
    fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}

impl Cgroup {
    /// Makes the group that `limits` names and sets the limits.
    ///
    /// # Errors
    /// If a limit makes no sense, or a controller it needs cannot be had here.
    pub fn create(limits: &Limits) -> Result<Self, CgroupError> {
        check(limits)?;
        check_name(&limits.cgroup)?;
        let layout = Layout::of_self()?;
        let wanted = wanted(limits);
        // The others are taken along where they can be had, for later changes.
        let optional = Controller::ALL.into_iter().filter(|other| !wanted.contains(other));
        let mut group = Self { name: limits.cgroup.clone(), parts: Vec::new() };
        let all = wanted.iter().copied().map(|c| (c, true)).chain(optional.map(|c| (c, false)));
        for (controller, needed) in all {
            let made = layout.parent(controller, &wanted).and_then(|parent| group.join(&parent));
            if let (Err(error), true) = (made, needed) {
                // Nothing runs in it yet.
                let _ = group.remove();
                return Err(error);
            }
        }
        if let Err(error) = group.set(limits) {
            let _ = group.remove();
            return Err(error);
        }
        Ok(group)
    }

    /// Finds the group made under this name, by whichever kiln.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(name: &str) -> Result<Self, CgroupError> {
        check_name(name)?;
        let layout = Layout::of_self()?;
        let parts: Vec<Part> = layout
            .find(name)
            .into_iter()
            .map(|(folder, controllers, unified)| Part { folder, controllers, unified })
            .collect();
        if parts.is_empty() {
            return Err(CgroupError::Missing(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), parts })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lies, one folder in each hierarchy.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.folder.as_path())
    }

    /// Makes the limits these, all three, while processes run.
    ///
    /// # Errors
    /// If a limit makes no sense or the kernel refuses it, as it does a memory
    /// limit below what is in use and cannot be reclaimed.
    pub fn set(&self, limits: &Limits) -> Result<(), CgroupError> {
        check(limits)?;
        for controller in wanted(limits) {
            if !self.parts.iter().any(|part| part.controllers.contains(&controller)) {
                let why = format!("the group {} was made without that controller", self.name);
                return Err(CgroupError::Unavailable { controller: controller.name(), why });
            }
        }
        for part in &self.parts {
            for controller in &part.controllers {
                part.set(*controller, limits)?;
            }
        }
        Ok(())
    }

    /// How many of its processes the kernel killed because the memory was used up.
    /// Zero where it does not count them.
    #[must_use]
    pub fn killed_for_memory(&self) -> u64 {
        let counted = |part: &Part| {
            let file = if part.unified { "memory.events" } else { "memory.oom_control" };
            let text = fs::read_to_string(part.folder.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        self.parts.iter().find_map(counted).unwrap_or(0)
    }

    /// Moves a process in; what it starts afterwards is in it as well.
    ///
    /// # Errors
    /// If the kernel refuses, as it does between groups of different owners.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        for part in &self.parts {
            let path = part.folder.join("cgroup.procs");
            write(&path, &pid.to_string())?;
        }
        Ok(())
    }

    /// Removes the group. Its processes must have ended or be ending.
    ///
    /// # Errors
    /// If some are still there after a while.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for part in &self.parts {
            remove(&part.folder)?;
        }
        Ok(())
    }

    /// Removes empty groups beside this one whose names begin so: those of a kiln
    /// that was killed. One that is being made is younger than a minute.
    pub(super) fn sweep(&self, prefix: &str) {
        for folder in self.parts.iter().filter_map(|part| part.folder.parent()) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let theirs = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
                let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
                if theirs && age().is_some_and(|age| age > Duration::from_mins(1)) {
                    // Refused while there is a process in it.
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    fn join(&mut self, parent: &Parent) -> Result<(), CgroupError> {
        let folder = parent.folder.join(&self.name);
        if let Some(part) = self.parts.iter_mut().find(|part| part.folder == folder) {
            part.controllers.extend_from_slice(&parent.controllers);
            part.controllers.sort_unstable();
            part.controllers.dedup();
            return Ok(());
        }
        fs::create_dir(&folder).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                CgroupError::Unavailable {
                    controller: parent.controllers.first().map_or("processes", |c| c.name()),
                    why: parent.refusal(&source),
                }
            }
            _ => CgroupError::io("make the control group", &folder)(source),
        })?;
        let controllers = parent.controllers.clone();
        self.parts.push(Part { folder, controllers, unified: parent.unified });
        Ok(())
    }
}

impl Part {
    fn set(&self, controller: Controller, limits: &Limits) -> Result<(), CgroupError> {
        let number = |value: Option<u64>, none: &str| {
            value.map_or_else(|| none.to_owned(), |value| value.to_string())
        };
        match (controller, self.unified) {
            (Controller::Memory, true) => {
                self.write("memory.max", &number(limits.memory, "max"))?;
                // Swap would make the limit a slowness instead.
                let swap = match (limits.memory, limits.memory_swap) {
                    (None, _) | (_, Some(u64::MAX)) => None,
                    (Some(memory), both) => Some(both.unwrap_or(memory).saturating_sub(memory)),
                };
                self.write_swap("memory.swap.max", &number(swap, "max"), limits)
            }
            (Controller::Memory, false) => {
                let text = number(limits.memory, "-1");
                let both = limits.memory_swap.or(limits.memory).filter(|&both| both < u64::MAX);
                let both = number(both, "-1");
                // Memory with swap may never be less than memory alone, so growing
                // and shrinking go in opposite orders.
                if self.write("memory.limit_in_bytes", &text).is_err() {
                    self.write_if_there("memory.memsw.limit_in_bytes", &both)?;
                    self.write("memory.limit_in_bytes", &text)?;
                }
                self.write_swap("memory.memsw.limit_in_bytes", &both, limits)
            }
            (Controller::Cpu, unified) => {
                let quota = limits.cpus.map(quota);
                if unified {
                    return self.write("cpu.max", &format!("{} {PERIOD}", number(quota, "max")));
                }
                self.write("cpu.cfs_period_us", &PERIOD.to_string())?;
                self.write("cpu.cfs_quota_us", &number(quota, "-1"))
            }
            (Controller::Pids, _) => self.write("pids.max", &number(limits.pids, "max")),
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<(), CgroupError> {
        write(&self.folder.join(file), text)
    }

    /// A kernel that counts no swap cannot limit it: an error if it was asked for.
    fn write_swap(&self, file: &str, text: &str, limits: &Limits) -> Result<(), CgroupError> {
        let asked = limits.memory_swap.is_some_and(|both| both < u64::MAX);
        if asked && !self.folder.join(file).exists() {
            return Err(CgroupError::Unavailable {
                controller: SWAP,
                why: format!(
                    "{} has no {file}: the kernel counts no swap (its parameter swapaccount=1)",
                    self.folder.display()
                ),
            });
        }
        self.write_if_there(file, text)
    }

    fn write_if_there(&self, file: &str, text: &str) -> Result<(), CgroupError> {
        if self.folder.join(file).exists() { self.write(file, text) } else { Ok(()) }
    }
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    // The files exist or do not; creating one is never meant.
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(CgroupError::io("write", path))
}

/// The kernel lets go of a group some time after its last process.
fn remove(folder: &Path) -> Result<(), CgroupError> {
    let mut wait = Duration::from_millis(1);
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && wait < Duration::from_secs(2) =>
            {
                std::thread::sleep(wait);
                wait *= 2;
            }
            Err(error) => return Err(CgroupError::io("remove the control group", folder)(error)),
        }
    }
}

/// Microseconds of processor time in a period.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the value was checked to be positive and finite; a cast saturates"
)]
fn quota(cpus: f64) -> u64 {
    (cpus * PERIOD as f64).round() as u64
}

fn wanted(limits: &Limits) -> Vec<Controller> {
    let set = |controller: &Controller| match controller {
        Controller::Memory => limits.memory.is_some(),
        Controller::Cpu => limits.cpus.is_some(),
        Controller::Pids => limits.pids.is_some(),
    };
    Controller::ALL.into_iter().filter(set).collect()
}

/// Refuses limits that make no sense.
///
/// # Errors
/// If one is too small, or they do not fit together.
pub fn check(limits: &Limits) -> Result<(), CgroupError> {
    let too_small =
        |what, value: String, least: String| Err(CgroupError::TooSmall { what, value, least });
    match limits {
        Limits { memory: Some(memory), .. } if *memory < LEAST_MEMORY => {
            too_small("bytes of memory", memory.to_string(), LEAST_MEMORY.to_string())
        }
        Limits { cpus: Some(cpus), .. } if !cpus.is_finite() || *cpus < LEAST_CPUS => {
            too_small("processors", cpus.to_string(), LEAST_CPUS.to_string())
        }
        Limits { memory, memory_swap: Some(both), .. }
            if *both < u64::MAX && memory.is_none_or(|memory| memory > *both) =>
        {
            Err(CgroupError::Swap { both: *both, memory: *memory })
        }
        Limits { pids: Some(0), .. } => too_small("processes", "0".to_owned(), "1".to_owned()),
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), CgroupError> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // A dot could make it a file of the kernel's (`cgroup.procs`) or `..`.
    let good = name.len() <= 128
        && name.bytes().all(letters)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && !["cgroup.", "memory.", "cpu.", "pids.", "cpuset.", "io."]
            .iter()
            .any(|taken| name.starts_with(taken));
    if good { Ok(()) } else { Err(CgroupError::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_make_no_sense() {
        let none = Limits::default();
        for (limits, good) in [
            (none.clone(), true),
            (
                Limits { memory: Some(6 << 20), cpus: Some(0.01), pids: Some(1), ..none.clone() },
                true,
            ),
            (Limits { memory: Some(1), ..none.clone() }, false),
            (Limits { cpus: Some(0.0), ..none.clone() }, false),
            (Limits { cpus: Some(-1.0), ..none.clone() }, false),
            (Limits { cpus: Some(f64::NAN), ..none.clone() }, false),
            (Limits { cpus: Some(f64::INFINITY), ..none.clone() }, false),
            (Limits { pids: Some(0), ..none.clone() }, false),
            (Limits { memory: Some(8 << 20), memory_swap: Some(8 << 20), ..none.clone() }, true),
            (Limits { memory: Some(8 << 20), memory_swap: Some(u64::MAX), ..none.clone() }, true),
            (Limits { memory: Some(8 << 20), memory_swap: Some(7 << 20), ..none.clone() }, false),
            (Limits { memory_swap: Some(8 << 20), ..none.clone() }, false),
        ] {
            assert_eq!(check(&limits).is_ok(), good, "{limits:?}");
        }
        assert_eq!(quota(1.5), 150_000);
        assert_eq!(quota(0.01), 1000);
    }

    #[test]
    fn names_of_groups() {
        for (name, good) in [
            ("kiln-0a1b", true),
            ("web_1.blue", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("-x", false),
            ("cgroup.procs", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }
}
