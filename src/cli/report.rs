//! What the user reads when something went wrong, and the exit code.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed; under `diff`: the images differ |
//! | 2 | the command line is wrong; under `diff`: whatever failed |
//! | 125 | kiln itself failed under `run`, whatever the reason |
//! | 126, 127 | under `run`: the program cannot be started, is not there |
//! | 128 + n | ended by signal n |
//! | else | under `run`: what the program itself gave |
//!
//! Any `std::error::Error` becomes a [`CliError`] by `?`; its hint comes from
//! the list in `hint.rs`, or is attached with [`CliError::hint`].

use std::error::Error as StdError;
use std::io::{self, Write as _};
use std::process::ExitCode;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::invocation::Invocation;
use super::progress::json;
use super::{hint, text};
use crate::diagnostic::{Diagnostic, Severity, Source, Span};

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum CliError {
    /// Something failed.
    Failed(Failure),
    /// A text of the user's is wrong; it is drawn with its lines.
    Drawn { source: Source, diagnostics: Vec<Diagnostic> },
    /// The command line asks for something that cannot be meant.
    Usage { message: String, hint: Option<String> },
    /// The exit code of the program that kiln ran; there is nothing to say.
    Exit(u8),
    /// A signal ended the work.
    Interrupted { signal: i32 },
    /// Whoever read stdout went away; there is nobody to tell.
    PipeClosed,
}

/// An error with what is to be said beside it.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn StdError + Send + Sync>,
    /// What was being done, said before the error.
    context: Option<String>,
    hint: Option<String>,
    kind: FailureKind,
}

/// Where the exit code has to tell kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    Failed,
    /// Under `run`: the program is there and cannot be started.
    NotExecutable,
    /// Under `run`: there is no such program.
    NotFound,
    /// Under `diff`: the images could not be compared.
    NotCompared,
}

/// The exit code of `diff` for images that differ.
pub(super) const DIFFERENT: u8 = 1;

impl<E: StdError + Send + Sync + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::Failed(Failure {
            error: Box::new(error),
            context: None,
            hint: None,
            kind: FailureKind::Failed,
        })
    }
}

/// A message without an error of a module behind it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Message(String);

impl CliError {
    /// A failure that only the command line knows of.
    pub fn plain(message: impl Into<String>) -> Self {
        Message(message.into()).into()
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    pub fn drawn(source: Source, diagnostics: Vec<Diagnostic>) -> Self {
        Self::Drawn { source, diagnostics }
    }

    /// Says what to try. It has no place on an error that says nothing.
    #[must_use]
    pub fn hint(mut self, what: impl Into<String>) -> Self {
        match &mut self {
            Self::Failed(Failure { hint, .. }) | Self::Usage { hint, .. } => {
                *hint = Some(what.into());
            }
            Self::Drawn { .. } | Self::Exit(_) | Self::Interrupted { .. } | Self::PipeClosed => (),
        }
        self
    }

    /// Says what was being done when it failed.
    #[must_use]
    pub fn context(mut self, what: impl Into<String>) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.context = Some(what.into());
        }
        self
    }

    /// Says which kind of failure it is, for the exit code.
    #[must_use]
    pub fn kind(mut self, kind: FailureKind) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.kind = kind;
        }
        self
    }

    /// What it says, on one line.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Failed(failure) => {
                let (message, causes) = chain(failure);
                [vec![message], causes].concat().join(": ")
            }
            Self::Usage { message, .. } => message.clone(),
            Self::Drawn { diagnostics, .. } => {
                diagnostics.first().map(|one| one.message.clone()).unwrap_or_default()
            }
            Self::Interrupted { signal } => format!("interrupted by {}", name_of(*signal)),
            Self::Exit(_) | Self::PipeClosed => String::new(),
        }
    }

    /// An error of writing to stdout.
    #[must_use]
    pub fn stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::PipeClosed;
        }
        Self::from(error).context("cannot write to standard output")
    }
}

/// The exit code of an outcome; the only place that chooses one.
pub(super) fn code(outcome: &Result<(), CliError>, runs_a_program: bool) -> u8 {
    let own = |code| if runs_a_program { 125 } else { code };
    match outcome {
        Ok(()) => 0,
        Err(CliError::Failed(failure)) => match failure.kind {
            FailureKind::Failed => own(1),
            FailureKind::NotExecutable => 126,
            FailureKind::NotFound => 127,
            FailureKind::NotCompared => 2,
        },
        Err(CliError::Drawn { .. } | CliError::PipeClosed) => own(1),
        Err(CliError::Usage { .. }) => own(2),
        Err(CliError::Exit(code)) => *code,
        Err(CliError::Interrupted { signal }) => u8::try_from(128 + signal).unwrap_or(1),
    }
}

