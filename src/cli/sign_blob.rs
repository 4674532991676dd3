//! `kiln sign-blob`.

use std::path::PathBuf;

use super::invocation::Invocation;
use super::keys::KeyArgs;
use super::report::CliError;
use crate::atomic;
use crate::sign;

/// Sign a file, as an archive or a bundle; the signature is kept in a file beside it
///
/// What is written has the form that `cosign verify-blob --key --bundle` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    #[command(flatten)]
    pub key: KeyArgs,

    /// Where the signature is written
    #[arg(long, value_name = "FILE")]
    pub bundle: PathBuf,
}

/// Writes the signature.
///
/// # Errors
/// If the file cannot be read, or the signature not written.
pub fn run(args: Args, _: &Invocation) -> Result<(), CliError> {
    let key = args.key.private()?;
    let bundle = sign::sign_file(&args.file, &key)?;
    Ok(atomic::write(&args.bundle, &bundle)?)
}
