//! What a build gives on.

use std::collections::BTreeMap;

use super::config::{ARTIFACT, CONFIG, Content, Known, set_inline, write};
use super::{Cache, lock};
use crate::image::{Artifact, ImageConfig, ImageError};
use crate::layer::Layer;
use crate::plan::{Graph, Op, StepId};

/// Which steps are given on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Those whose layers are in the result.
    #[default]
    Min,
    /// All, if [`Give::all`](super::Give::all) has asked for it.
    Max,
}

impl Cache {
    /// The cache of what was built; none if no step has made a layer. What is known from
    /// a source that has been refused is left out. With the packed caches of
    /// `RUN --mount`, if they are wanted here.
    ///
    /// # Errors
    /// If it has more records than a document has room for.
    pub fn artifact(&self, mode: Mode, mounts: bool) -> Result<Option<Artifact>, ImageError> {
        let (results, form) = (lock(&self.results).clone(), lock(&self.form).clone());
        let mut content = Content::default();
        for (id, made) in lock(&self.made).iter() {
            let wanted = mode == Mode::Max && self.give.all || results.contains(id);
            if wanted && !self.is_lost(&made.layer) {
                let known = Known { layer: made.layer.clone(), form: form.clone() };
                content.records.insert(made.key, known);
            }
        }
        if content.records.is_empty() {
            return Ok(None);
        }
        if mounts {
            content.mounts = lock(&self.mounts).clone();
            content.mounts.retain(|_, layer| !self.is_lost(layer));
        }
        let layers = content.records.values().map(|known| &known.layer);
        let layers = distinct(layers.chain(content.mounts.values()));
        let config = write(&content).map_err(malformed)?;
        Artifact::new(ARTIFACT, CONFIG, config, &layers).map(Some)
    }

    /// The layers of the steps that were made or known, and the packed caches.
    #[must_use]
    pub fn layers(&self) -> Vec<Layer> {
        let (made, mounts) = (lock(&self.made), lock(&self.mounts));
        distinct(made.values().map(|made| &made.layer).chain(mounts.values()))
    }

    /// The config of a result, with the records of its own layers if that is wanted.
    pub(in crate::build) fn config(
        &self,
        config: &ImageConfig,
        graph: &Graph,
        result: StepId,
    ) -> Result<ImageConfig, ImageError> {
        let mut config = config.clone();
        let mut records = BTreeMap::new();
        if self.give.inline {
            let (made, form) = (lock(&self.made), lock(&self.form).clone());
            let mut place = 0;
            for id in graph.chain(result) {
                if let Op::Base(base) = &graph.step(id).op {
                    place += base.image.as_ref().map_or(0, |image| image.layers.len());
                }
                if let Some(made) = made.get(&id) {
                    records.insert(made.key, (place, form.clone()));
                    place += 1;
                }
            }
        }
        set_inline(&mut config, records).map_err(malformed)?;
        Ok(config)
    }
}

/// Each once, by their digests.
fn distinct<'l>(layers: impl Iterator<Item = &'l Layer>) -> Vec<Layer> {
    let layers: BTreeMap<_, &Layer> = layers.map(|layer| (layer.digest, layer)).collect();
    layers.into_values().cloned().collect()
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn malformed(error: serde_json::Error) -> ImageError {
    ImageError::Malformed { what: "cache config", why: error.to_string() }
}
