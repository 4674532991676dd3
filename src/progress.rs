//! What long work says while it goes on.
//!
//! The library reports through a [`Progress`], a cheap handle; the command line
//! decides whether that becomes bars, lines or JSON. A [`Task`] is one thing that
//! begins, moves and ends; a task that is dropped without an end has failed.
//! A task of [`Progress::transfer`] is a blob on its way to or from a registry: its
//! end says how the blob came to be there, and [`Progress::transferred`] what became
//! of all of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::digest::BlobDigest;

/// Where a line of a step's output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Done,
    /// Nothing had to be done: the result was there.
    Cached,
    /// Of a transfer: the registry took the blob from another of its repositories.
    Mounted {
        from: String,
    },
    /// Of a transfer: the other side was asked, and has the blob.
    Exists,
    Failed,
}

/// Where a blob goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a registry into the store.
    Pull,
    /// To a registry.
    Push,
}

impl Way {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// What became of transfers; those that failed and those of nothing are not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Blobs that were sent to registries.
    pub sent: u64,
    /// Bytes of theirs that moved: less than their sizes where an upload went on, more
    /// where one had to begin anew.
    pub bytes_sent: u64,
    pub mounted: u64,
    /// Blobs that a registry was asked for, and had.
    pub existed: u64,
    /// Blobs that were fetched from registries.
    pub fetched: u64,
    /// As `bytes_sent`.
    pub bytes_fetched: u64,
    /// Blobs that were to be fetched, and were in the store.
    pub kept: u64,
}

/// How something differs from what it was in an earlier build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Changed,
    Added,
    Removed,
    /// Of a file, and nothing else.
    Mode,
}

impl Change {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Mode => "mode",
        }
    }
}

/// One reason for which something is made that an earlier build had made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `file`, `variable`, `base`, `parent`, `instruction`, `source`, `option`, `store`,
    /// `kiln`, `unknown`.
    pub kind: &'static str,
    /// Of the file, the variable, the image, …; empty for what has none.
    pub name: String,
    pub change: Change,
    /// For people. No value of a variable is in it.
    pub text: String,
}

impl Cause {
    pub fn new(
        kind: &'static str,
        name: impl Into<String>,
        change: Change,
        text: impl Into<String>,
    ) -> Self {
        Self { kind, name: name.into(), change, text: text.into() }
    }
}

