//! By which of its names a file was changed, in a root that is a plain folder.
//!
//! There a file of a lower layer with several names is one file, and a change shows under all
//! of them; overlayfs changes the one that was used, and the layer has to be the same. So the
//! folders with such names are watched while a process runs: inotify(7) tells of the name that
//! was opened. Nobody waits for that: the kernel's queue is read in the end. Where it can tell
//! nothing (too many folders, too much that happened, writing through a mapping), that is left
//! open.
//!
//! Whoever made the root lists the names beside it, and finds those that were used there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Where the names are listed, a NUL behind each.
#[must_use]
pub fn list_file(root: &Path) -> PathBuf {
    root.with_file_name("several")
}

/// Where those are that were used; absent if that is not known.
#[must_use]
pub fn used_file(root: &Path) -> PathBuf {
    root.with_file_name("used")
}

/// A watch over the folders of these names, since before a process runs.
pub(super) struct Watch {
    root: PathBuf,
    queue: OwnedFd,
    /// The watched ones, as the kernel numbers them.
    folders: BTreeMap<i32, Vec<u8>>,
}

impl Watch {
    /// `None` if there is nothing to watch, or no way to.
    pub(super) fn begin(root: &Path) -> Option<Self> {
        // Of an earlier process.
        let _ = std::fs::remove_file(used_file(root));
        let list = std::fs::read(list_file(root)).ok().filter(|list| !list.is_empty())?;
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let what = WatchFlags::MODIFY | WatchFlags::ATTRIB;
        let how = WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let mut watch = Self { root: root.to_path_buf(), queue, folders: BTreeMap::new() };
        let mut last = None;
        for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let folder = name.rsplitn(2, |&byte| byte == b'/').nth(1).unwrap_or_default();
            // They are listed folder by folder, mostly.
            if last == Some(folder) {
                continue;
            }
            last = Some(folder);
            let path = root.join(OsStr::from_bytes(folder));
            let number = inotify::add_watch(&watch.queue, path, what | how).ok()?;
            watch.folders.insert(number, folder.to_vec());
        }
        Some(watch)
    }

    /// Leaves word of the names that were used.
    pub(super) fn end(self) -> io::Result<()> {
        let mut used = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 1 << 14];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                return Ok(());
            }
            if let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), event.file_name()) {
                if !folder.is_empty() {
                    used.extend_from_slice(folder);
                    used.push(b'/');
                }
                used.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        std::fs::write(used_file(&self.root), used)
    }
}
