//! The walk over a plan: each step is a hit, or is made and recorded.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::context::Context;
use super::foreign;
use super::step::{Bench, Prepared};
use super::{BuildEnv, BuildError, BuildRequest, StepError, schedule};
use crate::layer::Layer;
use crate::plan::{Op, Plan, Step, StepId};
use crate::platform::Platform;
use crate::registry;
use crate::sandbox::Sandbox;

/// The records' area: layers by the keys of the steps that made them.
const AREA: &str = "steps";

#[derive(Serialize, Deserialize)]
struct Record {
    layer: Layer,
}

/// Refuses what this machine cannot run before anything is run.
pub(super) fn refuse_foreign(ask: &BuildRequest, plan: &Plan) -> Result<(), BuildError> {
    for step in &plan.steps {
        if let Op::Run(run) = &step.op
            && !foreign::runs_here(&run.platform)
        {
            return Err(BuildError::Foreign {
                platform: Box::new(run.platform.clone()),
                host: Box::new(Platform::host()),
                span: step.span,
                source_text: ask.dockerfile.clone(),
            });
        }
    }
    Ok(())
}

/// Runs what must be run; gives the layers of the plan's result, lowest first.
pub(super) fn execute(
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
    plan: &Plan,
    context: &Context,
) -> Result<Vec<Layer>, BuildError> {
    let walk = Walk {
        ask,
        env,
        plan,
        context,
        done: plan.steps.iter().map(|_| OnceLock::new()).collect(),
        sandbox: OnceLock::new(),
        runtime: tokio::runtime::Handle::current(),
    };
    let inputs: Vec<Vec<usize>> =
        plan.steps.iter().map(|step| step.inputs.iter().map(|id| id.0).collect()).collect();
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    // The scheduler's threads wait for downloads; this one must not be a worker of
    // the runtime while it waits for them.
    tokio::task::block_in_place(|| {
        schedule::run(&inputs, workers, |at| walk.node(at), || env.cancel.cancel())
    })?;
    Ok(walk.layers(plan.result).to_vec())
}

/// Fetches the base layers that the root after a step is made of.
pub(super) async fn fetch_bases(
    env: &BuildEnv<'_>,
    plan: &Plan,
    id: StepId,
) -> Result<(), BuildError> {
    for below in plan.chain(id) {
        if let Op::Base(base) = &plan.step(below).op
            && let Some(image) = &base.image
        {
            let from = image.reference.pin(image.digest).reference();
            registry::pull_layers(&from, &image.layers, env.store, env.registries, env.progress)
                .await
                .map_err(Box::new)?;
        }
    }
    Ok(())
}

struct Walk<'a> {
    ask: &'a BuildRequest,
    env: &'a BuildEnv<'a>,
    plan: &'a Plan,
    context: &'a Context,
    /// The layers of the root after each step.
    done: Vec<OnceLock<Vec<Layer>>>,
    /// Opened by the first step that runs something.
    sandbox: OnceLock<Sandbox>,
    runtime: tokio::runtime::Handle,
}

impl Walk<'_> {
    /// What a finished step's root is made of. The scheduler runs a step after its
    /// inputs, so theirs are there.
    fn layers(&self, id: StepId) -> &[Layer] {
        self.done[id.0].get().map_or(&[], Vec::as_slice)
    }

    fn node(&self, at: usize) -> Result<(), BuildError> {
        let step = &self.plan.steps[at];
        let layers = match &step.op {
            Op::Base(base) => {
                base.image.as_ref().map(|image| image.layers.clone()).unwrap_or_default()
            }
            Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => {
                let inputs: Vec<Vec<Layer>> =
                    step.inputs.iter().map(|&id| self.layers(id).to_vec()).collect();
                let mut layers = inputs.first().cloned().unwrap_or_default();
                layers.extend(self.step(step, &inputs)?);
                layers
            }
        };
        // Each node runs once.
        let _ = self.done[at].set(layers);
        Ok(())
    }

    fn step(&self, step: &Step, inputs: &[Vec<Layer>]) -> Result<Option<Layer>, BuildError> {
        let BuildEnv { store, progress, cancel, .. } = self.env;
        let failed = |source: StepError| BuildError::Step {
            name: step.name.clone(),
            span: step.span,
            source_text: self.ask.dockerfile.clone(),
            source: Box::new(source),
        };
        let bench = Bench {
            store,
            context: self.context,
            given: &self.ask.given,
            progress,
            cancel,
            form: self.ask.form,
        };
        let task = progress.task(&step.name);
        let prepared = Prepared::new(step, inputs, &bench).map_err(failed)?;
        let key = prepared.key().0;
        let whole = |record: &Record| {
            let layer = &record.layer;
            !self.ask.no_cache
                && layer.compression == self.ask.form.compression
                && store.has_blob(&layer.digest, layer.size)
        };
        if let Some(record) = store.record::<Record>(AREA, &key).filter(&whole) {
            task.cached();
            return Ok(Some(record.layer));
        }
        // Whoever has the slot makes the step; the others find its record then.
        let slot = store.slot(AREA, &key)?;
        if let Some(record) = slot.read::<Record>().filter(&whole) {
            task.cached();
            return Ok(Some(record.layer));
        }
        for &input in step.inputs.iter().skip(usize::from(step.stands_alone())) {
            let fetch = fetch_bases(self.env, self.plan, input);
            self.runtime.block_on(super::stoppable(self.env, fetch))?;
        }
        let layer = prepared.make(&bench, &task, || self.sandbox()).map_err(failed)?;
        if let Some(layer) = &layer {
            slot.write(&Record { layer: layer.clone() })?;
        }
        task.done();
        Ok(layer)
    }

    fn sandbox(&self) -> Result<&Sandbox, StepError> {
        if let Some(sandbox) = self.sandbox.get() {
            return Ok(sandbox);
        }
        let sandbox = Sandbox::open(self.ask.sandbox)?;
        Ok(self.sandbox.get_or_init(|| sandbox))
    }
}
