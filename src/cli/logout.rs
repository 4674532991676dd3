//! `kiln logout`.

use super::credentials::AuthFileFlag;
use super::invocation::Invocation;
use super::report::CliError;
use crate::registry::{self, Options, Registries};

/// Remove the stored credentials of a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Host of the registry, with the repository if the login was for one
    #[arg(value_name = "REGISTRY[/REPOSITORY]", default_value = "docker.io")]
    pub registry: String,

    /// Remove all credentials of the file, and what credential helpers have for it
    #[arg(short, long, conflicts_with = "registry")]
    pub all: bool,

    #[command(flatten)]
    pub auth: AuthFileFlag,
}

/// Forgets the credentials.
///
/// # Errors
/// If there are none, or they cannot be taken away.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let options = Options { auth_file: args.auth.authfile, ..Options::default() };
    let registries = Registries::load(options)?;
    if args.all {
        let (gone, file) = invocation.block_on(registry::logout_all(&registries))?;
        return invocation.print(match gone.as_slice() {
            [] => format!("No login credentials in {}", file.display()),
            gone => format!("Removed login credentials for {}", gone.join(", ")),
        });
    }
    let name = &args.registry;
    if invocation.block_on(registry::logout(name, &registries))? {
        return invocation.print(format!("Removed login credentials for {name}"));
    }
    match invocation.block_on(registry::logged_in(name, &registries))? {
        None => Err(CliError::plain(format!("not logged in to {name}"))),
        // Of another tool, or of a repository's registry as a whole.
        Some(login) => Err(CliError::plain(format!(
            "kiln is not logged in to {name}, but would show {}",
            login.source
        ))
        .hint("name the file with --authfile, or the registry as it stands there")),
    }
}
