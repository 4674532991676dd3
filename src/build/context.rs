//! The build context: a folder of the host, less what `.dockerignore` leaves out; or
//! the files of a repository or an archive.
//!
//! A folder is walked once, and only if a step copies from it. Files are
//! opened below the folder's descriptor with no link followed: a link in the
//! context never leads to a file of the host.
//!
//! A file is known by its number: its place in the tree, or in the archive. All names of
//! one file have one number.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::counters::Counters;
use super::files::Files;
use super::memory::{self, Memory, Stamp};
use super::tree::{Seen, What};
use super::walk;
use crate::atomic::{AtPath as _, PathError};
use crate::digest::{Digest, Hashing};
use crate::dockerfile::{Ignore, Rule};
use crate::layer::{Located, Name, View, ViewError};
use crate::plan::CopyFrom;
use crate::store::{Store, StoreError};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// Files to copy from.
#[derive(Debug)]
pub struct Context {
    files: Files,
    ignore: Ignore,
    walked: OnceLock<Walked>,
    /// Held while it is walked: by one, and the others wait.
    walking: Mutex<()>,
    /// Where earlier builds remembered what they hashed.
    memory: Option<Memory>,
    /// What is remembered of what steps asked for.
    answers: OnceLock<Vec<(Digest, Digest)>>,
    /// What this build found that was not.
    new_answers: Mutex<Vec<(Digest, Digest)>>,
    /// Something was hashed that was not remembered.
    news: AtomicBool,
    counters: Arc<Counters>,
    /// The time by the clock, in seconds.
    clock: fn() -> i64,
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
    what: Held,
    /// What files hash to, as far as it is known, by number. Made when it is asked for.
    digests: OnceLock<Vec<OnceLock<Hashed>>>,
}

#[derive(Debug)]
enum Held {
    Folder(Box<walk::Walked>),
    Archive(View),
}

/// What a file's content hashes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashed {
    pub(super) digest: Digest,
    /// The file was as it had been walked, before and after it was read, and a later change
    /// would show: whoever finds its stamp again finds this content.
    pub(super) sure: bool,
}

/// Why the context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error(transparent)]
    Io(#[from] PathError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("`{}` is no file any more", .0.display())]
    Gone(Name),
}

