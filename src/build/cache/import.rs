//! What a build takes from elsewhere: records at its beginning, layers when they are
//! read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::config::{self, CONFIG, Content, Known};
use super::{Cache, CacheError, CacheFrom, folder, lock};
use crate::build::{BuildEnv, BuildError, record};
use crate::digest::{BlobDigest, Digest};
use crate::image::{Image, Manifest, MediaType, Raw};
use crate::layer::Layer;
use crate::reference::Reference;
use crate::registry::{self, Document};
use crate::rootfs;
use crate::store::StoreError;

/// A place that records are taken from.
#[derive(Debug)]
pub(super) struct Source {
    from: CacheFrom,
    /// What it had when it was read, which is done once; none if nothing could be.
    content: OnceLock<Option<Content>>,
    /// It was found to be wrong, or is not to be had any more.
    refused: AtomicBool,
}

/// A layer that is known by a record and was not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    /// The place of its source.
    pub(super) source: usize,
    /// The key of the step that it is of, and the name of its form.
    pub(super) step: Option<(Digest, String)>,
    pub(super) layer: Layer,
}

/// What a source knows of a step.
#[derive(Debug)]
pub(in crate::build) struct Hit {
    pub(in crate::build) layer: Layer,
    /// It is in the form that is wanted.
    pub(in crate::build) wanted: bool,
}

impl Source {
    pub(super) fn new(from: CacheFrom) -> Self {
        Self { from, content: OnceLock::new(), refused: AtomicBool::new(false) }
    }

    /// What may be taken from it.
    pub(super) fn content(&self) -> Option<&Content> {
        self.content.get()?.as_ref().filter(|_| !self.is_refused())
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::SeqCst)
    }

    /// Reads the records. That there are none is said, and is no error.
    async fn load(&self, env: &BuildEnv<'_>) {
        if self.content.get().is_some() {
            return;
        }
        let task = env.progress.task(format!("import cache from {}", self.from));
        let content = match self.read(env).await {
            Ok(content) => {
                task.done();
                Some(content)
            }
            Err(error) => {
                env.progress.warn(format!("cache from {}: {error}", self.from));
                None
            }
        };
        // Nobody else reads it.
        let _ = self.content.set(content);
    }

    async fn read(&self, env: &BuildEnv<'_>) -> Result<Content, CacheError> {
        let documents = match &self.from {
            CacheFrom::Registry(reference) => {
                registry::documents(reference, env.registries, env.progress).await?
            }
            CacheFrom::Folder { folder, entry } => folder::documents(folder, entry)?,
            CacheFrom::Store(digest) => vec![stored(digest, env)?],
        };
        let mut all: Option<Content> = None;
        for document in documents {
            if let Some(content) = content(document)? {
                all.get_or_insert_default().add(content);
            }
        }
        all.ok_or(CacheError::NoCache)
    }

    /// Gets layers into the store.
    async fn fetch(&self, layers: &[Layer], env: &BuildEnv<'_>) -> Result<(), CacheError> {
        match &self.from {
            CacheFrom::Registry(from) => {
                registry::pull_layers(Some(from), layers, env.store, env.registries, env.progress)
                    .await?;
            }
            CacheFrom::Folder { folder, .. } => blocking(|| {
                layers.par_iter().try_for_each(|layer| {
                    if env.store.has_blob(&layer.digest, layer.size) {
                        return Ok(());
                    }
                    folder::copy(folder, layer, env.store)
                })
            })?,
            CacheFrom::Store(_) => {
                let absent = |layer: &&Layer| !env.store.has_blob(&layer.digest, layer.size);
                if let Some(absent) = layers.iter().find(absent) {
                    return Err(StoreError::NoBlob(absent.digest).into());
                }
            }
        }
        Ok(())
    }
}

/// A cache of the store's.
fn stored(digest: &BlobDigest, env: &BuildEnv<'_>) -> Result<Document, CacheError> {
    let raw = Raw::read(env.store.document(digest)?)?;
    let manifest = Manifest::read(&raw.bytes)?;
    let config = env.store.document(&manifest.config.digest)?;
    Ok(Document { raw, manifest, config })
}

/// What a document says; none if it is not about that.
fn content(document: Document) -> Result<Option<Content>, CacheError> {
    let Document { raw, manifest, config } = document;
    match &manifest.config.media_type {
        MediaType::Other(name) if name == CONFIG => config::read(&manifest, &config).map(Some),
        MediaType::OciConfig | MediaType::DockerConfig => {
            let records = config::inline(&Image::read(raw, config)?)?;
            Ok(records.map(|records| Content { records, ..Content::default() }))
        }
        _ => Ok(None),
    }
}

impl Cache {
    /// The registries' references that records would be asked for at.
    pub(in crate::build) fn remote(&self) -> impl Iterator<Item = &Reference> {
        self.sources.iter().filter_map(|source| match &source.from {
            CacheFrom::Registry(reference) => Some(reference),
            CacheFrom::Folder { .. } | CacheFrom::Store(_) => None,
        })
    }

