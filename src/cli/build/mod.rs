//! `kiln build`.

mod args;
mod attest;
mod bundled;
mod cache;
mod call;
mod contexts;
pub(super) mod locked;
mod offline;
pub(super) mod outputs;
mod refused;
mod request;
mod signing;
mod sources;
mod texts;
mod verify;

pub use args::{Args, BuildFlags};
pub(super) use call::answer;
pub use locked::LockFlags;
pub(super) use request::{Goal, cancelled_by_signals};

use super::invocation::Invocation;
use super::progress::Mode;
use super::report::CliError;
use super::value::Method;
use crate::build::Built;
use crate::image::AnyImage;
use crate::reference::Reference;
use attest::Attesting;
use outputs::{Outputs, Written};
use verify::Verification;

/// Builds, writes the outputs, pushes, and prints the digest.
///
/// # Errors
/// If the image cannot be built, or an output or a push fails.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    args.refused.check()?;
    let progress = invocation.progress(mode(&args)?)?;
    if let Some(pinned) = args.tags.iter().find(|name| name.digest().is_some()) {
        return Err(CliError::usage(format!("`{}` has a digest", pinned.familiar()))
            .hint("an image gets its digest by being built; name it NAME[:TAG]"));
    }
    let outputs = Outputs::of(&args)?;
    let wanted = args.attest.wanted()?;
    outputs.hold(&wanted)?;
    let registries = args.registry.registries(outputs.first_name())?;
    let call = args.call();
    if call.method != Method::Build {
        args.bundle.refuse(if args.check { "--check" } else { "--call" })?;
        return answer(call, &args.how, &args.context, &registries, &progress, invocation);
    }
    let taken = args.bundle.take(&args.how, &progress, invocation)?;
    let cache = || {
        let given = args.how.build_args.iter();
        let given = given.map(|arg| (arg.name.as_str(), arg.resolve()));
        args.cache.cache(given, bundled::caches(taken.as_ref()))
    };
    let verification = args.verify.verification(cache(), args.metadata_file.clone())?;
    let cache = &cache();
    let mut goal = outputs.goal(cache);
    goal.lock = taken.as_ref().map(|taken| &taken.lock);
    goal.whole |= wanted.reads_layers();
    goal.refused = offline::asked(&args, &goal);
    let mut names: &[Reference] = &[];
    if let Some(verification) = &verification {
        names = std::mem::take(&mut goal.names);
        goal.pushed.clear();
        goal.verify = Some(verification);
    }
    let (Built { image, inputs }, request) =
        args.how.build(&args.context, &goal, &registries, &progress, invocation)?;
    let store = invocation.store()?;
    names.iter().try_for_each(|name| store.keep(name, &image))?;
    let attesting = Attesting::of(&wanted, &args.context, &request, &inputs);
    let written = outputs.write(&image, &attesting, &registries, &progress, invocation)?;
    args.cache.export(cache, &registries, &progress, invocation)?;
    if let Some(path) = &args.iidfile {
        outputs::text(path, written.image.digest().to_string().as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        let mut facts = facts(&written);
        if let Some(verified) = verification.as_ref().and_then(Verification::facts) {
            facts["kiln.verification"] = verified.clone();
        }
        outputs::text(path, &serde_json::to_vec_pretty(&facts)?)?;
    }
    if outputs.take_stdout() {
        progress.note(format!("built {}", written.image.digest()));
        return Ok(());
    }
    if written.pushed.is_empty() {
        return invocation.print(written.image.digest().to_string());
    }
    written.pushed.iter().try_for_each(|pinned| invocation.print(pinned.to_string()))
}

/// `--quiet` is a mode of its own.
fn mode(args: &Args) -> Result<Option<Mode>, CliError> {
    match (args.quiet, args.progress.progress) {
        (false, mode) => Ok(mode),
        (true, None | Some(Mode::Auto | Mode::Quiet)) => Ok(Some(Mode::Quiet)),
        (true, Some(Mode::Tty | Mode::Plain | Mode::Rawjson)) => {
            Err(CliError::usage("--quiet shows no progress, and --progress asks for some"))
        }
    }
}

/// The fields that buildx writes, and where the image was pushed to.
fn facts(written: &Written) -> serde_json::Value {
    let Written { image, annotations, names, pushed, provenance } = written;
    let mut descriptor = image.raw().descriptor();
    descriptor.annotations.clone_from(annotations);
    let mut facts = serde_json::json!({
        "containerimage.digest": image.digest(),
        "kiln.pushed": pushed.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if let AnyImage::Image(one) = image {
        descriptor.platform = Some(one.platform());
        facts["containerimage.config.digest"] = serde_json::json!(one.config_raw().digest);
    }
    facts["containerimage.descriptor"] = serde_json::json!(descriptor);
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        facts["image.name"] = names.join(",").into();
    }
    match provenance.as_slice() {
        [(_, one)] if matches!(image, AnyImage::Image(_)) => {
            facts["buildx.build.provenance"] = one.clone();
        }
        several => {
            for (platform, one) in several {
                facts[format!("buildx.build.provenance/{platform}")] = one.clone();
            }
        }
    }
    facts
}
