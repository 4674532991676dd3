//! Which credentials and umask a process has, written where the kernel passes it on
//! to children and keeps it over the execution of programs without being asked: the
//! soft RLIMIT_LOCKS, a limit that no kernel of this century enforces. A process
//! without the mark has what the step began with.
//!
//! The process itself sees no limit, and cannot set one: those calls are answered
//! by the supervisor. The mark belongs to the process, not to a thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::io::Errno;

use super::ids::Credentials;
use super::notify::{locks_limit, set_locks_limit};

/// The upper 23 bits of a mark.
const MAGIC: u64 = 0x25_A5_C3;
const MAGIC_SHIFT: u32 = 41;
const UMASK_SHIFT: u32 = 32;

/// Different sets of credentials that one step may use.
const MAX_SETS: usize = 1 << 16;
/// Their groups in all.
const MAX_GROUPS: usize = 1 << 20;

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    umask: u32,
    set: u32,
}

impl Mark {
    fn read(limit: u64) -> Option<Self> {
        let umask = (limit >> UMASK_SHIFT) as u32 & 0o777;
        (limit >> MAGIC_SHIFT == MAGIC).then_some(Self { umask, set: limit as u32 })
    }

    fn limit(self) -> u64 {
        MAGIC << MAGIC_SHIFT | u64::from(self.umask) << UMASK_SHIFT | u64::from(self.set)
    }
}

/// What is known of one process.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) credentials: Arc<Credentials>,
    pub(super) umask: u32,
}

/// All credentials that were met. The first are those of the step.
#[derive(Debug)]
pub(super) struct Sets {
    first_umask: u32,
    /// Some are not simply root's.
    others: AtomicBool,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    sets: Vec<Arc<Credentials>>,
    numbers: HashMap<Arc<Credentials>, u32>,
    groups: usize,
}

impl Sets {
    pub(super) fn new(first: Credentials, umask: u32) -> Self {
        let others = AtomicBool::new(!first.is_wholly_root());
        let first = Arc::new(first);
        let numbers = HashMap::from([(first.clone(), 0)]);
        let table = Table { sets: vec![first], numbers, groups: 0 };
        Self { first_umask: umask, others, table: RwLock::new(table) }
    }

    /// Whether there may be a process that is not root in every way.
    pub(super) fn any_others(&self) -> bool {
        self.others.load(Ordering::Acquire)
    }

    /// What the process has. One that is gone has what the step began with: nobody
    /// hears the answer.
    pub(super) fn of(&self, pid: u32) -> Known {
        let mark = locks_limit(pid).ok().and_then(|(soft, _)| Mark::read(soft));
        let Mark { umask, set } = mark.unwrap_or(Mark { umask: self.first_umask, set: 0 });
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let set = table.sets.get(set as usize).or_else(|| table.sets.first());
        // The table is never empty.
        let credentials =
            set.cloned().unwrap_or_else(|| Arc::new(Credentials::new(&Default::default())));
        Known { credentials, umask }
    }

    /// Gives a process other credentials.
    pub(super) fn set(&self, pid: u32, known: &Known, new: Credentials) -> Result<(), Errno> {
        let set = self.number(new)?;
        self.mark(pid, Mark { umask: known.umask, set })
    }

    /// Remembers a process's umask.
    pub(super) fn set_umask(&self, pid: u32, known: &Known, umask: u32) -> Result<(), Errno> {
        let set = self.number(known.credentials.as_ref().clone())?;
        self.mark(pid, Mark { umask: umask & 0o777, set })
    }

    fn mark(&self, pid: u32, mark: Mark) -> Result<(), Errno> {
        let (_, hard) = locks_limit(pid).map_err(|_| Errno::SRCH)?;
        set_locks_limit(pid, mark.limit(), hard).map_err(|_| Errno::PERM)
    }

    fn number(&self, new: Credentials) -> Result<u32, Errno> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = table.numbers.get(&new) {
            return Ok(number);
        }
        let groups = table.groups + new.groups.len();
        if table.sets.len() >= MAX_SETS || groups > MAX_GROUPS {
            return Err(Errno::NOMEM);
        }
        let number = u32::try_from(table.sets.len()).map_err(|_| Errno::NOMEM)?;
        if !new.is_wholly_root() {
            self.others.store(true, Ordering::Release);
        }
        let new = Arc::new(new);
        table.groups = groups;
        table.sets.push(new.clone());
        table.numbers.insert(new, number);
        Ok(number)
    }
}

/// Whether marks can be set here: the hard limit must leave room for them.
pub(super) fn usable() -> Result<(), String> {
    match locks_limit(std::process::id()) {
        Ok((_, u64::MAX)) => Ok(()),
        Ok((_, hard)) => Err(format!(
            "the limit of file locks is {hard}, where kiln keeps which user a process is: \
             `ulimit -x unlimited` before kiln, or without the setting that lowers it"
        )),
        Err(error) => Err(format!("read the limit of file locks: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks() {
        for mark in [Mark { umask: 0o022, set: 0 }, Mark { umask: 0o777, set: u32::MAX }] {
            assert_eq!(Mark::read(mark.limit()), Some(mark));
            assert_ne!(mark.limit(), u64::MAX);
        }
        for limit in [0, 1, 1024, u64::MAX, u64::MAX - 1, u64::from(u32::MAX)] {
            assert_eq!(Mark::read(limit), None, "{limit}");
        }
    }

    #[test]
    fn sets_are_numbered_once() {
        let root = Credentials::new(&Default::default());
        let sets = Sets::new(root.clone(), 0o022);
        assert_eq!(sets.number(root.clone()), Ok(0));
        let other = root.change_groups(vec![7]).unwrap();
        assert_eq!(sets.number(other.clone()), Ok(1));
        assert_eq!(sets.number(other), Ok(1));
        let many = root.change_groups(vec![7; MAX_GROUPS]).unwrap();
        assert_eq!(sets.number(many), Err(Errno::NOMEM));
    }
}
