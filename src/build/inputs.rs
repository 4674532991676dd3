//! What builds take from outside, and whether the store has it.

use super::absent::absent_inputs;
use super::fetch::{self, Fetcher};
use super::git::{self, Git};
use super::planning::planned;
use super::{BuildEnv, BuildError, BuildRequest, StepError, refuse, resolve};
use crate::dockerfile;
use crate::layer::Layer;
use crate::lock::{Base, Entry, Key, Lock};
use crate::plan::{CopyOp, Graph, Op, Plan, Step};
use crate::store::{Store, StoreError};

/// Finds out all that a build takes from outside, without building it: what its bases, the
/// files and the commits are that the needed stages take, for all platforms. Files come into
/// the store, unless a lock that is being made knows them; of bases the documents do where
/// there is a lock.
///
/// Gives what [`Sources::used`](super::Sources::used) has then: with the contexts that were
/// opened with the same sources, and the inputs of other builds with them.
///
/// # Errors
/// If the Dockerfile is wrong, or an input cannot be had.
pub async fn inputs(ask: &BuildRequest, env: &BuildEnv<'_>) -> Result<Lock, BuildError> {
    let (file, said) = dockerfile::parse(&ask.dockerfile);
    refuse(ask, &said)?;
    refuse(ask, &absent_inputs(ask, &file, env)?)?;
    let plans = planned(ask, env, &file, said).await?;
    let fetcher = Fetcher::new(env.sources, tokio::runtime::Handle::current());
    tokio::task::block_in_place(|| {
        for step in &Graph::of(&plans).steps {
            let Op::Copy(op) = &step.op else { continue };
            find(op, ask, env, &fetcher).map_err(|source| BuildError::Step {
                name: step.name.clone(),
                span: step.span,
                source_text: ask.dockerfile.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(env.sources.used())
    })
}

fn find(
    op: &CopyOp,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
    fetcher: &Fetcher<'_>,
) -> Result<(), StepError> {
    let BuildEnv { store, sources, progress, cancel, .. } = *env;
    let git = Git { store, given: &ask.given, sources, progress, cancel };
    for source in &op.repositories {
        git.resolve(source)?;
    }
    for remote in &op.remotes {
        let known = sources.url(&fetch::name(&remote.url), remote.checksum);
        match known.filter(|_| sources.fills()) {
            // A lock that is made anew says what it is already.
            Some(known) => sources.note(Entry::Url(known.clone())),
            None => drop(fetcher.fetch(remote, store, progress, cancel)?),
        }
    }
    Ok(())
}

/// Has everything refused that steps take and the lock does not have; of bases it was done.
pub(super) fn refuse_unlocked(plans: &[Plan], env: &BuildEnv<'_>) {
    for step in plans.iter().flat_map(|plan| &plan.steps) {
        for key in keys(step) {
            if let Err(refused) = env.sources.allow(key, step.span) {
                env.sources.refuse(*refused);
            }
        }
    }
}

/// What a step takes from a server. What makes no sense is told when it is taken.
fn keys(step: &Step) -> impl Iterator<Item = Key> {
    let op = match &step.op {
        Op::Copy(op) => Some(op),
        Op::Base(_) | Op::Run(_) | Op::Workdir(_) => None,
    };
    let files = op.into_iter().flat_map(|op| &op.remotes);
    let files = files.map(|remote| Key::Url(fetch::name(&remote.url)));
    let repositories = op.into_iter().flat_map(|op| &op.repositories);
    let repositories = repositories.filter_map(|source| git::name(source).ok());
    files.chain(repositories.map(|(remote, reference)| Key::Git { remote, reference }))
}

/// What the store lacks of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// A base's manifest or config: of its layers nothing is known.
    Documents,
    Layers(Vec<Layer>),
    File,
    Commit,
}

/// What the store lacks of an input; none if it has all of it. Nobody is asked, and what is
/// here is held for this process.
///
/// # Errors
/// If the store cannot be read.
pub fn absent(entry: &Entry, store: &Store) -> Result<Option<Absent>, StoreError> {
    Ok(match entry {
        Entry::Base(base) => base_absent(base, store),
        Entry::Url(url) => (!store.has_blob(&url.digest, url.size)).then_some(Absent::File),
        Entry::Git(git) => (!git::has_commit(git, store)?).then_some(Absent::Commit),
    })
}

fn base_absent(base: &Base, store: &Store) -> Option<Absent> {
    let Some(image) = resolve::kept(&base.digest, store) else { return Some(Absent::Documents) };
    let mut lacking = Vec::new();
    for layer in image.images().iter().flat_map(|image| image.layers()) {
        if !store.has_blob(&layer.digest, layer.size) {
            lacking.push(layer.clone());
        }
    }
    (!lacking.is_empty()).then_some(Absent::Layers(lacking))
}
