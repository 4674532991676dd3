//! `kiln push`.

use std::path::PathBuf;

use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use crate::atomic::AtPath as _;
use crate::progress::Way;
use crate::reference::Reference;
use crate::registry;

/// Send an image to a registry; prints its reference with the digest there
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the image in the store
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Name to push it under [default: its own]
    #[arg(value_name = "DESTINATION")]
    pub destination: Option<Reference>,

    #[command(flatten)]
    pub registry: RegistryArgs,

    /// Write the digest that the registry holds to a file
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Pushes, and prints what names exactly that image.
///
/// # Errors
/// If there is no such image, or the registry does not take it.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let (name, at) = invocation.find(&args.image)?;
    let store = invocation.store()?;
    let image = store.image(&at)?;
    let to = args.destination.or(name).ok_or_else(|| {
        CliError::usage(format!("`{}` is no name to push under", args.image))
            .hint("give the destination: kiln push IMAGE DESTINATION")
    })?;
    let progress = invocation.progress(args.progress.progress)?;
    let registries = args.registry.registries(Some(&to))?;
    let push = registry::push(&image, &to, store, &registries, &progress);
    let pinned = invocation.block_on(push)?;
    progress.transferred(Way::Push);
    if let Some(path) = &args.digestfile {
        std::fs::write(path, pinned.digest().to_string()).at("write", path)?;
    }
    invocation.print(pinned.to_string())
}
