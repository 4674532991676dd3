//! A layer's table of contents: every entry, without content.

use std::collections::{BTreeSet, HashSet};
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Name};
use super::read::{ReadError, Reader};
use super::whiteout::whiteout_of;

/// The entries of one layer in the archive's order, whiteouts included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerIndex {
    pub entries: Vec<Entry>,
}

impl LayerIndex {
    /// Reads an uncompressed archive to its end.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(tar: impl Read) -> Result<Self, ReadError> {
        Self::of(Reader::new(tar))
    }

    /// As [`LayerIndex::read`], of what a [`Reader`] takes.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn of(mut reader: Reader<impl Read>) -> Result<Self, ReadError> {
        let mut entries = Vec::new();
        while let Some(entry) = reader.next()? {
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// The folders that entries lie in without being listed themselves, the root
    /// left out: what they are, only lower layers can say.
    #[must_use]
    pub fn implied(&self) -> BTreeSet<Name> {
        let listed: HashSet<&Name> = self
            .entries
            .iter()
            .filter(|entry| whiteout_of(&entry.name).is_none())
            .map(|entry| &entry.name)
            .collect();
        let mut implied = BTreeSet::new();
        for entry in &self.entries {
            let mut above = entry.name.parent();
            while let Some(folder) = above.filter(|folder| !folder.is_root()) {
                above = folder.parent();
                if !listed.contains(&folder) && !implied.insert(folder) {
                    break;
                }
            }
        }
        implied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implied() {
        let of = |names: &[&str]| {
            let entry = |name: &&str| Entry::dir(Name::clean(name.as_bytes()).unwrap(), 0);
            let index = LayerIndex { entries: names.iter().map(entry).collect() };
            let names: Vec<String> = index.implied().into_iter().map(String::from).collect();
            names.join(" ")
        };
        assert_eq!(of(&["", "a", "a/b"]), "");
        assert_eq!(of(&["a/b/c", "a", "x/y", "x/.wh.z"]), "a/b x");
        assert_eq!(of(&["a/.wh.b", "c/.wh..wh..opq"]), "a c");
    }
}
