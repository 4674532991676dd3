//! A folder that belongs to somebody of the mapping.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RootfsError;
use crate::sandbox::Sandbox;
use crate::sandbox::record::{self, Owner};

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
/// If it cannot be made.
pub fn make_folder(
    sandbox: &Sandbox,
    path: &Path,
    mode: u32,
    (uid, gid): (u32, u32),
) -> Result<(), RootfsError> {
    let () = sandbox.call("own", &Request { path: path.into(), mode, uid, gid })?;
    Ok(())
}

/// Gives a folder to somebody; by a record where the mapping has no such number.
fn own(path: &Path, owner: Owner) -> std::io::Result<()> {
    match std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            let text = owner.to_string();
            let flags = rustix::fs::XattrFlags::empty();
            Ok(rustix::fs::setxattr(path, record::OWNER, text.as_bytes(), flags)?)
        }
        other => other,
    }
}

pub(super) fn job(request: &[u8]) -> Result<Vec<u8>, String> {
    let Request { path, mode, uid, gid } =
        serde_json::from_slice(request).map_err(|error| error.to_string())?;
    let made = std::fs::create_dir(&path)
        .and_then(|()| match (uid, gid) {
            (0, 0) => Ok(()),
            (uid, gid) => own(&path, Owner { uid, gid }),
        })
        .and_then(|()| {
            let mode = std::fs::Permissions::from_mode(mode & 0o7777);
            std::fs::set_permissions(&path, mode)
        });
    made.map_err(|error| format!("make a folder of {uid}:{gid}: {error}"))?;
    Ok(b"null".to_vec())
}
