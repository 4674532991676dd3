//! The content of `RUN --mount=type=cache`, given on and taken.
//!
//! Packed is what the caches hold that the build's steps name, after the steps, each
//! under the lock that its users have. What is taken fills a cache that is not here yet,
//! when a step wants it. Caches that begin with files of elsewhere (`from=`) are left
//! out: the files would have to come along.

use std::collections::BTreeSet;
use std::time::Duration;

use super::config::MountName;
use super::import::Pending;
use super::{Cache, lock};
use crate::build::room::Room;
use crate::build::{BuildEnv, StepError};
use crate::digest::Digest;
use crate::layer::{Layer, LayerForm};
use crate::plan::{Graph, Op, RunMount};
use crate::rootfs;
use crate::sandbox::SandboxError;

/// A cache that another build uses for longer is left out.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cache {
    /// Packs the caches that the steps of a graph name, if they are to be given on. What
    /// is not here, and known from elsewhere, is passed on.
    pub(in crate::build) fn pack<'r>(
        &self,
        graph: &Graph,
        form: LayerForm,
        env: &BuildEnv<'_>,
        room: impl FnOnce() -> Result<&'r Room, StepError>,
    ) -> Result<(), StepError> {
        let names = names(graph);
        if !self.give.mounts || names.is_empty() {
            return Ok(());
        }
        let sandbox = &room()?.sandbox;
        lock(&self.mounts).clear();
        for name in names {
            let id = name.digest();
            let begun = std::time::Instant::now();
            let alone = loop {
                match env.store.try_cache(sandbox.kind(), &id, true)? {
                    Some(lock) => break Some(lock),
                    None if env.cancel.is_cancelled() => {
                        return Err(SandboxError::Cancelled.into());
                    }
                    None if begun.elapsed() > PATIENCE => break None,
                    None => std::thread::sleep(Duration::from_millis(20)),
                }
            };
            let Some(_alone) = alone else {
                let said = "another build uses it";
                env.progress.warn(format!("the cache `{}` is not given on: {said}", name.id));
                continue;
            };
            let above = env.store.cache_folder(sandbox.kind(), &id)?;
            let folder = above.join("fs");
            if env.store.hold_folder(&above) && folder.is_dir() {
                let task = env.progress.task(format!("pack the cache `{}`", name.id));
                match rootfs::pack_folder(env.store, sandbox, &folder, form) {
                    Ok(layer) => {
                        lock(&self.mounts).insert(name, layer);
                        task.done();
                    }
                    // The image is built all the same.
                    Err(error) => {
                        let said = format!("the cache `{}` is not given on: {error}", name.id);
                        env.progress.warn(said);
                    }
                }
            } else if let Some(known) = self.known_mount(&id) {
                lock(&self.mounts).insert(name, known.layer.clone());
                self.await_layer(known);
            }
        }
        Ok(())
    }

    /// What a cache begins with, by the digest of its name, if a source knows it and it can
    /// be had.
    pub(in crate::build) async fn mount(&self, id: &Digest, env: &BuildEnv<'_>) -> Option<Layer> {
        let known = self.known_mount(id)?;
        let layer = known.layer.clone();
        self.await_layer(known);
        // Why not was said; the cache begins empty then.
        self.bring(std::slice::from_ref(&layer), env).await.ok()?;
        Some(layer)
    }

    fn known_mount(&self, id: &Digest) -> Option<Pending> {
        self.sources.iter().enumerate().find_map(|(number, source)| {
            let mut mounts = source.content()?.mounts.iter();
            let (_, layer) = mounts.find(|(name, _)| name.digest() == *id)?;
            Some(Pending { source: number, step: None, layer: layer.clone() })
        })
    }
}

/// The caches that the steps name.
fn names(graph: &Graph) -> BTreeSet<MountName> {
    let mounts = graph.steps.iter().filter_map(|step| match &step.op {
        Op::Run(run) => Some(&run.mounts),
        Op::Base(_) | Op::Copy(_) | Op::Workdir(_) => None,
    });
    let caches = mounts.flatten().filter_map(|mount| match mount {
        RunMount::Cache(cache) if cache.seed.is_none() => Some(cache),
        _ => None,
    });
    caches.map(MountName::of).collect()
}
