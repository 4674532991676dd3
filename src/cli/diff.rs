//! `kiln diff`.

mod text;

use super::invocation::Invocation;
use super::place::Place;
use super::report::{CliError, DIFFERENT, FailureKind};
use crate::compare::{self, Options};
use crate::platform::Platform;
pub(super) use text::shown;

/// Tell why two images differ: fields, layers, files, and what is in them
///
/// Exits with 0 if they are the same, with 1 if they differ, with 2 if they cannot be compared.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image of the store by name or digest, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, or
    /// `docker-archive:FILE[:NAME]`
    #[arg(value_name = "A")]
    pub a: String,

    /// The image that it is compared with
    #[arg(value_name = "B")]
    pub b: String,

    /// Compare the images for one platform only
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,

    /// Compare the trees that all layers make together, in place of layer by layer
    #[arg(long)]
    pub merged: bool,

    /// List all files that differ, not only the first 20 of each layer
    #[arg(long)]
    pub all: bool,

    /// How to print: text or json
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub format: Form,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    #[default]
    Text,
    Json,
}

/// Files of a layer that are told of one by one.
const FEW: usize = 20;

/// Compares two images and prints what differs.
///
/// # Errors
/// If they differ, which has an exit code and no message; or if they cannot be compared.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let same = compared(&args, invocation).map_err(|error| error.kind(FailureKind::NotCompared))?;
    if same { Ok(()) } else { Err(CliError::Exit(DIFFERENT)) }
}

fn compared(args: &Args, invocation: &Invocation) -> Result<bool, CliError> {
    let a = Place::of(&args.a).open(invocation)?;
    let b = Place::of(&args.b).open(invocation)?;
    let scratch = invocation.store()?.scratch("diff")?;
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let options = Options {
        platform: args.platform.clone(),
        merged: args.merged,
        most: if args.all { usize::MAX } else { FEW },
        scratch: scratch.path(),
        stop: &stop,
    };
    let report = compare::compare(a.side(&args.a), b.side(&args.b), &options)?;
    match args.format {
        Form::Json => invocation.print_json(&report)?,
        Form::Text => invocation.print(text::shown(&report, args.all))?,
    }
    Ok(report.same)
}
