//! What long work says while it goes on.
//!
//! The library reports through a [`Progress`], a cheap handle; the command line
//! decides whether that becomes bars, lines or JSON. A [`Task`] is one thing that
//! begins, moves and ends; a task that is dropped without an end has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a line of a step's output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Done,
    /// Nothing had to be done: the result was there.
    Cached,
    Failed,
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
    detailed: bool,
    explaining: bool,
}

impl Progress {
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self {
            sink: Arc::new(sink),
            next: Arc::new(AtomicU64::new(1)),
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
        Task { id, progress: self.clone(), ended: false }
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

/// One thing under way; see the module.
#[derive(Debug)]
pub struct Task {
    id: u64,
    progress: Progress,
    ended: bool,
}

impl Task {
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        (self.progress.sink)(Event::Bytes { id: self.id, done, total });
    }

    pub fn line(&self, stream: Stream, text: impl Into<String>) {
        (self.progress.sink)(Event::Line { id: self.id, stream, text: text.into() });
    }

    pub fn causes(&self, causes: Vec<Cause>) {
        let wanted = self.progress.explaining;
        (self.progress.sink)(Event::Causes { id: self.id, causes, wanted });
    }

    pub fn done(self) {
        self.end(End::Done);
    }

    pub fn cached(self) {
        self.end(End::Cached);
    }

    fn end(mut self, end: End) {
        self.ended = true;
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