/// Answers a command line that clap did not accept, or that asked for help.
pub(super) fn refused(error: &clap::Error, runs_a_program: bool) -> ExitCode {
    let asked = error.exit_code() == 0;
    match error.print() {
        Ok(()) if asked => ExitCode::SUCCESS,
        Err(problem) if asked => {
            let problem = CliError::stdout(problem);
            if let CliError::Failed(failure) = &problem {
                say(&plain(failure, None, false));
            }
            ExitCode::from(code(&Err(problem), runs_a_program))
        }
        _ => ExitCode::from(code(&Err(CliError::usage("")), runs_a_program)),
    }
}

/// Says an error on stderr.
pub(super) fn show(error: &CliError, invocation: &Invocation, json: bool) {
    let colours = invocation.colours();
    let found = match error {
        CliError::Failed(failure) => failure
            .hint
            .clone()
            .or_else(|| hint::of(failure.error.as_ref(), invocation.opened_store())),
        CliError::Usage { hint, .. } => hint.clone(),
        CliError::Drawn { .. }
        | CliError::Exit(_)
        | CliError::Interrupted { .. }
        | CliError::PipeClosed => None,
    };
    if json {
        for object in objects(error, found.as_deref()) {
            say(&text::json(&object));
        }
        return;
    }
    match error {
        CliError::Failed(failure) => say(&plain(failure, found.as_deref(), colours)),
        CliError::Usage { message, .. } => say(&said(message, &[], found.as_deref(), colours)),
        CliError::Drawn { source, diagnostics } => {
            // Nobody reads more, and each takes a look at the whole file.
            const MOST: usize = 100;
            for one in diagnostics.iter().take(MOST) {
                say(&draw(source, one, colours));
            }
            if let Some(more @ 1..) = diagnostics.len().checked_sub(MOST) {
                say(&said(&format!("{more} more like these"), &[], None, colours));
            }
        }
        CliError::Interrupted { signal } => {
            say(&said(&format!("interrupted by {}", name_of(*signal)), &[], None, colours));
        }
        CliError::Exit(_) | CliError::PipeClosed => (),
    }
}

/// The errors as the objects that `rawjson` shows (`progress/json.rs`).
fn objects(error: &CliError, hint: Option<&str>) -> Vec<serde_json::Value> {
    match error {
        CliError::Failed(failure) => {
            let (message, causes) = chain(failure);
            vec![json::error(&message, &causes, hint)]
        }
        CliError::Usage { message, .. } => vec![json::error(message, &[], hint)],
        CliError::Drawn { source, diagnostics } => {
            diagnostics.iter().map(|one| json::error_in(source, one)).collect()
        }
        CliError::Interrupted { signal } => {
            vec![json::error(&format!("interrupted by {}", name_of(*signal)), &[], None)]
        }
        CliError::Exit(_) | CliError::PipeClosed => Vec::new(),
    }
}

fn name_of(signal: i32) -> String {
    match signal {
        libc::SIGINT => "SIGINT".into(),
        libc::SIGTERM => "SIGTERM".into(),
        libc::SIGHUP => "SIGHUP".into(),
        other => format!("signal {other}"),
    }
}

/// Message and causes; a cause that the message already tells is left out.
fn chain(failure: &Failure) -> (String, Vec<String>) {
    let mut texts = vec![failure.error.to_string()];
    let mut at = failure.error.source();
    while let Some(cause) = at {
        let text = cause.to_string();
        if !texts.iter().any(|said| said.contains(&text)) {
            texts.push(text);
        }
        at = cause.source();
    }
    if let Some(context) = &failure.context {
        texts.insert(0, context.clone());
    }
    (texts.remove(0), texts)
}

fn plain(failure: &Failure, hint: Option<&str>, colours: bool) -> String {
    let (message, causes) = chain(failure);
    said(&message, &causes, hint, colours)
}

fn said(message: &str, causes: &[String], hint: Option<&str>, colours: bool) -> String {
    let mut out = format!("{}: {}", mark("error", "1;31", colours), text::message(message));
    for cause in causes {
        out.push_str("\n  caused by: ");
        out.push_str(&text::message(cause).replace('\n', "\n    "));
    }
    if let Some(hint) = hint {
        out.push('\n');
        out.push_str(&hint_line(hint, colours));
    }
    out
}

