//! One step: looked up, or made.

mod agent;
mod archive;
mod copy;
mod emit;
mod held;
mod lineage;
pub(super) mod mounts;
mod output;
mod run;
mod select;
#[cfg(test)]
mod tests;
pub(super) mod traced;
mod workdir;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::context::{Context, ContextError, Contexts};
use super::fetch::{FetchError, Fetched, Fetcher};
use super::files::Files;
use super::git::{Git, GitError, Resolved};
use super::given::Given;
use super::room::Room;
use super::sources::Sources;
use crate::digest::Digest;
use crate::dockerfile::{Ignore, Rule};
use crate::layer::{Layer, LayerForm, LayerWriter, Name, ViewError, Written};
use crate::net::{self, Offline};
use crate::plan::{CopyFrom, CopyOp, InputKey, Op, RemoteSource, Step};
use crate::progress::{Progress, Task};
use crate::rootfs::{self, Packed, Rootfs, RootfsError, Supply};
use crate::sandbox::{Cancel, Exit, SandboxError};
use crate::store::{BlobWriter, Store, StoreError};
use lineage::Lineage;
use select::Chosen;
pub(super) use select::layers_read;

/// Why a step cannot be done. The caller knows which step and where it stands.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Io(#[from] crate::atomic::PathError),
    #[error("cannot make a pipe: {0}")]
    Pipe(io::Error),
    #[error("cannot write the layer: {0}")]
    Write(io::Error),
    #[error("failed with {exit}")]
    Exit { exit: Exit, command: Vec<String> },
    #[error("{}", memory_text(*exit, *limit))]
    Memory { exit: Exit, limit: u64 },
    #[error("source not found: {source_name}")]
    SourceNotFound {
        /// Which of the instruction's sources, from 0.
        number: usize,
        source_name: String,
        /// The rule of the ignore file that leaves it out.
        rule: Option<Rule>,
    },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Offline(#[from] Offline),
    #[error("mount: {path} not found")]
    MountSource { path: String },
    #[error("secret `{id}` is required, and none was given")]
    NoSecret { id: String },
    #[error("secret `{id}` cannot be a variable: it is no text")]
    SecretText { id: String },
    #[error("ssh agent `{id}` is required, and none was given")]
    NoAgent { id: String },
    #[error("ssh agent `{id}`: {source}")]
    Agent { id: String, source: io::Error },
    #[error("`{pattern}` is no pattern")]
    Pattern { pattern: String },
    #[error("`{}` changed while it was copied", name.display())]
    Changed { name: Name },
    #[error("archive `{}`: {why}", name.display())]
    Archive { name: Name, why: String },
    #[error("`/{}` in the image is not a folder", name.display())]
    NotAFolder { name: Name },
    #[error("`/{}` in the image is a folder, and what is copied there is none", name.display())]
    IsAFolder { name: Name },
    #[error("`{}` cannot be in a layer: names that begin with `.wh.` mean removal there", name.display())]
    WhiteoutName { name: Name },
}

impl StepError {
    /// True if it only says that something else has ended the build.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Sandbox(SandboxError::Cancelled)
                | Self::Rootfs(RootfsError::Sandbox(SandboxError::Cancelled))
                | Self::Fetch(FetchError::Cancelled)
                | Self::Git(GitError::Cancelled)
        )
    }
}

/// How a step ended of which a process was killed for the memory it used.
fn memory_text(exit: Exit, limit: u64) -> String {
    let used = format!("used more than --memory {limit}");
    match exit {
        Exit::Signal(9) | Exit::Code(137) => format!("was killed: it {used}"),
        _ => format!("failed with {exit}: a process was killed that {used}"),
    }
}

/// What steps are made with.
pub(super) struct Bench<'a> {
    pub store: &'a Store,
    pub contexts: &'a Contexts,
    pub given: &'a Given,
    /// Brings what is read of bases, and of what a cache knows.
    pub bases: &'a dyn Supply,
    pub fetcher: &'a Fetcher<'a>,
    pub sources: &'a Sources,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
    pub form: LayerForm,
    /// What a cache of `RUN --mount` that is not here begins with, by its name's digest.
    pub cached: &'a (dyn Fn(&Digest) -> Option<Layer> + Sync),
}

