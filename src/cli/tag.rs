//! `kiln tag`.

use super::invocation::Invocation;
use super::report::CliError;
use crate::reference::Reference;

/// Give an image further names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the image, or the first digits of its digest
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Names to give it; one that another image has moves
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<Reference>,
}

/// Points the names at the image.
///
/// # Errors
/// If there is no such image, or a name has a digest.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    if let Some(pinned) = args.names.iter().find(|name| name.digest().is_some()) {
        return Err(CliError::usage(format!("`{}` has a digest", pinned.familiar()))
            .hint("a new name has a tag or nothing: NAME[:TAG]"));
    }
    let (_, at) = invocation.find(&args.image)?;
    for name in &args.names {
        invocation.store()?.tag(name, at.clone())?;
    }
    Ok(())
}
