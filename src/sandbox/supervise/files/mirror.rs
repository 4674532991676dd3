//! The folders of the kernel's file systems as empty ones with the same names, below
//! `/proc` and `/sys` of the step's root.
//!
//! A folder of the real ones must not be handed out: the way up from it leads past the
//! step's root. These can be: what is opened by their names is the kernel's again, and
//! who gets past the supervisor finds empty files. Names of links are links to themselves,
//! by which a path that leads through one is known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError, RwLock};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, mkdirat, mknodat,
    openat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::walk::{Area, File};

/// An entry of a folder.
pub(super) type Names = BTreeMap<CString, FileType>;

#[derive(Debug)]
pub(super) struct Mirror {
    proc: OwnedFd,
    sys: OwnedFd,
    /// Inodes that were made here; they may be others by now.
    made: RwLock<HashSet<u64>>,
    /// One at a time changes names. It holds the names of programs that were executed.
    programs: Mutex<HashMap<Vec<u8>, usize>>,
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Mirror {
    /// On the two folders, which are empty.
    pub(super) fn new(proc: OwnedFd, sys: OwnedFd) -> rustix::io::Result<Self> {
        let mut made: HashSet<u64> = [fstat(&proc)?.st_ino, fstat(&sys)?.st_ino].into();
        for link in ["self", "thread-self", "mounts", "net"] {
            symlinkat(link, &proc, link)?;
            made.insert(statat(&proc, link, AtFlags::SYMLINK_NOFOLLOW)?.st_ino);
        }
        let programs = Mutex::default();
        Ok(Self { proc, sys, made: RwLock::new(made), programs })
    }

    /// Whether an inode may be one of these.
    pub(super) fn has(&self, inode: u64) -> bool {
        self.made.read().unwrap_or_else(PoisonError::into_inner).contains(&inode)
    }

    fn remember(&self, file: &Stat) {
        self.made.write().unwrap_or_else(PoisonError::into_inner).insert(file.st_ino);
    }

    fn root(&self, area: Area) -> &OwnedFd {
        match area {
            Area::Proc => &self.proc,
            Area::Sys => &self.sys,
        }
    }

    /// The folder, made with those above it, and to who opens it like the real one.
    pub(super) fn folder(&self, file: &File, real: &Stat) -> Result<OwnedFd, Errno> {
        let _one = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        self.made_folder(file, real)
    }

    fn made_folder(&self, file: &File, real: &Stat) -> Result<OwnedFd, Errno> {
        let mut folder = openat(self.root(file.area), ".", FOLDER, Mode::empty())?;
        let names = file.path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        for name in names {
            let name = OsStr::from_bytes(name);
            let next = match openat(&folder, name, FOLDER, Mode::empty()) {
                Ok(next) => next,
                Err(_) => {
                    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
                    remove(&folder, &name)?;
                    mkdirat(&folder, &name, Mode::from_raw_mode(0o555))?;
                    openat(&folder, &name, FOLDER, Mode::empty())?
                }
            };
            self.remember(&fstat(&next)?);
            folder = next;
        }
        if !file.path.is_empty() {
            let now = fstat(&folder)?;
            if (now.st_uid, now.st_gid) != (real.st_uid, real.st_gid) {
                let (uid, gid) = (Uid::from_raw(real.st_uid), Gid::from_raw(real.st_gid));
                fchown(&folder, Some(uid), Some(gid))?;
            }
            if now.st_mode != real.st_mode {
                fchmod(&folder, Mode::from_raw_mode(real.st_mode & 0o7777))?;
            }
        }
        Ok(folder)
    }

    /// The same with the names of the real one.
    pub(super) fn filled(&self, file: &File, real: &Stat, names: Names) -> Result<OwnedFd, Errno> {
        let _one = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.made_folder(file, real)?;
        let mut missing = names;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            // Those of `alias` as well.
            if name.to_bytes().starts_with(b".") || missing.get(name) == Some(&entry.file_type()) {
                missing.remove(name);
                continue;
            }
            remove(&folder, name)?;
        }
        for (name, kind) in &missing {
            match kind {
                FileType::Directory => mkdirat(&folder, name, Mode::from_raw_mode(0o555))?,
                FileType::Symlink => symlinkat(name, &folder, name)?,
                _ => {
                    let mode = Mode::from_raw_mode(0o444);
                    mknodat(&folder, name, FileType::RegularFile, mode, 0)?;
                }
            }
            self.remember(&statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?);
        }
        Ok(folder)
    }

    /// A short name of a program in the step's root.
    pub(super) fn alias(&self, program: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let next = programs.len();
        let number = programs.get(program).copied();
        let folder = format!(".{}", number.unwrap_or(next));
        if number.is_none() {
            mkdirat(&self.proc, &folder, Mode::from_raw_mode(0o555))?;
            let folder = openat(&self.proc, &folder, FOLDER, Mode::empty())?;
            symlinkat(program, &folder, "exe")?;
            programs.insert(program.to_vec(), next);
        }
        Ok(format!("/proc/{folder}/exe").into_bytes())
    }
}

/// Removes a name with all below it.
fn remove(folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let inner = openat(folder, name, FOLDER, Mode::empty())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            remove(&inner, name)?;
        }
    }
    unlinkat(folder, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_names() {
        let home = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            std::fs::create_dir(home.path().join(name)).unwrap();
            rustix::fs::open(home.path().join(name), FOLDER, Mode::empty()).unwrap()
        };
        let mirror = Mirror::new(open("proc"), open("sys")).unwrap();
        let list = |path: &str| {
            let entries = std::fs::read_dir(home.path().join(path)).unwrap().flatten();
            let mut names: Vec<_> =
                entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(list("proc"), ["mounts", "net", "self", "thread-self"]);
        let file = |path: &str| File { area: Area::Proc, path: path.into(), magic: false };
        let like = rustix::fs::stat(home.path()).unwrap();
        let fill = |path: &str, names: &[(&str, FileType)]| {
            let names = names.iter().map(|(name, kind)| (CString::new(*name).unwrap(), *kind));
            mirror.filled(&file(path), &like, names.collect()).unwrap();
        };
        let plain = FileType::RegularFile;
        fill("7/fd", &[("0", FileType::Symlink), ("1", FileType::Symlink)]);
        fill("7/fd", &[("1", FileType::Symlink), ("2", FileType::Symlink)]);
        assert_eq!(list("proc/7/fd"), ["1", "2"]);
        let link = std::fs::read_link(home.path().join("proc/7/fd/2")).unwrap();
        assert_eq!(link.to_str(), Some("2"));
        let alias = mirror.alias(b"/bin/true").unwrap();
        assert_eq!(mirror.alias(b"/bin/true").unwrap(), alias);
        assert_eq!(alias, b"/proc/.0/exe");
        assert_eq!(mirror.alias(b"/bin/false").unwrap(), b"/proc/.1/exe");
        fill("", &[("stat", plain), ("8", FileType::Directory), ("self", FileType::Symlink)]);
        assert_eq!(list("proc"), [".0", ".1", "8", "self", "stat"]);
        let stat = rustix::fs::stat(home.path().join("proc/stat")).unwrap();
        assert!(mirror.has(stat.st_ino) && !mirror.has(like.st_ino));
        // What a file was is a folder now.
        mirror.folder(&file("stat/x"), &like).unwrap();
        assert_eq!(list("proc/stat"), ["x"]);
    }
}
