//! A folder of the host read into a [`Tree`]: each entry is looked at once, and no link
//! is followed on any way.
//!
//! Level by level, the folders of a level in parallel. A folder is opened by its path
//! below the root's descriptor, so that none of it can have become a link, and its entries
//! are asked for by name in the open folder.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
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

use super::memory::Stamp;
use super::tree::{New, Tree, What};
use crate::atomic::{AtPath as _, PathError};
use crate::digest::{Digest, Hashing};
use crate::dockerfile::{Above, Ignore};

/// Levels with fewer folders are not worth waking other threads for.
const FEW: usize = 16;

/// A folder as it was walked.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) tree: Tree,
    /// By item; of files alone they say anything.
    pub(super) stamps: Vec<Stamp>,
    /// Names all of what was seen, content only by [`Stamp`]s. None if a file was changed so
    /// lately that its stamp says nothing.
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

/// What a folder lists.
struct Found {
    leaf: Box<[u8]>,
    what: What,
    mode: u32,
    stamp: Stamp,
    /// The file has names elsewhere.
    linked: bool,
    target: Option<Box<[u8]>>,
    device: Option<(u32, u32)>,
    /// Of a folder: for what is in it.
    above: Option<Above>,
}

/// Reads a folder, less what is ignored. `now` is a time before, in seconds.
///
/// # Errors
/// If something in it cannot be read.
pub(super) fn walk(root: &Path, ignore: &Ignore, now: i64) -> Result<Walked, PathError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags, Mode::empty()).at("open", root)?;
    let (mut tree, mut stamps) = (Tree::default(), Vec::new());
    // The first name of files with several.
    let mut linked: HashMap<(u64, u64), u32> = HashMap::new();
    let mut level = vec![Folder { at: None, path: Vec::new(), above: ignore.at_root() }];
    while !level.is_empty() {
        let list = |one: &Folder| list(&folder, root, one, ignore);
        let listed: Vec<_> = if level.len() < FEW {
            level.iter().map(list).collect()
        } else {
            level.par_iter().map(list).collect()
        };
        let mut deeper = Vec::new();
        for (parent, found) in level.into_iter().zip(listed) {
            let mut found = found?;
            // No more than a tree can count.
            let first = tree.len();
            for (at, one) in (first..).zip(&mut found) {
                let at = u32::try_from(at).unwrap_or(u32::MAX);
                stamps.push(one.stamp);
                if let Some(above) = one.above.take() {
                    let path = join(&parent.path, &one.leaf);
                    deeper.push(Folder { at: Some(at), path, above });
                }
                if one.linked {
                    match linked.entry(one.stamp.file()) {
                        Slot::Occupied(first) => tree.link(at, *first.get()),
                        Slot::Vacant(slot) => drop(slot.insert(at)),
                    }
                }
            }
            let new = found.iter_mut().map(|one| New {
                leaf: &one.leaf,
                what: one.what,
                mode: one.mode,
                size: one.stamp.size(),
                target: one.target.take(),
                device: one.device,
            });
            tree.fill(parent.at, new).at("read", root)?;
        }
        level = deeper;
    }
    tree.settle();
    stamps.shrink_to_fit();
    let state = state(&tree, &stamps, now);
    Ok(Walked { tree, stamps, state, root: folder })
}

fn join(folder: &[u8], leaf: &[u8]) -> Vec<u8> {
    if folder.is_empty() { leaf.to_vec() } else { [folder, b"/", leaf].concat() }
}

/// What a folder has, sorted.
fn list(
    base: &OwnedFd,
    root: &Path,
    folder: &Folder,
    ignore: &Ignore,
) -> Result<Vec<Found>, PathError> {
    let whole = |path: &[u8]| -> PathBuf { root.join(OsStr::from_bytes(path)) };
    let place = || whole(&folder.path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path: &[u8] = if folder.path.is_empty() { b"." } else { &folder.path };
    let opened = openat2(base, path, flags, Mode::empty(), resolve).at("open", place())?;
    // Names with a NUL behind each, as the kernel takes them.
    let mut names: Vec<u8> = Vec::new();
    let mut all: Vec<(usize, FileType)> = Vec::new();
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 32 << 10];
    let mut entries = RawDir::new(opened.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.at("read", place())?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            all.push((names.len(), entry.file_type()));
            names.extend_from_slice(entry.file_name().to_bytes_with_nul());
        }
    }
    let leaf = |at: usize| CStr::from_bytes_until_nul(&names[at..]).unwrap_or_default();
    all.sort_unstable_by_key(|(at, _)| leaf(*at).to_bytes());
    let mut found = Vec::with_capacity(all.len());
    let rules = !ignore.is_empty();
    for (at, kind) in all {
        let name = leaf(at);
        let path = join(&folder.path, name.to_bytes());
        let mut above = folder.above.clone();
        let left_out = rules && ignore.enter(&mut above, &path).is_some();
        // Some file systems do not say what an entry is.
        if left_out && !matches!(kind, FileType::Directory | FileType::Unknown) {
            continue;
        }
        if left_out && kind == FileType::Directory && !ignore.may_reinclude_below(&path) {
            continue;
        }
        let stat = statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW).at("read", whole(&path))?;
        let mut one = Found::of(name, &stat);
        if left_out {
            if one.what != What::Dir || !ignore.may_reinclude_below(&path) {
                continue;
            }
            one.what = What::Above;
        }
        if matches!(one.what, What::Dir | What::Above) {
            one.above = Some(above);
        }
        if one.what == What::Symlink {
            let target = readlinkat(&opened, name, Vec::new()).at("read link", whole(&path))?;
            one.target = Some(target.into_bytes().into());
        }
        found.push(one);
    }
    Ok(found)
}

impl Found {
    fn of(name: &CStr, stat: &Stat) -> Self {
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => What::Dir,
            FileType::RegularFile => What::File,
            FileType::Symlink => What::Symlink,
            FileType::Fifo => What::Fifo,
            FileType::CharacterDevice => What::Char,
            FileType::BlockDevice => What::Block,
            FileType::Socket | FileType::Unknown => What::Socket,
        };
        let device = matches!(what, What::Char | What::Block);
        Self {
            leaf: name.to_bytes().into(),
            what,
            mode: stat.st_mode,
            stamp: if what == What::File { Stamp::of(stat) } else { Stamp::default() },
            linked: what == What::File && stat.st_nlink > 1,
            target: None,
            device: device.then(|| (major(stat.st_rdev), minor(stat.st_rdev))),
            above: None,
        }
    }
}

/// Everything that was seen, and of files their stamps, each field with a fixed length or
/// its length before it.
fn state(tree: &Tree, stamps: &[Stamp], now: i64) -> Option<Digest> {
    let mut to = io::BufWriter::with_capacity(1 << 16, Hashing::new(io::sink()));
    for (at, stamp) in (0..).zip(stamps) {
        let what = tree.what(at);
        if what == What::File && stamp.is_fresh(now) {
            return None;
        }
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
    stamp.fields().iter().try_for_each(|field| to.write_all(field))
}
