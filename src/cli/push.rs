//! `kiln push`.

use std::path::PathBuf;

use super::attached::{self, ReferrersFlag};
use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use crate::atomic::AtPath as _;
use crate::reference::Reference;

/// Send an image to a registry, with what is attached to it; prints its reference with the
/// digest there
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the image in the store
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Name to push it under [default: its own]
    #[arg(value_name = "DESTINATION")]
    pub destination: Option<Reference>,

    #[command(flatten)]
    pub attached: ReferrersFlag,

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
    let referrers = args.attached.referrers;
    let pinned = attached::push(&image, &to, referrers, &registries, &progress, invocation)?;
    if let Some(path) = &args.digestfile {
        std::fs::write(path, pinned.digest().to_string()).at("write", path)?;
    }
    invocation.print(pinned.to_string())
}
