//! Layers that are not here, fetched when something reads them: those of bases, and those
//! that a cache knows.
//!
//! A base's manifest and config are all that a plan needs. Its layers stay where they are
//! until a step runs on them, or reads of them what no record tells; and until an output
//! needs the image whole.

use std::collections::BTreeMap;

use super::{BuildEnv, BuildError, stoppable};
use crate::digest::BlobDigest;
use crate::layer::Layer;
use crate::plan::{Graph, Op};
use crate::reference::Reference;
use crate::registry;
use crate::rootfs::{RootfsError, Supply};
use crate::sandbox::SandboxError;

/// Where the bases of one build come from.
#[derive(Debug)]
pub(super) struct Bases<'a> {
    env: &'a BuildEnv<'a>,
    names: BTreeMap<BlobDigest, Reference>,
    runtime: tokio::runtime::Handle,
}

impl<'a> Bases<'a> {
    /// Those of a graph. Belongs to the runtime that it is called in.
    pub(super) fn of(graph: &Graph, env: &'a BuildEnv<'a>) -> Self {
        let mut names = BTreeMap::new();
        for step in &graph.steps {
            if let Op::Base(base) = &step.op
                && let Some(image) = &base.image
            {
                let from = image.reference.pin(image.digest).reference();
                names.extend(image.layers.iter().map(|layer| (layer.digest, from.clone())));
            }
        }
        Self { env, names, runtime: tokio::runtime::Handle::current() }
    }

    /// Fetches what the store lacks of these layers, and has those looked at that a cache
    /// knows.
    pub(super) async fn bring(&self, layers: &[Layer]) -> Result<(), BuildError> {
        let BuildEnv { store, registries, progress, cache, .. } = self.env;
        stoppable(self.env, cache.bring(layers, self.env)).await?;
        let mut by_name: BTreeMap<Option<&Reference>, Vec<Layer>> = BTreeMap::new();
        for layer in layers {
            by_name.entry(self.names.get(&layer.digest)).or_default().push(layer.clone());
        }
        for (name, layers) in by_name {
            let pull = registry::pull_layers(name, &layers, store, registries, progress);
            let pull = async { pull.await.map_err(|error| BuildError::Registry(Box::new(error))) };
            stoppable(self.env, pull).await?;
        }
        Ok(())
    }
}

impl Supply for Bases<'_> {
    fn fetch(&self, layers: &[Layer]) -> Result<(), RootfsError> {
        let BuildEnv { store, cache, .. } = self.env;
        let here =
            |layer: &Layer| store.has_blob(&layer.digest, layer.size) && cache.is_here(layer);
        if layers.iter().all(here) {
            return Ok(());
        }
        match self.runtime.block_on(self.bring(layers)) {
            Ok(()) => Ok(()),
            Err(BuildError::Registry(error)) => Err(RootfsError::Supply(error)),
            Err(BuildError::Cache(error)) => Err(RootfsError::Supply(error)),
            // Nothing else comes of it.
            Err(_) => Err(SandboxError::Cancelled.into()),
        }
    }
}
