//! `--cache-from` and `--cache-to`: the cache that a build takes, and where it goes.

use super::request::cancelled_by_signals;
use crate::build::{BuildEnv, BuildError, Cache, CacheFrom, Give, Mode, Sources};
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::cli::value::{CacheFromArg, CachePlace, CacheTo, CacheToArg};
use crate::image::Artifact;
use crate::layer::{Compression, Layer};
use crate::output::{self, Work};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{self, Registries};

/// The argument by which docker's own builder is told of type=inline.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

#[derive(Debug, Clone, Default, clap::Args)]
pub struct CacheFlags {
    /// Take the layers of known steps from elsewhere: type=registry,ref=NAME of a cache or
    /// of an image with one, or NAME alone; type=local,src=FOLDER[,tag=TAG][,digest=DIGEST];
    /// may be repeated
    #[arg(long = "cache-from", value_name = "SPEC")]
    from: Vec<CacheFromArg>,

    /// Give the layers of the steps on: type=registry,ref=NAME or
    /// type=local,dest=FOLDER[,tag=TAG], with mode=min (the result's own steps, which is
    /// usual) or max (all), mounts=true (what the caches of RUN --mount hold, too),
    /// compression=, compression-level=, ignore-error=; type=inline is within the image; may
    /// be repeated
    #[arg(long = "cache-to", value_name = "SPEC")]
    to: Vec<CacheToArg>,
}

impl CacheFlags {
    fn targets(&self) -> impl Iterator<Item = &CacheTo> {
        self.to.iter().flat_map(|arg| &arg.0)
    }

    /// True if layers leave in a cache.
    pub(super) fn takes_layers(&self) -> bool {
        self.targets().any(|to| to.place != CachePlace::Inline)
    }

    /// The registries' references that a cache goes to.
    pub(super) fn remote(&self) -> impl Iterator<Item = &Reference> {
        self.targets().filter_map(|to| match &to.place {
            CachePlace::Registry(name) => Some(name),
            CachePlace::Folder { .. } | CachePlace::Inline => None,
        })
    }

    /// The forms of layers that are asked for.
    pub(super) fn forms(&self) -> impl Iterator<Item = (Option<Compression>, Option<u8>)> {
        self.targets().map(|to| (to.compression, to.level))
    }

    /// The cache of a build with these arguments, and with more sources.
    pub(super) fn cache<'a>(
        &self,
        args: impl Iterator<Item = (&'a str, Option<String>)>,
        more: impl Iterator<Item = CacheFrom>,
    ) -> Cache {
        let on = |value: &str| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
        let mut args = args;
        let asked = args.any(|(name, value)| name == INLINE_CACHE && value.is_some_and(|v| on(&v)));
        let inline = asked || self.targets().any(|to| to.place == CachePlace::Inline);
        let all = self.targets().any(|to| to.mode == Mode::Max);
        let give = Give { inline, mounts: self.targets().any(|to| to.mounts), all };
        let named = self.from.iter().flat_map(|arg| arg.0.clone());
        Cache::new(named.chain(more).collect(), give)
    }

    /// Writes the cache of what was built to all places.
    pub(super) fn export(
        &self,
        cache: &Cache,
        registries: &Registries,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<(), CliError> {
        for to in self.targets() {
            let shown = match &to.place {
                CachePlace::Registry(name) => name.familiar(),
                CachePlace::Folder { folder, .. } => folder.display().to_string(),
                // It has left with the image.
                CachePlace::Inline => continue,
            };
            let task = progress.task(format!("export cache to {shown}"));
            match one(to, cache, registries, progress, invocation) {
                Ok(true) => task.done(),
                Ok(false) => {
                    progress.note(format!("no step has made a layer: no cache goes to {shown}"));
                    task.done();
                }
                Err(error) if to.ignore_error && !matches!(error, CliError::Interrupted { .. }) => {
                    let error = error.text();
                    progress.warn(format!("the cache could not be exported to {shown}: {error}"));
                }
                Err(error) => return Err(error.context(format!("cannot export cache to {shown}"))),
            }
        }
        Ok(())
    }
}

/// False if there is nothing to write.
fn one(
    to: &CacheTo,
    cache: &Cache,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<bool, CliError> {
    let (store, cancel) = (invocation.store()?, cancelled_by_signals(invocation)?);
    let (sources, cancel) = (&Sources::default(), &cancel);
    let (ready, outcome) = (None, None);
    let env = BuildEnv { store, registries, progress, cancel, ready, cache, sources, outcome };
    // What was known from elsewhere, and had not to be read, may not be here.
    let brought = |artifact: &Artifact, all: &[Layer]| -> Result<bool, CliError> {
        let lacking = match &to.place {
            CachePlace::Registry(name) => {
                let lacking = registry::lacking(artifact, name, store, registries);
                invocation.block_on(lacking)?
            }
            CachePlace::Folder { .. } | CachePlace::Inline => {
                let absent = |digest, size| !store.has_blob(&digest, size);
                let absent = artifact.layers.iter().filter(|l| absent(l.digest, l.size));
                absent.map(|layer| layer.digest).collect()
            }
        };
        let layers: Vec<Layer> =
            all.iter().filter(|layer| lacking.contains(&layer.digest)).cloned().collect();
        let bring = async {
            match cache.bring(&layers, &env).await {
                Ok(()) => Ok(true),
                Err(BuildError::Cache(_)) => Ok(false),
                Err(error) => Err(CliError::from(error)),
            }
        };
        invocation.block_on(bring)
    };
    let artifact = loop {
        let Some(artifact) = cache.artifact(to.mode, to.mounts)? else { return Ok(false) };
        if brought(&artifact, &cache.layers())? {
            break artifact;
        }
        // The cache without what is lost; each turn loses a source.
    };
    match &to.place {
        CachePlace::Registry(name) => {
            let push = registry::push_artifact(&artifact, name, store, registries, progress);
            invocation.block_on(push)?;
        }
        CachePlace::Folder { folder, tag } => {
            let task = progress.task(format!("write {}", folder.display()));
            let interrupt = invocation.interrupt()?;
            let stop = || interrupt.signal().is_some();
            let work = Work::new(&task, &stop);
            output::write_artifact(&artifact, tag, store, folder, &work)?;
            task.done();
        }
        CachePlace::Inline => {}
    }
    Ok(true)
}
