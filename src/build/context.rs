//! The build context: a folder of the host, less what `.dockerignore` leaves out; or
//! the files of a repository or an archive.
//!
//! A folder is walked once, and only if a step copies from it. Files are
//! opened below the folder's descriptor with no link followed: a link in the
//! context never leads to a file of the host.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags, major, minor, openat2};

use super::files::Files;
use crate::atomic::{AtPath as _, PathError};
use crate::digest::{Digest, Hashing};
use crate::dockerfile::{Ignore, Rule};
use crate::layer::{Entry, Kind, Name, RawBytes, View, ViewError};
use crate::plan::CopyFrom;

/// Files to copy from.
#[derive(Debug)]
pub struct Context {
    files: Files,
    ignore: Ignore,
    walked: OnceLock<Walked>,
    /// What files hash to, as far as it was asked.
    digests: Mutex<HashMap<Name, Digest>>,
}

/// The contexts of a build.
#[derive(Debug)]
pub(super) struct Contexts {
    pub(super) main: Context,
    /// As many as the request names; none for what is an image.
    pub(super) named: Vec<Option<Context>>,
}

impl Contexts {
    /// The context that is meant; none for a step's input.
    pub(super) fn of(&self, from: CopyFrom) -> Option<&Context> {
        match from {
            CopyFrom::Context => Some(&self.main),
            CopyFrom::Named(at) => self.named.get(at)?.as_ref(),
            CopyFrom::Input(_) => None,
        }
    }
}

#[derive(Debug)]
struct Walked {
    view: View,
    /// As BuildKit has them, they are empty files: an image can hold no socket.
    sockets: HashSet<Name>,
}