/// A warning as a line.
pub(super) fn warning(message: &str, colours: bool) -> String {
    format!("{}: {}", mark("warning", "1;33", colours), text::message(message))
}

fn hint_line(hint: &str, colours: bool) -> String {
    format!("{}: {}", mark("hint", "1;36", colours), text::message(hint))
}

fn mark(word: &str, code: &str, colours: bool) -> String {
    if colours { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}

/// Draws a diagnostic with its line.
pub(super) fn draw(source: &Source, one: &Diagnostic, colours: bool) -> String {
    let level = match one.severity {
        Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
    };
    let mut title = level.primary_title(one.message.as_str());
    if let Some(rule) = one.rule {
        title = title.id(rule.name);
    }
    // A span of nothing at the start means what was asked, and no line.
    let group = if source.text().is_empty() || one.span == Span::default() {
        Group::with_title(title)
    } else {
        let mut annotation = AnnotationKind::Primary.span(clamp(source.text(), one));
        if !one.label.is_empty() {
            annotation = annotation.label(one.label.as_str());
        }
        title.element(Snippet::source(source.text()).path(source.name()).annotation(annotation))
    };
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let mut out = renderer.render(&[group]).trim_end().to_owned();
    if let Some(hint) = &one.hint {
        out.push('\n');
        out.push_str(&hint_line(hint, colours));
    }
    out
}

/// The span inside the text, on character borders: a span that is wrong must not
/// cost the message.
fn clamp(text: &str, one: &Diagnostic) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(one.span.start.min(text.len()));
    let end = text.ceil_char_boundary(one.span.end.clamp(start, text.len()));
    start..end
}

/// Writes to stderr; if that is closed there is nobody to tell.
pub(super) fn say(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.write_all(b"\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn() {
        let source = Source::new("Dockerfile", "FROM a\nCOPY assets/ /srv/\n");
        let one = Diagnostic::error(Span::new(12, 19), "COPY source not found: assets/")
            .hint("`assets/` is excluded by `.dockerignore` line 3 (`a*`)");
        assert_eq!(
            draw(&source, &one, false),
            "\
error: COPY source not found: assets/
 --> Dockerfile:2:6
  |
2 | COPY assets/ /srv/
  |      ^^^^^^^
hint: `assets/` is excluded by `.dockerignore` line 3 (`a*`)"
        );
        // No span, however wrong, costs the message.
        for (start, end) in [(0, 0), (26, 26), (99, 7), (5, 1000)] {
            let one = Diagnostic::warning(Span::new(start, end), "m");
            assert!(draw(&source, &one, false).starts_with("warning: m"));
            assert!(draw(&Source::new("x", "ä"), &one, false).starts_with("warning: m"));
        }
        assert!(
            draw(&Source::new("x", ""), &Diagnostic::error(Span::new(0, 0), "m"), true)
                .contains("\u{1b}[")
        );
    }

    #[test]
    fn codes() {
        let failed = |kind| Err(CliError::plain("x").kind(kind));
        for (outcome, usual, under_run) in [
            (Ok(()), 0, 0),
            (failed(FailureKind::Failed), 1, 125),
            (failed(FailureKind::NotExecutable), 126, 126),
            (failed(FailureKind::NotFound), 127, 127),
            (failed(FailureKind::NotCompared), 2, 2),
            (Err(CliError::usage("x")), 2, 125),
            (Err(CliError::Exit(7)), 7, 7),
            (Err(CliError::Interrupted { signal: libc::SIGINT }), 130, 130),
            (Err(CliError::PipeClosed), 1, 125),
        ] {
            assert_eq!(code(&outcome, false), usual, "{outcome:?}");
            assert_eq!(code(&outcome, true), under_run, "{outcome:?}");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        use crate::atomic::AtPath as _;
        let error = Err::<(), _>(io::Error::other("disk\u{1b}[2J on fire")).at("write", "/x");
        let CliError::Failed(failure) = CliError::from(error.unwrap_err()).context("no go") else {
            panic!("an error is a failure");
        };
        assert_eq!(
            plain(&failure, Some("flee"), false),
            "error: no go\n  caused by: cannot write /x: disk on fire\nhint: flee"
        );
    }
}
