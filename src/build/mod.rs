//! A build, told on one page.
//!
//! The Dockerfile is parsed and planned until every base is known ([`resolve`]).
//! Then each step is looked up by its key and made if it is unknown, several at a
//! time, each giving a layer; layers and config become the image, which the
//! store keeps under its names. The same input gives the same image: what a step
//! sees of this machine is the context's content and nothing else.

mod cache;
mod check;
mod context;
mod counters;
mod execute;
mod explain;
mod fetch;
mod files;
mod git;
mod given;
mod memory;
mod opening;
mod resolve;
mod room;
mod schedule;
mod step;
mod supply;
mod trace;
mod tree;
mod walk;

pub use cache::{Cache, CacheError, CacheFrom, Give, LayoutEntry, Mode};
pub use check::{Checked, Question, check};
pub use context::{Context, ContextError};
pub use fetch::FetchError;
pub use files::{Files, UnpackError, Unpacked};
pub use git::{Checkout, GitError};
pub use given::{Given, Secret};
pub use opening::{HEAD, OpenError, Opening, is_archive};
pub use step::StepError;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::atomic::{AtPath as _, PathError};
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::dockerfile::lint::Settings;
use crate::dockerfile::{self, Ignore, RunNetwork};
use crate::epoch::Epoch;
use crate::image::{self, Annotations, AnyImage, Dialect, ImageError, Listed, Style, StyleError};
use crate::layer::LayerForm;
use crate::plan::{self, BaseRequest, Bases, Graph, Plan, PlanRequest, Planned};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{Registries, RegistryError, Uploads};
use crate::rootfs::RootfsError;
use crate::sandbox::binfmt::Foreign;
use crate::sandbox::{Cancel, Limits, Tier};
use crate::store::{Store, StoreError};
use context::Contexts;
use counters::Counters;
use supply::Bases as BaseLayers;

/// What is to be built.
#[derive(Debug)]
pub struct BuildRequest {
    pub dockerfile: Source,
    /// The build context.
    pub context: Files,
    /// The text of `.dockerignore`, with its name for messages.
    pub ignore: Option<Source>,
    /// `--build-context`: what stands for a name ([`PlanRequest::contexts`]).
    pub contexts: Vec<(String, ContextSource)>,
    /// One gives an image, several an index. None means this machine's.
    pub platforms: Vec<Platform>,
    pub target: Option<String>,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Annotations and media types of the image.
    pub style: Style,
    /// Names that the store keeps the image under.
    pub names: Vec<Reference>,
    pub epoch: Epoch,
    pub form: LayerForm,
    /// Fetch of the bases what no step reads as well: the result is to be used as it lies
    /// in the store. Without it, it goes to registries only.
    pub whole: bool,
    /// Make every step anew.
    pub no_cache: bool,
    /// Make the steps of these stages anew.
    pub no_cache_filter: Vec<String>,
    /// Ask the registry for bases even if the store has them.
    pub pull: bool,
    /// Take this sandbox and no other.
    pub sandbox: Option<Tier>,
    /// What each `RUN` may use; its cgroup's name is the build's to choose.
    pub limits: Limits,
    /// The network of a `RUN` that names none.
    pub network: RunNetwork,
    /// Allow `RUN --security=insecure`.
    pub insecure: bool,
    /// Names that a `RUN` finds in its `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    pub given: Given,
}

