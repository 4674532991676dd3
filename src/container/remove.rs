//! Removing a container with what it changed.

use std::fs;
use std::io;
use std::path::Path;

use super::error::ContainerError;
use super::state;
use super::stop;
use super::update::drop_group;
use crate::atomic::AtPath as _;
use crate::rootfs;
use crate::sandbox::Sandbox;
use crate::store::Store;

/// Removes a container; with `force` also one that runs, which is killed.
///
/// # Errors
/// If there is no such container, or it runs.
pub fn remove(store: &Store, name: &str, force: bool) -> Result<(), ContainerError> {
    let container = state::find(store, name)?;
    if let Some(handle) = stop::handle(&container)? {
        if !force {
            return Err(ContainerError::Running(container.name()));
        }
        stop::end(&container, &handle)?;
    }
    let hold = match container.hold_within(stop::SETTLE) {
        Ok(Some(hold)) => hold,
        Ok(None) => return Err(ContainerError::Busy(container.name())),
        // Its monitor removed it.
        Err(_) if !container.exists() => return stop::settle(&container),
        Err(error) => return Err(error),
    };
    // One that was lost could not clear up itself.
    drop_group(&container)?;
    wipe(&Sandbox::open(container.config.sandbox)?, &container.path)?;
    drop(hold);
    Ok(())
}

/// Removes a container's folder, which the caller holds. What belongs to other
/// IDs goes first: as long as `config.json` is there it can be tried again.
pub(super) fn wipe(sandbox: &Sandbox, path: &Path) -> Result<(), ContainerError> {
    for folder in ["upper", "work"] {
        rootfs::remove(sandbox, &path.join(folder))?;
    }
    // Then the container is gone, for whoever finds no lock any more.
    let config = path.join("config.json");
    match fs::remove_file(&config) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).at("remove", &config)?;
        }
        _ => (),
    }
    match fs::remove_dir_all(path) {
        // Somebody's creation swept up the rest between our steps.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => Ok(other.at("remove", path)?),
    }
}
