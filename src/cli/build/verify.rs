//! `--verify`: the image is built a second time, and what differs is told. `--normalize`.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{outputs, sources};
use crate::atomic::AtPath as _;
use crate::build::{
    self, BuildEnv, BuildRequest, Built, Cache, Condition, Odd, Opening, Outcome, SecondStore,
    Sources,
};
use crate::cli::diff;
use crate::cli::failure;
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::cli::text;
use crate::compare::{self, Options, Report, Side};
use crate::diagnostic::Diagnostic;
use crate::sandbox::Conditions;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct VerifyFlags {
    /// Build a second time, without cache, in a store of its own (in DIR, else on the same
    /// disk) and under other conditions, as far as they can be changed here: processors, user,
    /// host name, clocks since boot, order of folders. If the digests differ, tell in what, as
    /// `kiln diff` does, and fail. No name, output, push or cache leaves before both agree
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "DIR",
        conflicts_with_all = ["call", "check"])]
    // The outer one says whether the flag was given.
    verify: Option<Option<PathBuf>>,
}

#[derive(Debug, Clone, Default, clap::Args)]
pub struct NormalizeFlags {
    /// Take out of the layers of RUN what every build leaves otherwise and nothing needs: logs
    /// of package managers, their caches and backups, ldconfig's aux-cache, machine-id, days in
    /// /etc/shadow, times in Python's compiled files; the history says which
    #[arg(long)]
    pub normalize: bool,
}

/// Seconds change: what a step writes of the time of day shows in the second build.
const WAIT: Duration = Duration::from_millis(1100);
/// Files of a layer that are told of one by one.
const FEW: usize = 20;

/// The second build, and what came of it.
pub(in crate::cli) struct Verification {
    folder: Option<PathBuf>,
    /// As that of the first build: an image may carry its records.
    cache: Cache,
    metadata: Option<PathBuf>,
    verified: OnceCell<Value>,
}

/// As programs read it.
#[derive(Serialize)]
struct Verified<'v> {
    same: bool,
    conditions: &'v [Condition],
    /// The steps that came to something else, each with its line; none if all agree.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Value>,
    /// That of `kiln diff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'v Report>,
}

impl VerifyFlags {
    /// What is to be proved of the build, if anything.
    ///
    /// # Errors
    /// If the folder cannot be written: said before the first build, which may take hours.
    pub(super) fn verification(
        &self,
        cache: Cache,
        metadata: Option<PathBuf>,
    ) -> Result<Option<Verification>, CliError> {
        let Some(folder) = self.verify.clone() else { return Ok(None) };
        if let Some(folder) = &folder {
            tempfile::tempfile_in(folder).at("create a file in", folder)?;
        }
        Ok(Some(Verification { folder, cache, metadata, verified: OnceCell::new() }))
    }
}

impl Verification {
    /// What there is to say of a build that was proved.
    pub(super) fn facts(&self) -> Option<&Value> {
        self.verified.get()
    }

    /// Builds once more what was asked for.
    ///
    /// # Errors
    /// If the second build fails, or comes to another image.
    pub(super) fn prove(
        &self,
        mut ask: BuildRequest,
        first: &BuildEnv<'_>,
        built: &Built,
        invocation: &Invocation,
    ) -> Result<(), CliError> {
        let image = &built.image;
        let (progress, usual) = (first.progress, Outcome::default());
        let usual = first.outcome.unwrap_or(&usual);
        if usual.runs() {
            let wait = async {
                tokio::time::sleep(WAIT).await;
                Ok::<_, CliError>(())
            };
            invocation.block_on(wait)?;
        }
        progress.note(format!("verify: {} is built a second time", image.digest()));
        let second = SecondStore::new(first.store, self.folder.as_deref())?;
        usual.lend_bases(first.store, second.store())?;
        let lending = Opening {
            store: first.store,
            given: &ask.given,
            sources: first.sources,
            progress,
            cancel: first.cancel,
            runtime: invocation.runtime()?.handle().clone(),
        };
        let lent = lending.lend(&built.inputs, second.store());
        lent.map_err(|error| sources::opening(error, &lending))?;
        ask.names.clear();
        (ask.no_cache, ask.pull, ask.whole) = (true, false, false);
        ask.conditions = Conditions::Changed;
        let outcome = Outcome::default();
        let env = BuildEnv {
            store: second.store(),
            registries: first.registries,
            progress,
            cancel: first.cancel,
            ready: None,
            cache: &self.cache,
            // Of the very same inputs.
            sources: &Sources::knowing(built.inputs.clone()),
            outcome: Some(&outcome),
        };
        let made = invocation.runtime()?.block_on(build::build(&ask, &env));
        let made = made.map_err(|error| {
            failure::of_build(error).context("the image was built, but not a second time")
        })?;
        for Condition { what, changed, how } in outcome.conditions() {
            let word = if *changed { "was changed" } else { "could not be changed" };
            progress.note(format!("verify: {what} {word}: {how}"));
        }
        if outcome.conditions().is_empty() {
            progress.note("verify: nothing was run, so only store and cache were others");
        }
        let made = made.image;
        if made.digest() == image.digest() {
            progress.note(format!("verify: both builds are {}", image.digest()));
            let (conditions, steps) = (outcome.conditions(), Vec::new());
            let same = Verified { same: true, conditions, steps, report: None };
            let _ = self.verified.set(serde_json::to_value(same)?);
            return Ok(());
        }
        let scratch = first.store.scratch("diff")?;
        let interrupt = invocation.interrupt()?;
        let options = Options {
            platform: None,
            merged: false,
            most: FEW,
            scratch: scratch.path(),
            stop: &|| interrupt.signal().is_some(),
        };
        let a = Side { name: "first build", image, blobs: first.store };
        let b = Side { name: "second build", image: &made, blobs: second.store() };
        let report = compare::compare(a, b, &options)?;
        self.refuse(&ask, &report, &usual.odd(&outcome), outcome.conditions(), invocation)
    }

    fn refuse(
        &self,
        ask: &BuildRequest,
        report: &Report,
        odd: &[Odd],
        conditions: &[Condition],
        invocation: &Invocation,
    ) -> Result<(), CliError> {
        let line = |one: &Odd| one.span.map(|span| ask.dockerfile.line(span.start));
        let steps = odd.iter().map(|one| json!({"name": one.name, "line": line(one)})).collect();
        let verified = Verified { same: false, conditions, steps, report: Some(report) };
        let verified = json!({ "kiln.verification": verified });
        if let Some(path) = &self.metadata {
            outputs::text(path, &serde_json::to_vec_pretty(&verified)?)?;
        }
        if invocation.is_json() {
            let verification = json!({"verification": verified["kiln.verification"]});
            invocation.tell(&text::json(&verification));
        } else {
            invocation.tell(diff::shown(report, false).trim_end());
        }
        let said =
            format!("the second build came to {}, not to {}", report.b.digest, report.a.digest);
        let hint = "the hints above say what to do about usual causes, and --normalize takes the \
                    harmless ones away";
        let drawn = odd.iter().filter_map(|one| {
            let said = format!("{} comes to another layer when it is done again", one.name);
            Some(Diagnostic::error(one.span?, said))
        });
        let mut drawn: Vec<Diagnostic> = drawn.collect();
        if drawn.is_empty() {
            return Err(CliError::plain(said).hint(hint));
        }
        drawn.push(Diagnostic::error(crate::diagnostic::Span::default(), said).hint(hint));
        Err(CliError::drawn(ask.dockerfile.clone(), drawn))
    }
}
