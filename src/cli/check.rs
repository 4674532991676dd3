//! `kiln check`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::build::{BuildFlags, answer};
use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::report::CliError;
use super::value::{CallArg, ContextArg, EnvAssignment, Method};
use crate::platform::Platform;

/// Look for what is wrong in a Dockerfile, and for rules of style that it breaks;
/// nothing is built
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder whose files COPY and ADD may take
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: PathBuf,

    /// The Dockerfile, or `-` for stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Look at this stage and those that it needs [default: at every stage]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Value for an ARG; NAME alone takes it from the environment; may be repeated
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub build_args: Vec<EnvAssignment>,

    /// Platforms to check for, such as linux/amd64,linux/arm64 [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platforms: Vec<Platform>,

    /// Folder or image for a name of FROM and --from: NAME=FOLDER,
    /// NAME=docker-image://REFERENCE or NAME=oci-layout://FOLDER; may be repeated
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub contexts: Vec<ContextArg>,

    /// How to print what is found
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// With the lines drawn
    #[default]
    Text,
    /// As an object with the fields of BuildKit's lint result
    Json,
}

/// Prints what is found; it is an error if there is anything.
///
/// # Errors
/// If a rule is broken, the Dockerfile cannot be built, or it cannot be read.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let registries = args.registry.registries(None)?;
    let how = BuildFlags {
        file: args.file,
        target: args.target,
        build_args: args.build_args,
        platforms: args.platforms,
        contexts: args.contexts,
        ..BuildFlags::default()
    };
    let call = CallArg { json: args.format == Format::Json, ..CallArg::plain(Method::Check) };
    let progress = invocation.progress(None)?;
    answer(call, &how, &args.context, &registries, &progress, invocation)
}
