//! `kiln build`.

mod args;
mod contexts;
mod outputs;
mod request;
mod sources;
mod texts;

pub use args::{Args, BuildFlags, SandboxTier};

use super::invocation::Invocation;
use super::progress::Mode;
use super::report::CliError;
use crate::atomic::AtPath as _;
use crate::registry;

/// Builds, writes the outputs, pushes, and prints the digest.
///
/// # Errors
/// If the image cannot be built, or an output or a push fails.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let mode = if args.quiet { Some(Mode::Quiet) } else { args.progress.progress };
    let progress = invocation.progress(mode)?;
    if let Some(pinned) = args.tags.iter().find(|name| name.digest().is_some()) {
        return Err(CliError::usage(format!("`{}` has a digest", pinned.familiar()))
            .hint("an image gets its digest by being built; name it NAME[:TAG]"));
    }
    let registries = args.registry.registries(args.tags.first())?;
    let image = args.how.build(&args.context, &args.tags, &registries, &progress, invocation)?;
    for output in &args.outputs {
        outputs::write(output, &image, &args.tags, &progress, invocation)?;
    }
    let mut pushed = Vec::new();
    if args.push {
        let store = invocation.store()?;
        for name in &args.tags {
            let push = registry::push(&image, name, store, &registries, &progress);
            pushed.push(invocation.block_on(push)?.to_string());
        }
    }
    if let Some(path) = &args.iidfile {
        std::fs::write(path, image.digest().to_string()).at("write", path)?;
    }
    if let Some(path) = &args.metadata_file {
        let names: Vec<String> = args.tags.iter().map(ToString::to_string).collect();
        let facts = serde_json::json!({
            "containerimage.digest": image.digest(),
            "containerimage.descriptor": image.raw().descriptor(),
            "image.name": names.join(","),
            "kiln.pushed": pushed,
        });
        std::fs::write(path, serde_json::to_vec_pretty(&facts)?).at("write", path)?;
    }
    if pushed.is_empty() {
        return invocation.print(image.digest().to_string());
    }
    pushed.iter().try_for_each(|pinned| invocation.print(pinned))
}
