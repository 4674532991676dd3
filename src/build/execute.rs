//! The walk over a plan: each step is a hit, or is made and recorded.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::context::Contexts;
use super::explain::{Traces, Useless};
use super::fetch::Fetcher;
use super::record::{self, AREA, Found, Keys, Record};
use super::room::Room;
use super::step::{Bench, Prepared};
use super::supply::Bases;
use super::{BuildEnv, BuildError, BuildRequest, StepError, cache, schedule};
use crate::diagnostic::Span;
use crate::digest::Digest;
use crate::layer::{Compression, Layer, LayerForm};
use crate::plan::{Graph, Op, Step, StepId};
use crate::platform::Platform;
use crate::progress::Task;
use crate::rootfs::{self, Packed, RootfsError};
use crate::sandbox::binfmt;

/// Refuses what this machine cannot run before anything is run.
pub(super) fn refuse_foreign(ask: &BuildRequest, graph: &Graph) -> Result<(), BuildError> {
    let mut good: Vec<&Platform> = Vec::new();
    for step in &graph.steps {
        let Op::Run(run) = &step.op else { continue };
        if good.contains(&&run.platform) {
            continue;
        }
        if let Err(why) = binfmt::can_run(&run.platform) {
            return Err(BuildError::Foreign {
                why,
                platform: Box::new(run.platform.clone()),
                host: Box::new(Platform::host()),
                span: step.span,
                source_text: ask.dockerfile.clone(),
            });
        }
        good.push(&run.platform);
    }
    Ok(())
}

/// What a result is made of.
pub(super) struct Made {
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
    /// By the layer's place, the rules that found something to normalize.
    pub(super) normalized: Vec<(usize, BTreeSet<String>)>,
}

/// Runs what must be run.
pub(super) fn execute(
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
    graph: &Graph,
    contexts: &Contexts,
    bases: &Bases<'_>,
) -> Result<Vec<Made>, BuildError> {
    let walk = Walk {
        ask,
        env,
        graph,
        contexts,
        bases,
        made: Mutex::new(BTreeSet::new()),
        done: graph.steps.iter().map(|_| OnceLock::new()).collect(),
        normalized: graph.steps.iter().map(|_| OnceLock::new()).collect(),
        leaving: graph.results.iter().flat_map(|&result| graph.chain(result)).collect(),
        room: OnceLock::new(),
        opening: Mutex::new(()),
        fetcher: Fetcher::new(env.sources, tokio::runtime::Handle::current()),
        traces: Traces::new(ask, env.store, graph),
        runtime: tokio::runtime::Handle::current(),
    };
    let inputs: Vec<Vec<usize>> =
        graph.steps.iter().map(|step| step.inputs.iter().map(|id| id.0).collect()).collect();
    // More than there are cores: many steps wait for a network or a disk.
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(4) * 2;
    // The scheduler's threads wait for downloads; this one must not be a worker of
    // the runtime while it waits for them.
    tokio::task::block_in_place(|| {
        // A step that failed by itself comes before a source that was refused.
        let refused = |error: &BuildError| matches!(error, BuildError::Cache(_));
        let told = |error: &BuildError| error.is_cancelled() || refused(error);
        let stop = |error: Option<&BuildError>| {
            // For a refused source nothing has to be stopped.
            if !error.is_some_and(refused) {
                env.cancel.cancel();
            }
        };
        schedule::run(&inputs, workers, |at| walk.node(at), stop, told)?;
        env.cache.made(graph, ask.form.name(), |id| walk.done[id.0].get()?.as_ref());
        if let Some(outcome) = env.outcome {
            outcome.note(graph, |at| walk.done[at].get()?.as_ref());
        }
        walk.pack_mounts()?;
        walk.leave()
    })
    // Also what was made before something failed.
    .inspect_err(|_| walk.traces.keep())?;
    walk.traces.keep();
    Ok(graph.results.iter().map(|&result| walk.result(result)).collect())
}

struct Walk<'a> {
    ask: &'a BuildRequest,
    env: &'a BuildEnv<'a>,
    graph: &'a Graph,
    contexts: &'a Contexts,
    bases: &'a Bases<'a>,
    /// What each step came to, if it makes a layer.
    done: Vec<OnceLock<Option<Layer>>>,
    /// The keys of what this build has made: it is not made again, whatever is to
    /// be made anew.
    made: Mutex<BTreeSet<Digest>>,
    /// Steps whose layers the results have. What leaves, with them or with a cache, is
    /// wanted in the form that was asked for, and all else in none.
    leaving: BTreeSet<StepId>,
    /// What was normalized in each step's layer.
    normalized: Vec<OnceLock<BTreeSet<String>>>,
    room: OnceLock<Room>,
    /// Held by the step that opens the room; the others wait.
    opening: Mutex<()>,
    fetcher: Fetcher<'a>,
    traces: Traces<'a>,
    runtime: tokio::runtime::Handle,
}

