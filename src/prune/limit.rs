//! A limit that builds keep.
//!
//! Below the limit it costs a look at one small file: the store counts what is added to it
//! (`store/usage.rs`). Everything is looked at only if the estimate is over the limit or
//! cannot be trusted: there is none, it is a day old, a quarter of the limit was added
//! since, or a process was killed, which could not say what it had added.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::choose::{Room, Selection};
use super::{PruneError, Pruned, run};
use crate::store::Store;

/// An estimate that is older is not trusted: caches and containers grow uncounted.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How much the store may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreLimit {
    /// Bytes on the disk.
    pub bytes: Option<u64>,
    pub inodes: Option<u64>,
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a size is expected, such as 20g, or `inodes=` and a number, or both with a comma between them"
)]
pub struct LimitError;

impl StoreLimit {
    /// Reads `20g`, `inodes=500000` or `20g,inodes=500000`; `size` reads a size.
    ///
    /// # Errors
    /// If it is none of these, or a number is 0.
    pub fn read(text: &str, size: impl Fn(&str) -> Option<u64>) -> Result<Self, LimitError> {
        let mut limit = Self::default();
        for part in text.split(',') {
            let (field, value) = match part.trim().strip_prefix("inodes=") {
                Some(count) => (&mut limit.inodes, u64::from_str(count).ok()),
                None => (&mut limit.bytes, size(part.trim())),
            };
            let value = value.filter(|&value| value > 0).ok_or(LimitError)?;
            if field.replace(value).is_some() {
                return Err(LimitError);
            }
        }
        Ok(limit)
    }

    fn is_over(self, bytes: u64, inodes: u64) -> bool {
        self.bytes.is_some_and(|limit| bytes > limit)
            || self.inodes.is_some_and(|limit| inodes > limit)
    }
}

impl fmt::Display for StoreLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bytes, self.inodes) {
            (Some(bytes), Some(inodes)) => write!(f, "{bytes} bytes and {inodes} inodes"),
            (Some(bytes), None) => write!(f, "{bytes} bytes"),
            (None, Some(inodes)) => write!(f, "{inodes} inodes"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// When the limit is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// What is already over it goes first.
    Before,
    After,
}

/// What became of the store.
#[derive(Debug)]
pub struct Kept {
    pub pruned: Pruned,
    /// It is still over the limit: the rest is needed.
    pub over: bool,
}

/// Takes away what was not used for longest until the store is below the limit; then, so
/// that not every build has to, a tenth more. `None` if nothing had to be looked at.
///
/// # Errors
/// If the store cannot be read.
pub fn keep_below(
    store: &Store,
    limit: StoreLimit,
    when: When,
) -> Result<Option<Kept>, PruneError> {
    store.add_usage();
    let trusted = match (store.usage(), when) {
        (None, When::Before) => true,
        (Some((usage, _)), When::Before) => !limit.is_over(usage.bytes, usage.inodes),
        (None, When::After) => false,
        (Some((usage, looked)), When::After) => {
            let grown = limit.bytes.is_some_and(|limit| usage.added > limit / 4);
            let old = looked.elapsed().is_ok_and(|age| age > DAY);
            let killed = || store.clearing().is_ok_and(|clearing| clearing.found_killed());
            !grown && !old && !limit.is_over(usage.bytes, usage.inodes) && !killed()
        }
    };
    if trusted {
        return Ok(None);
    }
    let over = |pruned: &Pruned| limit.is_over(pruned.left.bytes, pruned.left.inodes);
    // As long as it is not over, nothing goes.
    let most = Room { max_used: limit.bytes, max_inodes: limit.inodes, ..Room::default() };
    let less = |limit: Option<u64>| limit.map(|limit| limit - limit / 10);
    let room = Room { max_used: less(limit.bytes), max_inodes: less(limit.inodes), ..most };
    let pruned = run(store, |found| {
        let room = if limit.is_over(found.bytes, found.inodes) { room } else { most };
        Selection { all: true, room, ..Selection::default() }
    })?;
    store.set_usage(pruned.left.bytes, pruned.left.inodes)?;
    let over = over(&pruned);
    Ok(Some(Kept { pruned, over }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let read = |text: &str| StoreLimit::read(text, |text| text.strip_suffix('g')?.parse().ok());
        let limit = |bytes, inodes| Ok(StoreLimit { bytes, inodes });
        assert_eq!(read("20g"), limit(Some(20), None));
        assert_eq!(read("inodes=5"), limit(None, Some(5)));
        assert_eq!(read("20g,inodes=5"), limit(Some(20), Some(5)));
        assert_eq!(read("inodes=5, 20g"), limit(Some(20), Some(5)));
        for wrong in ["", "20", "0g", "20g,20g", "inodes=", "inodes=5g", "20g,"] {
            assert_eq!(read(wrong), Err(LimitError), "{wrong}");
        }
    }
}
