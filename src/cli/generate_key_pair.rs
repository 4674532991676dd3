//! `kiln generate-key-pair`.

use std::path::PathBuf;

use super::invocation::Invocation;
use super::keys::password;
use super::report::CliError;
use crate::atomic;
use crate::env;
use crate::sign::{PrivateKey, sealed_pem};

/// Make a key to sign with, and its public half to verify with
///
/// PREFIX.key is encrypted as cosign's are (ECDSA over P-256), with the password in
/// $COSIGN_PASSWORD or from stdin, which may be empty there. Files that are there stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the names of the files PREFIX.key and PREFIX.pub begin with
    #[arg(long, value_name = "PREFIX", default_value = "cosign")]
    pub output_key_prefix: String,

    /// Read the password from stdin
    #[arg(long)]
    pub password_stdin: bool,
}

/// Writes both files, or none.
///
/// # Errors
/// If one of them is there, or there is no password.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let [secret, public] =
        ["key", "pub"].map(|end| PathBuf::from(format!("{}.{end}", args.output_key_prefix)));
    if let Some(there) = [&secret, &public].into_iter().find(|path| path.exists()) {
        return Err(CliError::plain(format!("{} is there already", there.display()))
            .hint("choose other names with --output-key-prefix"));
    }
    let password = password(args.password_stdin)?.ok_or_else(|| {
        CliError::usage("the key needs a password")
            .hint(format!("set {}, or give it with --password-stdin", env::COSIGN_PASSWORD))
    })?;
    let (key, pkcs8) = PrivateKey::generate()?;
    let sealed = sealed_pem(&pkcs8, password.as_bytes())?;
    atomic::write_new(&secret, sealed.as_bytes(), 0o600)?;
    if let Err(error) = atomic::write_new(&public, key.public().to_pem().as_bytes(), 0o644) {
        // A private key whose other half nobody has would only be in the way.
        let _ = std::fs::remove_file(&secret);
        return Err(error.into());
    }
    invocation.print(format!("{}\n{}", secret.display(), public.display()))
}