impl BuildRequest {
    /// The usual request: the context's own `Dockerfile` and ignore file, this
    /// machine's platform, one name.
    ///
    /// # Errors
    /// If there is no Dockerfile that can be read.
    pub fn of(context: &Path, name: &Reference) -> Result<Self, PathError> {
        let dockerfile = context.join("Dockerfile");
        let text = std::fs::read_to_string(&dockerfile).at("read", &dockerfile)?;
        let ignore = context.join(".dockerignore");
        let ignore = match std::fs::read_to_string(&ignore) {
            Ok(text) => Some(Source::new(ignore.display().to_string(), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).at("read", &ignore),
        };
        Ok(Self {
            dockerfile: Source::new(dockerfile.display().to_string(), text),
            context: Files::Folder(context.to_path_buf()),
            ignore,
            contexts: Vec::new(),
            platforms: Vec::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            style: Style::default(),
            names: vec![name.clone()],
            epoch: Epoch::default(),
            form: LayerForm::default(),
            whole: true,
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            sandbox: None,
            limits: Limits::default(),
            network: RunNetwork::Default,
            insecure: false,
            hosts: Vec::new(),
            given: Given::default(),
        })
    }
}

/// What a name of `--build-context` stands for.
#[derive(Debug, Clone)]
pub enum ContextSource {
    /// An image that the store or a registry has.
    Image(Reference),
    /// An image that is in the store without a name; one is made up for messages.
    Loaded {
        name: Reference,
        image: Box<AnyImage>,
    },
    Scratch,
    Folder {
        path: PathBuf,
        ignore: Option<Source>,
    },
    /// Files that no ignore file is for.
    Files(Files),
}

/// What a build works with.
#[derive(Debug)]
pub struct BuildEnv<'a> {
    pub store: &'a Store,
    pub registries: &'a Registries,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
    /// Told of each layer of the result as soon as it is known.
    pub ready: Option<&'a Uploads>,
    /// Steps that are known from elsewhere, and those that are given on.
    pub cache: &'a Cache,
}

