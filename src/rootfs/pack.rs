//! What a step changed becomes a layer.
//!
//! The upper folder of the step's overlay holds every change; only it is walked,
//! in the order of names. The layer tells how the state after the step differs from
//! the one before, not how that came about: what was copied up and is as before is
//! left out, and a folder that was made anew lacks names. So it does not depend on
//! what the step's root was made of. Times are cut to whole seconds and to the epoch, in
//! the layer and on the disk alike, so that later steps see the same whether
//! this one ran or came from the cache. For that reason too, what the layer does
//! not say is taken out of the folder: it becomes the layer's tree, which other
//! stacks with the same layer share.

mod normalize;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, major, minor, openat, readlinkat, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use self::normalize::{Left, Rule};
use super::content::remember;
use super::copy::{names, open_dir, times};
use super::mark::Marks;
use super::special::Specials;
use super::unpack::set_time;
use super::{RootfsError, xattr};
use crate::digest::{BlobDigest, DiffId, Hashing};
use crate::epoch::Epoch;
use crate::layer::{
    Entry, Kind, Layer, LayerForm, LayerIndex, LayerWriter, Name, RawBytes, Written,
};
use crate::sandbox::Sandbox;
use crate::sandbox::record::{Device, Owner};
use crate::store::{PendingBlob, Store};

#[derive(Serialize, Deserialize)]
struct Request {
    upper: PathBuf,
    /// The topmost first.
    lowers: Vec<PathBuf>,
    out: PathBuf,
    epoch: i64,
    form: LayerForm,
    marks: Marks,
    /// The folder stays as it is, and its root is listed.
    frozen: bool,
    /// The rules of `pack/normalize.rs` hold.
    normalize: bool,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    diff_id: DiffId,
    digest: BlobDigest,
    size: u64,
    index: LayerIndex,
    normalized: BTreeSet<String>,
}

/// How a step's changes are packed.
#[derive(Debug, Clone, Copy)]
pub struct Packing {
    pub epoch: Epoch,
    pub form: LayerForm,
    /// Files of which every build has others, and that nothing needs, are removed or made
    /// alike (`pack/normalize.rs` has the rules).
    pub normalize: bool,
}

/// A step's changes as a layer.
#[derive(Debug)]
pub struct Packed {
    pub layer: Layer,
    /// The names of the rules that have found something to normalize.
    pub normalized: BTreeSet<String>,
}

/// Packs `folder/fs`, the upper folder of an overlay over `lowers` (the topmost
/// first), into a layer of the store, and keeps the folder as that layer's tree.
///
/// # Errors
/// If something in it cannot be read, or the store not be written.
pub fn pack(
    store: &Store,
    sandbox: &Sandbox,
    folder: &Path,
    lowers: &[PathBuf],
    how: Packing,
) -> Result<Packed, RootfsError> {
    let blob = store.pending()?;
    let request = Request {
        upper: folder.join("fs"),
        lowers: lowers.to_vec(),
        out: blob.path().to_path_buf(),
        epoch: how.epoch.seconds(),
        form: how.form,
        marks: Marks::of(sandbox),
        frozen: false,
        normalize: how.normalize,
    };
    let (packed, (bytes, inodes)) = layer(store, sandbox, blob, &request)?;
    store.grew(bytes, inodes);
    store.adopt_tree(sandbox.kind(), &packed.layer.diff_id, folder)?;
    Ok(packed)
}

/// Packs a folder as it is into a layer of the store: owners, modes and links as a step's
/// layer has them, times in whole seconds. Sockets are left out.
///
/// # Errors
/// If something in it cannot be read, or the store not be written.
pub fn pack_folder(
    store: &Store,
    sandbox: &Sandbox,
    folder: &Path,
    form: LayerForm,
) -> Result<Layer, RootfsError> {
    let blob = store.pending()?;
    let request = Request {
        upper: folder.to_path_buf(),
        lowers: Vec::new(),
        out: blob.path().to_path_buf(),
        epoch: i64::MAX,
        form,
        marks: Marks::of(sandbox),
        frozen: true,
        normalize: false,
    };
    Ok(layer(store, sandbox, blob, &request)?.0.layer)
}

/// The layer, and what it takes as a folder: bytes, and inodes.
fn layer(
    store: &Store,
    sandbox: &Sandbox,
    blob: PendingBlob,
    request: &Request,
) -> Result<(Packed, (u64, u64)), RootfsError> {
    let Answer { diff_id, digest, size, index, normalized } = sandbox.call("pack", request)?;
    blob.commit(&digest, size)?;
    let extent = index.extent();
    remember(store, diff_id, index)?;
    let layer = Layer { diff_id, digest, size, compression: request.form.compression };
    Ok((Packed { layer, normalized }, extent))
}