impl Walk<'_> {
    /// What a finished step's root is made of, lowest first. The scheduler runs a step
    /// after its inputs, so theirs are there.
    fn layers(&self, id: StepId) -> Vec<Layer> {
        let mut layers = Vec::new();
        for below in self.graph.chain(id) {
            if let Op::Base(base) = &self.graph.step(below).op {
                layers.extend(base.image.iter().flat_map(|image| &image.layers).cloned());
            }
            layers.extend(self.done[below.0].get().cloned().flatten());
        }
        layers
    }

    fn result(&self, id: StepId) -> Made {
        let (mut place, mut normalized) = (0, Vec::new());
        for below in self.graph.chain(id) {
            if let Op::Base(base) = &self.graph.step(below).op {
                place += base.image.as_ref().map_or(0, |image| image.layers.len());
            } else if self.done[below.0].get().is_some_and(Option::is_some) {
                let rules = self.normalized[below.0].get().cloned().unwrap_or_default();
                normalized.push((place, rules));
                place += 1;
            }
        }
        Made { layers: self.layers(id), normalized }
    }

    fn node(&self, at: usize) -> Result<(), BuildError> {
        let step = &self.graph.steps[at];
        let layer = match &step.op {
            Op::Base(_) => None,
            Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => {
                let inputs: Vec<Vec<Layer>> =
                    step.inputs.iter().map(|&id| self.layers(id)).collect();
                self.step(StepId(at), step, &inputs)?
            }
        };
        if let Some(ready) = self.env.ready.filter(|_| self.leaving.contains(&step.id)) {
            if let Op::Base(base) = &step.op {
                base.image.iter().flat_map(|image| &image.layers).for_each(|of| ready.layer(of));
            }
            // What is known from a cache is told when it has been looked at.
            let here = |layer: &&Layer| self.env.cache.is_here(layer);
            layer.iter().filter(here).for_each(|layer| ready.layer(layer));
        }
        // Each node runs once.
        let _ = self.done[at].set(layer);
        Ok(())
    }

    fn step(
        &self,
        id: StepId,
        step: &Step,
        inputs: &[Vec<Layer>],
    ) -> Result<Option<Layer>, BuildError> {
        let BuildEnv { store, progress, cancel, sources, .. } = self.env;
        let leaves = self.env.cache.gives_all() || self.leaving.contains(&id);
        let wanted = leaves.then_some(self.ask.form);
        let failed = |source: StepError| self.failed(&step.name, step.span, source);
        let bench = Bench {
            store,
            contexts: self.contexts,
            given: &self.ask.given,
            bases: self.bases,
            fetcher: &self.fetcher,
            sources,
            progress,
            cancel,
            form: wanted.unwrap_or(Compression::None.into()),
            cached: &|id| {
                let mount = async { Ok(self.env.cache.mount(id, self.env).await) };
                self.runtime.block_on(super::stoppable(self.env, mount)).ok().flatten()
            },
        };
        let task = progress.task(&step.name);
        let prepared = Prepared::new(step, inputs, &bench).map_err(failed)?;
        let keys = Keys::of(step, prepared.key());
        let keyed = |key| self.env.cache.keyed(id, key);
        let anew = self.ask.no_cache || step.anew;
        // The history says what was normalized: only who made the layer knows.
        let normalize = matches!(&step.op, Op::Run(run) if run.normalize);
        let known = |key: &Digest, record: Option<Record>| {
            let mut record = record.filter(|_| !anew || self.made().contains(key))?;
            if normalize {
                // Each node runs once; it is made anew after this only to the same.
                let _ = self.normalized[id.0].set(record.normalized.take()?);
            }
            record.at_hand(store, wanted)
        };
        let hit = |task: Task, key: Digest, layer: Layer| {
            keyed(key);
            self.traces.hit(step, &prepared, &bench);
            task.cached();
            Ok(Some(layer))
        };
        for key in keys.all() {
            if let Some(found) = known(&key, store.record(AREA, &key))
                && let Some(layer) = self.cached(found, wanted)?
            {
                return hit(task, key, layer);
            }
        }
        for key in keys.all().filter(|_| !anew && !normalize) {
            if let Some(layer) = self.known_elsewhere(&key, wanted)? {
                return hit(task, key, layer);
            }
        }
        // Whoever has the slot makes the step; the others find its record then.
        let key = keys.own();
        let slot = store.slot(AREA, &key)?;
        let record: Option<Record> = slot.read();
        let useless = match (keys.all().any(|key| store.has_record(AREA, &key)), anew) {
            (true, true) => Some(Useless::NoCache { filter: !self.ask.no_cache }),
            (true, false) => Some(Useless::Layer),
            (false, _) => {
                let offline = store.has_record(AREA, &record::offline(key));
                offline.then_some(Useless::Offline)
            }
        };
        if let Some(found) = known(&key, record)
            && let Some(layer) = self.cached(found, wanted)?
        {
            return hit(task, key, layer);
        }
        keyed(key);
        self.traces.missed(step, &prepared, &bench, &task, useless);
        let made = prepared.make(&bench, &task, || self.room()).map_err(failed)?;
        let layer = made.as_ref().map(|made| made.layer.clone());
        if let Some(Packed { layer, normalized }) = made {
            let normalized = normalize.then_some(normalized);
            let _ = self.normalized[id.0].set(normalized.clone().unwrap_or_default());
            slot.write(&Record { layer, form: bench.form.name(), normalized })?;
            self.made().insert(key);
            self.traces.made(step, &prepared, &bench);
        }
        task.done();
        Ok(layer)
    }

    /// The layer of a step that a cache of elsewhere knows. It is brought if it has to be
    /// written in another form, and need not be here otherwise.
    fn known_elsewhere(
        &self,
        key: &Digest,
        wanted: Option<LayerForm>,
    ) -> Result<Option<Layer>, BuildError> {
        let name = wanted.map(LayerForm::name);
        let Some(hit) = self.env.cache.hit(key, name.as_deref()) else { return Ok(None) };
        let layer = hit.layer;
        let Some(form) = wanted.filter(|_| !hit.wanted) else { return Ok(Some(layer)) };
        if let Some(formed) = rootfs::known_form(self.env.store, layer.diff_id, form) {
            record::remember(self.env.store, key, &formed, &form.name())?;
            return Ok(Some(formed));
        }
        self.bring(std::slice::from_ref(&layer))?;
        self.cached(Found::Other(layer), wanted)
    }

    /// Brings those of these layers that a cache knows.
    fn bring(&self, layers: &[Layer]) -> Result<(), BuildError> {
        let work = self.env.cache.bring(layers, self.env);
        self.runtime.block_on(super::stoppable(self.env, work))
    }

    /// Brings what the results have from a cache, and tells of it.
    fn leave(&self) -> Result<(), BuildError> {
        let results = self.graph.results.iter();
        let layers: Vec<Layer> = results.flat_map(|&result| self.layers(result)).collect();
        self.bring(&layers)?;
        if let Some(ready) = self.env.ready {
            layers.iter().for_each(|layer| ready.layer(layer));
        }
        Ok(())
    }

    fn pack_mounts(&self) -> Result<(), BuildError> {
        let packed = self.env.cache.pack(self.graph, self.ask.form, self.env, || self.room());
        packed.map_err(|source| self.failed("RUN --mount=type=cache", None, source))
    }

    fn failed(&self, name: &str, span: Option<Span>, source: StepError) -> BuildError {
        match cache::refusal(source) {
            Ok(refused) => BuildError::Cache(refused),
            Err(source) => BuildError::Step {
                name: name.to_owned(),
                span,
                source_text: self.ask.dockerfile.clone(),
                source: Box::new(source),
            },
        }
    }

    /// A step's layer that is here, in the form that is wanted; none if it cannot be written
    /// so, and is to be made anew.
    fn cached(&self, found: Found, wanted: Option<LayerForm>) -> Result<Option<Layer>, BuildError> {
        let (layer, form) = match (found, wanted) {
            (Found::Other(layer), Some(form)) => (layer, form),
            (Found::Wanted(layer) | Found::Other(layer), _) => return Ok(Some(layer)),
        };
        let BuildEnv { store, progress, cancel, .. } = self.env;
        let task = progress.task(format!("layer {} as {}", layer.diff_id.short(), form.name()));
        match rootfs::in_form(store, &layer, form, &|| cancel.is_cancelled()) {
            Ok(formed) => {
                task.done();
                Ok(Some(formed))
            }
            Err(_) if cancel.is_cancelled() => Err(BuildError::Cancelled),
            // It is damaged, or another writer's.
            Err(RootfsError::DiffId { .. } | RootfsError::Archive { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> Result<&Room, StepError> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = self.room.get() {
            return Ok(room);
        }
        let room = Room::open(self.env, self.ask)?;
        Ok(self.room.get_or_init(|| room))
    }
}
