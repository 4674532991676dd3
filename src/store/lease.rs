//! Who uses the store now, and what was used when.
//!
//! An entry's time of modification says when it was used last; times of access may be
//! switched off. Each process that uses entries has a file in `sessions/`, which it holds
//! locked as long as it lives and whose time is that of its begin. Whatever it looks up or
//! makes gets a time that is not before that. So a clean-up that leaves alone all that is
//! as young as the oldest session takes nothing that anybody relies on, and nobody has to
//! keep a lock for each entry.
//!
//! Two things could slip through between a look and a deed, and `locks/gate` closes both:
//! it is shared for the moment in which an entry gets its time or a session its lock, and
//! taken alone for the moment in which a clean-up looks at an entry and takes it away.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

use super::{Scratch, Store, StoreError};
use crate::atomic::{self, AtPath as _, FileLock, PathError};

/// Records are given a new time when the old one is older than this: their use is
/// remembered for the order in which they go, and protects nothing.
const COARSE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Leases {
    root: PathBuf,
    session: OnceLock<Session>,
    /// Held while the session begins.
    beginning: Mutex<()>,
    /// The gate's file, opened once.
    gate: Mutex<Option<File>>,
    /// What this process has added to the store.
    grown: [AtomicU64; 2],
}

#[derive(Debug)]
struct Session {
    path: PathBuf,
    /// By the clock of the store's file system.
    since: SystemTime,
    begun: Instant,
    _lock: File,
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that stays is unlocked, and the next clean-up's to remove.
        let _ = fs::remove_file(&self.path);
    }
}

impl Leases {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            session: OnceLock::new(),
            beginning: Mutex::default(),
            gate: Mutex::default(),
            grown: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    fn gate_path(&self) -> PathBuf {
        self.root.join("locks/gate")
    }

    fn folder(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// Begins the session of this process, unless it has begun.
    pub(super) fn begin(&self) -> Result<(), PathError> {
        self.session().map(drop)
    }

    fn session(&self) -> Result<&Session, PathError> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let _one = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let folder = self.folder();
        atomic::private_folder(&folder)?;
        // A file that is not locked yet must not be taken for that of a dead process.
        let _gate = FileLock::shared(&self.gate_path())?;
        let file = tempfile::Builder::new()
            .prefix("s-")
            .tempfile_in(&folder)
            .at("create a file in", &folder)?;
        file.as_file().lock_shared().at("lock", file.path())?;
        let since = file.as_file().metadata().and_then(|meta| meta.modified());
        let since = since.at("read", file.path())?;
        let (lock, path) = file.keep().map_err(|error| error.error).at("create", &folder)?;
        Ok(self.session.get_or_init(|| Session { path, since, begun: Instant::now(), _lock: lock }))
    }

    /// The entry's metadata if it is there, and from now on it stays until this process
    /// ends. What cannot be held counts as absent: it is made anew then.
    pub(super) fn hold(&self, path: &Path) -> Option<Metadata> {
        let meta = path.metadata().ok()?;
        let session = match self.session() {
            Ok(session) => session,
            // Nobody takes anything away there.
            Err(error) if error.source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                return Some(meta);
            }
            Err(_) => return None,
        };
        if meta.modified().ok()? >= session.since {
            return Some(meta);
        }
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = match gate.take() {
            Some(file) => gate.insert(file),
            None => gate.insert(open_gate(&self.gate_path()).ok()?),
        };
        gate.lock_shared().ok()?;
        let touched = set_time(path, session.since + session.begun.elapsed());
        let unlocked = gate.unlock();
        (touched.is_ok() && unlocked.is_ok()).then_some(meta)
    }

    /// Gives a file that is about to become an entry a time of this session, whatever the
    /// clock did meanwhile.
    pub(super) fn stamp(&self, file: &File) -> Result<(), PathError> {
        let session = self.session()?;
        file.set_modified(session.since + session.begun.elapsed()).at("write", &self.root)
    }

    /// Whether a process is alive that began before this time. Nothing is cleared up.
    pub(super) fn lives_since(&self, time: SystemTime) -> bool {
        fs::read_dir(self.folder()).into_iter().flatten().flatten().any(|entry| {
            let began = entry.metadata().and_then(|meta| meta.modified());
            began.is_ok_and(|began| began <= time)
                && !File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        })
    }

    /// Notes that the store has grown.
    pub(super) fn grew(&self, bytes: u64, inodes: u64) {
        for (count, more) in self.grown.iter().zip([bytes, inodes]) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Bytes and inodes that were added since this was asked before.
    pub(super) fn take_growth(&self) -> (u64, u64) {
        let [bytes, inodes] = &self.grown;
        (bytes.swap(0, Ordering::Relaxed), inodes.swap(0, Ordering::Relaxed))
    }

    /// When the oldest session began that is not over, and whether one was found that did
    /// not end well. Whoever asks holds the gate alone.
    fn oldest(&self) -> Result<(Option<SystemTime>, bool), PathError> {
        let folder = self.folder();
        let (mut oldest, mut killed): (Option<SystemTime>, bool) = (None, false);
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let path = entry.at("read", &folder)?.path();
            let file = match File::open(&path) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                // Somebody else's: it may be alive.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
                Err(error) => return Err(error).at("open", &path),
            };
            if file.is_some_and(|file| file.try_lock().is_ok()) {
                killed = true;
                let _ = fs::remove_file(&path);
                continue;
            }
            let began = match path.metadata().and_then(|meta| meta.modified()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                began => began.at("read", &path)?,
            };
            oldest = Some(oldest.map_or(began, |other| other.min(began)));
        }
        Ok((oldest, killed))
    }
}

