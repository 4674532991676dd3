//! The owners of what can carry no record: symbolic links and fifos, in a step's upper
//! folder by their handles, in trees by their paths.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use crate::sandbox::record::{self, Handle, Listed, Owner};

/// What a step recorded, and what is listed of its lower layers.
#[derive(Debug)]
pub(super) struct Specials {
    handles: BTreeMap<Handle, Owner>,
    lowers: Vec<(OwnedFd, Listed)>,
    /// What the step's own tree is to list.
    listed: Listed,
}

impl Specials {
    /// `lowers` are the folders of trees, the topmost first; none below a plain root,
    /// which has a list of its own.
    pub(super) fn open(upper: &Path, lowers: &[PathBuf]) -> io::Result<Self> {
        let upper_too = [upper.to_path_buf()];
        let lowers = if lowers.is_empty() { &upper_too } else { lowers };
        let lists: io::Result<Vec<Listed>> =
            lowers.iter().map(|path| record::listed(path)).collect();
        let lists = lists?;
        let mut open = Vec::new();
        // Which tree a path is of must be asked only if it matters.
        if lists.iter().any(|list| !list.is_empty()) {
            for (lower, list) in lowers.iter().zip(lists) {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                open.push((openat(CWD, lower, flags, Mode::empty())?, list));
            }
        }
        Ok(Self { handles: record::handles(upper)?, lowers: open, listed: Listed::new() })
    }

    /// The owner of an entry of the upper folder, which its tree will list.
    pub(super) fn owner(
        &mut self,
        folder: &OwnedFd,
        base: &[u8],
        path: &[u8],
    ) -> io::Result<Option<Owner>> {
        if !self.any() {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, OsStr::from_bytes(base), flags, Mode::empty())?;
        let known = self.handles.get(&record::handle(&file)?).copied();
        // A copy without a record is of the file below.
        let owner = known.or_else(|| self.below(path)).filter(|owner| !owner.is_root());
        if let Some(owner) = owner {
            self.listed.insert(path.to_vec(), owner);
        }
        Ok(owner)
    }

    /// Whether there is any record at all.
    pub(super) fn any(&self) -> bool {
        !self.handles.is_empty() || !self.lowers.is_empty()
    }

    fn below(&self, path: &[u8]) -> Option<Owner> {
        for (lower, list) in &self.lowers {
            match statat(lower, OsStr::from_bytes(path), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => return list.get(path).copied(),
                Err(Errno::NOENT) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Writes the list beside the folder, in place of what the step recorded.
    pub(super) fn keep(&self, upper: &Path) -> io::Result<()> {
        record::list(upper, &self.listed)?;
        match fs::remove_file(record::handles_file(upper)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
