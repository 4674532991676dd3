//! `kiln push`.

use std::path::PathBuf;

use super::credentials::RegistryArgs;
use super::progress::ProgressArgs;
use crate::reference::Reference;

/// Send an image to a registry; prints its reference with the digest there
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the image in the store
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Name to push it under [default: its own]
    #[arg(value_name = "DESTINATION")]
    pub destination: Option<Reference>,

    #[command(flatten)]
    pub registry: RegistryArgs,

    /// Write the digest that the registry holds to a file
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,

    #[command(flatten)]
    pub progress: ProgressArgs,
}
