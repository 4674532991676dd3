//! Images leaving the store as files, and coming back from them.
//!
//! Writing is deterministic: the same images under the same names give the same
//! archive. Layers stream through; memory does not depend on their size. What
//! is read back from the store is verified again on its way out.

use std::path::PathBuf;

/// The form a result leaves in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An OCI image layout in a tar.
    Oci,
    /// What `docker save` writes and `docker load` reads.
    Docker,
    /// The files of the image in a tar, without its config.
    Tar,
    /// The files of the image in a folder.
    Local,
}

/// Where a result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    Path(PathBuf),
    Stdout,
}

/// What can go wrong with archives.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl OutputError {
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }
}
