//! The flags. Their doc comments are the help.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::cli::credentials::RegistryArgs;
use crate::cli::given::GivenFlags;
use crate::cli::progress::ProgressArgs;
use crate::cli::value::{Assignment, ContextArg, EnvAssignment, OutputArg};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::sandbox::Tier;

/// Build an image from a Dockerfile; prints its digest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder whose files COPY and ADD may take; or a tar archive, the URL of one or of
    /// a git repository (https://HOST/REPO.git#REF:FOLDER), or `-` for stdin
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: PathBuf,

    /// Name for the image, such as app:v1; may be repeated
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<Reference>,

    #[command(flatten)]
    pub how: BuildFlags,

    /// Write the result to a file or folder as well:
    /// type=oci|docker|tar|local,dest=PATH; may be repeated
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<OutputArg>,

    /// Push the image under each of its names
    #[arg(long, requires = "tags")]
    pub push: bool,

    #[command(flatten)]
    pub registry: RegistryArgs,

    /// Write the image's digest to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// Write what was built and pushed to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,

    /// Show no progress; the digest alone is printed
    #[arg(short, long, conflicts_with = "progress")]
    pub quiet: bool,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// How to build: what `build` and `up` share.
#[derive(Debug, Clone, clap::Args)]
pub struct BuildFlags {
    /// The Dockerfile, or `-` for stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Build this stage, not the last
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Value for an ARG; NAME alone takes it from the environment; may be repeated
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub build_args: Vec<EnvAssignment>,

    /// Platforms to build for, such as linux/amd64,linux/arm64 [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platforms: Vec<Platform>,

    /// Run every step anew
    #[arg(long)]
    pub no_cache: bool,

    /// Run the steps of these stages anew; may be repeated
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,

    /// Ask the registries for newer base images
    #[arg(long)]
    pub pull: bool,

    /// Label for the image; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<Assignment>,

    /// Which users the steps see [default: the best that this machine allows]
    #[arg(long, value_name = "TIER", value_enum)]
    pub sandbox: Option<SandboxTier>,

    /// Files or image for a name of FROM and --from: NAME=FOLDER, NAME=ARCHIVE,
    /// NAME=GIT-URL, NAME=docker-image://REFERENCE or NAME=oci-layout://FOLDER; may be
    /// repeated
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub contexts: Vec<ContextArg>,

    #[command(flatten)]
    pub given: GivenFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SandboxTier {
    /// Real root: kiln itself runs as root
    Root,
    /// The ranges of /etc/subuid and /etc/subgid
    Subuid,
    /// Root alone, which is the caller outside
    SingleId,
}

impl SandboxTier {
    pub(super) fn tier(self) -> Tier {
        match self {
            Self::Root => Tier::Root,
            Self::Subuid => Tier::Subuid,
            Self::SingleId => Tier::SingleId,
        }
    }
}
