//! Trees become one folder, without an overlay: as a step's root, or as one lower
//! folder in place of many.
//!
//! They are applied one by one, the lowest first. A folder that is only read shares
//! its files with the trees (hard links); one that a step writes into has copies.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, linkat, mkdirat, openat2,
    statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::copy::{self, names, open_dir};
use super::mark::Marks;
use super::snapshot;
use crate::sandbox::record::{self, Listed};

#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    /// The topmost first.
    pub(super) trees: Vec<PathBuf>,
    /// What is in it already lies below the trees.
    pub(super) into: PathBuf,
    pub(super) marks: Marks,
    /// Files are shared with the trees.
    pub(super) link: bool,
    /// Names are made from the last to the first, which some file systems list otherwise.
    pub(super) reversed: bool,
    /// Where to write what there is in the end, for a later comparison.
    pub(super) snapshot: Option<PathBuf>,
}

pub(super) fn job(request: &[u8]) -> Result<Vec<u8>, String> {
    let request: Request = serde_json::from_slice(request).map_err(|e| e.to_string())?;
    run(&request).map_err(|error| format!("cannot merge layers: {error}"))?;
    Ok(b"null".to_vec())
}

fn run(request: &Request) -> io::Result<()> {
    let into = open_dir(CWD, request.into.as_os_str())?;
    let mut listed = record::listed(&request.into)?;
    for tree in request.trees.iter().rev() {
        let from = open_dir(CWD, tree.as_os_str())?;
        let mut merge = Merge {
            root: &into,
            marks: request.marks,
            link: request.link,
            reversed: request.reversed,
            names: Vec::new(),
            links: BTreeMap::new(),
            list: record::listed(tree)?,
            listed: &mut listed,
        };
        merge.folder(&from, &into).map_err(|error| {
            let place: PathBuf = merge.names.iter().collect();
            io::Error::new(error.kind(), format!("{}: {error}", place.display()))
        })?;
        copy::attributes(&from, &into, b"", &fstat(&from)?)?;
    }
    record::list(&request.into, &listed)?;
    match &request.snapshot {
        Some(file) => snapshot::write(&into, file),
        None => Ok(()),
    }
}

/// The application of one tree.
struct Merge<'a> {
    root: &'a OwnedFd,
    marks: Marks,
    link: bool,
    reversed: bool,
    /// Where it is.
    names: Vec<OsString>,
    /// The first name of each file with several, by inode.
    links: BTreeMap<u64, Vec<OsString>>,
    /// The owners that the tree lists, and those of the result.
    list: Listed,
    listed: &'a mut Listed,
}

impl Merge<'_> {
    /// Where it is, as bytes.
    fn path(&self) -> Vec<u8> {
        let path: PathBuf = self.names.iter().collect();
        path.into_os_string().into_encoded_bytes()
    }

    /// Lists nothing any more of what was here and below.
    fn unlist(&mut self) {
        if self.listed.is_empty() {
            return;
        }
        let path = Path::new(OsStr::from_bytes(&self.path())).to_path_buf();
        self.listed.retain(|listed, _| !Path::new(OsStr::from_bytes(listed)).starts_with(&path));
    }

    fn folder(&mut self, from: &OwnedFd, into: &OwnedFd) -> io::Result<()> {
        if self.marks.is_opaque(from.as_fd(), b"")? {
            self.unlist();
            for base in names(into)? {
                remove(into, OsStr::from_bytes(&base))?;
            }
        }
        let mut bases = names(from)?;
        if self.reversed {
            bases.reverse();
        }
        for base in bases {
            if self.marks.is_of_folder(&base) {
                continue;
            }
            self.names.push(OsStr::from_bytes(&base).to_owned());
            self.one(from, into, &base)?;
            self.names.pop();
        }
        Ok(())
    }

    fn one(&mut self, from: &OwnedFd, into: &OwnedFd, base: &[u8]) -> io::Result<()> {
        let path = OsStr::from_bytes(base);
        let stat = statat(from, path, AtFlags::SYMLINK_NOFOLLOW)?;
        if self.marks.is_gone(&stat) {
            self.unlist();
            return remove(into, path);
        }
        if !is_folder(&stat) {
            remove(into, path)?;
            self.unlist();
            let path = self.path();
            if let Some(owner) = self.list.get(&path) {
                self.listed.insert(path, *owner);
            }
            return self.other(from, into, base, &stat);
        }
        match statat(into, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if is_folder(&there) => {}
            there => {
                if there.is_ok() {
                    remove(into, path)?;
                    self.unlist();
                }
                mkdirat(into, path, Mode::from_raw_mode(0o700))?;
            }
        }
        self.folder(&open_dir(from, path)?, &open_dir(into, path)?)?;
        copy::attributes(from, into, base, &stat)
    }

    fn other(
        &mut self,
        from: &OwnedFd,
        into: &OwnedFd,
        base: &[u8],
        stat: &Stat,
    ) -> io::Result<()> {
        let path = OsStr::from_bytes(base);
        if self.link {
            match linkat(from, path, into, path, AtFlags::empty()) {
                // It has as many names as the file system allows, or may have no more.
                Err(Errno::MLINK | Errno::PERM) => {}
                linked => return Ok(linked?),
            }
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return link(self.root, first, into, path);
            }
            self.links.insert(stat.st_ino, self.names.clone());
        }
        copy::other(from, into, base, stat)
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A further name for a file below a root.
pub(super) fn link(
    root: &OwnedFd,
    first: &[OsString],
    into: &OwnedFd,
    path: &OsStr,
) -> io::Result<()> {
    let Some((name, folders)) = first.split_last() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = folders.iter().fold(PathBuf::from("."), |path, name| path.join(name));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let folder = openat2(root, &folder, flags, Mode::empty(), resolve)?;
    Ok(linkat(&folder, name, into, path, AtFlags::empty())?)
}

/// Removes a name with all below it; one that is absent is removed already.
fn remove(folder: &OwnedFd, path: &OsStr) -> io::Result<()> {
    match unlinkat(folder, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Folders: Linux says the first, POSIX the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let inner = open_dir(folder, path)?;
    for base in names(&inner)? {
        remove(&inner, OsStr::from_bytes(&base))?;
    }
    Ok(unlinkat(folder, path, AtFlags::REMOVEDIR)?)
}