    /// Reads the records of all sources, at once; of those that were read already, not again.
    /// Without a network, registries are left out.
    pub(in crate::build) async fn load(&self, env: &BuildEnv<'_>) -> Result<(), BuildError> {
        let far = |source: &&Source| matches!(source.from, CacheFrom::Registry(_));
        let sources = self.sources.iter();
        let all = sources.filter(|source| !far(source) || !env.registries.is_offline());
        let all = all.map(|source| source.load(env));
        futures_util::future::join_all(all).await;
        Ok(())
    }

    /// The layer of a step, if a source knows it: the first that has it in this form, or
    /// else in another. It need not be in the store then, until [`Cache::bring`] has been
    /// asked for it.
    pub(in crate::build) fn hit(&self, key: &Digest, form: Option<&str>) -> Option<Hit> {
        let all = || {
            let known = |source: &'_ Source| Some(source.content()?.records.get(key)?.clone());
            let sources = self.sources.iter().enumerate();
            sources.filter_map(move |(number, source)| Some((number, known(source)?)))
        };
        let wanted = |known: &Known| form.is_none_or(|form| known.form == form);
        let (source, known) = all().find(|(_, known)| wanted(known)).or_else(|| all().next())?;
        let hit = Hit { wanted: wanted(&known), layer: known.layer.clone() };
        self.await_layer(Pending { source, step: Some((*key, known.form)), layer: known.layer });
        Some(hit)
    }

    /// Has a layer brought when it is asked for.
    pub(super) fn await_layer(&self, one: Pending) {
        let mut pending = lock(&self.pending);
        let same = pending.entry(one.layer.digest).or_default();
        if !same.contains(&one) {
            same.push(one);
        }
    }

    /// Sees to it that layers that a source knows are in the store, and are what their
    /// records say. Others are not looked at. The store remembers the steps then.
    ///
    /// # Errors
    /// [`BuildError::Cache`] if one cannot be had or is something else: the source is
    /// refused from then on, which was said.
    pub async fn bring(&self, layers: &[Layer], env: &BuildEnv<'_>) -> Result<(), BuildError> {
        if layers.iter().all(|layer| self.is_here(layer)) {
            return Ok(());
        }
        let _alone = self.bringing.lock().await;
        let wanted: BTreeSet<_> = layers.iter().map(|layer| layer.digest).collect();
        let mut by_source: BTreeMap<usize, Vec<Pending>> = BTreeMap::new();
        for one in lock(&self.pending).values().flatten() {
            if wanted.contains(&one.layer.digest) {
                by_source.entry(one.source).or_default().push(one.clone());
            }
        }
        for (number, wanted) in by_source {
            let source = &self.sources[number];
            let failed = match source.is_refused() {
                true => Some(CacheError::Refused),
                false => self.one(source, &wanted, env).await.err().inspect(|error| {
                    source.refused.store(true, Ordering::SeqCst);
                    let said = format!("cache from {}: {error}; it is not used", source.from);
                    env.progress.warn(said);
                }),
            };
            if let Some(error) = failed {
                return Err(BuildError::Cache(Box::new(error)));
            }
            let mut pending = lock(&self.pending);
            for one in &wanted {
                if let Some(same) = pending.get_mut(&one.layer.digest) {
                    same.retain(|other| other != one);
                }
            }
            pending.retain(|_, same| !same.is_empty());
        }
        Ok(())
    }

    async fn one(
        &self,
        source: &Source,
        wanted: &[Pending],
        env: &BuildEnv<'_>,
    ) -> Result<(), CacheError> {
        let layers: Vec<Layer> = wanted.iter().map(|one| one.layer.clone()).collect();
        source.fetch(&layers, env).await?;
        blocking(|| layers.par_iter().try_for_each(|layer| rootfs::prove(env.store, layer)))?;
        for Pending { step, layer, .. } in wanted {
            if let Some((key, form)) = step {
                record::remember(env.store, key, layer, form)?;
            }
        }
        Ok(())
    }

    /// False for a layer that is known from a source and has not been brought: the store
    /// may lack it, and nobody has looked at it.
    pub(in crate::build) fn is_here(&self, layer: &Layer) -> bool {
        !lock(&self.pending).contains_key(&layer.digest)
    }

    /// True if a layer is known from a source that has been refused, and was not brought.
    pub(super) fn is_lost(&self, layer: &Layer) -> bool {
        let pending = lock(&self.pending);
        let Some(known) = pending.get(&layer.digest) else { return false };
        known.iter().any(|one| self.sources[one.source].is_refused())
    }
}

/// Waits for the disk and the processor without keeping a worker's other tasks from
/// running.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // One thread has nowhere to move them.
        _ => work(),
    }
}