fn open_gate(path: &Path) -> Result<File, PathError> {
    File::options().create(true).truncate(false).read(true).write(true).open(path).at("open", path)
}

fn set_time(path: &Path, time: SystemTime) -> rustix::io::Result<()> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let modified = Timespec {
        tv_sec: since.as_secs().cast_signed(),
        tv_nsec: i64::from(since.subsec_nanos()),
    };
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: omit, last_modification: modified };
    utimensat(CWD, path, &times, AtFlags::empty())
}

/// Remembers that a record was read, whose file is given.
pub(super) fn used(path: &Path, file: &File) {
    let old = || file.metadata().ok()?.modified().ok()?.elapsed().ok();
    if old().is_some_and(|age| age > COARSE) {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: omit, last_modification: now };
        // It may be gone by now, and nothing depends on it.
        let _ = utimensat(CWD, path, &times, AtFlags::empty());
    }
}

/// What became of entries that were to be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Gone,
    /// Somebody uses one of them: all are as they were.
    InUse,
}

/// A clean-up under way. What was in use when it began, or has come into use since, is
/// safe from it; so names and containers are to be read after its begin.
#[derive(Debug)]
pub struct Clearing<'a> {
    store: &'a Store,
    cutoff: SystemTime,
    killed: bool,
    /// Made when the first folder is taken.
    trash: Option<Scratch>,
    folders: usize,
}

impl Store {
    /// Begins a clean-up.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn clearing(&self) -> Result<Clearing<'_>, StoreError> {
        let since = self.leases.session()?.since;
        let gate = FileLock::exclusive(&self.leases.gate_path())?;
        let (oldest, killed) = self.leases.oldest()?;
        drop(gate);
        let cutoff = oldest.map_or(since, |oldest| oldest.min(since));
        Ok(Clearing { store: self, cutoff, killed, trash: None, folders: 0 })
    }

    /// Removes the locks of records that killed processes left.
    pub fn clear_locks(&self) {
        let entries = fs::read_dir(self.root.join("locks")).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            // `AREA-HEX`; those of caches are not removed by who holds them, and the rest
            // are locks of the store.
            let digits = name.to_str().and_then(|name| name.rsplit_once('-'));
            let (area, digits) = digits.unwrap_or_default();
            if digits.len() != 64 || area.starts_with("cache") {
                continue;
            }
            if let Some(lock) = FileLock::try_removable(&entry.path()) {
                lock.remove(&entry.path());
            }
        }
    }

    /// Notes that the store has grown by files that other processes of ours made.
    pub fn grew(&self, bytes: u64, inodes: u64) {
        self.leases.grew(bytes, inodes);
    }
}

