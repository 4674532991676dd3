//! `kiln up`.

use std::path::PathBuf;

use super::build::{BuildFlags, Goal};
use super::credentials::RegistryArgs;
use super::deploy::DeployFlags;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use crate::build::Cache;
use crate::layer::LayerForm;
use crate::progress::Way;
use crate::reference::Reference;
use crate::registry;

/// Build an image, push it, and roll it out
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder whose files COPY and ADD may take
    #[arg(id = "build-context", value_name = "CONTEXT", default_value = ".")]
    pub build_context: PathBuf,

    /// Name to push the image under
    #[arg(short, long, value_name = "NAME")]
    pub tag: Reference,

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

/// Builds, pushes and rolls out; each joint prints what it hands to the next.
///
/// # Errors
/// Those of the three; what was done before stays.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let registries = args.registry.registries(Some(&args.tag))?;
    let goal = Goal {
        names: std::slice::from_ref(&args.tag),
        form: LayerForm::default(),
        whole: false,
        pushed: vec![args.tag.clone()],
        cache: &Cache::default(),
    };
    let image = args.build.build(&args.build_context, &goal, &registries, &progress, invocation)?;
    invocation.print(format!("built {}", image.digest()))?;
    let store = invocation.store()?;
    let push = registry::push(&image, &args.tag, store, &registries, &progress);
    let pinned = invocation.block_on(push)?;
    progress.transferred(Way::Push);
    invocation.print(format!("pushed {pinned}"))?;
    args.deploy.roll_out(&pinned, &args.tag, args.manifest.as_deref(), &progress, invocation)
}
