//! A build's cache beyond its own store: records of steps that are taken from elsewhere
//! and given on, as BuildKit's `--cache-from` and `--cache-to` do.
//!
//! What is given on is an OCI artifact of kiln's own ([`config`] has the form): records
//! that say which layer a step's key has, and those layers. It lies in a registry or in
//! the folder of an image layout. An image can carry the records of its own layers in
//! its config instead (inline), and then needs no layers beside it.
//!
//! What is taken is a stranger's. A record is looked at only under its own key, after
//! the store's own. That it is known makes a step a hit; its layer is fetched when
//! something reads it, and then must have the digest, the size and the diff ID that the
//! record says ([`Cache::bring`]). If it has not, or cannot be had, nothing more is taken
//! from that source: it is said, and the build's steps are looked up again without it.
//! No build fails for its cache.

mod config;
mod export;
mod folder;
mod import;
mod mounts;

pub use config::ARTIFACT;
pub use export::Mode;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BuildEnv, BuildError, StepError};
use crate::atomic::PathError;
use crate::digest::{BlobDigest, Digest};
use crate::image::ImageError;
use crate::layer::Layer;
use crate::plan::{Graph, StepId};
use crate::reference::Reference;
use crate::registry::RegistryError;
use crate::rootfs::RootfsError;
use crate::store::StoreError;
use config::Mounts;
use import::{Pending, Source};

/// Where records are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// A cache, or an image with the records of its layers.
    Registry(Reference),
    /// The folder of an image layout.
    Folder { folder: PathBuf, entry: LayoutEntry },
    /// A cache that is in the store whole, by its manifest: out of a bundle.
    Store(BlobDigest),
}

/// What is meant of an image layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutEntry {
    /// By its `org.opencontainers.image.ref.name`.
    Tag(String),
    /// A manifest or an index.
    Digest(BlobDigest),
}

impl fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => f.write_str(&reference.familiar()),
            Self::Folder { folder, .. } => folder.display().fmt(f),
            Self::Store(digest) => write!(f, "the bundle ({})", digest.short()),
        }
    }
}

/// Why nothing is taken from a source.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Io(#[from] PathError),
    #[error(transparent)]
    Document(#[from] ImageError),
    #[error("the cache is malformed: {0}")]
    Malformed(String),
    #[error("{} has no {what}", folder.display())]
    Absent { folder: PathBuf, what: String },
    #[error("it is neither a cache of kiln's nor an image with one (--cache-to type=inline)")]
    NoCache,
    #[error("it has been refused")]
    Refused,
}

/// What a step came to.
#[derive(Debug, Clone)]
struct Made {
    key: Digest,
    layer: Layer,
}

/// What a build is to give on besides what it makes in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Give {
    /// Put the records of an image's own layers into its config.
    pub inline: bool,
    /// Pack what is in the caches of `RUN --mount=type=cache`.
    pub mounts: bool,
    /// Have the layers of all steps in the form of the result's, as [`Mode::Max`] gives
    /// them on.
    pub all: bool,
}

/// The cache of one build.
#[derive(Debug, Default)]
pub struct Cache {
    sources: Vec<Source>,
    give: Give,
    /// The contents of cache mounts that are given on.
    mounts: Mutex<Mounts>,
    /// The keys of the steps, by their place in the graph.
    keys: Mutex<BTreeMap<StepId, Digest>>,
    made: Mutex<BTreeMap<StepId, Made>>,
    /// The steps that the results are made of.
    results: Mutex<Vec<StepId>>,
    /// [`LayerForm::name`](crate::layer::LayerForm::name) of the layers made.
    form: Mutex<String>,
    /// Layers that are known and not here, with the records that know them.
    pending: Mutex<BTreeMap<BlobDigest, Vec<Pending>>>,
    /// One step at a time brings layers, several at once.
    bringing: tokio::sync::Mutex<()>,
}

impl Cache {
    #[must_use]
    pub fn new(sources: Vec<CacheFrom>, give: Give) -> Self {
        let sources = sources.into_iter().map(Source::new).collect();
        Self { sources, give, ..Self::default() }
    }

    /// Notes a step's key.
    pub(super) fn keyed(&self, step: StepId, key: Digest) {
        lock(&self.keys).insert(step, key);
    }

    /// True if the layers of all steps are given on.
    pub(super) fn gives_all(&self) -> bool {
        self.give.all
    }

    /// Notes what the steps have come to: the layer of each, if it has made one.
    pub(super) fn made<'a>(
        &self,
        graph: &Graph,
        form: String,
        layer: impl Fn(StepId) -> Option<&'a Layer>,
    ) {
        let keys = lock(&self.keys);
        let made = |(&id, &key): (&StepId, &Digest)| {
            layer(id).map(|layer| (id, Made { key, layer: layer.clone() }))
        };
        *lock(&self.made) = keys.iter().filter_map(made).collect();
        *lock(&self.form) = form;
        *lock(&self.results) = graph.results.iter().flat_map(|&id| graph.chain(id)).collect();
    }
}

/// Looks the steps up and makes them, anew whenever a source was refused meanwhile: what
/// was made before is known then. There are only so many sources.
pub(super) fn settled<T>(
    env: &BuildEnv<'_>,
    mut walk: impl FnMut() -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    loop {
        lock(&env.cache.pending).clear();
        match walk() {
            Err(BuildError::Cache(_)) => {}
            done => return done,
        }
    }
}

/// The refusal of a source that a step came upon while it read its inputs, or else what
/// became of the step.
pub(super) fn refusal(error: StepError) -> Result<Box<CacheError>, StepError> {
    match error {
        StepError::Rootfs(RootfsError::Supply(source)) => source
            .downcast::<CacheError>()
            .map_err(|source| StepError::Rootfs(RootfsError::Supply(source))),
        other => Err(other),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
