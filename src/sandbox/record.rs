//! How owners and devices are written down where the kernel cannot keep them: as
//! attributes of files and folders, as an empty file for a device, and as a list
//! beside a tree for what can carry no attribute (symbolic links, fifos, sockets).
//!
//! What has no record belongs to whom the kernel says; in a namespace with one ID
//! that is 0:0.
#![expect(unsafe_code, reason = "name_to_handle_at has no safe form")]

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

/// The owner, as `uid:gid`.
pub const OWNER: &str = "user.kiln.own";
/// A device node, as `c 1 3` or `b 8 0`, on an empty regular file. Whatever has it
/// has [`OWNER`] too.
pub const DEVICE: &str = "user.kiln.dev";
/// What begins the names of all attributes of kiln's.
pub const PREFIX: &str = "user.kiln.";

/// The name of a tree's list, beside its folder: see [`Listed`].
const LIST: &str = "owners";
/// The name of a running process's list, beside its upper folder: see [`Handle`].
const HANDLES: &str = "handles";

/// A uid and a gid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// Reads `uid:gid`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (uid, gid) = std::str::from_utf8(text).ok()?.split_once(':')?;
        Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }

    /// True for 0:0, which needs no record in a namespace with one ID.
    #[must_use]
    pub fn is_root(self) -> bool {
        (self.uid, self.gid) == (0, 0)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// A device node's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// A block device; else a character device.
    pub block: bool,
    pub major: u32,
    pub minor: u32,
}

impl Device {
    /// Reads `c 1 3`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let block = match words.next()? {
            "c" => false,
            "b" => true,
            _ => return None,
        };
        let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { block, major, minor })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", if self.block { 'b' } else { 'c' }, self.major, self.minor)
    }
}

/// Owners by path below a tree's folder, of what can carry no attribute. On disk:
/// `uid:gid path` and a NUL byte each.
pub type Listed = BTreeMap<Vec<u8>, Owner>;

/// Where a tree's list is, beside its folder.
#[must_use]
pub fn list_file(folder: &Path) -> PathBuf {
    folder.with_file_name(LIST)
}

/// What is listed beside the folder of a tree; nothing if there is no list.
///
/// # Errors
/// If the list cannot be read, or is none.
pub fn listed(folder: &Path) -> io::Result<Listed> {
    let text = match std::fs::read(list_file(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listed::new()),
        other => other?,
    };
    let lines = text.split(|&byte| byte == 0).filter(|line| !line.is_empty());
    let one = |line: &[u8]| {
        let at = line.iter().position(|&byte| byte == b' ')?;
        Some((line[at + 1..].to_vec(), Owner::parse(&line[..at])?))
    };
    lines.map(|line| one(line).ok_or_else(|| io::ErrorKind::InvalidData.into())).collect()
}

/// Writes the list beside the folder of a tree; an empty one is no file.
///
/// # Errors
/// If it cannot be written.
pub fn list(folder: &Path, owners: &Listed) -> io::Result<()> {
    if owners.is_empty() {
        return match std::fs::remove_file(list_file(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let mut text = Vec::new();
    for (path, owner) in owners {
        text.extend_from_slice(owner.to_string().as_bytes());
        text.push(b' ');
        text.extend_from_slice(path);
        text.push(0);
    }
    std::fs::write(list_file(folder), text)
}

/// What identifies a file of one file system for good: the kernel's handle
/// (name_to_handle_at(2)), which names inode and generation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub Vec<u8>);

/// Where a process's owners by handle are kept while it runs, beside its upper
/// folder. On disk: `hex uid:gid` and a line feed each, the last of a handle holds.
#[must_use]
pub fn handles_file(upper: &Path) -> PathBuf {
    upper.with_file_name(HANDLES)
}

/// One line of that file.
#[must_use]
pub fn handle_line(handle: &Handle, owner: Owner) -> String {
    let hex: String = handle.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex} {owner}\n")
}

/// The owners beside an upper folder. What a killed writer left of a line is not read.
///
/// # Errors
/// If the file cannot be read.
pub fn handles(upper: &Path) -> io::Result<BTreeMap<Handle, Owner>> {
    let text = match std::fs::read_to_string(handles_file(upper)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().filter_map(parse_handle_line).collect())
}

fn parse_handle_line(line: &str) -> Option<(Handle, Owner)> {
    let (hex, owner) = line.split_once(' ')?;
    let bytes =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok());
    Some((Handle(bytes.collect::<Option<_>>()?), Owner::parse(owner.as_bytes())?))
}

/// What identifies an open file: the kernel's handle, or where the file system has
/// none, as overlayfs, the inode's number and the time it was made.
///
/// # Errors
/// If the file cannot be looked at.
pub fn handle(fd: impl AsFd) -> io::Result<Handle> {
    if let Some(handle) = kernels_handle(fd.as_fd()) {
        return Ok(handle);
    }
    let mask = StatxFlags::INO | StatxFlags::BTIME;
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, mask)?;
    let made = stat.stx_btime;
    let mut bytes = stat.stx_ino.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&made.tv_sec.to_ne_bytes());
    bytes.extend_from_slice(&made.tv_nsec.to_ne_bytes());
    Ok(Handle(bytes))
}

fn kernels_handle(fd: BorrowedFd<'_>) -> Option<Handle> {
    /// `struct file_handle` with as much room as any file system uses.
    #[repr(C)]
    struct FileHandle {
        size: u32,
        kind: i32,
        bytes: [u8; 128],
    }
    let mut found = FileHandle { size: 128, kind: 0, bytes: [0; 128] };
    let mut mount = 0_i32;
    // SAFETY: the struct has the room that it says it has; the string ends in NUL.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_raw_fd(),
            c"".as_ptr(),
            &raw mut found,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if result != 0 {
        return None;
    }
    let mut bytes = found.kind.to_ne_bytes().to_vec();
    bytes.extend_from_slice(found.bytes.get(..found.size as usize)?);
    Some(Handle(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(Owner::parse(b"7:4294967294"), Some(Owner { uid: 7, gid: 4_294_967_294 }));
        for bad in [&b""[..], b"7", b"7:", b":7", b"a:b", b"4294967296:0", b"\xff:1"] {
            assert_eq!(Owner::parse(bad), None, "{bad:?}");
        }
        let device = Device { block: true, major: 8, minor: 17 };
        assert_eq!(Device::parse(device.to_string().as_bytes()), Some(device));
        for bad in [&b""[..], b"c", b"c 1", b"d 1 3", b"c 1 3 4", b"c -1 3"] {
            assert_eq!(Device::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lists() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("fs");
        assert_eq!(listed(&tree).unwrap(), Listed::new());
        let owners: Listed = [
            (b"a b/\xff".to_vec(), Owner { uid: 1, gid: 2 }),
            (b"new\nline".to_vec(), Owner { uid: 0, gid: 5 }),
        ]
        .into();
        list(&tree, &owners).unwrap();
        assert_eq!(listed(&tree).unwrap(), owners);

        let (one, two) = (Handle(vec![1, 255]), Handle(vec![]));
        let (first, last) = (Owner { uid: 1, gid: 1 }, Owner { uid: 2, gid: 3 });
        let text = [handle_line(&one, first), handle_line(&two, first), handle_line(&one, last)];
        std::fs::write(handles_file(&tree), text.concat() + "01ff 9:9").unwrap();
        assert_eq!(handles(&tree).unwrap(), [(one, last), (two, first)].into());
    }
}
