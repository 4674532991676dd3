//! Progress as the user sees it: one renderer per mode.

pub(super) mod json;
mod plain;
mod rate;
mod tty;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;

use super::report::{self, CliError};
use crate::diagnostic::{Diagnostic, Source};
use crate::progress::{Event, Progress};

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// `tty` on a terminal, else `plain`
    #[default]
    Auto,
    /// Bars and spinners
    Tty,
    /// Lines
    Plain,
    /// One JSON object per line, as BuildKit writes them
    Rawjson,
    /// Warnings only
    #[value(alias = "none")]
    Quiet,
}

/// The flag, for the commands that take long.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct ProgressArgs {
    /// How to show progress on stderr [default: $KILN_PROGRESS, else $BUILDKIT_PROGRESS,
    /// else auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub progress: Option<Mode>,
}

enum Renderer {
    Tty(tty::Tty),
    Plain(plain::Plain),
    Json(json::Json),
    Quiet,
}

impl Renderer {
    fn show(&mut self, event: Event) {
        match self {
            Self::Tty(tty) => tty.show(event),
            Self::Plain(plain) => plain.show(event),
            Self::Json(json) => json.show(event),
            Self::Quiet => match event {
                Event::Warning(text) => {
                    report::say(&report::warning(&text, false));
                }
                Event::Begin { .. }
                | Event::Transfer { .. }
                | Event::Resumed { .. }
                | Event::Waiting { .. }
                | Event::Bytes { .. }
                | Event::Line { .. }
                | Event::Causes { .. }
                | Event::End { .. }
                | Event::Totals(_)
                | Event::Transferred { .. }
                | Event::Note(_) => (),
            },
        }
    }
}

/// A renderer that events of several threads go to.
#[derive(Clone)]
pub(super) struct Display {
    renderer: Arc<Mutex<Renderer>>,
    mode: Mode,
}

impl Display {
    /// `terminal` says whether stderr is one that can move its cursor.
    pub(super) fn new(mode: Mode, terminal: bool, colours: bool) -> Result<Self, CliError> {
        let mode = match mode {
            Mode::Auto if terminal => Mode::Tty,
            Mode::Auto => Mode::Plain,
            Mode::Tty | Mode::Plain | Mode::Rawjson | Mode::Quiet => mode,
        };
        let renderer = match mode {
            Mode::Tty if !terminal => {
                return Err(CliError::usage("--progress tty needs a terminal on standard error")
                    .hint("`--progress plain` works everywhere"));
            }
            Mode::Auto | Mode::Tty => Renderer::Tty(tty::Tty::new(colours)),
            Mode::Plain => Renderer::Plain(plain::Plain::new()),
            Mode::Rawjson => Renderer::Json(json::Json::new()),
            Mode::Quiet => Renderer::Quiet,
        };
        Ok(Self { renderer: Arc::new(Mutex::new(renderer)), mode })
    }

    fn lock(&self) -> MutexGuard<'_, Renderer> {
        // A renderer that panicked half-way can still draw.
        self.renderer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> Progress {
        let this = self.clone();
        Progress::new(move |event| this.lock().show(event))
    }

    pub(super) fn is_json(&self) -> bool {
        self.mode == Mode::Rawjson
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.mode == Mode::Quiet
    }

    /// Shows a diagnostic in the mode's form.
    pub(super) fn diagnostic(
        &self,
        source: &Source,
        one: &Diagnostic,
        drawn: impl FnOnce() -> String,
    ) {
        match &mut *self.lock() {
            Renderer::Json(json) => json.diagnostic(source, one),
            Renderer::Tty(tty) => tty.aside(|| report::say(&drawn())),
            Renderer::Plain(_) | Renderer::Quiet => report::say(&drawn()),
        }
    }

    /// Runs something that writes to the terminal, with nothing drawn meanwhile.
    pub(super) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        match &*self.lock() {
            Renderer::Tty(tty) => tty.aside(work),
            Renderer::Plain(_) | Renderer::Json(_) | Renderer::Quiet => work(),
        }
    }

    /// Takes away what moves; what is finished stays on the screen.
    pub(super) fn close(&self) {
        if let Renderer::Tty(tty) = &mut *self.lock() {
            tty.close();
        }
    }
}
