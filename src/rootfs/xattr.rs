//! Extended attributes: which ones belong to a layer, which ones are kiln's and
//! overlayfs's own.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io;

use crate::layer::RawBytes;

pub(super) use crate::sandbox::record::{DEVICE, OWNER};

/// overlayfs's mark of an opaque folder, for a mount in a user namespace or
/// by real root.
pub(super) fn opaque(real_root: bool) -> &'static str {
    if real_root { "trusted.overlay.opaque" } else { "user.overlay.opaque" }
}

/// True for attributes that layers carry. Those that storage gives a meaning to
/// never pass from an archive to the disk or back; labels of a security module
/// are the machine's, not the image's.
pub(super) fn carried(key: &str) -> bool {
    let own = ["user.kiln.", "user.overlay.", "trusted.", "system."];
    key != "security.selinux"
        && key != "security.evm"
        && key != "security.ima"
        && !own.iter().any(|prefix| key.starts_with(prefix))
}

/// True for attributes that a copy on the disk has too: kiln's own besides those that
/// layers carry.
pub(super) fn copied(key: &str) -> bool {
    carried(key) || key.starts_with("user.kiln.")
}

/// A path to an entry of an open folder, for calls that know no descriptor.
fn at(folder: BorrowedFd<'_>, base: &[u8]) -> io::Result<CString> {
    let prefix = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    let base: &[u8] = if base.is_empty() { b"." } else { base };
    CString::new([prefix.as_slice(), base].concat()).map_err(|_| io::Errno::INVAL)
}

/// Sets an attribute of a folder's entry itself, links not followed.
pub(super) fn set(folder: BorrowedFd<'_>, base: &[u8], key: &str, value: &[u8]) -> io::Result<()> {
    lsetxattr(at(folder, base)?, key, value, XattrFlags::empty())
}

/// Takes an attribute from a folder's entry itself, links not followed.
pub(super) fn remove(folder: BorrowedFd<'_>, base: &[u8], key: &str) -> io::Result<()> {
    lremovexattr(at(folder, base)?, key)
}

/// An attribute's value; `None` if it is not set or not supported there.
pub(super) fn get(folder: BorrowedFd<'_>, base: &[u8], key: &str) -> io::Result<Option<Vec<u8>>> {
    let path = at(folder, base)?;
    // Values are at most 64 KiB (xattr(7)).
    let mut value = Vec::with_capacity(1 << 16);
    match lgetxattr(&path, key, rustix::buffer::spare_capacity(&mut value)) {
        Ok(_) => Ok(Some(value)),
        Err(io::Errno::NODATA | io::Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All attributes of an entry by their names.
pub(super) fn all(folder: BorrowedFd<'_>, base: &[u8]) -> io::Result<BTreeMap<String, RawBytes>> {
    let path = at(folder, base)?;
    let mut names: Vec<u8> = Vec::with_capacity(1 << 16);
    match llistxattr(&path, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => (),
        Err(io::Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    }
    let mut found = BTreeMap::new();
    for name in names.split(|&c| c == 0).filter(|name| !name.is_empty()) {
        if let Ok(name) = std::str::from_utf8(name)
            && let Some(value) = get(folder, base, name)?
        {
            found.insert(name.to_owned(), RawBytes(value));
        }
    }
    Ok(found)
}
