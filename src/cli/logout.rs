//! `kiln logout`.

/// Remove the stored credentials of a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Host of the registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io", conflicts_with = "all")]
    pub registry: String,

    /// Remove the credentials of every registry
    #[arg(short, long)]
    pub all: bool,
}
