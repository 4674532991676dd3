//! A folder of the host read into a [`Tree`]: each entry is looked at once, and no link
//! is followed on any way.
//!
//! Level by level, the folders of a level in parallel. A folder is opened by its path
//! below the root's descriptor, so that none of it can have become a link, and its entries
//! are asked for by name in the open folder.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, major, minor, openat2, readlinkat,
    statat,
};

use super::memory::{Stamp, is_fresh};
use super::tree::{New, Tree, What};
use crate::atomic::{AtPath as _, PathError};
use crate::digest::{Digest, Hashing};
use crate::dockerfile::{Above, Ignore};

/// Levels with fewer folders are not worth waking other threads for.
const FEW: usize = 16;
/// So many are listed before what they list is kept in its small form.
const BATCH: usize = 256;

/// A folder as it was walked.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) tree: Tree,
    /// By item; of files alone they say anything.
    pub(super) stamps: Vec<Stamp>,
    /// Files that were changed so lately that their stamps say nothing.
    pub(super) fresh: HashSet<u32>,
    /// Names all of what was seen, content only by [`Stamp`]s. None if there is a fresh file.
    pub(super) state: Option<Digest>,
    pub(super) root: OwnedFd,
}

/// A folder to be listed.
struct Folder {
    /// None for the root.
    at: Option<u32>,
    path: Vec<u8>,
    above: Above,
}

/// What a folder lists, sorted by name.
#[derive(Default)]
struct Listed {
    /// Of all, with a NUL behind each, as the kernel takes them.
    names: Vec<u8>,
    found: Vec<Found>,
    /// Files that have names elsewhere, with device and inode.
    linked: Vec<(usize, (u64, u64))>,
    /// Files that were changed lately.
    fresh: Vec<usize>,
    /// The rest is by place in `found`: targets of symbolic links,
    targets: Vec<(usize, Box<[u8]>)>,
    /// numbers of devices,
    devices: Vec<(usize, (u32, u32))>,
    /// and for folders what holds in them.
    folders: Vec<(usize, Above)>,
}

struct Found {
    /// Where its name begins.
    name: usize,
    /// Of a file.
    size: u64,
    stamp: Stamp,
    mode: u16,
    what: What,
}

impl Listed {
    fn leaf(&self, at: usize) -> &[u8] {
        let name = CStr::from_bytes_until_nul(&self.names[at..]);
        name.map_or(&[], CStr::to_bytes)
    }
}

/// Reads a folder, less what is ignored. `now` is a time before, in seconds.
///
/// # Errors
/// If something in it cannot be read.
pub(super) fn walk(root: &Path, ignore: &Ignore, now: i64) -> Result<Walked, PathError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags, Mode::empty()).at("open", root)?;
    let mut walked = Walked {
        tree: Tree::default(),
        stamps: Vec::new(),
        fresh: HashSet::new(),
        state: None,
        root: folder,
    };
    // The first name of files with several.
    let mut linked: HashMap<(u64, u64), u32> = HashMap::new();
    let mut level = vec![Folder { at: None, path: Vec::new(), above: ignore.at_root() }];
    while !level.is_empty() {
        let mut deeper = Vec::new();
        for batch in level.chunks(BATCH) {
            let list = |one: &Folder| list(&walked.root, root, one, ignore, now);
            let listed: Vec<_> = if batch.len() < FEW {
                batch.iter().map(list).collect()
            } else {
                batch.par_iter().map(list).collect()
            };
            for (folder, listed) in batch.iter().zip(listed) {
                walked.add(folder, listed?, &mut linked, &mut deeper).at("read", root)?;
            }
        }
        level = deeper;
    }
    walked.tree.settle();
    walked.stamps.shrink_to_fit();
    if walked.fresh.is_empty() {
        walked.state = state(&walked.tree, &walked.stamps);
    }
    Ok(walked)
}

impl Walked {
    fn add(
        &mut self,
        folder: &Folder,
        listed: Listed,
        linked: &mut HashMap<(u64, u64), u32>,
        deeper: &mut Vec<Folder>,
    ) -> io::Result<()> {
        let tree = &mut self.tree;
        let new = listed.found.iter().map(|one| New {
            leaf: listed.leaf(one.name),
            what: one.what,
            mode: one.mode,
            size: one.size,
        });
        // That there are no more of them than it can count, the tree has seen to.
        let first = tree.fill(folder.at, new)?;
        let number = |at: usize| first + at as u32;
        self.stamps.extend(listed.found.iter().map(|one| one.stamp));
        self.fresh.extend(listed.fresh.iter().map(|at| number(*at)));
        for &(at, file) in &listed.linked {
            match linked.entry(file) {
                Slot::Occupied(other) => tree.link(number(at), *other.get()),
                Slot::Vacant(slot) => drop(slot.insert(number(at))),
            }
        }
        for (at, above) in &listed.folders {
            let path = join(&folder.path, listed.leaf(listed.found[*at].name));
            deeper.push(Folder { at: Some(number(*at)), path, above: above.clone() });
        }
        for (at, target) in listed.targets {
            tree.set_target(number(at), target);
        }
        for (at, device) in listed.devices {
            tree.set_device(number(at), device);
        }
        Ok(())
    }
}