pub(super) fn job(request: &[u8]) -> Result<Vec<u8>, String> {
    let request: Request = serde_json::from_slice(request).map_err(|e| e.to_string())?;
    let answer =
        run(&request).map_err(|error| format!("cannot pack the step's changes: {error}"))?;
    serde_json::to_vec(&answer).map_err(|e| e.to_string())
}

fn run(request: &Request) -> io::Result<Answer> {
    let out = Hashing::new(File::options().write(true).open(&request.out)?);
    more_files();
    let upper = open_dir(CWD, request.upper.as_os_str())?;
    let mut lowers = Vec::new();
    for lower in &request.lowers {
        lowers.push(open_dir(CWD, lower.as_os_str())?);
    }
    let mut packer = Packer {
        writer: LayerWriter::indexed(io::BufWriter::with_capacity(1 << 17, out), request.form),
        epoch: request.epoch,
        marks: request.marks,
        frozen: request.frozen,
        specials: Specials::open(&request.upper, &request.lowers)?,
        links: BTreeMap::new(),
        pending: Vec::new(),
        normalized: request.normalize.then(BTreeSet::new),
    };
    packer.root(&upper, &lowers)?;
    packer.folder(&Name::root(), &upper, &lowers)?;
    if !request.frozen {
        packer.specials.keep(&request.upper)?;
    }
    let normalized = packer.normalized.iter().flatten().map(|&rule| rule.to_owned()).collect();
    let Written { to, diff_id, index, .. } = packer.writer.finish_whole()?;
    let (_, digest, size) = to.into_inner().map_err(io::IntoInnerError::into_error)?.finish();
    Ok(Answer { diff_id, digest: BlobDigest(digest), size, index, normalized })
}

/// One open folder for each layer may be more than a process has by default.
fn more_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be, opening fails and says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

struct Packer<W: io::Write> {
    writer: LayerWriter<W>,
    epoch: i64,
    marks: Marks,
    frozen: bool,
    specials: Specials,
    /// The first name of each file with several: by device and inode.
    links: BTreeMap<(u64, u64), Name>,
    /// Folders that are listed only if something in them is: overlayfs copies
    /// parents up without changing them.
    pending: Vec<Entry>,
    /// The rules that have found something; none if nothing is to be normalized.
    normalized: Option<BTreeSet<Rule>>,
}

impl<W: io::Write> Packer<W> {
    /// The root itself is listed only if its mode or owner was changed.
    fn root(&mut self, upper: &OwnedFd, lowers: &[OwnedFd]) -> io::Result<()> {
        let stat = statat(upper, ".", AtFlags::empty())?;
        let entry = self.entry(upper.as_fd(), b"", Name::root(), &stat)?;
        if self.frozen {
            return self.writer.entry(&entry, &mut io::empty());
        }
        let before = match lowers.first() {
            Some(lower) => {
                let stat = statat(lower, ".", AtFlags::empty())?;
                self.entry(lower.as_fd(), b"", Name::root(), &stat)?
            }
            None => Entry::dir(Name::root(), 0),
        };
        // A fresh upper folder has an ordinary mode until something sets another.
        if !same(&entry, &before) && !same(&entry, &Entry::dir(Name::root(), 0)) {
            self.list(&entry, &mut io::empty())?;
        }
        Ok(())
    }

    /// `lowers` are the folders of lower layers that are merged with this one.
    fn folder(&mut self, name: &Name, upper: &OwnedFd, lowers: &[OwnedFd]) -> io::Result<()> {
        for base in names(upper)? {
            if self.marks.is_of_folder(&base) {
                continue;
            }
            let here = name.join(&base);
            let context = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", here.display()))
            };
            self.one(&here, &base, upper, lowers).map_err(context)?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        name: &Name,
        base: &[u8],
        upper: &OwnedFd,
        lowers: &[OwnedFd],
    ) -> io::Result<()> {
        let path = OsStr::from_bytes(base);
        if self.frozen && base.starts_with(b".wh.") {
            return Err(io::Error::other(
                "a name that begins with `.wh.` means removal in a layer",
            ));
        }
        let stat = statat(upper, path, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            _ if !self.frozen && self.marks.is_gone(&stat) => {
                if below(base, lowers, self.marks)?.exists {
                    self.parents()?;
                    self.writer.gone(name, self.epoch)?;
                } else {
                    unlinkat(upper, path, AtFlags::empty())?;
                }
                Ok(())
            }
            FileType::Directory => self.dir(name, base, &stat, upper, lowers),
            // A socket is an address of a process that is gone. It goes from the
            // folder too: later steps see what the layer holds.
            FileType::Socket if self.frozen => Ok(()),
            FileType::Socket => Ok(unlinkat(upper, path, AtFlags::empty())?),
            _ => self.other(name, base, &stat, upper, lowers),
        }
    }

