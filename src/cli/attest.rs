//! `kiln attest`.

use std::path::PathBuf;

use serde_json::Value;

use super::copy::with_env;
use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::keys::{KeyArgs, no_type};
use super::progress::ProgressArgs;
use super::report::CliError;
use super::sign::{said, way};
use super::value::ImagePlace;
use crate::sign;

/// Sign what a file says of an image, and attach it; prints what it is about
///
/// An image is NAME in the store or docker://NAME in a registry. The attestation has the form
/// that `cosign verify-attestation --key` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: ImagePlace,

    #[command(flatten)]
    pub key: KeyArgs,

    /// File with what is said: a JSON object
    #[arg(long, value_name = "FILE")]
    pub predicate: PathBuf,

    /// What it is: cyclonedx, link, openvex, slsaprovenance, slsaprovenance02,
    /// slsaprovenance1, spdx, spdxjson, or a URI
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: String,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Signs the predicate and attaches it.
///
/// # Errors
/// If the image is not there, the file is no such thing, or the place does not take it.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let kind = sign::predicate_type(&args.kind).ok_or_else(|| no_type(&args.kind))?;
    let predicate: Value = sign::predicate(&args.predicate)?;
    let key = args.key.private()?;
    let place = args.image.found(invocation)?;
    let store = invocation.store()?;
    let registries = way(&place, &args.registry)?;
    let signed = with_env(Some(store), &registries, &progress, invocation, async |env| {
        sign::attest(&place, &kind, predicate, &key, store, env).await
    })?;
    said(&place, &signed, invocation)
}
