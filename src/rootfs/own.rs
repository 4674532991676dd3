//! A folder that belongs to somebody of the mapping.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RootfsError;
use crate::sandbox::Sandbox;

#[derive(Serialize, Deserialize)]
struct Request {
    path: PathBuf,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Makes a folder with a mode and an owner, whose numbers are the sandbox's.
///
/// # Errors
/// If it cannot be made, or the mapping has no such number.
pub fn make_folder(
    sandbox: &Sandbox,
    path: &Path,
    mode: u32,
    (uid, gid): (u32, u32),
) -> Result<(), RootfsError> {
    let () = sandbox.call("own", &Request { path: path.into(), mode, uid, gid })?;
    Ok(())
}

pub(super) fn job(request: &[u8]) -> Result<Vec<u8>, String> {
    let Request { path, mode, uid, gid } =
        serde_json::from_slice(request).map_err(|error| error.to_string())?;
    let made = std::fs::create_dir(&path)
        .and_then(|()| match (uid, gid) {
            (0, 0) => Ok(()),
            (uid, gid) => std::os::unix::fs::chown(&path, Some(uid), Some(gid)),
        })
        .and_then(|()| {
            let mode = std::fs::Permissions::from_mode(mode & 0o7777);
            std::fs::set_permissions(&path, mode)
        });
    made.map_err(|error| format!("make a folder of {uid}:{gid}: {error}"))?;
    Ok(b"null".to_vec())
}
