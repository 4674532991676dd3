//! What a step changed becomes a layer.
//!
//! The upper folder of the step's overlay holds every change; only it is walked,
//! in the order of names. Times are cut to whole seconds and to the epoch, in
//! the layer and on the disk alike, so that later steps see the same whether
//! this one ran or came from the cache. For that reason too, what the layer does
//! not say is taken out of the folder: it becomes the layer's tree, which other
//! stacks with the same layer share.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, major, minor, openat, readlinkat, statat,
    unlinkat,
};
use serde::{Deserialize, Serialize};

use super::special::Specials;
use super::unpack::set_time;
use super::{RootfsError, xattr};
use crate::digest::{BlobDigest, DiffId, Hashing};
use crate::epoch::Epoch;
use crate::layer::{Compression, Entry, Kind, Layer, LayerForm, LayerWriter, Name, RawBytes};
use crate::sandbox::record::{Device, Owner};
use crate::sandbox::{Sandbox, Tier};
use crate::store::Store;

#[derive(Serialize, Deserialize)]
struct Request {
    upper: PathBuf,
    /// The topmost first.
    lowers: Vec<PathBuf>,
    out: PathBuf,
    epoch: i64,
    compression: Compression,
    real_root: bool,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    diff_id: DiffId,
    digest: BlobDigest,
    size: u64,
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
    epoch: Epoch,
    form: LayerForm,
) -> Result<Layer, RootfsError> {
    let blob = store.pending()?;
    let request = Request {
        upper: folder.join("fs"),
        lowers: lowers.to_vec(),
        out: blob.path().to_path_buf(),
        epoch: epoch.seconds(),
        compression: form.compression,
        real_root: sandbox.tier() == Tier::Root,
    };
    let Answer { diff_id, digest, size } = sandbox.call("pack", &request)?;
    blob.commit(&digest, size)?;
    store.adopt_tree(sandbox.kind(), &diff_id, folder)?;
    Ok(Layer { diff_id, digest, size, compression: form.compression })
}

pub(super) fn job(request: &[u8]) -> Result<Vec<u8>, String> {
    let request: Request = serde_json::from_slice(request).map_err(|e| e.to_string())?;
    let answer =
        run(&request).map_err(|error| format!("cannot pack the step's changes: {error}"))?;
    serde_json::to_vec(&answer).map_err(|e| e.to_string())
}

fn run(request: &Request) -> io::Result<Answer> {
    let out = Hashing::new(File::options().write(true).open(&request.out)?);
    let form = LayerForm { compression: request.compression };
    let upper = open_dir(CWD, request.upper.as_os_str())?;
    let mut lowers = Vec::new();
    for lower in &request.lowers {
        lowers.push(open_dir(CWD, lower.as_os_str())?);
    }
    let mut packer = Packer {
        writer: LayerWriter::new(io::BufWriter::with_capacity(1 << 17, out), form),
        epoch: request.epoch,
        real_root: request.real_root,
        specials: Specials::open(&request.upper, &request.lowers)?,
        links: BTreeMap::new(),
        pending: Vec::new(),
    };
    packer.root(&upper, &lowers)?;
    packer.folder(&Name::root(), &upper, &lowers)?;
    packer.specials.keep(&request.upper)?;
    let (out, diff_id) = packer.writer.finish()?;
    let (_, digest, size) = out.into_inner().map_err(io::IntoInnerError::into_error)?.finish();
    Ok(Answer { diff_id, digest: BlobDigest(digest), size })
}

struct Packer<W: io::Write> {
    writer: LayerWriter<W>,
    epoch: i64,
    real_root: bool,
    specials: Specials,
    /// The first name of each file with several: by device and inode.
    links: BTreeMap<(u64, u64), Name>,
    /// Folders that are listed only if something in them is: overlayfs copies
    /// parents up without changing them.
    pending: Vec<Entry>,
}

fn open_dir(at: impl std::os::fd::AsFd, path: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

/// The names in a folder, sorted, without `.` and `..`.
fn names(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl<W: io::Write> Packer<W> {
    /// The root itself is listed only if its mode or owner was changed.
    fn root(&mut self, upper: &OwnedFd, lowers: &[OwnedFd]) -> io::Result<()> {
        let stat = statat(upper, ".", AtFlags::empty())?;
        let entry = self.entry(upper.as_fd(), b"", Name::root(), &stat)?;
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
        let stat = statat(upper, path, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                if below(base, lowers, self.real_root)?.exists {
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
            FileType::Socket => Ok(unlinkat(upper, path, AtFlags::empty())?),
            _ => self.other(name, base, &stat, upper),
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
        let lower = below(base, lowers, self.real_root)?;
        let opaque = xattr::get(upper.as_fd(), base, xattr::opaque(self.real_root))?.is_some();
        let before = match &lower.top {
            Some((folder, stat)) if !opaque => {
                Some(self.entry(folder.as_fd(), base, name.clone(), stat)?)
            }
            _ => None,
        };
        let unchanged = before.as_ref().is_some_and(|before| same(before, &entry));
        // A time that changed because of something that is gone again is no change.
        let time =
            if unchanged { before.map_or(entry.mtime, |before| before.mtime) } else { entry.mtime };
        let open = open_dir(upper, OsStr::from_bytes(base))?;
        let depth = self.pending.len();
        self.pending.push(entry);
        if !unchanged {
            self.parents()?;
        }
        // A new folder is marked opaque too; the mark says something only where
        // lower layers have a folder of that name.
        if opaque && lower.top.is_some() {
            self.parents()?;
            self.writer.opaque(name, self.epoch)?;
        } else if opaque {
            xattr::remove(upper.as_fd(), base, xattr::opaque(self.real_root))?;
        }
        let merged = if opaque { Vec::new() } else { lower.merged };
        self.folder(name, &open, &merged)?;
        let listed = self.pending.get(depth).is_none_or(|entry| entry.name.is_root());
        self.pending.truncate(depth);
        if listed {
            return set_time(upper.as_fd(), base, time);
        }
        Ok(unlinkat(upper, OsStr::from_bytes(base), AtFlags::REMOVEDIR)?)
    }

    fn other(&mut self, name: &Name, base: &[u8], stat: &Stat, upper: &OwnedFd) -> io::Result<()> {
        let mut entry = self.entry(upper.as_fd(), base, name.clone(), stat)?;
        if !matches!(entry.kind, Kind::File { .. })
            && let Some(owner) = self.specials.owner(upper, base, name)?
        {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
        }
        let several = stat.st_nlink > 1;
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
        set_time(upper.as_fd(), base, entry.mtime)
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

/// What lower layers have under one name.
struct Below {
    exists: bool,
    /// The topmost layer's folder that the entry lies in, if the entry is a folder.
    top: Option<(OwnedFd, Stat)>,
    /// The folders that overlayfs would merge, the topmost first.
    merged: Vec<OwnedFd>,
}

fn below(base: &[u8], lowers: &[OwnedFd], real_root: bool) -> io::Result<Below> {
    let path = OsStr::from_bytes(base);
    let mut found = Below { exists: false, top: None, merged: Vec::new() };
    for lower in lowers {
        let stat = match statat(lower, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
            found.exists |= found.merged.is_empty() && !whiteout;
            break;
        }
        found.exists = true;
        if found.top.is_none() {
            found.top = Some((lower.try_clone()?, stat));
        }
        found.merged.push(open_dir(lower, path)?);
        if xattr::get(lower.as_fd(), base, xattr::opaque(real_root))?.is_some() {
            break;
        }
    }
    Ok(found)
}
