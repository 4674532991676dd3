//! What a build is given for its steps and keeps to itself: secrets, agents.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// What `RUN --mount` may ask for besides files.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// By id.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of ssh agents on this machine, by id.
    pub agents: BTreeMap<String, PathBuf>,
}

/// Bytes that reach a step and nothing else: no layer, no key, no log.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
