//! `kiln kill`.

/// Send a signal to containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,

    /// Name or number of the signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
}
