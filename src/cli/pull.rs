//! `kiln pull`.

use super::credentials::RegistryArgs;
use super::progress::ProgressArgs;
use crate::platform::Platform;
use crate::reference::Reference;

/// Fetch images from their registries into the store; prints their digests
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<Reference>,

    /// Platform to fetch [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all_platforms")]
    pub platform: Option<Platform>,

    /// Fetch every platform of the image
    #[arg(long)]
    pub all_platforms: bool,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}