/// Rules that a Dockerfile breaks that says `# check=error=true`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lint rules are broken, and `error=true` holds: {}", .0.iter().copied().collect::<Vec<_>>().join(", "))]
pub struct BrokenRules(BTreeSet<&'static str>);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile or the request; drawn line by line.
    #[error("the Dockerfile cannot be built")]
    Dockerfile { source_text: Source, diagnostics: Vec<Diagnostic> },
    #[error("{}: {source}", at.name())]
    Ignore { at: Source, source: dockerfile::IgnoreError },
    #[error("{name}: {source}")]
    Base {
        name: String,
        span: Span,
        source_text: Source,
        #[source]
        source: Box<RegistryError>,
    },
    #[error("{source}")]
    Step {
        /// As in `[build 2/4] RUN make`.
        name: String,
        span: Option<Span>,
        source_text: Source,
        #[source]
        source: Box<StepError>,
    },
    #[error("RUN for {platform} cannot run on this machine ({host}): {why}")]
    Foreign {
        why: Foreign,
        platform: Box<Platform>,
        host: Box<Platform>,
        span: Option<Span>,
        source_text: Source,
    },
    #[error("the image of the named context is not for {platform}")]
    ContextPlatform { platform: Box<Platform>, span: Span, source_text: Source },
    #[error(transparent)]
    Rules(#[from] BrokenRules),
    /// Of a source of the cache; the build goes on without it.
    #[error("{0}")]
    Cache(#[source] Box<CacheError>),
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Registry(#[from] Box<RegistryError>),
    #[error(transparent)]
    Style(#[from] StyleError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Io(#[from] PathError),
}

impl BuildError {
    /// True if it only says that something else has ended the build.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled => true,
            Self::Step { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }
}

/// Builds an image, and keeps it in the store under its names.
///
/// # Errors
/// If the Dockerfile is wrong, a base cannot be had, or a step fails; then no
/// name points to anything new. Layers of steps that were done stay cached.
pub async fn build(ask: &BuildRequest, env: &BuildEnv<'_>) -> Result<AnyImage, BuildError> {
    let (file, diagnostics) = dockerfile::parse(&ask.dockerfile);
    refuse(ask, &diagnostics)?;
    let counters = Arc::default();
    let contexts = contexts(ask, env.store, &counters)?;
    ask.style.check(&platforms(ask))?;
    let plans = planned(ask, env, &file, diagnostics).await?;
    let graph = Graph::of(&plans);
    execute::refuse_foreign(ask, &graph)?;
    if !ask.no_cache {
        stoppable(env, env.cache.load(env)).await?;
    }
    let bases = BaseLayers::of(&graph, env);
    let made = cache::settled(env, || execute::execute(ask, env, &graph, &contexts, &bases));
    // A build that failed has read the files all the same; why it failed comes first.
    let remembered = contexts.remember(env.store);
    env.progress.totals(counters.totals());
    let made = made?;
    remembered?;
    let mut images = Vec::new();
    for ((plan, layers), &result) in plans.iter().zip(made).zip(&graph.results) {
        if ask.whole {
            bases.bring(&layers).await?;
        }
        let image = image::assemble(env.cache.config(&plan.config, &graph, result)?, &layers)?;
        let (platform, annotations) = (plan.platform.clone(), Annotations::new());
        images.push(Listed { image, platform, annotations });
    }
    // As BuildKit's argument of that name: one kind of result, however many platforms.
    let index = ask.build_args.get("BUILDKIT_MULTI_PLATFORM");
    let index = index.is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    let image = match images.pop() {
        Some(only) if images.is_empty() && !index => AnyImage::Image(only.image),
        last => {
            images.extend(last);
            image::assemble_index(images, Dialect::Oci, Annotations::new())?
        }
    };
    let image = ask.style.apply(&image)?;
    env.store.keep_documents(&image)?;
    for name in &ask.names {
        env.store.keep(name, &image)?;
    }
    Ok(image)
}

fn ignored(text: Option<&Source>) -> Result<Ignore, BuildError> {
    match text {
        Some(text) => Ignore::parse(text.text())
            .map_err(|source| BuildError::Ignore { at: text.clone(), source }),
        None => Ok(Ignore::default()),
    }
}

fn contexts(
    ask: &BuildRequest,
    store: &Store,
    counters: &Arc<Counters>,
) -> Result<Contexts, BuildError> {
    let new =
        |files: Files, ignore| Context::new(files, ignore).remembered(store).counted(counters);
    let main = new(ask.context.clone(), ignored(ask.ignore.as_ref())?);
    let mut named = Vec::with_capacity(ask.contexts.len());
    for (_, source) in &ask.contexts {
        named.push(match source {
            ContextSource::Folder { path, ignore } => {
                Some(new(path.clone().into(), ignored(ignore.as_ref())?))
            }
            ContextSource::Files(files) => Some(new(files.clone(), Ignore::default())),
            ContextSource::Image(_) | ContextSource::Loaded { .. } | ContextSource::Scratch => None,
        });
    }
    Ok(Contexts { main, named })
}

/// Work with the network, given up when the build is cancelled.
async fn stoppable<T>(
    env: &BuildEnv<'_>,
    work: impl Future<Output = Result<T, BuildError>>,
) -> Result<T, BuildError> {
    let cancelled = async {
        // Nobody sees the difference to being woken.
        while !env.cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = cancelled => Err(BuildError::Cancelled),
    }
}

/// When the commits were made that contexts are of.
fn times(ask: &BuildRequest) -> BTreeMap<String, Epoch> {
    let named = ask.contexts.iter().filter_map(|(name, source)| match source {
        ContextSource::Files(files) => Some((name.as_str(), files)),
        ContextSource::Image(_)
        | ContextSource::Loaded { .. }
        | ContextSource::Scratch
        | ContextSource::Folder { .. } => None,
    });
    let all = std::iter::once(("context", &ask.context)).chain(named);
    all.filter_map(|(name, files)| Some((name.to_owned(), files.committed()?))).collect()
}

/// What is built for, each platform once.
fn platforms(ask: &BuildRequest) -> Vec<Platform> {
    let mut platforms = Vec::new();
    for platform in &ask.platforms {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    platforms
}

/// Plans every platform, and resolves the bases that they turn out to need, those
/// of one round at once.
async fn planned(
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
    file: &dockerfile::Dockerfile,
    said: Vec<Diagnostic>,
) -> Result<Vec<Plan>, BuildError> {
    let platforms = platforms(ask);
    let ignore = ask.ignore.as_ref().map(|text| ignored(Some(text))).transpose()?;
    let request = |platform: &Platform| PlanRequest {
        ignore: ignore.clone(),
        ..plan_request(ask, platform, platforms.len() > 1)
    };
    for name in &ask.no_cache_filter {
        let own = |stage: &dockerfile::Stage| {
            stage.from.name.as_ref().is_some_and(|own| own.value.eq_ignore_ascii_case(name))
        };
        if !file.stages.iter().any(own) {
            env.progress.warn(format!("--no-cache-filter: no stage is named `{name}`"));
        }
    }
    let requests: Vec<PlanRequest> = platforms.iter().map(request).collect();
    let wrong = |error: plan::PlanError| BuildError::Dockerfile {
        source_text: ask.dockerfile.clone(),
        diagnostics: error.diagnostics,
    };
    let mut bases = Bases::default();
    loop {
        let (mut plans, mut wanted) = (Vec::new(), Vec::<BaseRequest>::new());
        for request in &requests {
            match plan::plan(file, request, &bases).map_err(wrong)? {
                Planned::Missing(more) => {
                    for want in more {
                        let same = |known: &BaseRequest| known.is(&want.reference, &want.platform);
                        if !wanted.iter().any(same) {
                            wanted.push(want);
                        }
                    }
                }
                Planned::Ready(plan) => plans.push(plan),
            }
        }
        if wanted.is_empty() {
            let mut said = said;
            for warning in plans.iter().flat_map(|plan| &plan.warnings) {
                if !said.contains(warning) {
                    said.push(warning.clone());
                }
            }
            said.sort_by_key(|said| said.span.start);
            warn(ask, env.progress, &said);
            let settings = Settings::of(file, &ask.build_args);
            let fails = settings.is_ok_and(|settings| settings.fails());
            return match broken(&said).filter(|_| fails) {
                Some(rules) => Err(rules.into()),
                None => Ok(plans),
            };
        }
        let found = wanted.iter().map(|want| stoppable(env, resolve::base(want, ask, env)));
        let found = futures_util::future::try_join_all(found).await?;
        for (want, base) in wanted.into_iter().zip(found) {
            bases.insert(want.reference, want.platform, base);
        }
    }
}

fn plan_request(ask: &BuildRequest, platform: &Platform, several: bool) -> PlanRequest {
    PlanRequest {
        platform: platform.clone(),
        build_platform: Platform::host(),
        target: ask.target.clone(),
        build_args: ask.build_args.clone(),
        labels: ask.labels.clone(),
        contexts: ask
            .contexts
            .iter()
            .map(|(name, source)| (name.clone(), resolve::named(source)))
            .collect(),
        network: ask.network,
        insecure: ask.insecure,
        hosts: ask.hosts.clone(),
        epoch: ask.epoch,
        times: times(ask),
        chosen: !ask.platforms.is_empty(),
        several,
        anew: ask.no_cache_filter.clone(),
        ignore: None,
        all_stages: false,
    }
}

/// The rules that warnings are about; none if there are none.
fn broken(warnings: &[Diagnostic]) -> Option<BrokenRules> {
    let names: BTreeSet<&'static str> =
        warnings.iter().filter_map(|said| Some(said.rule?.name)).collect();
    (!names.is_empty()).then_some(BrokenRules(names))
}

fn refuse(ask: &BuildRequest, diagnostics: &[Diagnostic]) -> Result<(), BuildError> {
    if diagnostics.iter().any(Diagnostic::is_error) {
        let (source_text, diagnostics) = (ask.dockerfile.clone(), diagnostics.to_vec());
        return Err(BuildError::Dockerfile { source_text, diagnostics });
    }
    Ok(())
}

fn warn(ask: &BuildRequest, progress: &Progress, warnings: &[Diagnostic]) {
    for warning in warnings {
        let line = ask.dockerfile.line(warning.span.start);
        let place = if warning.span.end == 0 {
            String::new()
        } else {
            format!("{}:{line}: ", ask.dockerfile.name())
        };
        let hint = warning.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let rule = warning.rule.map(|rule| format!("{}: ", rule.name)).unwrap_or_default();
        progress.warn(format!("{place}{rule}{}{hint}", warning.message));
    }
}