/// Why the context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error(transparent)]
    Io(#[from] PathError),
    #[error("cannot walk the build context: {0}")]
    Walk(#[from] walkdir::Error),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("`{}` is no file any more", .0.display())]
    Gone(Name),
}

impl Context {
    /// A context whose ignore file was read already.
    #[must_use]
    pub fn new(files: impl Into<Files>, ignore: Ignore) -> Self {
        let files = files.into();
        Self { files, ignore, walked: OnceLock::new(), digests: Mutex::new(HashMap::new()) }
    }

    /// Where a file is, for messages.
    #[must_use]
    pub fn path(&self, name: &Name) -> PathBuf {
        match &self.files {
            Files::Folder(root) => root.join(name.as_path()),
            Files::Nothing | Files::Checkout(_) | Files::Unpacked(_) => name.as_path().to_owned(),
        }
    }

    /// The time of all files, where it is not that of what is made of them.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        match &self.files {
            Files::Checkout(checkout) => checkout.time(),
            Files::Nothing | Files::Folder(_) | Files::Unpacked(_) => None,
        }
    }

    fn walked(&self) -> Result<&Walked, ContextError> {
        if let Some(walked) = self.walked.get() {
            return Ok(walked);
        }
        let walked = match &self.files {
            Files::Nothing => Walked { view: View::default(), sockets: HashSet::new() },
            Files::Folder(root) => self.walk(root)?,
            Files::Checkout(checkout) => self.walk(checkout.root())?,
            Files::Unpacked(archive) => Walked { view: archive.view()?, sockets: HashSet::new() },
        };
        Ok(self.walked.get_or_init(|| walked))
    }

    /// What is in the context. Of a folder, owners are root's: the user's own say
    /// nothing of the image. Those of an archive are its own. Times say nothing.
    /// Names of one file have the same `content`.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn view(&self) -> Result<&View, ContextError> {
        Ok(&self.walked()?.view)
    }

    /// The rule of the ignore file that leaves a name out.
    #[must_use]
    pub fn excluded(&self, name: &Name) -> Option<Rule> {
        self.ignore.excluded(name.as_bytes()).cloned()
    }

    fn walk(&self, root: &Path) -> Result<Walked, ContextError> {
        let mut entries = Vec::new();
        let mut sockets = HashSet::new();
        // The first name of files with several.
        let mut linked: HashMap<(u64, u64), Name> = HashMap::new();
        // Folders above this place that are left out, unless something in them is not.
        let mut above: Vec<Entry> = Vec::new();
        let mut walk = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter();
        while let Some(found) = walk.next() {
            let found = found?;
            let path = found.path().strip_prefix(root).unwrap_or(found.path());
            let Some(name) = Name::clean(path.as_os_str().as_bytes()) else { continue };
            if self.ignore.excluded(name.as_bytes()).is_some() {
                if found.file_type().is_dir() {
                    if self.ignore.may_reinclude_below(name.as_bytes()) {
                        let mode = found.metadata()?.mode() & 0o7777;
                        above.push(Entry { mode, ..Entry::dir(name, 0) });
                    } else {
                        walk.skip_current_dir();
                    }
                }
                continue;
            }
            above.retain(|folder| name.below(&folder.name).is_some());
            entries.append(&mut above);
            let meta = found.metadata()?;
            let kind = match meta.file_type() {
                kind if kind.is_dir() => Kind::Dir,
                kind if kind.is_file() && meta.nlink() > 1 => {
                    match linked.entry((meta.dev(), meta.ino())) {
                        Slot::Occupied(first) => Kind::Hardlink { target: first.get().clone() },
                        Slot::Vacant(slot) => {
                            slot.insert(name.clone());
                            Kind::File { size: meta.len() }
                        }
                    }
                }
                kind if kind.is_file() => Kind::File { size: meta.len() },
                kind if kind.is_symlink() => {
                    let target = std::fs::read_link(found.path()).at("read link", found.path())?;
                    Kind::Symlink { target: RawBytes(target.into_os_string().as_bytes().to_vec()) }
                }
                kind if kind.is_fifo() => Kind::Fifo,
                kind if kind.is_char_device() => {
                    Kind::Char { major: major(meta.rdev()), minor: minor(meta.rdev()) }
                }
                kind if kind.is_block_device() => {
                    Kind::Block { major: major(meta.rdev()), minor: minor(meta.rdev()) }
                }
                _ => {
                    sockets.insert(name.clone());
                    Kind::File { size: 0 }
                }
            };
            entries.push(Entry { kind, mode: meta.mode() & 0o7777, ..Entry::dir(name, 0) });
        }
        Ok(Walked { view: View::plain(entries)?, sockets })
    }

    /// Opens a file of the context.
    ///
    /// # Errors
    /// If it is no longer the regular file that it was.
    pub fn open(&self, name: &Name) -> Result<File, ContextError> {
        if self.walked()?.sockets.contains(name) {
            return Ok(File::open("/dev/null").at("open", "/dev/null")?);
        }
        let folder = match &self.files {
            Files::Nothing => return Err(ContextError::Gone(name.clone())),
            Files::Folder(root) => root,
            Files::Checkout(checkout) => checkout.root(),
            Files::Unpacked(archive) => {
                let node = self.view()?.get(name);
                let node = node.filter(|node| matches!(node.entry.kind, Kind::File { .. }));
                let node = node.ok_or_else(|| ContextError::Gone(name.clone()))?;
                return archive.open(node.content.ordinal);
            }
        };
        let path = self.path(name);
        let root = File::open(folder).at("open", folder)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(
            openat2(&root, name.as_path(), flags, Mode::empty(), resolve).at("open", &path)?,
        );
        if !file.metadata().at("read", &path)?.is_file() {
            return Err(io::Error::other("it is no regular file any more")).at("read", &path)?;
        }
        Ok(file)
    }

    /// What a file's content hashes to; read once. `stop` ends the reading early,
    /// with an error.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn digest(&self, name: &Name, stop: &dyn Fn() -> bool) -> Result<Digest, ContextError> {
        let known = |this: &Self| {
            this.digests.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
        };
        if let Some(digest) = known(self) {
            return Ok(digest);
        }
        let mut hashing = Hashing::new(self.open(name)?);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read =
                if stop() { Err(io::Error::other("stopped")) } else { hashing.read(&mut buffer) };
            if read.at("read", self.path(name))? == 0 {
                break;
            }
        }
        let (_, digest, _) = hashing.finish();
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), digest);
        Ok(digest)
    }
}
