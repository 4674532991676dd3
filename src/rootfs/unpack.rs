//! Layers become folders that overlayfs can stack.
//!
//! Each layer is unpacked for itself, once per owner mapping, and shared by all
//! builds and containers. Whiteouts become overlayfs's. The job runs as root of
//! the mapping, and every step of a path is taken below the folder's descriptor
//! with no link followed, so that no name can lead out of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat,
    fchmod, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::content::{is_read, remember};
use super::mark::Marks;
use super::place::{Place, places};
use super::{RootfsError, Work, xattr};
use crate::atomic::AtPath as _;
use crate::digest::{DiffId, Hashing};
use crate::layer::{
    Compression, Decompressor, Entry, Kind, Layer, LayerIndex, Name, Reader, Whiteout, whiteout_of,
};
use crate::progress::Progress;
use crate::sandbox::record::{self, Device, Listed, Owner};
use crate::sandbox::{Sandbox, Tier};
use crate::store::Store;

/// The folders of unpacked layers, the topmost first: an overlay's lowers.
/// Layers that are not there yet are unpacked, several at once.
///
/// # Errors
/// If a layer is absent, damaged or hostile, or cannot be unpacked here.
pub fn unpacked(
    store: &Store,
    sandbox: &Sandbox,
    layers: &[Layer],
    progress: &Progress,
) -> Result<Vec<PathBuf>, RootfsError> {
    unpack_unread(store, sandbox, layers, progress)?;
    let places = places(store, layers)?;
    unpack_all(store, sandbox, &places, progress)?;
    Ok(distinct(places.iter().rev().map(|place| folder(store, sandbox, place))))
}

/// Unpacks layers that nothing is known of yet, on the guess that each stands for
/// itself, which almost all do. Their tables of contents come along: otherwise a layer
/// would be decompressed once for that and once more to be unpacked.
///
/// # Errors
/// As those of [`unpacked`].
pub fn unpack_unread(
    store: &Store,
    sandbox: &Sandbox,
    layers: &[Layer],
    progress: &Progress,
) -> Result<(), RootfsError> {
    let unread = layers.iter().filter(|layer| !is_read(store, layer));
    let places: Vec<_> = unread.map(Place::alone).collect();
    unpack_all(store, sandbox, &places, progress)
}

fn folder(store: &Store, sandbox: &Sandbox, place: &Place<'_>) -> PathBuf {
    store.tree(sandbox.kind(), &place.id).join("fs")
}

/// Unpacks what is not there yet, several layers at once.
fn unpack_all(
    store: &Store,
    sandbox: &Sandbox,
    places: &[Place<'_>],
    progress: &Progress,
) -> Result<(), RootfsError> {
    let is_missing = |place: &&Place<'_>| store.held_tree(sandbox.kind(), &place.id).is_none();
    let missing: Vec<&Place<'_>> = places.iter().filter(is_missing).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let task = progress.task(match missing.len() {
        1 => format!("unpack {}", first.layer.digest.0.short()),
        many => format!("unpack {many} layers"),
    });
    let total = missing.iter().map(|place| place.layer.size).sum();
    let done = AtomicU64::new(0);
    let next = AtomicUsize::new(0);
    // Not rayon's threads: it waits for locks and for helpers, and others compress on those.
    let work = || -> Result<(), RootfsError> {
        while let Some(place) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            unpack(store, sandbox, place).inspect_err(|_| {
                // Nobody begins another one.
                next.store(missing.len(), Ordering::Relaxed);
            })?;
            let size = place.layer.size;
            task.bytes(done.fetch_add(size, Ordering::Relaxed) + size, Some(total));
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(missing.len())).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().fold(own, |all, other| {
            all.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })?;
    task.done();
    Ok(())
}

/// Each folder once, where it is first: overlayfs takes none twice, and what a layer
/// has further down the same layer above it hides or repeats.
fn distinct(folders: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for folder in folders {
        if !all.contains(&folder) {
            all.push(folder);
        }
    }
    all
}

#[derive(Serialize, Deserialize)]
struct Request {
    blob: PathBuf,
    compression: Compression,
    diff_id: DiffId,
    into: PathBuf,
    /// See [`Place::folders`].
    folders: Vec<Entry>,
    marks: Marks,
    /// Device nodes can be made.
    real_root: bool,
}