    fn dir(
        &mut self,
        name: &Name,
        base: &[u8],
        stat: &Stat,
        upper: &OwnedFd,
        lowers: &[OwnedFd],
    ) -> io::Result<()> {
        let entry = self.entry(upper.as_fd(), base, name.clone(), stat)?;
        let lower = below(base, lowers, self.marks)?;
        let open = open_dir(upper, OsStr::from_bytes(base))?;
        if !self.frozen && self.marks.is_opaque(upper.as_fd(), base)? {
            // It was removed and made again, or overlayfs marks what is new: the layer
            // tells the difference between two states, not how it came about.
            self.spell_out(&open, &lower.merged)?;
            self.marks.clear_opaque(upper.as_fd(), base)?;
        }
        let unchanged = match &lower.top {
            Some((folder, stat)) => {
                same(&self.entry(folder.as_fd(), base, name.clone(), stat)?, &entry)
            }
            None => false,
        };
        let (depth, time) = (self.pending.len(), entry.mtime);
        self.pending.push(entry);
        if !unchanged {
            self.parents()?;
        }
        if base == b"__pycache__" && self.normalized.is_some() {
            self.normalize_compiled(&open, &lower.merged, upper, lowers)?;
        }
        self.folder(name, &open, &lower.merged)?;
        let listed = self.pending.get(depth).is_none_or(|entry| entry.name.is_root());
        self.pending.truncate(depth);
        if self.frozen {
            return Ok(());
        }
        if listed {
            return set_time(upper.as_fd(), base, time);
        }
        Ok(unlinkat(upper, OsStr::from_bytes(base), AtFlags::REMOVEDIR)?)
    }

