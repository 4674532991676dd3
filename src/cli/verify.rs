//! `kiln verify`.

use std::path::PathBuf;

use super::copy::with_env;
use super::credentials::RegistryArgs;
use super::diff::Form;
use super::invocation::Invocation;
use super::keys::{Rules, name_at};
use super::progress::ProgressArgs;
use super::report::CliError;
use super::sign::way;
use super::value::{Assignment, ImagePlace};
use crate::copy::{Place, Reader};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Registries;
use crate::sign::{self, Verdict};

/// Verify who signed images, and what they were made of
///
/// An image is NAME in the store, docker://NAME in a registry, `oci:DIR[:TAG]` or
/// `oci-archive:FILE[:TAG]`. With --key each key has to have signed it; with --policy it has to
/// be as the file says: who signed, which builder, which materials, which attestations. Exits
/// with 1 if one image is not so.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("who").required(true).args(["keys", "policy"])))]
pub struct Args {
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<ImagePlace>,

    /// File of a public key in PEM; may be repeated
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,

    /// File that says what images have to have (TOML)
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// With --key: what signatures have noted; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", conflicts_with = "policy")]
    pub annotations: Vec<Assignment>,

    /// With --key: want a signed attestation of this type, too (cyclonedx, slsaprovenance1,
    /// spdxjson, …, or a URI); may be repeated
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "policy")]
    pub types: Vec<String>,

    /// How to print: text or json
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub format: Form,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Verifies one image after the other, and prints what was found.
///
/// # Errors
/// If one is not as it has to be, or cannot be read.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let rules = Rules::load(&args.keys, args.policy.as_deref(), &args.annotations, &args.types)?;
    let mut verdicts = Vec::new();
    for image in &args.images {
        let place = image.found(invocation)?;
        let registries = way(&place, &args.registry)?;
        let verdict = verdict(&place, &rules, &registries, &progress, invocation)?;
        if args.format == Form::Text {
            invocation.print(shown(&verdict))?;
        }
        verdicts.push(verdict);
    }
    if args.format == Form::Json {
        invocation.print_json(&verdicts)?;
    }
    verdicts.iter().try_for_each(demanded)
}

/// What is found out about an image, of which the name is asked for once.
pub(super) fn verdict(
    place: &Place,
    rules: &Rules,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Verdict, CliError> {
    let name: Option<Reference> = match name_at(place) {
        Some(name) if place.registry().is_some() => Some(registries.meaning(&name)?),
        name => name,
    };
    let rule = rules.of(name.as_ref())?;
    let store = match place.needs_store() {
        true => Some(invocation.store()?.as_ref()),
        false => None,
    };
    with_env(store, registries, progress, invocation, async |env| {
        let reader = Reader::open(place, env)?;
        let root = reader.root().await?;
        sign::judge(&reader, &root, name.as_ref(), rule).await
    })
}

/// An error, if an image is not as it has to be.
pub(super) fn demanded(verdict: &Verdict) -> Result<(), CliError> {
    let Some(failed) = verdict.checks.iter().find(|check| !check.ok) else { return Ok(()) };
    let Verdict { image, digest, .. } = verdict;
    let (check, why) = (&failed.check, &failed.detail);
    Err(CliError::plain(format!("{image} ({digest}) is not verified: {check}: {why}")))
}

fn shown(verdict: &Verdict) -> String {
    let word = if verdict.verified { "verified" } else { "not verified" };
    let mut text = format!("{} {}: {word} by {}\n", verdict.image, verdict.digest, verdict.rule);
    for check in &verdict.checks {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        text.push_str(&format!("  {mark} {}: {}\n", check.check, check.detail));
    }
    for note in &verdict.notes {
        text.push_str(&format!("  note {note}\n"));
    }
    text
}
