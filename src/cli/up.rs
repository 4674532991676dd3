//! `kiln up`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::attached;
use super::build::{BuildFlags, Goal};
use super::credentials::RegistryArgs;
use super::deploy::DeployFlags;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use super::serve::ListenAddress;
use crate::build::{Built, Cache};
use crate::image::AnyImage;
use crate::layer::LayerForm;
use crate::progress::Progress;
use crate::reference::{Pinned, Reference, ReferenceError};
use crate::registry::Registries;
use crate::serve::{Options, Server};

/// Build an image, push it, and roll it out
///
/// An image whose NAME is one word goes to no registry: it is served from this machine
/// until it runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder whose files COPY and ADD may take
    #[arg(id = "build-context", value_name = "CONTEXT", default_value = ".")]
    pub build_context: PathBuf,

    /// Name to push the image under
    #[arg(short, long, value_name = "NAME")]
    pub tag: Target,

    /// Where to serve an image whose name is one word [default: any free port of the address
    /// by which the cluster is reached]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Deployment")]
    pub serve: Option<ListenAddress>,

    #[command(flatten)]
    pub build: BuildFlags,

    /// File of Kubernetes objects that name the image, applied instead of an
    /// object that kiln makes
    #[arg(long, value_name = "FILE", help_heading = "Deployment",
        conflicts_with_all = ["port", "replicas", "kind", "env"])]
    pub manifest: Option<PathBuf>,

    #[command(flatten)]
    pub deploy: DeployFlags,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// An image's name, and whether it says where to push it.
#[derive(Debug, Clone)]
pub struct Target {
    name: Reference,
    /// One word, which is nobody's repository on Docker Hub.
    is_word: bool,
}

impl FromStr for Target {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Ok(Self { name: text.parse()?, is_word: !text.contains('/') })
    }
}

/// Builds, pushes and rolls out; each joint prints what it hands to the next.
///
/// # Errors
/// Those of the three; what was done before stays.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let Target { name, is_word } = &args.tag;
    if args.serve.is_some() && !is_word {
        return Err(CliError::usage(format!("{} is pushed, and not served", name.familiar()))
            .hint("--serve is for names of one word, as in `kiln up -t app`"));
    }
    let registries = args.registry.registries(Some(name))?;
    if *is_word {
        return served(&args, &registries, &progress, invocation);
    }
    let image = build(&args, vec![name.clone()], &registries, &progress, invocation)?;
    let pinned = attached::push(&image, name, true, &registries, &progress, invocation)?;
    invocation.print(format!("pushed {pinned}"))?;
    args.deploy.roll_out(&pinned, name, args.manifest.as_deref(), &progress, invocation)
}

fn build(
    args: &Args,
    pushed: Vec<Reference>,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<AnyImage, CliError> {
    let goal = Goal {
        names: std::slice::from_ref(&args.tag.name),
        form: LayerForm::default(),
        // What is served is not fetched from elsewhere.
        whole: pushed.is_empty(),
        pushed,
        cache: &Cache::default(),
        lock: None,
        refused: Vec::new(),
        verify: None,
    };
    let (Built { image, .. }, _) =
        args.build.build(&args.build_context, &goal, registries, progress, invocation)?;
    invocation.print(format!("built {}", image.digest()))?;
    Ok(image)
}

/// Without a registry: the store is one until the image runs.
fn served(
    args: &Args,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let name = &args.tag.name;
    // Before the build: a cluster that is not there is told at once.
    let addr = match args.serve {
        Some(ListenAddress(addr)) if addr.ip().is_unspecified() => {
            let message =
                format!("nodes cannot pull from {addr}, which is no address of a machine");
            return Err(CliError::usage(message).hint("name the address that they reach"));
        }
        Some(ListenAddress(addr)) => addr,
        None => SocketAddr::new(args.deploy.local_address(invocation)?, 0),
    };
    let image = build(args, Vec::new(), registries, progress, invocation)?;
    let log = progress.clone();
    let options = Options {
        addr,
        writable: false,
        // Whoever reaches the address has no business with other images.
        only: Some(name.clone()),
        tls: None,
        passwords: None,
        logger: Arc::new(move |access| log.note(access.to_string())),
        progress: progress.clone(),
    };
    let store = invocation.store()?;
    let runtime = invocation.runtime()?;
    let server = runtime.block_on(Server::bind(store, options))?;
    let addr = server.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = runtime.spawn(server.run(async { drop(stopped.await) }));
    let rolled_out = (|| {
        let pinned = pinned(addr, name, &image)?;
        invocation.print(format!("serving {pinned}"))?;
        args.deploy.roll_out(&pinned, name, args.manifest.as_deref(), progress, invocation)
    })();
    drop(stop);
    runtime.block_on(serving)?;
    progress.warn(format!(
        "nothing is served on {addr} any more: nodes that have not pulled the image cannot; \
         `kiln serve --addr {addr}` goes on"
    ));
    rolled_out
}

/// What nodes are told to pull.
fn pinned(addr: SocketAddr, name: &Reference, image: &AnyImage) -> Result<Pinned, CliError> {
    let word = name.repository().rsplit('/').next().unwrap_or_default();
    Ok(format!("{addr}/{word}").parse::<Reference>()?.pin(image.digest()))
}
