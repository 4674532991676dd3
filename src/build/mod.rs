//! A build, told on one page.
//!
//! The Dockerfile is parsed and planned until every base is known ([`resolve`]).
//! Then each step is looked up by its key and made if it is unknown, several at a
//! time, each giving a layer; layers and config become the image, which the
//! store keeps under its names. The same input gives the same image: what a step
//! sees of this machine is the context's content and nothing else.

mod absent;
mod again;
mod cache;
mod carry;
mod check;
mod context;
mod counters;
mod error;
mod execute;
mod explain;
mod fetch;
mod files;
mod foresight;
mod git;
mod given;
mod inputs;
mod memory;
mod opening;
mod planning;
mod record;
mod request;
mod resolve;
mod room;
mod schedule;
mod sources;
mod step;
mod supply;
mod times;
mod trace;
mod tree;
mod walk;

pub use absent::{lacking, lacking_of};
pub use again::{Condition, Odd, Outcome, SecondStore};
pub use cache::{ARTIFACT as CACHE, Cache, CacheError, CacheFrom, Give, LayoutEntry, Mode};
pub use check::{Checked, Question, check};
pub use context::{Context, ContextError};
pub use error::{BrokenRules, BuildError};
pub use fetch::FetchError;
pub use files::{Files, UnpackError, Unpacked};
pub use git::{Checkout, GitError};
pub use given::{Given, Secret};
pub use inputs::{Absent, absent, inputs};
pub use opening::{HEAD, OpenError, Opening, is_archive};
pub use request::{BuildEnv, BuildRequest, ContextSource};
pub use sources::{Sources, Unlocked};
pub use step::StepError;

use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Source};
use crate::dockerfile::{self, Ignore};
use crate::image::{self, Annotations, AnyImage, Dialect, Listed};
use crate::lock::Lock;
use crate::plan::{self, Graph};
use crate::store::Store;
use context::Contexts;
use counters::Counters;
use execute::Made;
use planning::{planned, platforms};
use supply::Bases as BaseLayers;

/// What a build came to.
#[derive(Debug, Clone)]
pub struct Built {
    pub image: AnyImage,
    /// What was taken from outside ([`Sources::used`]): complete, whatever was known from
    /// earlier builds.
    pub inputs: Lock,
}

/// Builds an image, and keeps it in the store under its names.
///
/// # Errors
/// If the Dockerfile is wrong, a base cannot be had, or a step fails; then no
/// name points to anything new. Layers of steps that were done stay cached.
pub async fn build(ask: &BuildRequest, env: &BuildEnv<'_>) -> Result<Built, BuildError> {
    let (file, diagnostics) = dockerfile::parse(&ask.dockerfile);
    refuse(ask, &diagnostics)?;
    let counters = Arc::default();
    let contexts = contexts(ask, env.store, &counters)?;
    refuse(ask, &absent::absent(ask, &file, env, &contexts).await?)?;
    ask.style.check(&platforms(ask))?;
    let plans = planned(ask, env, &file, diagnostics).await?;
    let graph = Graph::of(&plans);
    execute::refuse_foreign(ask, &graph)?;
    if !ask.no_cache {
        stoppable(env, env.cache.load(env)).await?;
    }
    let bases = BaseLayers::of(&graph, env);
    let made = cache::settled(env, || execute::execute(ask, env, &graph, &contexts, &bases));
    // A build that failed has read the files all the same; why it failed comes first.
    let remembered = contexts.remember(env.store);
    env.progress.totals(counters.totals());
    let made = made?;
    remembered?;
    let mut images = Vec::new();
    for ((plan, made), &result) in plans.iter().zip(made).zip(&graph.results) {
        let Made { layers, normalized } = made;
        if ask.whole {
            bases.bring(&layers).await?;
        }
        let mut config = env.cache.config(&plan.config, &graph, result)?;
        for (at, rules) in &normalized {
            plan::note_normalized(&mut config, *at, rules.iter().map(String::as_str));
        }
        let image = image::assemble(config, &layers)?;
        let (platform, annotations) = (plan.platform.clone(), Annotations::new());
        images.push(Listed { image, platform, annotations });
    }
    // As BuildKit's argument of that name: one kind of result, however many platforms.
    let index = ask.build_args.get("BUILDKIT_MULTI_PLATFORM");
    let index = index.is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    let image = match images.pop() {
        Some(only) if images.is_empty() && !index => AnyImage::Image(only.image),
        last => {
            images.extend(last);
            image::assemble_index(images, Dialect::Oci, Annotations::new())?
        }
    };
    let image = ask.style.apply(&image)?;
    env.store.keep_documents(&image)?;
    for name in &ask.names {
        env.store.keep(name, &image)?;
    }
    Ok(Built { image, inputs: env.sources.used() })
}

fn ignored(text: Option<&Source>) -> Result<Ignore, BuildError> {
    match text {
        Some(text) => Ignore::parse(text.text())
            .map_err(|source| BuildError::Ignore { at: text.clone(), source }),
        None => Ok(Ignore::default()),
    }
}

fn contexts(
    ask: &BuildRequest,
    store: &Store,
    counters: &Arc<Counters>,
) -> Result<Contexts, BuildError> {
    let new =
        |files: Files, ignore| Context::new(files, ignore).remembered(store).counted(counters);
    let main = new(ask.context.clone(), ignored(ask.ignore.as_ref())?);
    let mut named = Vec::with_capacity(ask.contexts.len());
    for (_, source) in &ask.contexts {
        named.push(match source {
            ContextSource::Folder { path, ignore } => {
                Some(new(path.clone().into(), ignored(ignore.as_ref())?))
            }
            ContextSource::Files(files) => Some(new(files.clone(), Ignore::default())),
            ContextSource::Image(_) | ContextSource::Loaded { .. } | ContextSource::Scratch => None,
        });
    }
    Ok(Contexts { main, named })
}

/// Work with the network, given up when the build is cancelled.
async fn stoppable<T>(
    env: &BuildEnv<'_>,
    work: impl Future<Output = Result<T, BuildError>>,
) -> Result<T, BuildError> {
    let cancelled = async {
        // Nobody sees the difference to being woken.
        while !env.cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = cancelled => Err(BuildError::Cancelled),
    }
}

fn refuse(ask: &BuildRequest, diagnostics: &[Diagnostic]) -> Result<(), BuildError> {
    if diagnostics.iter().any(Diagnostic::is_error) {
        let (source_text, diagnostics) = (ask.dockerfile.clone(), diagnostics.to_vec());
        return Err(BuildError::Dockerfile { source_text, diagnostics });
    }
    Ok(())
}
