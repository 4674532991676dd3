//! `kiln rm`.

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
