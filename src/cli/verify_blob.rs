//! `kiln verify-blob`.

use std::path::PathBuf;

use super::invocation::Invocation;
use super::report::CliError;
use crate::sign;

/// Verify a file that `kiln sign-blob` or `cosign sign-blob` signed; prints its digest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// File of the public key in PEM
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// File of the signature
    #[arg(long, value_name = "FILE")]
    pub bundle: PathBuf,
}

/// Prints the digest of the file that the key vouches for.
///
/// # Errors
/// If it does not, or a file cannot be read.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let key = sign::public_key(&args.key)?;
    match sign::verify_file(&args.file, &args.bundle, &key)? {
        Ok(digest) => invocation.print(digest.to_string()),
        Err(why) => {
            let (file, bundle) = (args.file.display(), args.bundle.display());
            Err(CliError::plain(format!("{file} is not verified: {bundle}: {why}")))
        }
    }
}