fn unpack(store: &Store, sandbox: &Sandbox, place: &Place<'_>) -> Result<(), RootfsError> {
    let layer = place.layer;
    let slot = store.slot(&format!("tree-{}", sandbox.kind()), &place.id.0)?;
    if store.held_tree(sandbox.kind(), &place.id).is_some() {
        return Ok(());
    }
    // Opening it here gives the better error if it is absent.
    drop(store.open_blob(&layer.digest)?);
    let work = Work::new(store, sandbox, "unpack")?;
    let tree = work.path().join("tree");
    std::fs::create_dir_all(tree.join("fs")).at("create", &tree)?;
    let request = Request {
        blob: store.blob_path(&layer.digest),
        compression: layer.compression,
        diff_id: layer.diff_id,
        into: tree.join("fs"),
        folders: place.folders.clone(),
        marks: Marks::of(sandbox),
        real_root: matches!(sandbox.tier(), Tier::Root | Tier::Chroot),
    };
    let index: LayerIndex = sandbox.call("unpack", &request)?;
    let (bytes, inodes) = index.extent();
    remember(store, layer.diff_id, index)?;
    store.grew(bytes, inodes);
    store.adopt_tree(sandbox.kind(), &place.id, &tree)?;
    drop(slot);
    Ok(())
}

/// Unpacks a layer into a folder that is there and empty. Devices are files that record
/// what they are.
///
/// # Errors
/// If the layer is absent, damaged or hostile, or cannot be unpacked here.
pub fn unpack_into(
    store: &Store,
    sandbox: &Sandbox,
    layer: &Layer,
    folder: &Path,
) -> Result<(), RootfsError> {
    let request = Request {
        blob: store.blob_path(&layer.digest),
        compression: layer.compression,
        diff_id: layer.diff_id,
        into: folder.to_path_buf(),
        folders: Vec::new(),
        marks: Marks::of(sandbox),
        real_root: false,
    };
    let index: LayerIndex = sandbox.call("unpack", &request)?;
    let (bytes, inodes) = index.extent();
    store.grew(bytes, inodes);
    Ok(())
}

pub(super) fn job(request: &[u8]) -> Result<Vec<u8>, String> {
    let request: Request = serde_json::from_slice(request).map_err(|e| e.to_string())?;
    let index = run(&request).map_err(|error| format!("layer {}: {error}", request.diff_id))?;
    serde_json::to_vec(&index).map_err(|error| error.to_string())
}

fn run(request: &Request) -> Result<LayerIndex, String> {
    let text = |error: io::Error| error.to_string();
    let blob = File::open(&request.blob).map_err(text)?;
    let stream = Decompressor::new(blob, request.compression).map_err(text)?;
    // Of the digests, that of what it gives is enough.
    let mut tar = Hashing::new(stream);
    // Overlay takes the merged root's attributes from the topmost layer; a layer
    // that does not list its root means an ordinary folder.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, &request.into, flags, Mode::empty()).map_err(|e| e.to_string())?;
    fchmod(&root, Mode::from_raw_mode(0o755)).map_err(|e| e.to_string())?;
    let known = request.folders.iter().map(|entry| (&entry.name, entry)).collect();
    let mut unpacker = Unpacker {
        root,
        parent: None,
        known,
        dirs: BTreeMap::new(),
        time: 0,
        listed: Listed::new(),
        buffer: vec![0; PORTION],
        marks: request.marks,
        real_root: request.real_root,
    };
    unpacker.inherit_root().map_err(text)?;
    // Headers are 512 bytes, and most files small: more is asked for at once.
    let mut reader = Reader::new(io::BufReader::with_capacity(1 << 16, &mut tar));
    let mut index = LayerIndex::default();
    while let Some(entry) = reader.next().map_err(|e| e.to_string())? {
        unpacker
            .entry(&entry, &mut reader)
            .map_err(|error| format!("{}: {error}", entry.name.display()))?;
        index.push(&entry);
    }
    let listed = unpacker.finish().map_err(text)?;
    record::list(&request.into, &listed).map_err(text)?;
    io::copy(&mut tar, &mut io::sink()).map_err(text)?;
    let (_, found, _) = tar.finish();
    if DiffId(found) != request.diff_id {
        return Err(format!("its uncompressed bytes are {found}"));
    }
    Ok(index)
}

/// Bytes that are moved at a time.
const PORTION: usize = 128 << 10;

/// Copies all there is, and says how much it was.
fn pour(from: &mut dyn Read, to: &mut File, buffer: &mut [u8]) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

struct Unpacker<'a> {
    root: OwnedFd,
    /// The folder that the last entry lay in: archives list neighbours together.
    parent: Option<(Name, OwnedFd)>,
    /// What lower layers say of folders that this one only implies.
    known: BTreeMap<&'a Name, &'a Entry>,
    /// The time of the entry at hand, which folders that are nowhere listed take.
    time: i64,
    /// Folders with their times, which are set when nothing more comes into them.
    dirs: BTreeMap<Name, i64>,
    /// Owners that neither the mapping nor an attribute can express.
    listed: Listed,
    /// What files' content passes through.
    buffer: Vec<u8>,
    marks: Marks,
    real_root: bool,
}