impl Bench<'_> {
    fn git(&self) -> Git<'_> {
        let Bench { store, given, sources, progress, cancel, .. } = *self;
        Git { store, given, sources, progress, cancel }
    }
}

type Elsewhere<'a> = (Vec<Chosen>, Vec<(&'a RemoteSource, Fetched)>);

/// A step with its inputs known: ready to be looked up or made.
pub(super) struct Prepared<'a> {
    step: &'a Step,
    inputs: &'a [Vec<Layer>],
    keys: Vec<InputKey>,
    /// None if it was not needed to know the key.
    chosen: Option<Vec<Chosen>>,
    repositories: Vec<Resolved>,
    fetched: Vec<Fetched>,
}

impl<'a> Prepared<'a> {
    /// Finds out what the step's key needs: what its inputs hold, and which files
    /// of the context are meant. `inputs[0]` are the layers it stands on.
    pub(super) fn new(
        step: &'a Step,
        inputs: &'a [Vec<Layer>],
        bench: &Bench<'_>,
    ) -> Result<Self, StepError> {
        let diff_ids = |layers: &Vec<Layer>| layers.iter().map(|layer| layer.diff_id).collect();
        let mut keys: Vec<InputKey> =
            inputs.iter().map(|layers| InputKey::Rootfs(diff_ids(layers))).collect();
        if step.stands_alone() {
            keys[0] = InputKey::Rootfs(Vec::new());
        }
        let mut chosen = None;
        if let Op::Copy(op) = &step.op
            && let Some(context) = bench.contexts.of(op.from)
        {
            let (digest, found) = held::selection(context, op, bench.cancel)?;
            chosen = found;
            keys.push(InputKey::Context(digest));
        }
        let (mut repositories, mut fetched) = (Vec::new(), Vec::new());
        if let Op::Copy(op) = &step.op {
            for source in &op.repositories {
                let resolved = bench.git().resolve(source)?;
                keys.push(InputKey::Context(resolved.key(source)));
                repositories.push(resolved);
            }
            for remote in &op.remotes {
                let Bench { store, fetcher, progress, cancel, .. } = bench;
                // A step that is known needs no more of its files than their digests.
                let told = match net::is_shut() {
                    Some(_) => fetcher.told(remote, store)?,
                    None => None,
                };
                let file = match told {
                    Some(file) => file,
                    None => fetcher.fetch(remote, store, progress, cancel)?,
                };
                keys.push(InputKey::Context(file.digest.0));
                fetched.push(file);
            }
        }
        if let Op::Run(op) = &step.op {
            for source in op.mounts.iter().filter_map(|mount| mount.source()) {
                if let Some(context) = bench.contexts.of(source.from) {
                    keys.push(InputKey::Context(mounts::digest(bench, context, source)?));
                }
            }
        }
        Ok(Self { step, inputs, keys, chosen, repositories, fetched })
    }

    pub(super) fn key(&self) -> crate::plan::CacheKey {
        self.step.key(&self.keys)
    }

