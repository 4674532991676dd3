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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags, major, minor, openat2};

use super::files::Files;
use super::memory::{self, Stamp};
use crate::atomic::{AtPath as _, PathError};
use crate::digest::{Digest, Hashing};
use crate::dockerfile::{Ignore, Rule};
use crate::layer::{Entry, Kind, Name, RawBytes, View, ViewError};
use crate::plan::CopyFrom;
use crate::store::{Store, StoreError};

/// Files to copy from.
#[derive(Debug)]
pub struct Context {
    files: Files,
    ignore: Ignore,
    walked: OnceLock<Walked>,
    /// What files hash to, as far as it was asked.
    digests: Mutex<HashMap<Name, Digest>>,
    /// Where that was remembered by earlier builds.
    memory: Option<PathBuf>,
    /// Something was hashed that was not remembered.
    news: AtomicBool,
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

impl Contexts {
    /// Remembers what their files hash to.
    pub(super) fn remember(&self, store: &Store) -> Result<(), StoreError> {
        std::iter::once(&self.main)
            .chain(self.named.iter().flatten())
            .try_for_each(|context| context.remember(store))
    }
}

#[derive(Debug)]
struct Walked {
    view: View,
    /// Of files that are to be remembered.
    stamps: HashMap<Name, Stamp>,
    /// As BuildKit has them, they are empty files: an image can hold no socket.
    sockets: HashSet<Name>,
}

impl Walked {
    /// Of files that are nowhere to be remembered.
    fn of(view: View) -> Self {
        Self { view, stamps: HashMap::new(), sockets: HashSet::new() }
    }
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
        Self {
            files,
            ignore,
            walked: OnceLock::new(),
            digests: Mutex::default(),
            memory: None,
            news: AtomicBool::new(false),
        }
    }

    /// Has the store remember what the files of a folder hash to.
    pub(super) fn remembered(mut self, store: &Store) -> Self {
        if let Files::Folder(root) = &self.files {
            self.memory = Some(memory::place(store, root));
        }
        self
    }

    /// Remembers what files hash to, if anything was hashed anew.
    pub(super) fn remember(&self, store: &Store) -> Result<(), StoreError> {
        let (Files::Folder(root), Some(walked)) = (&self.files, self.walked.get()) else {
            return Ok(());
        };
        if self.memory.is_none() || !self.news.load(Ordering::Relaxed) {
            return Ok(());
        }
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let known = walked
            .stamps
            .iter()
            .filter_map(|(name, stamp)| Some((name, stamp, digests.get(name)?)));
        memory::save(store, root, known)
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
            Files::Nothing => Walked::of(View::default()),
            Files::Folder(root) => self.walk(root)?,
            Files::Checkout(checkout) => self.walk(checkout.root())?,
            Files::Unpacked(archive) => Walked::of(archive.view()?),
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
        let remembered = self.memory.as_deref().map(memory::load).unwrap_or_default();
        let now = memory::now();
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        let mut sockets = HashSet::new();
        let mut stamps = HashMap::new();
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
            if self.memory.is_some()
                && meta.is_file()
                && let Some(stamp) = Stamp::of(&meta, now)
            {
                if let Some((_, digest)) = remembered.get(&name).filter(|(was, _)| *was == stamp) {
                    digests.insert(name.clone(), *digest);
                }
                stamps.insert(name.clone(), stamp);
            }
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
        Ok(Walked { view: View::plain(entries)?, stamps, sockets })
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
        let file = self.open(name)?;
        let size = file.metadata().at("read", self.path(name))?.len();
        // Of most files one call reads all, and one more finds the end.
        let mut buffer =
            vec![0; usize::try_from(size + 1).unwrap_or(usize::MAX).clamp(512, 1 << 16)];
        let mut hashing = Hashing::new(file);
        loop {
            let read =
                if stop() { Err(io::Error::other("stopped")) } else { hashing.read(&mut buffer) };
            if read.at("read", self.path(name))? == 0 {
                break;
            }
        }
        let (_, digest, _) = hashing.finish();
        self.news.store(true, Ordering::Relaxed);
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), digest);
        Ok(digest)
    }
}
