//! One call of kiln: the flags of every command, and what commands share,
//! each made when it is first asked for.

use std::cell::OnceCell;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, ValueEnum};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::progress::{Display, Mode};
use super::report::{self, CliError};
use crate::diagnostic::{Diagnostic, Source};
use crate::env;
use crate::image::Descriptor;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{Options, Registries, RegistryError};
use crate::store::{Store, StoreError};

/// Flags that every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Folder of the image store [default: $KILN_STORE, else ~/.local/share/kiln]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,

    /// Open no network socket, start no program that might, and give RUN no network: what is
    /// not at hand is named before anything is done [default: $KILN_OFFLINE]
    #[arg(long, global = true)]
    pub offline: bool,

    /// When to use colours; NO_COLOR counts under `auto`
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Color,

    /// Say more: why steps ran, what was asked of registries; twice for still more
    // `run` has another meaning for `-v` and redefines this without it.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

/// See the module.
pub struct Invocation {
    globals: Globals,
    store: OnceCell<Arc<Store>>,
    runtime: OnceCell<tokio::runtime::Runtime>,
    interrupt: OnceCell<Interrupt>,
    display: OnceCell<Display>,
}

impl Invocation {
    #[must_use]
    pub fn new(globals: Globals) -> Self {
        Self {
            globals,
            store: OnceCell::new(),
            runtime: OnceCell::new(),
            interrupt: OnceCell::new(),
            display: OnceCell::new(),
        }
    }

    /// How often `-v` was given.
    #[must_use]
    pub fn verbose(&self) -> u8 {
        self.globals.verbose
    }