    /// What is copied from elsewhere than the context: checkouts and archives, and
    /// the files that are neither.
    fn elsewhere(&self, op: &'a CopyOp, bench: &Bench<'_>) -> Result<Elsewhere<'a>, StepError> {
        let (mut chosen, mut files) = (Vec::new(), Vec::new());
        for (source, resolved) in op.repositories.iter().zip(&self.repositories) {
            let checkout = Files::Checkout(Arc::new(bench.git().checkout(source, resolved)?));
            chosen.push(Chosen::checkout(op, Context::new(checkout, Ignore::default()))?);
        }
        for (remote, file) in op.remotes.iter().zip(&self.fetched) {
            let archive = if remote.unpack {
                Chosen::fetched(bench.store.blob_path(&file.digest), &remote.name)?
            } else {
                None
            };
            match archive {
                Some(archive) => chosen.push(archive),
                None => files.push((remote, *file)),
            }
        }
        Ok((chosen, files))
    }

    fn warn(&self, op: &CopyOp, chosen: &[Chosen], progress: &Progress) {
        for pattern in select::unmatched(op, chosen) {
            progress.warn(format!("{}: no file matches `{pattern}`", self.step.name));
        }
    }

    /// Makes the step's layer. `room` is asked for only by a step that runs
    /// something.
    pub(super) fn make<'s>(
        &self,
        bench: &Bench<'_>,
        task: &Task,
        room: impl FnOnce() -> Result<&'s Room, StepError>,
    ) -> Result<Option<Packed>, StepError> {
        let Bench { store, cancel, bases, .. } = *bench;
        let below: &[Layer] = if self.step.stands_alone() { &[] } else { &self.inputs[0] };
        let onto = || Rootfs::supplied(store, below, bases);
        let epoch = self.step.epoch;
        let lineage = |context| Lineage::of(self.step, context, bench);
        let layer = match &self.step.op {
            Op::Base(_) => return Ok(None),
            Op::Run(op) => {
                // A root to run in is unpacked from whole layers.
                self.inputs.iter().try_for_each(|layers| bases.fetch(layers))?;
                let room = room()?;
                let around = run::Surroundings {
                    bench,
                    room,
                    sandbox: &room.sandbox,
                    name: &self.step.name,
                    task,
                    inputs: self.inputs,
                    epoch,
                };
                return run::run(&around, op).map(Some);
            }
            Op::Workdir(op) => workdir::run(store, op, &onto()?, epoch, &lineage(None))?,
            Op::Copy(op) => match op.from {
                CopyFrom::Context | CopyFrom::Named(_) => {
                    let Some(context) = bench.contexts.of(op.from) else { return Ok(None) };
                    let origin = select::Origin::Context(context);
                    let again = match self.chosen {
                        Some(_) => None,
                        None => Some(origin.choose(op)?),
                    };
                    let own =
                        self.chosen.as_ref().or(again.as_ref()).map_or(&[][..], Vec::as_slice);
                    self.warn(op, own, bench.progress);
                    let (more, files) = self.elsewhere(op, bench)?;
                    let chosen: Vec<_> = own.iter().chain(&more).collect();
                    let (onto, lineage) = (onto()?, lineage(Some(context)));
                    copy::run(store, cancel, op, &origin, &chosen, &files, &onto, epoch, &lineage)?
                }
                CopyFrom::Input(at) => {
                    let source = Rootfs::supplied(store, &self.inputs[at], bases)?;
                    let origin = select::Origin::Layers(&source);
                    let chosen = origin.choose(op)?;
                    self.warn(op, &chosen, bench.progress);
                    let chosen: Vec<_> = chosen.iter().collect();
                    let (onto, lineage) = (onto()?, lineage(None));
                    copy::run(store, cancel, op, &origin, &chosen, &[], &onto, epoch, &lineage)?
                }
            },
        };
        Ok(Some(Packed { layer, normalized: BTreeSet::new() }))
    }
}

/// Writes a layer into the store: hashed and compressed as it is made.
fn write_layer(
    store: &Store,
    lineage: &Lineage<'_>,
    fill: impl FnOnce(&mut LayerWriter<BlobWriter>) -> Result<(), StepError>,
) -> Result<Layer, StepError> {
    let form = lineage.form;
    let writer = LayerWriter::indexed(store.writer()?, form);
    let mut writer = writer.tabled(lineage.earlier(store));
    fill(&mut writer)?;
    let Written { to, diff_id, index, blocks } = writer.finish_whole().map_err(StepError::Write)?;
    let (digest, size) = to.commit(None)?;
    lineage.keep(store, &blocks, &digest)?;
    rootfs::remember(store, diff_id, index)?;
    Ok(Layer { diff_id, digest, size, compression: form.compression })
}
