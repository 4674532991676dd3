//! `--bundle`: inputs that were carried here.

use std::path::PathBuf;

use super::request::cancelled_by_signals;
use crate::build::{CacheFrom, Opening, Sources};
use crate::bundle::{self, Taken};
use crate::cli::given::GivenFlags;
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::output::Work;
use crate::progress::Progress;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct BundleFlags {
    /// Take base images, files and commits from what `kiln bundle` has written, and nothing
    /// that its lock does not have; with --locked, that lock decides; may be repeated
    #[arg(long = "bundle", value_name = "FILE")]
    bundles: Vec<PathBuf>,
}

impl BundleFlags {
    /// Brings what the bundles have into the store; none if there are no bundles.
    pub(super) fn take(
        &self,
        given: &GivenFlags,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<Option<Taken>, CliError> {
        if self.bundles.is_empty() {
            return Ok(None);
        }
        let task = progress.task("take inputs from bundles");
        let interrupt = invocation.interrupt()?;
        let stop = || interrupt.signal().is_some();
        let store = invocation.store()?;
        let taken = bundle::take(&self.bundles, store, &Work::new(&task, &stop))?;
        task.done();
        let (cancel, given) = (cancelled_by_signals(invocation)?, given.given()?);
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
