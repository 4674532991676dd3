//! Which steps a build will make, found out without making any.
//!
//! Each step is looked up as the build does it, by its key, in the store and in the cache
//! that was loaded. What stands on a step that will be made, or on a base that is not known,
//! has no key yet, and is taken to be made as well. So is a step whose key needs an input
//! that nobody has ever seen here.

use super::context::Contexts;
use super::fetch::Fetcher;
use super::record::{AREA, Keys, Record};
use super::step::{Bench, Prepared};
use super::supply::Bases as BaseLayers;
use super::{BuildEnv, BuildError, BuildRequest};
use crate::layer::{Compression, Layer};
use crate::plan::{Bases, Graph, Op, Step};

/// For each step of a graph, whether it will be made.
///
/// # Errors
/// If the build is cancelled. What is wrong with a step is told when it is made.
pub(super) fn made(
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
    graph: &Graph,
    bases: &Bases,
    contexts: &Contexts,
) -> Result<Vec<bool>, BuildError> {
    let supply = BaseLayers::of(graph, env);
    let fetcher = Fetcher::new(env.sources, tokio::runtime::Handle::current());
    let bench = Bench {
        store: env.store,
        contexts,
        given: &ask.given,
        bases: &supply,
        fetcher: &fetcher,
        sources: env.sources,
        progress: env.progress,
        cancel: env.cancel,
        form: Compression::None.into(),
        cached: &|_| None,
    };
    let mut made = Vec::with_capacity(graph.steps.len());
    // What the root after each step is made of, where that is known.
    let mut roots: Vec<Option<Vec<Layer>>> = Vec::with_capacity(graph.steps.len());
    for step in &graph.steps {
        if env.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        if let Op::Base(base) = &step.op {
            made.push(false);
            roots.push(match &base.image {
                None => Some(Vec::new()),
                Some(image) if bases.is_guess(&image.reference, &image.platform) => None,
                Some(image) => Some(image.layers.clone()),
            });
            continue;
        }
        let inputs = step.inputs.iter().enumerate().map(|(at, id)| match &roots[id.0] {
            // Its key does not depend on what it stands on.
            None if at == 0 && step.stands_alone() => Some(Vec::new()),
            root => root.clone(),
        });
        let inputs: Option<Vec<Vec<Layer>>> = inputs.collect();
        let layer = match inputs {
            Some(inputs) if !ask.no_cache && !step.anew => known(step, &inputs, env, &bench),
            _ => None,
        };
        made.push(layer.is_none());
        let below = step.inputs.first().and_then(|id| roots[id.0].clone());
        roots.push(below.zip(layer).map(|(mut root, layer)| {
            root.push(layer);
            root
        }));
    }
    Ok(made)
}

/// The layer of a step that will not be made.
fn known(
    step: &Step,
    inputs: &[Vec<Layer>],
    env: &BuildEnv<'_>,
    bench: &Bench<'_>,
) -> Option<Layer> {
    let keys = Keys::of(step, Prepared::new(step, inputs, bench).ok()?.key());
    let normalize = matches!(&step.op, Op::Run(run) if run.normalize);
    let own = keys.all().find_map(|key| {
        let record: Record = env.store.record(AREA, &key)?;
        let says = !normalize || record.normalized.is_some();
        record.at_hand(env.store, None).filter(|_| says)
    });
    if let Some(found) = own {
        return Some(found.layer());
    }
    keys.all().filter(|_| !normalize).find_map(|key| Some(env.cache.hit(&key, None)?.layer))
}
