//! From flags to a request, and the build itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::args::BuildFlags;
use super::sources::Opened;
use super::verify::Verification;
use super::{contexts, offline, sources};
use crate::build::{self, BuildEnv, BuildRequest, Built, Cache, Opening, Outcome, Sources};
use crate::cli::failure;
use crate::cli::given::Entitlement;
use crate::cli::invocation::Invocation;
use crate::cli::prune;
use crate::cli::report::CliError;
use crate::diagnostic::Diagnostic;
use crate::env;
use crate::epoch::Epoch;
use crate::image::Style;
use crate::layer::LayerForm;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::prune::When;
use crate::reference::Reference;
use crate::registry::{Registries, Uploads};
use crate::sandbox::{Cancel, Conditions};

/// The argument that keeps the `.git` folder of a context that is a repository.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// What becomes of a build.
pub(in crate::cli) struct Goal<'a> {
    /// Names that the store keeps the image under.
    pub(in crate::cli) names: &'a [Reference],
    /// Of the layers that are made.
    pub(in crate::cli) form: LayerForm,
    /// See [`BuildRequest::whole`].
    pub(in crate::cli) whole: bool,
    /// Where the image is to be pushed to.
    pub(in crate::cli) pushed: Vec<Reference>,
    pub(in crate::cli) cache: &'a Cache,
    /// What the build is held to, unless the flags name a lock.
    pub(in crate::cli) lock: Option<&'a Lock>,
    /// What of this needs a network that there is not to be.
    pub(in crate::cli) refused: Vec<Diagnostic>,
    /// What it is to be compared with; nothing is named and pushed before that.
    pub(in crate::cli) verify: Option<&'a Verification>,
}

impl BuildFlags {
    /// Builds what the flags say of a context, and gives what that came to as a request. Layers go to where the image is to be
    /// pushed while later steps still run; a failed upload ends the build.
    pub(in crate::cli) fn build(
        &self,
        context: &Path,
        goal: &Goal<'_>,
        registries: &Registries,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<(Built, BuildRequest), CliError> {
        let cancel = cancelled_by_signals(invocation)?;
        let sources = &match goal.lock {
            Some(lock) if !self.lock.locked => Sources::locked(lock.clone()),
            _ => self.lock.sources(context)?,
        };
        let request =
            self.request(context, goal.names, goal.form, sources, progress, &cancel, invocation);
        let (store, runtime) = (invocation.store()?, invocation.runtime()?);
        let limit = prune::limit(self.store_limit)?;
        let stop = cancel.clone();
        let stop = move || stop.cancel();
        let handle = runtime.handle();
        let uploads = Uploads::new(&goal.pushed, store, registries, progress, handle, stop)?;
        let ready = Some(&uploads).filter(|_| !goal.pushed.is_empty());
        let progress = &progress.clone().explaining(self.explain_cache);
        let cache = goal.cache;
        let cancel = &cancel;
        let outcome = Outcome::default();
        let outcome = goal.verify.map(|_| &outcome);
        let env = BuildEnv { store, registries, progress, cancel, ready, cache, sources, outcome };
        offline::refuse(&goal.refused, &request, &env, runtime)?;
        let request = BuildRequest { whole: goal.whole, ..request? };
        prune::keep(store, limit, When::Before, progress);
        let built = runtime.block_on(build::build(&request, &env));
        // The steps that were done before one failed are kept as well.
        prune::keep(store, limit, When::After, progress);
        match (built, uploads.failure()) {
            (Err(error), None) => Err(failure::of_build(error)),
            // What ended the build comes first.
            (Err(error), Some(_)) if !error.is_cancelled() => Err(failure::of_build(error)),
            (_, Some(failed)) => Err(failed.into()),
            (Ok(built), None) => {
                // Nothing goes up meanwhile: what is to be proved has no such goal.
                if let Some(verification) = goal.verify {
                    verification.prove(request.clone(), &env, &built, invocation)?;
                }
                invocation.block_on(uploads.end()).map(|()| (built, request))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is one of the command's parts")]
    pub(in crate::cli) fn request(
        &self,
        context: &Path,
        names: &[Reference],
        form: LayerForm,
        sources: &Sources,
        progress: &Progress,
        cancel: &Cancel,
        invocation: &Invocation,
    ) -> Result<BuildRequest, CliError> {
        let mut build_args = BTreeMap::new();
        for arg in &self.build_args {
            // A name that has no value in the environment is as good as not given.
            build_args.extend(arg.resolve().map(|value| (arg.name.clone(), value)));
        }
        if let Some(epoch) = env::text(env::SOURCE_DATE_EPOCH) {
            build_args.entry(env::SOURCE_DATE_EPOCH.to_owned()).or_insert(epoch);
        }
        let given = self.given.given()?;
        let how = Opening {
            store: invocation.store()?,
            given: &given,
            sources,
            progress,
            cancel,
            runtime: invocation.runtime()?.handle().clone(),
        };
        let keep_git_dir = build_args.get(KEEP_GIT_DIR).is_some_and(|value| {
            matches!(value.as_str(), "1" | "t" | "T" | "TRUE" | "true" | "True")
        });
        let contexts = contexts::sources(&self.contexts, &how, invocation)?;
        let Opened { files, dockerfile, ignore } =
            sources::open(context, self.file.as_deref(), keep_git_dir, &how)?;
        Ok(BuildRequest {
            dockerfile,
            context: files,
            ignore,
            contexts,
            platforms: self.platforms.clone(),
            target: self.target.clone(),
            build_args,
            labels: self
                .labels
                .iter()
                .map(|label| (label.name.clone(), label.value.clone()))
                .collect(),
            style: Style { notes: self.notes(), ..Style::default() },
            names: names.to_vec(),
            epoch: Epoch::default(),
            form,
            whole: true,
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.clone(),
            pull: self.pull,
            sandbox: self.sandbox.map(|tier| tier.0),
            conditions: Conditions::Usual,
            limits: self.limits.of_steps(&self.own_limits)?,
            network: self.given.network.network(),
            insecure: self.given.allow.contains(&Entitlement::SecurityInsecure),
            normalize: self.normalize.normalize,
            hosts: self.given.hosts(),
            given,
        })
    }
}

/// Cancelled by the first signal that asks kiln to end.
pub(in crate::cli) fn cancelled_by_signals(invocation: &Invocation) -> Result<Cancel, CliError> {
    let cancel = Cancel::new();
    let interrupt = invocation.interrupt()?.clone();
    let told = cancel.clone();
    invocation.runtime()?.spawn(async move {
        interrupt.wait().await;
        told.cancel();
    });
    Ok(cancel)
}