/// One thing that happened. `id` ties the events of a task together.
#[derive(Debug, Clone)]
pub enum Event {
    Begin {
        id: u64,
        name: String,
    },
    /// The task is a transfer, of a blob of `total` bytes. Comes after [`Event::Begin`].
    Transfer {
        id: u64,
        way: Way,
        digest: BlobDigest,
        total: u64,
    },
    /// Goes on behind the first `at` bytes, which the other side has.
    Resumed {
        id: u64,
        at: u64,
    },
    /// Nothing moves for this long, and why.
    Waiting {
        id: u64,
        pause: Duration,
        why: String,
    },
    /// Bytes moved so far; `total` if it is known.
    Bytes {
        id: u64,
        done: u64,
        total: Option<u64>,
    },
    /// A line of output, without its newline.
    Line {
        id: u64,
        stream: Stream,
        text: String,
    },
    /// Why it is not [`End::Cached`]. `wanted` if somebody asked for all of it.
    Causes {
        id: u64,
        causes: Vec<Cause>,
        wanted: bool,
    },
    End {
        id: u64,
        end: End,
    },
    /// What was done in all, by name: for programs.
    Totals(Vec<(&'static str, u64)>),
    /// What became of the transfers of one push or pull.
    Transferred {
        way: Way,
        all: Transfers,
    },
    /// Something the user should know but need not act on.
    Note(String),
    /// Something the user should act on.
    Warning(String),
}

type Sink = dyn Fn(Event) + Send + Sync;

/// Where events go.
#[derive(Clone)]
pub struct Progress {
    sink: Arc<Sink>,
    next: Arc<AtomicU64>,
    tally: Arc<Mutex<Transfers>>,
    detailed: bool,
    explaining: bool,
}

impl Progress {
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self {
            sink: Arc::new(sink),
            next: Arc::new(AtomicU64::new(1)),
            tally: Arc::default(),
            detailed: false,
            explaining: false,
        }
    }

    /// Says nothing to anybody.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// Has it pass on what is said by [`Progress::detail`].
    #[must_use]
    pub fn detailed(self, detailed: bool) -> Self {
        Self { detailed, ..self }
    }

    /// Has it say all of why tasks are not [`End::Cached`].
    #[must_use]
    pub fn explaining(self, explaining: bool) -> Self {
        Self { explaining, ..self }
    }

    /// Begins a task.
    pub fn task(&self, name: impl Into<String>) -> Task {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        (self.sink)(Event::Begin { id, name: name.into() });
        Task { id, progress: self.clone(), moving: None, ended: false }
    }

    /// Begins the transfer of a blob of this size.
    pub fn transfer(
        &self,
        way: Way,
        digest: BlobDigest,
        size: u64,
        name: impl Into<String>,
    ) -> Task {
        let mut task = self.task(name);
        task.moving = Some(Moving::new(way, size));
        (self.sink)(Event::Transfer { id: task.id, way, digest, total: size });
        task
    }

    /// Says what became of the transfers since this was called last; a push or a pull has
    /// ended.
    pub fn transferred(&self, way: Way) {
        let all = self.with_tally(std::mem::take);
        (self.sink)(Event::Transferred { way, all });
    }

    fn with_tally<T>(&self, work: impl FnOnce(&mut Transfers) -> T) -> T {
        // Numbers cannot be half-changed.
        work(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn note(&self, text: impl Into<String>) {
        (self.sink)(Event::Note(text.into()));
    }

    /// A note for those who asked for more than the usual.
    pub fn detail(&self, text: impl Into<String>) {
        if self.detailed {
            self.note(text);
        }
    }

    /// Says what was done in all.
    pub fn totals(&self, totals: Vec<(&'static str, u64)>) {
        (self.sink)(Event::Totals(totals));
    }

    pub fn warn(&self, text: impl Into<String>) {
        (self.sink)(Event::Warning(text.into()));
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

/// How far a transfer is.
#[derive(Debug)]
struct Moving {
    way: Way,
    size: u64,
    /// Where in the blob it is.
    at: AtomicU64,
    /// Bytes that moved, those that moved in vain included.
    moved: AtomicU64,
    mounted_from: OnceLock<String>,
}

impl Moving {
    fn new(way: Way, size: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self { way, size, at: zero(), moved: zero(), mounted_from: OnceLock::new() }
    }

    fn bytes(&self, done: u64) {
        let before = self.at.swap(done, Ordering::Relaxed);
        // One that is behind where it was has begun anew.
        let more = done.checked_sub(before).unwrap_or(done);
        self.moved.fetch_add(more, Ordering::Relaxed);
    }

    fn count(&self, end: &End, in_all: &mut Transfers) {
        let (moved, bytes) = match self.way {
            Way::Pull => (&mut in_all.fetched, &mut in_all.bytes_fetched),
            Way::Push => (&mut in_all.sent, &mut in_all.bytes_sent),
        };
        match end {
            End::Done => {
                *moved += 1;
                *bytes += self.moved.load(Ordering::Relaxed);
            }
            End::Mounted { .. } => in_all.mounted += 1,
            End::Exists if self.way == Way::Pull => in_all.kept += 1,
            End::Exists => in_all.existed += 1,
            End::Cached | End::Failed => (),
        }
    }
}

/// One thing under way; see the module.
#[derive(Debug)]
pub struct Task {
    id: u64,
    progress: Progress,
    /// Of a transfer.
    moving: Option<Moving>,
    ended: bool,
}

impl Task {
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        if let Some(moving) = &self.moving {
            moving.bytes(done);
        }
        (self.progress.sink)(Event::Bytes { id: self.id, done, total });
    }

    /// Says that it goes on behind the first `at` bytes, which the other side has: after a
    /// break, or where another process had to stop.
    pub fn resumed(&self, at: u64) {
        if let Some(moving) = &self.moving {
            moving.at.store(at, Ordering::Relaxed);
        }
        (self.progress.sink)(Event::Resumed { id: self.id, at });
    }

    /// Says that nothing moves for a while. What a server said in `why` is escaped.
    pub fn waiting(&self, pause: Duration, why: impl std::fmt::Display) {
        (self.progress.sink)(Event::Waiting { id: self.id, pause, why: why.to_string() });
    }

    /// Notes that the registry took the blob from another of its repositories: the end is
    /// [`Task::found`].
    pub fn mounted_from(&self, repository: &str) {
        if let Some(moving) = &self.moving {
            moving.mounted_from.get_or_init(|| repository.to_owned());
        }
    }

    pub fn line(&self, stream: Stream, text: impl Into<String>) {
        (self.progress.sink)(Event::Line { id: self.id, stream, text: text.into() });
    }

    pub fn causes(&self, causes: Vec<Cause>) {
        let wanted = self.progress.explaining;
        (self.progress.sink)(Event::Causes { id: self.id, causes, wanted });
    }

    /// Ends it; all bytes of a transfer have moved.
    pub fn done(self) {
        if let Some(size) = self.moving.as_ref().map(|moving| moving.size) {
            self.bytes(size, Some(size));
        }
        self.end(End::Done);
    }

    pub fn cached(self) {
        self.end(End::Cached);
    }

    /// Ends a transfer that had nothing to move: the other side has the blob, or took it
    /// from where [`Task::mounted_from`] says.
    pub fn found(self) {
        let from = self.moving.as_ref().and_then(|moving| moving.mounted_from.get()).cloned();
        self.end(from.map_or(End::Exists, |from| End::Mounted { from }));
    }

    fn end(mut self, end: End) {
        self.ended = true;
        if let Some(moving) = &self.moving {
            self.progress.with_tally(|all| moving.count(&end, all));
        }
        (self.progress.sink)(Event::End { id: self.id, end });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.ended {
            (self.progress.sink)(Event::End { id: self.id, end: End::Failed });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_summed_up() {
        let summary = Arc::new(Mutex::new(Vec::new()));
        let progress = {
            let summary = Arc::clone(&summary);
            Progress::new(move |event| {
                if let Event::Transferred { all, .. } = event {
                    summary.lock().unwrap().push(all);
                }
            })
        };
        let task = |way, size| progress.transfer(way, BlobDigest::of(b"x"), size, "x");
        let push = |size| task(Way::Push, size);
        push(100).done();
        let whole = push(100);
        whole.bytes(60, Some(100));
        whole.bytes(20, Some(100));
        whole.done();
        let resumed = push(100);
        resumed.bytes(50, Some(100));
        resumed.resumed(40);
        resumed.done();
        let mounted = push(100);
        mounted.mounted_from("other");
        mounted.found();
        push(100).found();
        push(100).cached();
        drop(push(100));
        task(Way::Pull, 7).done();
        task(Way::Pull, 7).found();
        progress.task("no transfer").done();
        progress.transferred(Way::Push);
        progress.transferred(Way::Push);
        let expected = Transfers {
            sent: 3,
            // All; 60 in vain, then all; 50, of which 40 stay, then the rest.
            bytes_sent: 100 + (60 + 100) + (50 + 60),
            mounted: 1,
            existed: 1,
            fetched: 1,
            bytes_fetched: 7,
            kept: 1,
        };
        assert_eq!(*summary.lock().unwrap(), [expected, Transfers::default()]);
    }
}
