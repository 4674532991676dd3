//! `kiln doctor`.

/// Check what this machine allows, and what to change where it does not
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
