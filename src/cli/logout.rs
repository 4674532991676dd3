//! `kiln logout`.

use super::invocation::Invocation;
use super::report::CliError;
use crate::registry::{self, Options, Registries};

/// Remove the stored credentials of a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Host of the registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry: String,
}

/// Forgets the credentials.
///
/// # Errors
/// If there are none, or they cannot be taken away.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let registries = Registries::load(Options::default())?;
    if invocation.block_on(registry::logout(&args.registry, &registries))? {
        return invocation.print(format!("Removed login credentials for {}", args.registry));
    }
    Err(CliError::plain(format!("not logged in to {}", args.registry)))
}
