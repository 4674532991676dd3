//! `kiln ps`.

/// List containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show those that have ended too
    #[arg(short, long)]
    pub all: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Print their names alone
    #[arg(short, long)]
    pub quiet: bool,
}
