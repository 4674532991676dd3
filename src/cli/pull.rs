//! `kiln pull`.

use super::attached;
use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use crate::platform::Platform;
use crate::progress::Way;
use crate::reference::Reference;
use crate::registry::{self, Want};

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

    /// Fetch what is attached to the images, too: signatures, SBOMs, provenance
    #[arg(long)]
    pub referrers: bool,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Fetches the images one after the other; the blobs of each in parallel.
///
/// # Errors
/// If a registry does not give one, or gives something wrong.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let registries = match args.images.first() {
        Some(name) => args.registry.to_pull(name)?,
        None => args.registry.registries(None)?,
    };
    let want = match args.all_platforms {
        true => Want::All,
        false => Want::One(args.platform.unwrap_or_else(Platform::host)),
    };
    let store = invocation.store()?;
    for name in &args.images {
        let pull = registry::pull(name, &want, store, &registries, &progress);
        let image = invocation.block_on(pull)?;
        if args.referrers {
            attached::pull(&image, name, &registries, &progress, invocation)?;
        }
        progress.transferred(Way::Pull);
        invocation.print(image.digest().to_string())?;
    }
    Ok(())
}
