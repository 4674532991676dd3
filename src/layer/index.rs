//! A layer's table of contents: every entry, without content.

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::read::{ReadError, Reader};

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
        let mut reader = Reader::new(tar);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next()? {
            entries.push(entry);
        }
        Ok(Self { entries })
    }
}