fn join(folder: &[u8], leaf: &[u8]) -> Vec<u8> {
    if folder.is_empty() { leaf.to_vec() } else { [folder, b"/", leaf].concat() }
}

/// What a folder has.
fn list(
    base: &OwnedFd,
    root: &Path,
    folder: &Folder,
    ignore: &Ignore,
    now: i64,
) -> Result<Listed, PathError> {
    let whole = |path: &[u8]| -> PathBuf { root.join(OsStr::from_bytes(path)) };
    let place = || whole(&folder.path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path: &[u8] = if folder.path.is_empty() { b"." } else { &folder.path };
    let opened = openat2(base, path, flags, Mode::empty(), resolve).at("open", place())?;
    let mut listed = Listed::default();
    let mut all: Vec<(usize, FileType)> = Vec::new();
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 32 << 10];
    let mut entries = RawDir::new(opened.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.at("read", place())?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            all.push((listed.names.len(), entry.file_type()));
            listed.names.extend_from_slice(entry.file_name().to_bytes_with_nul());
        }
    }
    all.sort_unstable_by_key(|(at, _)| listed.leaf(*at));
    listed.found.reserve_exact(all.len());
    for (at, kind) in all {
        let leaf = CStr::from_bytes_until_nul(&listed.names[at..]).unwrap_or_default();
        let path = || join(&folder.path, leaf.to_bytes());
        let mut above = folder.above.clone();
        let left_out = !ignore.is_empty() && ignore.enter(&mut above, &path()).is_some();
        // Some file systems do not say what an entry is.
        let may_be_dir = matches!(kind, FileType::Directory | FileType::Unknown);
        if left_out && !(may_be_dir && ignore.may_reinclude_below(path())) {
            continue;
        }
        let stat = match statat(&opened, leaf, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It has gone since it was listed.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(error).at("read", whole(&path())),
        };
        let mut one = Found::of(at, &stat);
        if left_out {
            if one.what != What::Dir {
                continue;
            }
            one.what = What::Above;
        }
        let at = listed.found.len();
        match one.what {
            What::Dir | What::Above => listed.folders.push((at, above)),
            What::Symlink => {
                let target =
                    readlinkat(&opened, leaf, Vec::new()).at("read link", whole(&path()))?;
                listed.targets.push((at, target.into_bytes().into()));
            }
            What::Char | What::Block => {
                listed.devices.push((at, (major(stat.st_rdev), minor(stat.st_rdev))));
            }
            What::File => {
                if stat.st_nlink > 1 {
                    listed.linked.push((at, (stat.st_dev, stat.st_ino)));
                }
                if is_fresh(&stat, now) {
                    listed.fresh.push(at);
                }
            }
            What::Fifo | What::Socket | What::Gone => (),
        }
        listed.found.push(one);
    }
    Ok(listed)
}

impl Found {
    fn of(name: usize, stat: &Stat) -> Self {
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => What::Dir,
            FileType::RegularFile => What::File,
            FileType::Symlink => What::Symlink,
            FileType::Fifo => What::Fifo,
            FileType::CharacterDevice => What::Char,
            FileType::BlockDevice => What::Block,
            FileType::Socket | FileType::Unknown => What::Socket,
        };
        Self {
            name,
            what,
            mode: (stat.st_mode & 0o7777) as u16,
            stamp: if what == What::File { Stamp::of(stat) } else { Stamp::default() },
            size: if what == What::File { stat.st_size as u64 } else { 0 },
        }
    }
}

/// Everything that was seen, and of files their stamps, each field with a fixed length or
/// its length before it.
fn state(tree: &Tree, stamps: &[Stamp]) -> Option<Digest> {
    let mut to = io::BufWriter::with_capacity(1 << 16, Hashing::new(io::sink()));
    for (at, stamp) in (0..).zip(stamps) {
        write_item(tree, at, stamp, &mut to).ok()?;
    }
    let (_, digest, _) = to.into_inner().ok()?.finish();
    Some(digest)
}

fn write_item(tree: &Tree, at: u32, stamp: &Stamp, to: &mut impl io::Write) -> io::Result<()> {
    let mut field = |bytes: &[u8]| {
        to.write_all(&(bytes.len() as u64).to_le_bytes())?;
        to.write_all(bytes)
    };
    field(tree.leaf(at))?;
    field(tree.target(at).unwrap_or_default())?;
    let (major, minor) = tree.device(at).unwrap_or_default();
    // Written field by field, so that nothing is said twice and nothing left out.
    let what = match tree.what(at) {
        What::Dir => 0_u32,
        What::Above => 1,
        What::File => 2,
        What::Symlink => 3,
        What::Fifo => 4,
        What::Char => 5,
        What::Block => 6,
        What::Socket => 7,
        What::Gone => 8,
    };
    let parent = tree.parent(at).map_or(0, |parent| parent + 1);
    for number in [what, parent, tree.mode(at).into(), tree.first(at), major, minor] {
        to.write_all(&number.to_le_bytes())?;
    }
    to.write_all(stamp.bytes())
}
