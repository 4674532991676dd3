//! `kiln sign`.

use super::copy::with_env;
use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::keys::{KeyArgs, map};
use super::progress::ProgressArgs;
use super::report::CliError;
use super::value::{Assignment, ImagePlace};
use crate::copy::Place;
use crate::registry::Registries;
use crate::sign::{self, Attestations, Signed, Signing};

/// Sign images with a key; prints what was signed
///
/// An image is NAME in the store, where its signature stays until `kiln push` takes both along,
/// or docker://NAME in a registry. A signature is about what the name means now; it has the form
/// that `cosign verify --key` takes. What the key has signed before is left as it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<ImagePlace>,

    #[command(flatten)]
    pub key: KeyArgs,

    /// Note something in the signature; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub annotations: Vec<Assignment>,

    /// Sign the images of all platforms, too
    #[arg(short, long)]
    pub recursive: bool,

    /// Sign what is attached to the images and nobody signed: provenance, SBOMs; whoever made
    /// them, so look first
    #[arg(long)]
    pub attestations: bool,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Signs one image after the other.
///
/// # Errors
/// If one is not there, or its place does not take the signature.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let key = args.key.private()?;
    let annotations = map(&args.annotations);
    let signing = Signing {
        key: &key,
        annotations: &annotations,
        recursive: args.recursive,
        attestations: match args.attestations {
            true => Attestations::All,
            false => Attestations::None,
        },
    };
    for image in &args.images {
        let place = image.found(invocation)?;
        let store = invocation.store()?;
        let registries = way(&place, &args.registry)?;
        let signed = with_env(Some(store), &registries, &progress, invocation, async |env| {
            sign::sign(&place, &signing, store, env).await
        })?;
        said(&place, &signed, invocation)?;
    }
    Ok(())
}

/// The way to where an image lies.
pub(super) fn way(place: &Place, flags: &RegistryArgs) -> Result<Registries, CliError> {
    match place.registry() {
        Some(name) => flags.to_pull(name),
        None => Ok(Registries::offline()),
    }
}

/// Prints what names exactly what was signed.
pub(super) fn said(
    place: &Place,
    signed: &Signed,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let name = match place {
        Place::Registry { name, .. } | Place::Store(name) => name,
        _ => return invocation.print(signed.digest.to_string()),
    };
    invocation.print(name.pin(signed.digest).to_string())
}
