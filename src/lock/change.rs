//! What two locks differ in.

use super::{Entry, Key, Lock};

/// One difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    Added(&'a Entry),
    /// The same key with another content.
    Moved {
        old: &'a Entry,
        new: &'a Entry,
    },
    Removed(&'a Entry),
}

impl Change<'_> {
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Added(entry) | Self::Removed(entry) | Self::Moved { new: entry, .. } => {
                entry.key()
            }
        }
    }
}

impl Lock {
    /// What has to change for `self` to become `new`, in order.
    #[must_use]
    pub fn changes<'a>(&'a self, new: &'a Self) -> Vec<Change<'a>> {
        let mut changes: Vec<Change<'_>> = Vec::new();
        for (key, entry) in &new.0 {
            match self.0.get(key) {
                None => changes.push(Change::Added(entry)),
                Some(old) if old != entry => changes.push(Change::Moved { old, new: entry }),
                Some(_) => (),
            }
        }
        let gone = self.0.iter().filter(|(key, _)| !new.0.contains_key(key));
        changes.extend(gone.map(|(_, entry)| Change::Removed(entry)));
        changes.sort_by_key(Change::key);
        changes
    }
}