/// A file that was opened.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) size: u64,
    /// As it is now. None for files that nobody else can change.
    stamp: Option<Stamp>,
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
            walking: Mutex::new(()),
            memory: None,
            answers: OnceLock::new(),
            new_answers: Mutex::default(),
            news: AtomicBool::new(false),
            counters: Arc::default(),
            clock: memory::now,
        }
    }

    /// One that takes the time from elsewhere.
    #[cfg(test)]
    pub(super) fn by(self, clock: fn() -> i64) -> Self {
        Self { clock, ..self }
    }

    /// Has the store remember what the files of a folder hash to.
    pub(super) fn remembered(mut self, store: &Store) -> Self {
        if let Files::Folder(root) = &self.files {
            self.memory = Some(Memory::of(store, root));
        }
        self
    }

    /// Has what is done with its files counted.
    pub(super) fn counted(self, counters: &Arc<Counters>) -> Self {
        Self { counters: Arc::clone(counters), ..self }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Remembers what files hash to, if anything was hashed anew.
    pub(super) fn remember(&self, store: &Store) -> Result<(), StoreError> {
        let (Some(memory), Some(walked)) = (&self.memory, self.walked.get()) else {
            return Ok(());
        };
        if let (Held::Folder(folder), Some(digests)) = (&walked.what, walked.digests.get())
            && self.news.load(Ordering::Relaxed)
        {
            memory.save_table(store, &folder.tree, &folder.stamps, |at| {
                let hashed = digests[folder.tree.first(at) as usize].get()?;
                hashed.sure.then_some(hashed.digest)
            })?;
        }
        let new = self.new_answers();
        if new.is_empty() { Ok(()) } else { memory.keep_answers(store, &new) }
    }

    fn new_answers(&self) -> MutexGuard<'_, Vec<(Digest, Digest)>> {
        self.new_answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What something about all of the folder was found to be when the folder was the same;
    /// `about` says what is asked.
    pub(super) fn answer(&self, about: &[u8]) -> Result<Option<Digest>, ContextError> {
        let (Some(memory), Some(asked)) = (&self.memory, self.question(about)?) else {
            return Ok(None);
        };
        let same = |(known, _): &&(Digest, Digest)| *known == asked;
        let answers = self.answers.get_or_init(|| memory.answers());
        let known = answers.iter().find(same).copied();
        let known = known.or_else(|| self.new_answers().iter().find(same).copied());
        Ok(known.map(|(_, answer)| answer))
    }

    /// Remembers an answer. It must depend on names, modes, links and content of files that
    /// are all [sure](Hashed::sure), and on what is asked.
    pub(super) fn keep_answer(&self, about: &[u8], answer: Digest) -> Result<(), ContextError> {
        if self.memory.is_some()
            && let Some(asked) = self.question(about)?
        {
            self.new_answers().push((asked, answer));
        }
        Ok(())
    }

    /// None if there is a file that may change without that showing.
    fn question(&self, about: &[u8]) -> Result<Option<Digest>, ContextError> {
        let Held::Folder(folder) = &self.walked()?.what else { return Ok(None) };
        let ask = |state: Digest| Digest::of(&[state.bytes().as_slice(), about].concat());
        Ok(folder.state.map(ask))
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
        let _walking = self.walking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(walked) = self.walked.get() {
            return Ok(walked);
        }
        let now = (self.clock)();
        let walk = |root: &Path| {
            walk::walk(root, &self.ignore, now).map(|walked| Held::Folder(Box::new(walked)))
        };
        let what = match &self.files {
            Files::Nothing => Held::Archive(View::default()),
            Files::Folder(root) => walk(root)?,
            Files::Checkout(checkout) => walk(checkout.root())?,
            Files::Unpacked(archive) => Held::Archive(archive.view()?),
        };
        Ok(self.walked.get_or_init(|| Walked { what, digests: OnceLock::new() }))
    }

    /// What is in the context. Of a folder, owners are root's: the user's own say
    /// nothing of the image. Those of an archive are its own. Times say nothing.
    /// Names of one file have the same `content`.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub(super) fn seen(&self) -> Result<Seen<'_>, ContextError> {
        Ok(match &self.walked()?.what {
            Held::Folder(folder) => Seen::Tree(&folder.tree),
            Held::Archive(view) => Seen::View(view),
        })
    }

    /// The rule of the ignore file that leaves a name out.
    #[must_use]
    pub fn excluded(&self, name: &Name) -> Option<Rule> {
        self.ignore.excluded(name.as_bytes()).cloned()
    }

    /// A name of the file with a number.
    pub(super) fn name(&self, at: Located) -> Result<Name, ContextError> {
        Ok(match (&self.walked()?.what, u32::try_from(at.ordinal)) {
            (Held::Folder(folder), Ok(at)) => folder.tree.name(at),
            (Held::Archive(view), _) => {
                let mut all = view.below(&Name::root());
                let found = all.find(|node| node.content == at);
                found.map(|node| node.entry.name.clone()).unwrap_or_default()
            }
            (Held::Folder(_), Err(_)) => Name::root(),
        })
    }

    /// Opens a file.
    ///
    /// # Errors
    /// If it is no longer the regular file that it was.
    pub(super) fn open(&self, at: Located) -> Result<Opened, ContextError> {
        let folder = match &self.walked()?.what {
            Held::Folder(folder) => folder,
            Held::Archive(_) => {
                let Files::Unpacked(archive) = &self.files else {
                    return Err(ContextError::Gone(self.name(at)?));
                };
                let file = archive.open(at.ordinal)?;
                return match file.metadata() {
                    Ok(meta) => Ok(Opened { file, size: meta.len(), stamp: None }),
                    Err(error) => Ok(Err(error).at("read", self.path(&self.name(at)?))?),
                };
            }
        };
        let name = self.name(at)?;
        let path = self.path(&name);
        if u32::try_from(at.ordinal).is_ok_and(|at| folder.tree.what(at) == What::Socket) {
            let file = File::open("/dev/null").at("open", "/dev/null")?;
            return Ok(Opened { file, size: 0, stamp: None });
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&folder.root, name.as_path(), flags, Mode::empty(), resolve);
        let file = File::from(opened.at("open", &path)?);
        let stat = fstat(&file).at("read", &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file any more")).at("read", &path)?;
        }
        let size = stat.st_size as u64;
        Ok(Opened { file, size, stamp: Some(Stamp::of(&stat)) })
    }

    /// Whether an open file is what was hashed, as far as that shows: it is as it was when it
    /// was walked, hashed and opened.
    pub(super) fn is_same(&self, at: Located, opened: &Opened) -> Result<bool, ContextError> {
        let Held::Folder(folder) = &self.walked()?.what else { return Ok(true) };
        let Some(stamp) = opened.stamp else { return Ok(true) };
        if folder.stamps.get(at.ordinal) != Some(&stamp) {
            return Ok(false);
        }
        let now = fstat(&opened.file).at("read", self.path(&self.name(at)?))?;
        Ok(Stamp::of(&now) == stamp)
    }

    /// Whether a file was changed so lately that it may change once more unseen.
    fn is_fresh(&self, at: Located) -> Result<bool, ContextError> {
        let Held::Folder(folder) = &self.walked()?.what else { return Ok(false) };
        Ok(u32::try_from(at.ordinal).is_ok_and(|at| folder.fresh.contains(&at)))
    }

    /// What files hash to, with what is remembered of them.
    fn digests(&self) -> Result<&[OnceLock<Hashed>], ContextError> {
        let walked = self.walked()?;
        Ok(walked.digests.get_or_init(|| match &walked.what {
            Held::Folder(folder) => {
                let (tree, stamps) = (&folder.tree, &folder.stamps);
                let digests: Vec<_> = stamps.iter().map(|_| OnceLock::new()).collect();
                if let Some(memory) = &self.memory {
                    memory.read_table(tree, stamps, |at, digest| {
                        let fresh = folder.fresh.contains(&at);
                        if let Some(slot) = digests.get(tree.first(at) as usize).filter(|_| !fresh)
                        {
                            // Names of one file have one stamp, and so one digest.
                            let _ = slot.set(Hashed { digest, sure: true });
                        }
                    });
                }
                digests
            }
            Held::Archive(view) => {
                let numbers = view.below(&Name::root()).map(|node| node.content.ordinal + 1);
                (0..numbers.max().unwrap_or_default()).map(|_| OnceLock::new()).collect()
            }
        }))
    }

    /// What a file's content hashes to; read once. `stop` ends the reading early,
    /// with an error.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn hashed(
        &self,
        at: Located,
        stop: &dyn Fn() -> bool,
    ) -> Result<Hashed, ContextError> {
        let slot = self.digests()?.get(at.ordinal);
        let slot = slot.ok_or_else(|| ContextError::Gone(Name::root()))?;
        if let Some(known) = slot.get() {
            return Ok(*known);
        }
        let opened = self.open(at)?;
        let mut hashing = Hashing::new(&opened.file);
        let read = with_buffer(|buffer| {
            loop {
                if stop() {
                    return Err(io::Error::other("stopped"));
                }
                let read = hashing.read(buffer)?;
                // Of most files one call reads all.
                if read == 0 || (read < buffer.len() && hashing.count() == opened.size) {
                    return Ok(());
                }
            }
        });
        if let Err(error) = read {
            return Err(error).at("read", self.path(&self.name(at)?))?;
        }
        let (_, digest, count) = hashing.finish();
        let sure = !self.is_fresh(at)? && self.is_same(at, &opened)?;
        // A socket is no file that was read.
        if count > 0 || opened.stamp.is_some() {
            self.counters.hashed(count);
            self.news.store(true, Ordering::Relaxed);
        }
        // Another thread may have been faster; what it found holds.
        Ok(*slot.get_or_init(|| Hashed { digest, sure }))
    }
}

/// Calls a function with this thread's buffer.
pub(super) fn with_buffer<T>(call: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BYTES.with_borrow_mut(|bytes| {
        bytes.resize(BUFFER, 0);
        call(bytes)
    })
}
