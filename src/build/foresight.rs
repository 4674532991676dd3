//! Which steps a build will make, found out without making any.
//!
//! Each step is looked up as the build does it, by its key, in the store and in the cache
//! that was loaded. What stands on a step that will be made, or on a base that is not known,
//! has no key yet, and is taken to be made as well. So is a step whose key needs an input
//! that nobody has ever seen here.
//!
//! Of a step that will be made it is said which layers of bases it reads:
//!
//! - a `RUN`, all of what it stands on and mounts;
//! - a copy or a `WORKDIR`, of what it stands on those whose table of contents is not known, or
//!   all if an owner is to be looked up by name;
//! - a copy from a root, those that have the files, or all if that is not known.

use std::collections::{BTreeMap, BTreeSet};

use super::context::Contexts;
use super::fetch::Fetcher;
use super::record::{AREA, Keys, Record};
use super::step::{self, Bench, Prepared};
use super::supply::Bases as BaseLayers;
use super::{BuildEnv, BuildError, BuildRequest};
use crate::digest::BlobDigest;
use crate::layer::{Compression, Layer};
use crate::plan::{Bases, CopyFrom, Graph, Op, Step, StepId};
use crate::rootfs;

/// By the bases' places in the graph, the layers of them that will be read.
pub(super) type Read = BTreeMap<StepId, BTreeSet<BlobDigest>>;

pub(super) struct Foresight<'a> {
    env: &'a BuildEnv<'a>,
    graph: &'a Graph,
    /// Whether each step will be made.
    made: Vec<bool>,
    /// What the root after each step is made of, where that is known.
    roots: Vec<Option<Vec<Layer>>>,
}

impl<'a> Foresight<'a> {
    /// Looks the steps up.
    ///
    /// # Errors
    /// If the build is cancelled. What is wrong with a step is told when it is made.
    pub(super) fn of(
        ask: &BuildRequest,
        env: &'a BuildEnv<'a>,
        graph: &'a Graph,
        bases: &Bases,
        contexts: &Contexts,
    ) -> Result<Self, BuildError> {
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
        let mut roots: Vec<Option<Vec<Layer>>> = Vec::with_capacity(graph.steps.len());
        for step in &graph.steps {
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
            if env.cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            made.push(layer.is_none());
            let below = step.inputs.first().and_then(|id| roots[id.0].clone());
            roots.push(below.zip(layer).map(|(mut root, layer)| {
                root.push(layer);
                root
            }));
        }
        Ok(Self { env, graph, made, roots })
    }

    /// The steps that will be made.
    pub(super) fn made(&self) -> impl Iterator<Item = &'a Step> {
        self.graph.steps.iter().zip(&self.made).filter(|(_, made)| **made).map(|(step, _)| step)
    }

    /// The layers of bases that will be read; all those of the results, if they are wanted
    /// whole.
    pub(super) fn read(&self, whole: bool) -> Read {
        let mut read = Read::new();
        for step in self.made() {
            self.step(step, &mut read);
        }
        for &result in self.graph.results.iter().filter(|_| whole) {
            self.some(result, |_| true, &mut read);
        }
        read
    }

    fn step(&self, step: &Step, read: &mut Read) {
        let Some(&below) = step.inputs.first() else { return };
        let owner = match &step.op {
            Op::Base(_) => return,
            Op::Run(_) => {
                step.inputs.iter().for_each(|&input| self.some(input, |_| true, read));
                return;
            }
            Op::Workdir(op) => &op.owner,
            Op::Copy(op) => {
                if let CopyFrom::Input(at) = op.from
                    && let Some(&from) = step.inputs.get(at)
                {
                    let files = self.roots[from.0].as_ref();
                    let files = files.and_then(|root| step::layers_read(op, root, self.env.store));
                    let has = |layer: &Layer| files.as_ref().is_none_or(|all| all.contains(layer));
                    self.some(from, has, read);
                }
                &op.owner
            }
        };
        // As `Rootfs::owner` has it, which reads no file for these.
        let number = |id: &str| id == "root" || id.bytes().all(|byte| byte.is_ascii_digit());
        let named = |owner: &String| !owner.split(':').all(number);
        if !step.stands_alone() {
            let all = owner.as_ref().is_some_and(named);
            self.some(below, |layer| all || !rootfs::is_read(self.env.store, layer), read);
        }
    }

    /// Adds those of the base of a root that are wanted.
    fn some(&self, of: StepId, wanted: impl Fn(&Layer) -> bool, read: &mut Read) {
        for id in self.graph.chain(of) {
            if let Op::Base(base) = &self.graph.step(id).op {
                let layers = base.image.iter().flat_map(|image| &image.layers);
                let digests = layers.filter(|layer| wanted(layer)).map(|layer| layer.digest);
                read.entry(id).or_default().extend(digests);
            }
        }
    }
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
