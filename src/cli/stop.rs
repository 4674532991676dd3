//! `kiln stop`.

use super::invocation::Invocation;
use super::report::CliError;
use crate::container;
use std::time::Duration;

use super::value::duration;

/// Ask containers to end, and kill them if they do not
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,

    /// How long to wait before killing [default: what `run` was told, else 10s]
    #[arg(short = 't', long = "time", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
}

/// Stops them one after the other, and prints their names.
///
/// # Errors
/// The first failure, after all were tried.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let store = invocation.store()?;
    invocation.each(&args.containers, |name| Ok(container::stop(store, name, args.time)?))
}
