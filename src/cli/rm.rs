//! `kiln rm`.

use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::report::CliError;
use crate::container::{self, ContainerError};
use crate::reference::Reference;
use crate::registry::{self, Removal};

/// Remove containers that have ended; with --remote, images from their registries
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the containers; with --remote, of images
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,

    /// Kill them first if they run; one that is not there is no error
    #[arg(short, long, conflicts_with = "remote")]
    pub force: bool,

    /// Remove from registries: NAME:TAG removes the tag alone, NAME@DIGEST the
    /// manifest, and with it all of its tags; the registry clears away blobs itself
    #[arg(long)]
    pub remote: bool,

    /// With --remote: remove the manifest that a tag means, for registries that do not
    /// remove a tag alone. All other tags of the manifest go with it
    #[arg(long, requires = "remote")]
    pub manifest: bool,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Removes them, and prints their names.
///
/// # Errors
/// The first failure, after all were tried.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    if args.remote {
        return remote(&args, invocation);
    }
    if args.registry.is_given() {
        return Err(CliError::usage("containers are in no registry")
            .hint("with --remote, images are removed from their registries"));
    }
    let store = invocation.store()?;
    invocation.each(&args.containers, |name| match container::remove(store, name, args.force) {
        Err(ContainerError::NoContainer(_)) if args.force => Ok(()),
        done => Ok(done?),
    })
}

fn remote(args: &Args, invocation: &Invocation) -> Result<(), CliError> {
    // A wrong name among them: none goes.
    let names: Vec<Reference> =
        args.containers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    if let Some(bare) = args.containers.iter().find(|text| is_bare(text)) {
        return Err(CliError::usage(format!("`{bare}` has neither a tag nor a digest"))
            .hint("say which image goes: NAME:TAG or NAME@DIGEST"));
    }
    let both = |name: &Reference| name.tag().is_some() && name.digest().is_some();
    if let Some(at) = names.iter().position(both) {
        let text = &args.containers[at];
        return Err(CliError::usage(format!("`{text}` has both a tag and a digest")).hint(
            "NAME:TAG removes the tag alone, NAME@DIGEST the manifest with all of its tags",
        ));
    }
    let registries = args.registry.registries(names.first())?;
    let what = if args.manifest { Removal::Manifest } else { Removal::Name };
    invocation.each(&args.containers, |text| {
        let name: Reference = text.parse()?;
        invocation.block_on(registry::delete(&name, what, &registries))
    })
}

/// True for a name that stands for `latest` without saying so.
fn is_bare(text: &str) -> bool {
    format!("{text}:x").parse::<Reference>().is_ok()
}
