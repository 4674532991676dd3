//! `kiln tags`.

use serde_json::json;

use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use super::value::Repository;
use crate::registry;

/// List the tags of a repository in its registry, sorted, one on each line
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository, without a tag
    #[arg(value_name = "NAME")]
    pub repository: Repository,

    /// Print JSON: an object with the name and an array of the tags
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Prints the list.
///
/// # Errors
/// If the registry does not give it.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let name = args.repository.name();
    let progress = invocation.progress(args.progress.progress)?;
    let registries = args.registry.to_pull(name)?;
    let tags = invocation.block_on(registry::tags(name, &registries, &progress))?;
    if args.json {
        return invocation.print_json(&json!({ "name": name.name(), "tags": tags }));
    }
    if tags.is_empty() { Ok(()) } else { invocation.print(tags.join("\n")) }
}