    /// True if what goes to stderr may have colours.
    #[must_use]
    pub fn colours(&self) -> bool {
        match self.globals.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => env::get(env::NO_COLOR).is_none() && capable_terminal(),
        }
    }

    /// True if what goes to stdout may have colours.
    #[must_use]
    pub fn colours_on_stdout(&self) -> bool {
        match self.globals.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => self.colours() && io::stdout().is_terminal(),
        }
    }

    /// The store, opened at the first call.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn store(&self) -> Result<&Arc<Store>, CliError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Arc::new(Store::open(&self.store_folder())?);
        Ok(self.store.get_or_init(|| store))
    }

    /// Where the store is, or would be.
    #[must_use]
    pub fn store_folder(&self) -> PathBuf {
        self.globals.store.clone().unwrap_or_else(env::store)
    }

    /// The store if something has opened it.
    #[must_use]
    pub fn opened_store(&self) -> Option<&Store> {
        self.store.get().map(Arc::as_ref)
    }

    /// The image of a name in the store, with the name that it has there. A name without a
    /// registry is Docker Hub's, as it is given to what is built; if there is none, it is
    /// what a pull of it would have brought.
    ///
    /// # Errors
    /// If the store, or registries.conf, cannot be read.
    pub fn named(&self, name: &Reference) -> Result<Option<(Reference, Descriptor)>, CliError> {
        let store = self.store()?;
        if let Some(found) = store.find(name)? {
            return Ok(Some((name.clone(), found)));
        }
        let Some(meant) = self.meant(name)? else { return Ok(None) };
        Ok(store.find(&meant)?.map(|found| (meant, found)))
    }

    /// The name that a pull of a name without a registry keeps, if it is another one.
    ///
    /// # Errors
    /// If registries.conf cannot be read.
    pub fn meant(&self, name: &Reference) -> Result<Option<Reference>, CliError> {
        if name.short().is_none() {
            return Ok(None);
        }
        match Registries::load(Options::default())?.meaning(name) {
            Ok(meant) => Ok(Some(meant).filter(|meant| meant != name)),
            // One that could be several was not pulled as one of them.
            Err(RegistryError::Short { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What an image's name or the first digits of its digest point to: a name
    /// comes before a digest. The name is the one that the image has, if one was given.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn find(&self, text: &str) -> Result<(Option<Reference>, Descriptor), CliError> {
        let store = self.store()?;
        let name = text.parse::<Reference>();
        if let Ok(name) = &name
            && let Some((name, found)) = self.named(name)?
        {
            return Ok((Some(name), found));
        }
        if let Some(found) = store.find_id(text)? {
            return Ok((None, found));
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        match name {
            Ok(name) => Err(StoreError::NoImage(name).into()),
            Err(_) if digits.len() >= 6 && digits.bytes().all(|c| c.is_ascii_hexdigit()) => {
                Err(CliError::plain(format!("no image with digest `{text}` in the store"))
                    .hint("`kiln images --digests` lists them"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Where the library reports to, shown as the flag, else `KILN_PROGRESS`, else
    /// `BUILDKIT_PROGRESS`, else the terminal suggests. The first call decides.
    ///
    /// # Errors
    /// If that mode cannot be had.
    pub fn progress(&self, mode: Option<Mode>) -> Result<Progress, CliError> {
        if let Some(display) = self.display.get() {
            return Ok(display.progress().detailed(self.verbose() > 0));
        }
        let set = || {
            [env::PROGRESS, env::BUILDKIT_PROGRESS]
                .iter()
                .find_map(|name| Some((*name, env::text(name)?)))
        };
        let mode = match mode {
            Some(mode) => mode,
            None => match set() {
                None => Mode::Auto,
                Some((name, text)) => Mode::from_str(&text, true).map_err(|_| {
                    let all = "auto, tty, plain, rawjson or quiet is expected";
                    CliError::usage(format!("{name}=`{text}`: {all}"))
                })?,
            },
        };
        let display = Display::new(mode, capable_terminal(), self.colours())?;
        let display = self.display.get_or_init(|| display);
        Ok(display.progress().detailed(self.verbose() > 0))
    }

    /// True if what is shown goes to programs, as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.display.get().is_some_and(Display::is_json)
    }

    /// True if nothing but warnings is shown.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.display.get().is_some_and(Display::is_quiet)
    }

    /// Tells the user something to act on, where no `Progress` is at hand.
    pub fn warn(&self, text: &str) {
        match self.display.get() {
            Some(display) => display.progress().warn(text),
            None => report::say(&report::warning(text, self.colours())),
        }
    }

    /// Says something on stderr beside the progress, as it is.
    pub fn tell(&self, text: &str) {
        match self.display.get() {
            Some(display) => display.aside(|| report::say(text)),
            None => report::say(text),
        }
    }

    /// Shows warnings (or errors that do not end the command) about a text.
    pub fn diagnose(&self, source: &Source, diagnostics: &[Diagnostic]) {
        for one in diagnostics {
            let drawn = || report::draw(source, one, self.colours());
            match self.display.get() {
                Some(display) => display.diagnostic(source, one, drawn),
                None => report::say(&drawn()),
            }
        }
    }

    /// The runtime for what is asynchronous, made at the first call.
    ///
    /// # Errors
    /// If its threads cannot be started.
    pub fn runtime(&self) -> Result<&tokio::runtime::Runtime, CliError> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::from(error).context("cannot start worker threads"))?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    /// Listens for signals from now on; see [`Interrupt`].
    ///
    /// # Errors
    /// If that cannot be set up.
    pub fn interrupt(&self) -> Result<&Interrupt, CliError> {
        if let Some(interrupt) = self.interrupt.get() {
            return Ok(interrupt);
        }
        let interrupt = Interrupt::listen(self.runtime()?.handle())?;
        Ok(self.interrupt.get_or_init(|| interrupt))
    }

    /// Runs asynchronous work to its end. A signal drops it, which clears up, and
    /// is the outcome then. For work that answers signals itself there is
    /// [`Invocation::runtime`].
    ///
    /// # Errors
    /// The work's own, or that it was interrupted.
    pub fn block_on<T, E: Into<CliError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CliError> {
        let interrupt = self.interrupt()?.clone();
        self.runtime()?.block_on(async move {
            tokio::select! {
                done = work => done.map_err(Into::into),
                signal = interrupt.wait() => Err(CliError::Interrupted { signal }),
            }
        })
    }

    /// Writes a result to stdout, with a newline at its end.
    ///
    /// # Errors
    /// If stdout is closed or full.
    pub fn print(&self, text: impl AsRef<str>) -> Result<(), CliError> {
        let text = text.as_ref();
        match text.ends_with('\n') {
            true => self.print_bytes(text.as_bytes()),
            false => self.print_bytes(format!("{text}\n").as_bytes()),
        }
    }

    /// Writes a result to stdout as it is.
    ///
    /// # Errors
    /// If stdout is closed or full.
    pub fn print_bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        let write = || {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        };
        let written = match self.display.get() {
            Some(display) => display.aside(write),
            None => write(),
        };
        written.map_err(CliError::stdout)
    }

    /// Writes a result to stdout as JSON.
    ///
    /// # Errors
    /// If stdout is closed or full.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), CliError> {
        self.print(serde_json::to_string_pretty(value)?)
    }

    /// Does something with each of several names, and prints those that it was
    /// done with.
    ///
    /// # Errors
    /// The first failure, after all were tried; further ones are said at once.
    pub fn each(
        &self,
        names: &[String],
        mut deed: impl FnMut(&str) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut failed = None;
        for name in names {
            match deed(name) {
                Ok(()) => self.print(name)?,
                Err(error) if failed.is_none() => failed = Some(error),
                Err(error) => report::show(&error, self, false),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Ends the display, says what went wrong, and gives the exit code.
    pub(super) fn end(self, outcome: Result<(), CliError>, runs_a_program: bool) -> ExitCode {
        if let Some(display) = self.display.get() {
            display.close();
        }
        let signal = self.interrupt.get().and_then(Interrupt::signal);
        let outcome = match (outcome, signal) {
            // Whatever the work says, it ended because of the signal.
            (Err(_), Some(signal)) => Err(CliError::Interrupted { signal }),
            (outcome, _) => outcome,
        };
        let code = report::code(&outcome, runs_a_program);
        if let Err(error) = &outcome {
            let json = self.is_json();
            report::show(error, &self, json);
        }
        if let Some(runtime) = self.runtime.into_inner() {
            // Blocking threads that a dropped task left behind end with the process.
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
        ExitCode::from(code)
    }
}

/// True if stderr is a terminal that can move its cursor.
fn capable_terminal() -> bool {
    io::stderr().is_terminal() && env::text(env::TERM).is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asynchronous_work() {
        let invocation = Invocation::new(Globals::default());
        let done = invocation.block_on(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<_, io::Error>(5)
        });
        assert_eq!(done.unwrap(), 5);
        let failed = invocation.block_on(async { Err::<(), _>(io::Error::other("no")) });
        assert!(matches!(failed, Err(CliError::Failed(_))));
    }
}
