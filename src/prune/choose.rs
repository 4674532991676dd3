//! What goes, and until when.

use std::path::Path;
use std::time::SystemTime;

use super::inventory::{Amount, Entry, Kind, Need};
use crate::store::Store;

/// What a clean-up is asked to take away.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Also what images with names were made of and can be made of again, and what only
    /// saves time: unpacked trees, cache mounts, repositories.
    pub all: bool,
    /// Only what was used before this.
    pub until: Option<SystemTime>,
    /// Only these kinds; none means all.
    pub kinds: Vec<Kind>,
    pub room: Room,
}

/// How much may stay, in the manner of `docker buildx prune`: no more is taken than
/// needed. Without any of these all goes that is selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the store may hold.
    pub max_used: Option<u64>,
    /// Inodes that it may hold.
    pub max_inodes: Option<u64>,
    /// Bytes that the store's file system should have free.
    pub min_free: Option<u64>,
    /// Bytes that may stay whatever the others say.
    pub reserved: Option<u64>,
}

/// What the store may hold in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Goal {
    bytes: u64,
    inodes: u64,
}

impl Goal {
    pub(super) fn is_reached(self, left: Amount) -> bool {
        left.bytes <= self.bytes && left.inodes <= self.inodes
    }
}

impl Room {
    /// What may stay of so much; none if nothing is to.
    pub(super) fn goal(self, total: Amount, store: &Store) -> Option<Goal> {
        self.goal_of(total, self.min_free.map(|_| free(store.root())))
    }

    fn goal_of(self, total: Amount, free: Option<u64>) -> Option<Goal> {
        if self == Self::default() {
            return None;
        }
        let lacking = self.min_free.zip(free).map(|(wanted, free)| wanted.saturating_sub(free));
        let mut bytes = self.max_used.unwrap_or(u64::MAX);
        if let Some(lacking) = lacking {
            bytes = bytes.min(total.bytes.saturating_sub(lacking));
        }
        // What is reserved alone is a bound as well: the rest goes.
        if self.max_used.is_none() && lacking.is_none() && self.max_inodes.is_none() {
            bytes = 0;
        }
        let bytes = bytes.max(self.reserved.unwrap_or(0));
        Some(Goal { bytes, inodes: self.max_inodes.unwrap_or(u64::MAX) })
    }
}

fn free(root: &Path) -> u64 {
    // Where nothing can be told nothing is lacking.
    rustix::fs::statvfs(root).map_or(u64::MAX, |stat| stat.f_bavail * stat.f_frsize)
}

impl Selection {
    /// The entries that may go, by their places, the least recently used first.
    pub(super) fn order(&self, entries: &[Entry]) -> Vec<usize> {
        let may = |entry: &Entry| {
            let unneeded = match entry.need {
                Need::Nothing => true,
                Need::Again => self.all,
                Need::Name | Need::Container | Need::Process | Need::Store => false,
            };
            unneeded
                && self.until.is_none_or(|until| entry.used < until)
                && (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
        };
        let mut order: Vec<usize> = (0..entries.len()).filter(|&at| may(&entries[at])).collect();
        order.sort_by_key(|&at| (entries[at].used, entries[at].kind, &entries[at].id));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn entry(id: &str, kind: Kind, need: Need, used: u64) -> Entry {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
        Entry { id: id.into(), kind, need, used, ..Entry::nothing() }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_needed_never() {
        let entries = [
            entry("new", Kind::Layers, Need::Nothing, 9),
            entry("named", Kind::Layers, Need::Name, 1),
            entry("run", Kind::Trees, Need::Container, 1),
            entry("busy", Kind::Trees, Need::Process, 1),
            entry("again", Kind::CacheMounts, Need::Again, 2),
            entry("old", Kind::Trees, Need::Nothing, 3),
            entry("index", Kind::Other, Need::Store, 1),
        ];
        let order = |selection: Selection| -> Vec<&str> {
            selection.order(&entries).into_iter().map(|at| entries[at].id.as_str()).collect()
        };
        let all = Selection { all: true, ..Selection::default() };
        assert_eq!(order(Selection::default()), ["old", "new"]);
        assert_eq!(order(all.clone()), ["again", "old", "new"]);
        let until = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(3));
        assert_eq!(order(Selection { until, ..all.clone() }), ["again"]);
        assert_eq!(order(Selection { kinds: vec![Kind::Trees], ..all }), ["old"]);
    }

    #[test]
    fn room() {
        let total = Amount { bytes: 100, inodes: 10 };
        let none = Room::default();
        let bytes = |room: Room, free| room.goal_of(total, free).map(|goal| goal.bytes);
        assert_eq!(bytes(none, None), None);
        assert_eq!(bytes(Room { max_used: Some(50), ..none }, None), Some(50));
        assert_eq!(bytes(Room { reserved: Some(50), ..none }, None), Some(50));
        let both = Room { max_used: Some(20), reserved: Some(50), ..none };
        assert_eq!(bytes(both, None), Some(50));
        let free = Room { min_free: Some(30), ..none };
        assert_eq!(bytes(free, Some(10)), Some(80));
        assert_eq!(bytes(free, Some(40)), Some(100));
        let inodes = Room { max_inodes: Some(5), ..none }.goal_of(total, None).unwrap();
        assert!(!inodes.is_reached(total) && inodes.is_reached(Amount { inodes: 5, ..total }));
    }
}
