//! `--bundle`: inputs that were carried here.

use std::path::PathBuf;

use super::args::BuildFlags;
use super::request::cancelled_by_signals;
use crate::build::{CacheFrom, Opening, Sources};
use crate::bundle::{self, Locks, Taken};
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::output::Work;
use crate::progress::Progress;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct BundleFlags {
    /// Take base images, files and commits from what `kiln bundle` has written, and nothing
    /// that its lock does not have (with --locked, that lock decides); and, as --cache-from
    /// does, the layers of steps that it has; may be repeated
    #[arg(long = "bundle", value_name = "FILE")]
    bundles: Vec<PathBuf>,
}

impl BundleFlags {
    /// That nothing is given to what only reads the Dockerfile.
    pub(super) fn refuse(&self, method: &str) -> Result<(), CliError> {
        if self.bundles.is_empty() {
            return Ok(());
        }
        let said = format!("--bundle is for builds, and {method} only reads the Dockerfile");
        Err(CliError::usage(said)
            .hint("leave --bundle out: bases that are not here count as unknown"))
    }

    /// Brings what the bundles have into the store; none if there are no bundles.
    pub(super) fn take(
        &self,
        how: &BuildFlags,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<Option<Taken>, CliError> {
        if self.bundles.is_empty() {
            return Ok(None);
        }
        how.lock.check()?;
        let locks = if how.lock.locked { Locks::AreNotAsked } else { Locks::Decide };
        let task = progress.task("take inputs from bundles");
        let interrupt = invocation.interrupt()?;
        let stop = || interrupt.signal().is_some();
        let store = invocation.store()?;
        let taken = bundle::take(&self.bundles, locks, store, &Work::new(&task, &stop))?;
        task.done();
        let (cancel, given) = (cancelled_by_signals(invocation)?, how.given.given()?);
        taken.unpack(&Opening {
            store,
            given: &given,
            sources: &Sources::default(),
            progress,
            cancel: &cancel,
            runtime: invocation.runtime()?.handle().clone(),
        })?;
        Ok(Some(taken))
    }
}

/// The caches that came along.
pub(super) fn caches(taken: Option<&Taken>) -> impl Iterator<Item = CacheFrom> {
    taken.into_iter().flat_map(|taken| &taken.caches).copied().map(CacheFrom::Store)
}
