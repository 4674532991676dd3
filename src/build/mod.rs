//! A build, told on one page.
//!
//! The Dockerfile is parsed and planned until every base is known ([`resolve`]).
//! Then each step is looked up by its key and made if it is unknown, several at a
//! time, each giving a layer; layers and config become the image, which the
//! store keeps under its names. The same input gives the same image: what a step
//! sees of this machine is the context's content and nothing else.

mod context;
mod execute;
mod foreign;
mod given;
mod resolve;
mod schedule;
mod step;

pub use context::{Context, ContextError};
pub use foreign::interpreter;
pub use given::{Given, Secret};
pub use step::StepError;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomic::{AtPath as _, PathError};
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::dockerfile::{self, Ignore, RunNetwork};
use crate::epoch::Epoch;
use crate::image::{self, AnyImage, Image, ImageError};
use crate::layer::LayerForm;
use crate::plan::{self, Bases, Plan, PlanRequest, Planned};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{Registries, RegistryError};
use crate::rootfs::RootfsError;
use crate::sandbox::{Cancel, Tier};
use crate::store::{Store, StoreError};

/// What is to be built.
#[derive(Debug)]
pub struct BuildRequest {
    pub dockerfile: Source,
    /// The build context's folder.
    pub context: PathBuf,
    /// The text of `.dockerignore`, with its name for messages.
    pub ignore: Option<Source>,
    /// One gives an image, several an index. None means this machine's.
    pub platforms: Vec<Platform>,
    pub target: Option<String>,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Names that the store keeps the image under.
    pub names: Vec<Reference>,
    pub epoch: Epoch,
    pub form: LayerForm,
    /// Make every step anew.
    pub no_cache: bool,
    /// Ask the registry for bases even if the store has them.
    pub pull: bool,
    /// Take this sandbox and no other.
    pub sandbox: Option<Tier>,
    /// The network of a `RUN` that names none.
    pub network: RunNetwork,
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
            context: context.to_path_buf(),
            ignore,
            platforms: Vec::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            names: vec![name.clone()],
            epoch: Epoch::default(),
            form: LayerForm::default(),
            no_cache: false,
            pull: false,
            sandbox: None,
            network: RunNetwork::Default,
            hosts: Vec::new(),
            given: Given::default(),
        })
    }
}

/// What a build works with.
#[derive(Debug)]
pub struct BuildEnv<'a> {
    pub store: &'a Store,
    pub registries: &'a Registries,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
}

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
    #[error("RUN for {platform} cannot run on this machine ({host})")]
    Foreign {
        platform: Box<Platform>,
        host: Box<Platform>,
        span: Option<Span>,
        source_text: Source,
    },
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Registry(#[from] Box<RegistryError>),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Io(#[from] PathError),
}

/// Builds an image, and keeps it in the store under its names.
///
/// # Errors
/// If the Dockerfile is wrong, a base cannot be had, or a step fails; then no
/// name points to anything new. Layers of steps that were done stay cached.
pub async fn build(ask: &BuildRequest, env: &BuildEnv<'_>) -> Result<AnyImage, BuildError> {
    let (file, diagnostics) = dockerfile::parse(&ask.dockerfile);
    refuse(ask, &diagnostics)?;
    let ignore = match &ask.ignore {
        Some(text) => Ignore::parse(text.text())
            .map_err(|source| BuildError::Ignore { at: text.clone(), source })?,
        None => Ignore::default(),
    };
    let context = Context::new(ask.context.clone(), ignore);
    let platforms =
        if ask.platforms.is_empty() { vec![Platform::host()] } else { ask.platforms.clone() };
    let mut images = Vec::new();
    let mut bases = Bases::default();
    for platform in &platforms {
        let plan = planned(ask, env, &file, platform, &mut bases).await?;
        images.push(one_platform(ask, env, &plan, &context).await?);
    }
    let image = match images.pop() {
        Some(only) if images.is_empty() => AnyImage::Image(only),
        Some(last) => {
            images.push(last);
            image::assemble_index(images)?
        }
        None => unreachable!("there is at least this machine's platform"),
    };
    env.store.keep_documents(&image)?;
    for name in &ask.names {
        env.store.keep(name, &image)?;
    }
    Ok(image)
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

/// Plans one platform, and resolves the bases it turns out to need.
async fn planned(
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
    file: &dockerfile::Dockerfile,
    platform: &Platform,
    bases: &mut Bases,
) -> Result<Plan, BuildError> {
    let request = PlanRequest {
        platform: platform.clone(),
        build_platform: Platform::host(),
        target: ask.target.clone(),
        build_args: ask.build_args.clone(),
        labels: ask.labels.clone(),
        network: ask.network,
        hosts: ask.hosts.clone(),
        epoch: ask.epoch,
    };
    loop {
        let wrong = |error: plan::PlanError| BuildError::Dockerfile {
            source_text: ask.dockerfile.clone(),
            diagnostics: error.diagnostics,
        };
        match plan::plan(file, &request, bases).map_err(wrong)? {
            Planned::Missing(wanted) => {
                for want in wanted {
                    let base = stoppable(env, resolve::base(&want, ask, env)).await?;
                    bases.insert(want.reference, want.platform, base);
                }
            }
            Planned::Ready(plan) => {
                warn(ask, env.progress, &plan.warnings);
                return Ok(plan);
            }
        }
    }
}

async fn one_platform(
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
    plan: &Plan,
    context: &Context,
) -> Result<Image, BuildError> {
    execute::refuse_foreign(ask, plan)?;
    let layers = execute::execute(ask, env, plan, context)?;
    // The store keeps whole images: what no step had to read is fetched now.
    stoppable(env, execute::fetch_bases(env, plan, plan.result)).await?;
    Ok(image::assemble(plan.config.clone(), &layers)?)
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
        progress.warn(format!("{place}{}{hint}", warning.message));
    }
}
