//! What changed in a plain folder, found by looking at it before and after.
//!
//! A snapshot has, for each name, its inode and the time of its last change, which no
//! process can set (inode(7)). What differs from it is copied to an upper folder as
//! overlayfs would have made it; `pack` then judges what of it is a change. So too
//! much may be copied here, but nothing can be missed: the snapshot is over before
//! the clock of the file system goes on, and only then may something run.
//!
//! Where a lower layer has a file under several names, overlayfs changes the one that is used,
//! and a plain folder all. So only names count that [`several`] saw used. Two things remain: a
//! process of the same step sees the others changed too, and names that were used for
//! different changes have all of these.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::copy::{self, names, open_dir};
use super::mark::Marks;
use super::merge;
use super::special::Specials;
use crate::sandbox::{record as owners, several};

/// How many milliseconds the clock of a file system may stand still: a tick is at most
/// ten, and a server's may be longer.
const TICKS: u32 = 50;

/// What a snapshot has of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    mode: u32,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Seen {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between platforms")]
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            mode: stat.st_mode,
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        }
    }
}

/// Writes what there is below a folder, and beside that what has several names.
pub(super) fn write(root: &OwnedFd, file: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    let mut last = (0, 0);
    let mut linked = Vec::new();
    record(root, &mut Vec::new(), &mut out, &mut last, &mut linked)?;
    std::fs::write(several::list_file(file), linked)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    for _ in 0..TICKS {
        // The clock that counts is the file system's.
        fchmod(&file, Mode::from_raw_mode(0o600))?;
        if Seen::of(&fstat(&file)?).changed > last {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn record(
    folder: &OwnedFd,
    path: &mut Vec<u8>,
    out: &mut impl io::Write,
    last: &mut (i64, i64),
    linked: &mut Vec<u8>,
) -> io::Result<()> {
    for base in names(folder)? {
        let stat = statat(folder, OsStr::from_bytes(&base), AtFlags::SYMLINK_NOFOLLOW)?;
        let seen = Seen::of(&stat);
        *last = (*last).max(seen.changed);
        let length = path.len();
        join(path, &base);
        let Seen { inode, mode, changed, modified } = seen;
        let (changed, modified) = (pair(changed), pair(modified));
        write!(out, "{inode} {mode} {changed} {modified} ")?;
        out.write_all(path)?;
        out.write_all(b"\0")?;
        if is_folder(&stat) {
            record(&open_dir(folder, OsStr::from_bytes(&base))?, path, out, last, linked)?;
        } else if stat.st_nlink > 1 {
            linked.extend_from_slice(path);
            linked.push(0);
        }
        path.truncate(length);
    }
    Ok(())
}

fn pair((seconds, nanoseconds): (i64, i64)) -> String {
    format!("{seconds} {nanoseconds}")
}

fn join(path: &mut Vec<u8>, base: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend(base);
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn read(file: &Path) -> io::Result<BTreeMap<Vec<u8>, Seen>> {
    let mut all = BTreeMap::new();
    for line in BufReader::new(File::open(file)?).split(0) {
        let line = line?;
        let mut fields = line.splitn(7, |&c| c == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<i64>().ok();
        let seen = (|| {
            Some(Seen {
                inode: u64::try_from(number()?).ok()?,
                mode: u32::try_from(number()?).ok()?,
                changed: (number()?, number()?),
                modified: (number()?, number()?),
            })
        })();
        let (Some(seen), Some(path)) = (seen, fields.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        all.insert(path.to_vec(), seen);
    }
    Ok(all)
}

#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) root: PathBuf,
    pub(super) snapshot: PathBuf,
    /// An empty folder.
    pub(super) upper: PathBuf,
    pub(super) marks: Marks,
}

/// Copies what changed to the upper folder; answers whether the root has more changed than
/// that.
pub(super) fn changes(request: &[u8]) -> Result<Vec<u8>, String> {
    let request: Request = serde_json::from_slice(request).map_err(|e| e.to_string())?;
    let run = || {
        let root = open_dir(CWD, request.root.as_os_str())?;
        let upper = open_dir(CWD, request.upper.as_os_str())?;
        let before = read(&request.snapshot)?;
        let used = used(&request.root)?;
        let inode = |name: &Vec<u8>| before.get(name).map(|seen| seen.inode);
        let mut changes = Changes {
            by_name: used.iter().filter_map(inode).collect(),
            used,
            more: false,
            before,
            marks: request.marks,
            upper: &upper,
            path: Vec::new(),
            levels: Vec::new(),
            links: BTreeMap::new(),
            known: BTreeSet::new(),
            specials: Specials::open(&request.root, &[])?,
            recorded: String::new(),
        };
        changes.folder(&root).map_err(|error| {
            let place = String::from_utf8_lossy(&changes.path).into_owned();
            io::Error::new(error.kind(), format!("{place}: {error}"))
        })?;
        if !changes.recorded.is_empty() {
            std::fs::write(owners::handles_file(&request.upper), &changes.recorded)?;
        }
        copy::attributes(&root, &upper, b"", &fstat(&root)?)?;
        Ok(changes.more)
    };
    let more =
        run().map_err(|error: io::Error| format!("cannot find the step's changes: {error}"))?;
    Ok(more.to_string().into_bytes())
}

/// The names of files with several by which something was changed; none are known where the
/// kernel could not tell.
fn used(root: &Path) -> io::Result<BTreeSet<Vec<u8>>> {
    match std::fs::read(several::used_file(root)) {
        Ok(names) => Ok(names.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

struct Changes<'a> {
    before: BTreeMap<Vec<u8>, Seen>,
    marks: Marks,
    upper: &'a OwnedFd,
    path: Vec<u8>,
    /// The folders down to the present one: names, and those of the upper folder that
    /// had to be made.
    levels: Vec<(Vec<u8>, Option<OwnedFd>)>,
    /// The first name of each new or changed file with several.
    links: BTreeMap<u64, Vec<OsString>>,
    /// Of these, which had a name before: overlayfs would have copied each such name
    /// for itself.
    known: BTreeSet<u64>,
    /// Names that were used, and the files that they are names of.
    used: BTreeSet<Vec<u8>>,
    by_name: BTreeSet<u64>,
    /// A file was changed under names that an overlay would have left as they were.
    more: bool,
    specials: Specials,
    /// Their owners, by the handles of the copies.
    recorded: String,
}

impl Changes<'_> {
    fn folder(&mut self, from: &OwnedFd) -> io::Result<()> {
        for base in names(from)? {
            let length = self.path.len();
            join(&mut self.path, &base);
            self.one(from, &base)?;
            self.path.truncate(length);
        }
        self.gone()
    }

    fn one(&mut self, from: &OwnedFd, base: &[u8]) -> io::Result<()> {
        let path = OsStr::from_bytes(base);
        let stat = statat(from, path, AtFlags::SYMLINK_NOFOLLOW)?;
        let before = self.before.remove(&self.path);
        let changed = before != Some(Seen::of(&stat));
        if !is_folder(&stat) {
            // An address of a process that is gone.
            let socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
            if changed && !socket {
                self.other(from, base, &stat, before)?;
            }
            return Ok(());
        }
        self.levels.push((base.to_vec(), None));
        if changed {
            self.here()?;
        }
        self.folder(&open_dir(from, path)?)?;
        if let Some((_, Some(_))) = self.levels.pop() {
            copy::attributes(from, &self.here()?, base, &stat)?;
        }
        Ok(())
    }

    fn other(
        &mut self,
        from: &OwnedFd,
        base: &[u8],
        stat: &Stat,
        before: Option<Seen>,
    ) -> io::Result<()> {
        let old = before.is_some_and(|before| before.inode == stat.st_ino);
        if old && self.by_name.contains(&stat.st_ino) && !self.used.contains(&self.path) {
            self.more = true;
            return Ok(());
        }
        let into = self.here()?;
        if stat.st_nlink > 1 && (!old || self.known.insert(stat.st_ino)) {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return merge::link(self.upper, first, &into, OsStr::from_bytes(base));
            }
            self.links.insert(stat.st_ino, split(&self.path));
        }
        copy::other(from, &into, base, stat)?;
        self.record(from, &into, base, stat)
    }

    /// The owner of what can carry no attribute goes with its copy.
    fn record(
        &mut self,
        from: &OwnedFd,
        into: &OwnedFd,
        base: &[u8],
        stat: &Stat,
    ) -> io::Result<()> {
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile || !self.specials.any() {
            return Ok(());
        }
        // One that is root's is said to be: lower layers may list another under its path.
        let owner = self.specials.owner(from, base, &self.path)?.unwrap_or_default();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(into, OsStr::from_bytes(base), flags, Mode::empty())?;
        self.recorded.push_str(&owners::handle_line(&owners::handle(&made)?, owner));
        Ok(())
    }

    /// Marks what the present folder had.
    fn gone(&mut self) -> io::Result<()> {
        let mut prefix = self.path.clone();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        // Names that sort between a folder's own and those in it (`a.b` before `a/b`)
        // are not passed: the prefix ends in a slash.
        let paths = self.before.range(prefix.clone()..).map(|(path, _)| path.clone());
        let left: Vec<_> = paths.take_while(|path| path.starts_with(&prefix)).collect();
        for path in left {
            self.before.remove(&path);
            let base = path.get(prefix.len()..).unwrap_or_default();
            if base.contains(&b'/') {
                continue;
            }
            match self.marks.set_gone(std::os::fd::AsFd::as_fd(&self.here()?), base) {
                // What was a folder and is none any more hides what was in it.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The upper folder's part of the present folder.
    fn here(&mut self) -> io::Result<OwnedFd> {
        let mut at = self.upper.try_clone()?;
        for (base, made) in &mut self.levels {
            if made.is_none() {
                let path = OsStr::from_bytes(base);
                mkdirat(&at, path, Mode::from_raw_mode(0o700))?;
                *made = Some(open_dir(&at, path)?);
            }
            if let Some(folder) = made {
                at = folder.try_clone()?;
            }
        }
        Ok(at)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Keep {
    pub(super) root: PathBuf,
    pub(super) snapshot: PathBuf,
    /// What the changes became.
    pub(super) tree: PathBuf,
}

/// Makes the root the one that later steps would stand on had this one come from the
/// cache: with the times that the layer says, without sockets, and with files under
/// several names only where the layer has them so.
pub(super) fn keep(request: &[u8]) -> Result<Vec<u8>, String> {
    let request: Keep = serde_json::from_slice(request).map_err(|e| e.to_string())?;
    let run = || {
        let root = open_dir(CWD, request.root.as_os_str())?;
        let tree = open_dir(CWD, request.tree.as_os_str())?;
        let before = read(&request.snapshot)?;
        let mut keeper = Keeper { root: &root, before, path: Vec::new(), links: BTreeMap::new() };
        keeper.folder(&root, Some(&tree))?;
        write(&root, &request.snapshot)
    };
    run().map_err(|error: io::Error| format!("cannot keep the step's root: {error}"))?;
    Ok(b"null".to_vec())
}

struct Keeper<'a> {
    root: &'a OwnedFd,
    before: BTreeMap<Vec<u8>, Seen>,
    path: Vec<u8>,
    /// The first name of each file of the tree with several.
    links: BTreeMap<u64, Vec<OsString>>,
}

impl Keeper<'_> {
    fn folder(&mut self, root: &OwnedFd, tree: Option<&OwnedFd>) -> io::Result<()> {
        for base in names(root)? {
            let length = self.path.len();
            join(&mut self.path, &base);
            self.one(root, tree, &base)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn one(&mut self, root: &OwnedFd, tree: Option<&OwnedFd>, base: &[u8]) -> io::Result<()> {
        let name = OsStr::from_bytes(base);
        let mut stat = statat(root, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            return Ok(unlinkat(root, name, AtFlags::empty())?);
        }
        let listed = match tree.map(|tree| (tree, statat(tree, name, AtFlags::SYMLINK_NOFOLLOW))) {
            Some((tree, Ok(listed))) => Some((tree, listed)),
            Some((_, Err(Errno::NOENT))) | None => None,
            Some((_, Err(error))) => return Err(error.into()),
        };
        if is_folder(&stat) {
            let below = match listed {
                Some((tree, listed)) if is_folder(&listed) => Some(open_dir(tree, name)?),
                _ => None,
            };
            self.folder(&open_dir(root, name)?, below.as_ref())?;
            stat = statat(root, name, AtFlags::SYMLINK_NOFOLLOW)?;
        } else if let Some((tree, listed)) = listed
            && (stat.st_nlink > 1 || listed.st_nlink > 1)
        {
            // Its other names may be replaced already, so that it has one left.
            unlinkat(root, name, AtFlags::empty())?;
            if let Some(first) = self.links.get(&listed.st_ino) {
                return merge::link(self.root, first, root, name);
            }
            self.links.insert(listed.st_ino, split(&self.path));
            return copy::other(tree, root, base, &listed);
        }
        let now = Seen::of(&stat).modified;
        let time = match (listed, self.before.get(&self.path)) {
            (Some((_, listed)), _) => Seen::of(&listed).modified,
            (None, Some(before)) => before.modified,
            (None, None) => now,
        };
        if time != now {
            stat.st_mtime = time.0;
            stat.st_mtime_nsec = time.1.unsigned_abs();
            copy::times(root, base, &stat)?;
        }
        Ok(())
    }
}

/// The names of a path.
fn split(path: &[u8]) -> Vec<OsString> {
    path.split(|&c| c == b'/').map(|name| OsString::from_vec(name.into())).collect()
}
