//! `kiln up`.

use std::path::PathBuf;

use super::build::BuildFlags;
use super::credentials::RegistryArgs;
use super::deploy::DeployFlags;
use super::progress::ProgressArgs;
use crate::reference::Reference;

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
