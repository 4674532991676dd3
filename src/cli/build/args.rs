//! The flags. Their doc comments are the help.

use std::path::PathBuf;

use clap::ArgAction;

use super::attest::AttestFlags;
use super::bundled::BundleFlags;
use super::cache::CacheFlags;
use super::locked::LockFlags;
use super::refused::RefusedFlags;
use super::verify::{NormalizeFlags, VerifyFlags};
use crate::cli::credentials::RegistryArgs;
use crate::cli::given::GivenFlags;
use crate::cli::limits::{LimitFlags, OwnLimitFlags};
use crate::cli::progress::ProgressArgs;
use crate::cli::value::{
    AnnotationArg, CallArg, CompressionArg, ContextArg, EnvAssignment, LabelArg, Method, OutputArg,
    SandboxTier, StoreLimitArg,
};
use crate::image::Note;
use crate::platform::Platform;
use crate::reference::Reference;

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

    /// Answer a question about the Dockerfile instead of building it: check, outline
    /// or targets; `,format=json` behind it is for machines
    #[arg(long, alias = "print", value_name = "METHOD", conflicts_with_all = ["check", "outputs", "push"])]
    pub call: Option<CallArg>,

    /// Check the Dockerfile instead of building it: --call=check
    #[arg(long, conflicts_with_all = ["outputs", "push"])]
    pub check: bool,

    /// Where the result goes: type=oci|docker|tar|local,dest=PATH, type=image, type=registry
    /// or type=cacheonly, with attributes as `docker buildx build` has them; a path alone is
    /// a folder, `-` a tar on stdout; may be repeated
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<OutputArg>,

    /// How the layers that the build makes are compressed, where no output says it: gzip,
    /// which is usual, zstd or uncompressed
    #[arg(long, value_name = "TYPE")]
    pub compression: Option<CompressionArg>,

    /// How hard they are compressed: 0 to 9 for gzip, where 6 is usual, 0 to 22 for zstd,
    /// where 3 is
    #[arg(long, value_name = "LEVEL")]
    pub compression_level: Option<u8>,

    /// Push the image under each of its names; short for -o type=registry
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = ArgAction::Set, value_name = "BOOL",
        hide_default_value = true, hide_possible_values = true)]
    pub push: bool,

    /// Keep the image in the store under its names, as is done anyway; short for
    /// -o type=docker
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = ArgAction::Set, value_name = "BOOL",
        hide_default_value = true, hide_possible_values = true)]
    pub load: bool,

    /// Sign the image, and what is attached to it, with the private key in this file, before
    /// it leaves; see `kiln sign`
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    #[command(flatten)]
    pub attest: AttestFlags,

    #[command(flatten)]
    pub cache: CacheFlags,

    #[command(flatten)]
    pub bundle: BundleFlags,

    #[command(flatten)]
    pub verify: VerifyFlags,

    #[command(flatten)]
    pub registry: RegistryArgs,

    /// Write the image's digest to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// Write what was built and pushed to a file, as JSON with buildx's fields
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,

    /// Show no progress; the digest alone is printed
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub progress: ProgressArgs,

    #[command(flatten)]
    pub refused: RefusedFlags,
}

impl Args {
    pub(super) fn call(&self) -> CallArg {
        let method = if self.check { Method::Check } else { Method::Build };
        self.call.unwrap_or(CallArg::plain(method))
    }
}

/// How to build: what `build` and `up` share.
#[derive(Debug, Clone, Default, clap::Args)]
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
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = ArgAction::Set, value_name = "BOOL",
        hide_default_value = true, hide_possible_values = true)]
    pub no_cache: bool,

    /// Run the steps of these stages anew; may be repeated
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,

    /// Say of each step that an earlier build had made why it is made anew: every file,
    /// variable, base image or step that changed
    #[arg(long)]
    pub explain_cache: bool,

    /// Ask the registries for newer base images
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = ArgAction::Set, value_name = "BOOL",
        hide_default_value = true, hide_possible_values = true)]
    pub pull: bool,

    /// Label for the image; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<LabelArg>,

    /// Annotation for the image; TYPE is manifest, manifest-descriptor, index or
    /// index-descriptor, the first two with [OS/ARCH] behind them for one platform
    /// [default: manifest]; may be repeated
    #[arg(long = "annotation", value_name = "[TYPE:]NAME=VALUE")]
    pub annotations: Vec<AnnotationArg>,

    /// Which users the steps see [default: the best that this machine allows]
    #[arg(long, value_name = "TIER", value_enum)]
    pub sandbox: Option<SandboxTier>,

    /// Files or image for a name of FROM and --from: NAME=FOLDER, NAME=ARCHIVE,
    /// NAME=GIT-URL, NAME=docker-image://REFERENCE or NAME=oci-layout://FOLDER; may be
    /// repeated
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub contexts: Vec<ContextArg>,

    /// Keep the store below this: 20g, inodes=500000, or both with a comma between; the least
    /// recently used goes first [default: $KILN_STORE_LIMIT, else no limit]
    #[arg(long, value_name = "LIMIT")]
    pub store_limit: Option<StoreLimitArg>,

    #[command(flatten)]
    pub lock: LockFlags,

    #[command(flatten)]
    pub normalize: NormalizeFlags,

    #[command(flatten)]
    pub given: GivenFlags,

    #[command(flatten)]
    pub limits: LimitFlags,

    #[command(flatten)]
    pub own_limits: OwnLimitFlags,
}

impl BuildFlags {
    /// What `--annotation` asks for.
    pub(super) fn notes(&self) -> Vec<Note> {
        self.annotations.iter().flat_map(|arg| arg.0.iter().cloned()).collect()
    }
}