impl Clearing<'_> {
    /// What was used at this time or later is in use.
    #[must_use]
    pub fn cutoff(&self) -> SystemTime {
        self.cutoff
    }

    /// Some process was killed while it used the store, since the last clean-up looked.
    #[must_use]
    pub fn found_killed(&self) -> bool {
        self.killed
    }

    /// Takes entries away, in this order, unless one of them is in use. Folders are moved
    /// to [`Clearing::trash`]. An entry that is not there is gone already.
    ///
    /// # Errors
    /// If one cannot be looked at or taken; those before it are gone then.
    pub fn take(&mut self, paths: &[PathBuf]) -> Result<Taken, StoreError> {
        let _gate = FileLock::exclusive(&self.store.leases.gate_path())?;
        if let (Some(oldest), _) = self.store.leases.oldest()? {
            self.cutoff = self.cutoff.min(oldest);
        }
        let mut there = Vec::with_capacity(paths.len());
        for path in paths {
            let meta = match path.symlink_metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("read", path)?,
            };
            if meta.modified().at("read", path)? >= self.cutoff {
                return Ok(Taken::InUse);
            }
            there.push((path, meta.is_dir()));
        }
        for (path, is_dir) in there {
            if is_dir {
                self.folders += 1;
                let trash = match self.trash.take() {
                    Some(trash) => self.trash.insert(trash),
                    None => self.trash.insert(self.store.scratch("prune")?),
                };
                let to = trash.path().join(self.folders.to_string());
                fs::rename(path, to).at("rename", path)?;
            } else {
                fs::remove_file(path).at("remove", path)?;
            }
        }
        Ok(Taken::Gone)
    }

    /// Where taken folders are, if any were, for whoever can remove what is in them. What
    /// is left there goes with the clean-up, or is the next command's to remove.
    #[must_use]
    pub fn trash(&self) -> Option<&Path> {
        self.trash.as_ref().map(Scratch::path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(path: &Path) {
        set_time(path, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
    }

    #[test]
    fn what_is_looked_up_stays_and_the_rest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let blobs = [b"one", b"two"].map(|bytes| {
            let digest = store.put(bytes).unwrap();
            (digest, store.blob_path(&digest))
        });
        blobs.iter().for_each(|(_, path)| old(path));
        let build = Store::open(folder.path()).unwrap();
        assert!(build.has_blob(&blobs[0].0, 3));
        let mut clearing = store.clearing().unwrap();
        let take = |clearing: &mut Clearing<'_>, at: usize| {
            clearing.take(std::slice::from_ref(&blobs[at].1)).unwrap()
        };
        assert_eq!(take(&mut clearing, 0), Taken::InUse);
        assert_eq!(take(&mut clearing, 1), Taken::Gone);
        assert!(!build.has_blob(&blobs[1].0, 3));
        // Also of two that go together.
        assert_eq!(clearing.take(&blobs.clone().map(|blob| blob.1)).unwrap(), Taken::InUse);
        drop(build);
        // A clean-up that began while somebody was there knows no better.
        assert_eq!(take(&mut clearing, 0), Taken::InUse);
        drop(clearing);
        drop(store);
        std::thread::sleep(Duration::from_millis(20));
        let store = Store::open(folder.path()).unwrap();
        let mut clearing = store.clearing().unwrap();
        assert_eq!(take(&mut clearing, 0), Taken::Gone);
    }

    #[test]
    fn a_session_that_was_killed_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.put(b"one").unwrap();
        fs::write(folder.path().join("sessions/s-dead"), "").unwrap();
        old(&folder.path().join("sessions/s-dead"));
        old(&store.blob_path(&digest));
        let mut clearing = store.clearing().unwrap();
        assert!(clearing.found_killed());
        assert_eq!(clearing.take(&[store.blob_path(&digest)]).unwrap(), Taken::Gone);
        assert!(!store.clearing().unwrap().found_killed());
        drop(clearing);
        drop(store);
        assert_eq!(fs::read_dir(folder.path().join("sessions")).unwrap().count(), 0);
    }

    #[test]
    fn whoever_looks_while_all_is_taken_sees_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        let names: Vec<_> = (0..300).map(|n: u32| first.put(&n.to_be_bytes()).unwrap()).collect();
        names.iter().for_each(|name| old(&first.blob_path(name)));
        drop(first);
        std::thread::sleep(Duration::from_millis(20));
        std::thread::scope(|scope| {
            let build = scope.spawn(|| {
                let store = Store::open(folder.path()).unwrap();
                let held: Vec<_> =
                    names.iter().rev().filter(|name| store.has_blob(name, 4)).collect();
                std::thread::sleep(Duration::from_millis(50));
                let kept = held.iter().filter(|name| store.blob_path(name).exists()).count();
                (held.len(), kept)
            });
            let store = Store::open(folder.path()).unwrap();
            let mut clearing = store.clearing().unwrap();
            for name in &names {
                clearing.take(&[store.blob_path(name)]).unwrap();
            }
            let (held, kept) = build.join().unwrap();
            assert_eq!(held, kept);
        });
    }
}