impl Unpacker<'_> {
    fn folder(&mut self, name: &Name) -> io::Result<OwnedFd> {
        if let Some((known, fd)) = &self.parent
            && known == name
        {
            return fd.try_clone();
        }
        let fd = self.open_folder(name)?;
        self.parent = Some((name.clone(), fd.try_clone()?));
        Ok(fd)
    }

    /// Opens a folder below the root; makes it if the archive only implies it.
    fn open_folder(&mut self, name: &Name) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if name.is_root() {
            return self.root.try_clone();
        }
        match openat2(&self.root, name.as_path(), flags, Mode::empty(), resolve) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => (),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(io::Error::other("lies below something that is no folder"));
            }
            Err(error) => return Err(error.into()),
        }
        let parent = self.open_folder(&name.parent().unwrap_or_default())?;
        let base = OsStr::from_bytes(name.base());
        mkdirat(&parent, base, Mode::from_raw_mode(0o755))?;
        let fd = openat(&parent, base, flags, Mode::empty())?;
        match self.known.get(name).copied() {
            Some(entry) => {
                self.attributes(parent.as_fd(), name.base(), entry)?;
                self.dirs.insert(name.clone(), entry.mtime);
            }
            None => {
                fchmod(&fd, Mode::from_raw_mode(0o755))?;
                self.dirs.insert(name.clone(), self.time);
            }
        }
        Ok(fd)
    }

    /// Gives the root what lower layers say of it.
    fn inherit_root(&mut self) -> io::Result<()> {
        if let Some(entry) = self.known.get(&Name::root()).copied() {
            let root = self.root.try_clone()?;
            self.attributes(root.as_fd(), b"", entry)?;
            self.dirs.insert(Name::root(), entry.mtime);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        self.time = entry.mtime;
        if let Some(whiteout) = whiteout_of(&entry.name) {
            return self.whiteout(&whiteout);
        }
        let Some(parent) = entry.name.parent() else {
            let root = self.root.try_clone()?;
            self.attributes(root.as_fd(), b"", entry)?;
            self.dirs.insert(Name::root(), entry.mtime);
            return Ok(());
        };
        let folder = self.folder(&parent)?;
        let base = entry.name.base();
        let path = OsStr::from_bytes(base);
        let before = match statat(&folder, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        if let Kind::Hardlink { target } = &entry.kind {
            self.link(folder.as_fd(), base, before, target)?;
            let owner = self.listed.get(target.as_bytes()).copied();
            self.listed.remove(entry.name.as_bytes());
            if let Some(owner) = owner {
                self.listed.insert(entry.name.as_bytes().to_vec(), owner);
            }
            return Ok(());
        }
        match before {
            // A folder listed twice, or implied before it was listed.
            Some(FileType::Directory) if entry.kind == Kind::Dir => {
                self.dirs.insert(entry.name.clone(), entry.mtime);
                return self.attributes(folder.as_fd(), base, entry);
            }
            Some(FileType::Directory) => {
                return Err(io::Error::other("is listed as a folder and as something else"));
            }
            Some(_) => {
                // The same name once more, or a whiteout for what lower layers have here.
                self.listed.remove(entry.name.as_bytes());
                unlinkat(&folder, path, AtFlags::empty())?;
                self.make(folder.as_fd(), base, entry, content)?;
                if entry.kind == Kind::Dir {
                    self.marks.set_opaque(folder.as_fd(), base)?;
                }
            }
            None => self.make(folder.as_fd(), base, entry, content)?,
        }
        self.attributes(folder.as_fd(), base, entry)?;
        if entry.kind == Kind::Dir {
            self.dirs.insert(entry.name.clone(), entry.mtime);
        }
        Ok(())
    }

    fn make(
        &mut self,
        folder: BorrowedFd<'_>,
        base: &[u8],
        entry: &Entry,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let path = OsStr::from_bytes(base);
        let private = Mode::from_raw_mode(0o600);
        match &entry.kind {
            Kind::Dir => mkdirat(folder, path, Mode::from_raw_mode(0o700))?,
            Kind::File { size } => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mut file = File::from(openat(folder, path, flags, private)?);
                let copied = pour(content, &mut file, &mut self.buffer)?;
                if copied != *size {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Kind::Symlink { target } => symlinkat(OsStr::from_bytes(&target.0), folder, path)?,
            Kind::Fifo => mknodat(folder, path, FileType::Fifo, private, 0)?,
            Kind::Char { major, minor } => {
                let device = Device { block: false, major: *major, minor: *minor };
                self.device(folder, base, entry, device)?;
            }
            Kind::Block { major, minor } => {
                let device = Device { block: true, major: *major, minor: *minor };
                self.device(folder, base, entry, device)?;
            }
            Kind::Hardlink { .. } => unreachable!("made by its own function"),
        }
        Ok(())
    }

    /// A device node, or where none can be made, an empty file that records it.
    fn device(
        &self,
        folder: BorrowedFd<'_>,
        base: &[u8],
        entry: &Entry,
        device: Device,
    ) -> io::Result<()> {
        let path = OsStr::from_bytes(base);
        let private = Mode::from_raw_mode(0o600);
        let Device { block, major, minor } = device;
        let file_type = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
        // A device 0:0 would be read as a whiteout.
        if self.real_root && (major, minor) != (0, 0) {
            let made = mknodat(folder, path, file_type, private, makedev(major, minor));
            if made != Err(Errno::PERM) {
                return Ok(made?);
            }
        }
        mknodat(folder, path, FileType::RegularFile, private, 0)?;
        let owner = Owner { uid: entry.uid, gid: entry.gid }.to_string();
        xattr::set(folder, base, xattr::OWNER, owner.as_bytes())?;
        Ok(xattr::set(folder, base, xattr::DEVICE, device.to_string().as_bytes())?)
    }

    fn link(
        &mut self,
        folder: BorrowedFd<'_>,
        base: &[u8],
        before: Option<FileType>,
        target: &Name,
    ) -> io::Result<()> {
        let path = OsStr::from_bytes(base);
        let source = self.open_folder(&target.parent().unwrap_or_default())?;
        let known = OsStr::from_bytes(target.base());
        match statat(&source, known, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => (),
            _ => {
                return Err(io::Error::other(format!(
                    "is a hard link to `{}`, which is no file of this layer",
                    target.display()
                )));
            }
        }
        match before {
            Some(FileType::Directory) => {
                return Err(io::Error::other("is listed as a folder and as a hard link"));
            }
            Some(_) => unlinkat(folder, path, AtFlags::empty())?,
            None => (),
        }
        Ok(linkat(&source, known, folder, path, AtFlags::empty())?)
    }

    /// Owner, then mode (a change of owner clears set-ID bits), then attributes,
    /// then times.
    fn attributes(&mut self, folder: BorrowedFd<'_>, base: &[u8], entry: &Entry) -> io::Result<()> {
        let path = OsStr::from_bytes(if base.is_empty() { b"." } else { base });
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        match chownat(folder, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => (),
            // The mapping lacks this ID: record it where attributes can be kept.
            Err(Errno::INVAL) => {
                let owner = Owner { uid: entry.uid, gid: entry.gid };
                match entry.kind {
                    Kind::Symlink { .. } | Kind::Fifo => {
                        self.listed.insert(entry.name.as_bytes().to_vec(), owner);
                    }
                    // A device has its record already.
                    _ => xattr::set(folder, base, xattr::OWNER, owner.to_string().as_bytes())?,
                }
            }
            Err(error) => return Err(error.into()),
        }
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            rustix::fs::chmodat(folder, path, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        for (key, value) in &entry.xattrs {
            if xattr::carried(key) {
                match xattr::set(folder, base, key, &value.0) {
                    // The archive still has it; a file system without such attributes
                    // can only lack it while a step runs.
                    Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => (),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if entry.kind != Kind::Dir {
            set_time(folder, base, entry.mtime)?;
        }
        Ok(())
    }

    fn whiteout(&mut self, whiteout: &Whiteout) -> io::Result<()> {
        match whiteout {
            Whiteout::Malformed => Err(io::Error::other("is a malformed whiteout")),
            Whiteout::Opaque(name) => {
                let folder = self.folder(name)?;
                Ok(self.marks.set_opaque(folder.as_fd(), b"")?)
            }
            Whiteout::Gone(name) => {
                let folder = self.folder(&name.parent().unwrap_or_default())?;
                let path = OsStr::from_bytes(name.base());
                match self.marks.set_gone(folder.as_fd(), name.base()) {
                    Ok(()) => Ok(()),
                    // This layer has the name itself: it already hides the lower one,
                    // unless both are folders, which would be merged.
                    Err(Errno::EXIST) => {
                        let stat = statat(&folder, path, AtFlags::SYMLINK_NOFOLLOW)?;
                        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                            self.marks.set_opaque(folder.as_fd(), name.base())?;
                        }
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Sets the folders' times, the deepest first, and gives what is to be listed.
    fn finish(mut self) -> io::Result<Listed> {
        for (name, mtime) in std::mem::take(&mut self.dirs).iter().rev() {
            let folder = self.open_folder(&name.parent().unwrap_or_default())?;
            set_time(folder.as_fd(), name.base(), *mtime)?;
        }
        Ok(self.listed)
    }
}

/// Sets access and modification time of a folder's entry to a whole second.
pub(super) fn set_time(folder: BorrowedFd<'_>, base: &[u8], mtime: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let path = OsStr::from_bytes(if base.is_empty() { b"." } else { base });
    Ok(utimensat(folder, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
