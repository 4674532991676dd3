//! A sandbox for files of other IDs, opened only if there are such.

use std::cell::OnceCell;
use std::path::Path;

use crate::rootfs;
use crate::sandbox::Sandbox;

#[derive(Default)]
pub(super) struct Helper {
    sandbox: OnceCell<Result<Sandbox, String>>,
}

impl Helper {
    fn open(&self) -> &Result<Sandbox, String> {
        self.sandbox.get_or_init(|| Sandbox::open(None).map_err(|error| error.to_string()))
    }

    /// None if this machine has none.
    pub(super) fn sandbox(&self) -> Option<&Sandbox> {
        self.open().as_ref().ok()
    }

    /// Removes a folder, or says why it cannot be.
    pub(super) fn remove(&self, path: &Path) -> Result<(), String> {
        let own = match std::fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        match self.open() {
            Ok(sandbox) => rootfs::remove(sandbox, path).map_err(|error| error.to_string()),
            Err(why) => Err(format!("{own}, and there is no sandbox to do it in: {why}")),
        }
    }

    /// Removes the folders in a folder.
    pub(super) fn remove_below(&self, folder: &Path) -> Result<(), String> {
        let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        let mut outcome = Ok(());
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            let removed = self.remove(&entry.path());
            outcome = outcome.and(removed);
        }
        outcome
    }
}
