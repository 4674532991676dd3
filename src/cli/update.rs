//! `kiln update`.

use super::run::LimitFlags;

/// Change what running containers may use
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("limit").required(true).multiple(true)
    .args(["memory", "cpus", "pids_limit"]))]
pub struct Args {
    /// Names of the containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,

    #[command(flatten)]
    pub limits: LimitFlags,
}
