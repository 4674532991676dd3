//! Removing folders whose files may belong to IDs of a mapping.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RootfsError;
use crate::sandbox::Sandbox;
use crate::store::{Scratch, Store};

#[derive(Serialize, Deserialize)]
struct Request {
    path: PathBuf,
}

/// Removes a folder with everything in it; one that is absent is removed already.
///
/// # Errors
/// If something in it cannot be removed.
pub fn remove(sandbox: &Sandbox, path: &Path) -> Result<(), RootfsError> {
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    let () = sandbox.call("remove", &Request { path: path.into() })?;
    Ok(())
}

pub(super) fn job(request: &[u8]) -> Result<Vec<u8>, String> {
    let request: Request = serde_json::from_slice(request).map_err(|e| e.to_string())?;
    // `remove_dir_all` opens each folder below the last and follows no links.
    match std::fs::remove_dir_all(&request.path) {
        Ok(()) => Ok(b"null".to_vec()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(b"null".to_vec()),
        Err(error) => Err(format!("cannot remove {}: {error}", request.path.display())),
    }
}

/// A folder for work inside a mapping. Whatever is left in it when it is dropped
/// is removed there.
#[derive(Debug)]
pub struct Work<'a> {
    sandbox: &'a Sandbox,
    scratch: Scratch,
}

impl<'a> Work<'a> {
    /// The first one also removes what killed processes left of theirs.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn new(store: &Store, sandbox: &'a Sandbox, what: &str) -> Result<Self, RootfsError> {
        for stale in store.take_stale() {
            // What another mapping made may be beyond this one.
            let _ = remove(sandbox, stale.path());
        }
        Ok(Self { sandbox, scratch: store.scratch(what)? })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        // Where files of other IDs are left, only the helper can remove them; what
        // even it cannot is in `tmp/`, unlocked, for the next clean-up.
        if std::fs::remove_dir_all(self.scratch.path()).is_err() {
            let _ = remove(self.sandbox, self.scratch.path());
        }
    }
}
