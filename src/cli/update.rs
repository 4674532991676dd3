//! `kiln update`.

use super::invocation::Invocation;
use super::limits::LimitFlags;
use super::report::CliError;
use crate::container;

/// Change what running containers may use
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("limit").required(true).multiple(true)
    .args(["memory", "memory_swap", "cpus", "cpu_quota", "pids_limit"]))]
pub struct Args {
    /// Names of the containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,

    #[command(flatten)]
    pub limits: LimitFlags,
}

/// Changes the limits, and prints the names.
///
/// # Errors
/// The first failure, after all were tried.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let store = invocation.store()?;
    let changes = args.limits.changes();
    invocation
        .each(&args.containers, |name| Ok(container::update(store, name, &changes).map(drop)?))
}