    /// Marks what lower layers have and an opaque folder has not as gone, one by one.
    fn spell_out(&self, upper: &OwnedFd, lowers: &[OwnedFd]) -> io::Result<()> {
        let before = fstat(upper)?;
        let mut seen = BTreeSet::new();
        for lower in lowers {
            for base in names(lower)? {
                if self.marks.is_of_folder(&base) || !seen.insert(base.clone()) {
                    continue;
                }
                let lower = below(&base, lowers, self.marks)?;
                let path = OsStr::from_bytes(&base);
                match statat(upper, path, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                        self.spell_out(&open_dir(upper, path)?, &lower.merged)?;
                    }
                    Ok(_) => {}
                    Err(Errno::NOENT) if lower.exists => {
                        self.marks.set_gone(upper.as_fd(), &base)?;
                    }
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        times(upper, b"", &before)
    }

    fn other(
        &mut self,
        name: &Name,
        base: &[u8],
        stat: &Stat,
        upper: &OwnedFd,
        lowers: &[OwnedFd],
    ) -> io::Result<()> {
        let mut entry = self.entry(upper.as_fd(), base, name.clone(), stat)?;
        if !matches!(entry.kind, Kind::File { .. })
            && let Some(owner) = self.specials.owner(upper, base, name.as_bytes())?
        {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
        }
        let several = stat.st_nlink > 1;
        // Opened for writing, or changed and changed back. What has several names is
        // here because of the others.
        if !several && self.is_unchanged(&entry, base, stat, upper, lowers)? {
            return Ok(unlinkat(upper, OsStr::from_bytes(base), AtFlags::empty())?);
        }
        match self.normalize(&entry, base, stat, upper, lowers)? {
            Left::AsItIs => {}
            Left::Changed(stat) => {
                entry = self.entry(upper.as_fd(), base, name.clone(), &stat)?;
            }
            Left::Gone => return Ok(()),
        }
        let key = (stat.st_dev, stat.st_ino);
        if several && let Some(first) = self.links.get(&key) {
            entry.kind = Kind::Hardlink { target: first.clone() };
            entry.xattrs.clear();
            return self.list(&entry, &mut io::empty());
        }
        if let Kind::File { size } = entry.kind
            && size > 0
        {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file =
                File::from(openat(upper, OsStr::from_bytes(base), flags, Mode::empty())?);
            self.list(&entry, &mut file)?;
        } else {
            self.list(&entry, &mut io::empty())?;
        }
        if several {
            self.links.insert(key, name.clone());
        }
        if self.frozen {
            return Ok(());
        }
        set_time(upper.as_fd(), base, entry.mtime)
    }

    /// Whether lower layers have the very same, to the nanosecond of its time.
    fn is_unchanged(
        &self,
        entry: &Entry,
        base: &[u8],
        stat: &Stat,
        upper: &OwnedFd,
        lowers: &[OwnedFd],
    ) -> io::Result<bool> {
        let Some((folder, lower)) = below(base, lowers, self.marks)?.other else {
            return Ok(false);
        };
        let before = self.entry(folder.as_fd(), base, entry.name.clone(), &lower)?;
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        if before.kind != entry.kind || !same(&before, entry) || time(stat) != time(&lower) {
            return Ok(false);
        }
        let Kind::File { size: 1.. } = entry.kind else { return Ok(true) };
        let open = |folder: &OwnedFd| -> io::Result<_> {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(folder, OsStr::from_bytes(base), flags, Mode::empty())?;
            Ok(io::BufReader::with_capacity(1 << 16, File::from(file)))
        };
        equal(open(upper)?, open(&folder)?)
    }

    /// Lists folders that wait for something to be in them.
    fn parents(&mut self) -> io::Result<()> {
        // They stay on the stack, for their depth, but are listed once: the writer
        // is told by their name being taken away.
        for entry in &mut self.pending {
            if !entry.name.is_root() {
                let listed = std::mem::replace(entry, Entry::dir(Name::root(), 0));
                self.writer.entry(&listed, &mut io::empty())?;
            }
        }
        Ok(())
    }

    fn list(&mut self, entry: &Entry, content: &mut dyn io::Read) -> io::Result<()> {
        self.parents()?;
        self.writer.entry(entry, content)
    }

    /// What an entry of a folder is, as a layer says it.
    fn entry(
        &self,
        folder: BorrowedFd<'_>,
        base: &[u8],
        name: Name,
        stat: &Stat,
    ) -> io::Result<Entry> {
        let path = OsStr::from_bytes(if base.is_empty() { b"." } else { base });
        let mut xattrs = xattr::all(folder, base)?;
        let owner = xattrs.remove(xattr::OWNER);
        let device = xattrs.remove(xattr::DEVICE);
        xattrs.retain(|key, _| xattr::carried(key));
        let mut kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink {
                target: RawBytes(readlinkat(folder, path, Vec::new())?.into_bytes()),
            },
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => {
                Kind::Char { major: major(stat.st_rdev), minor: minor(stat.st_rdev) }
            }
            FileType::BlockDevice => {
                Kind::Block { major: major(stat.st_rdev), minor: minor(stat.st_rdev) }
            }
            _ => Kind::File { size: u64::try_from(stat.st_size).unwrap_or(0) },
        };
        if let Some(device) = device.and_then(|text| Device::parse(&text.0)) {
            let Device { block, major, minor } = device;
            kind = if block { Kind::Block { major, minor } } else { Kind::Char { major, minor } };
        }
        let recorded = owner.and_then(|text| Owner::parse(&text.0));
        let kernels = Owner { uid: stat.st_uid, gid: stat.st_gid };
        let Owner { uid, gid } = recorded.unwrap_or(kernels);
        let mtime = stat.st_mtime.min(self.epoch);
        Ok(Entry { name, kind, mode: stat.st_mode & 0o7777, uid, gid, mtime, xattrs })
    }
}

/// True if two folders differ in nothing but their time.
fn same(a: &Entry, b: &Entry) -> bool {
    (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && a.xattrs == b.xattrs
}

/// Whether two files hold the same bytes.
fn equal(mut one: impl BufRead, mut other: impl BufRead) -> io::Result<bool> {
    loop {
        let (a, b) = (one.fill_buf()?, other.fill_buf()?);
        let count = a.len().min(b.len());
        if count == 0 {
            return Ok(a.len() == b.len());
        }
        if a.get(..count) != b.get(..count) {
            return Ok(false);
        }
        one.consume(count);
        other.consume(count);
    }
}

/// What lower layers have under one name.
struct Below {
    exists: bool,
    /// The folder that the entry lies in, if it is there and no folder.
    other: Option<(OwnedFd, Stat)>,
    /// The topmost layer's folder that the entry lies in, if the entry is a folder.
    top: Option<(OwnedFd, Stat)>,
    /// The folders that overlayfs would merge, the topmost first.
    merged: Vec<OwnedFd>,
}

fn below(base: &[u8], lowers: &[OwnedFd], marks: Marks) -> io::Result<Below> {
    let path = OsStr::from_bytes(base);
    let mut found = Below { exists: false, other: None, top: None, merged: Vec::new() };
    for lower in lowers {
        match statat(lower, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                found.exists = true;
                if found.top.is_none() {
                    found.top = Some((lower.try_clone()?, stat));
                }
                found.merged.push(open_dir(lower, path)?);
                if marks.is_opaque(lower.as_fd(), base)? {
                    break;
                }
            }
            Ok(stat) => {
                if found.merged.is_empty() && !marks.is_gone(&stat) {
                    found.exists = true;
                    found.other = Some((lower.try_clone()?, stat));
                }
                break;
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
