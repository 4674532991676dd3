//! `kiln rm`.

use super::invocation::Invocation;
use super::report::CliError;
use crate::container::{self, ContainerError};

/// Remove containers that have ended
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,

    /// Kill them first if they run; one that is not there is no error
    #[arg(short, long)]
    pub force: bool,
}

/// Removes them, and prints their names.
///
/// # Errors
/// The first failure, after all were tried.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let store = invocation.store()?;
    invocation.each(&args.containers, |name| match container::remove(store, name, args.force) {
        Err(ContainerError::NoContainer(_)) if args.force => Ok(()),
        done => Ok(done?),
    })
}
