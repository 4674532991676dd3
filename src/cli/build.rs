//! `kiln build`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::credentials::RegistryArgs;
use super::failure;
use super::invocation::Invocation;
use super::progress::{Mode, ProgressArgs};
use super::report::CliError;
use super::value::{Assignment, OutputArg};
use crate::atomic::AtPath as _;
use crate::build::{self, BuildEnv, BuildRequest};
use crate::diagnostic::Source;
use crate::env;
use crate::epoch::Epoch;
use crate::image::AnyImage;
use crate::layer::LayerForm;
use crate::output::{self, Archive, Dest, Kind, Named, Work};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{self, Registries};
use crate::sandbox::{Cancel, Tier};

/// Build an image from a Dockerfile; prints its digest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder whose files COPY and ADD may take
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
    pub build_args: Vec<super::value::EnvAssignment>,

    /// Platforms to build for, such as linux/amd64,linux/arm64 [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platforms: Vec<Platform>,

    /// Run every step anew
    #[arg(long)]
    pub no_cache: bool,

    /// Ask the registries for newer base images
    #[arg(long)]
    pub pull: bool,

    /// Label for the image; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<Assignment>,

    /// Which users the steps see [default: the best that this machine allows]
    #[arg(long, value_name = "TIER", value_enum)]
    pub sandbox: Option<SandboxTier>,
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
        write_output(output, &image, &args.tags, &progress, invocation)?;
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

impl BuildFlags {
    /// Builds what the flags say of a context, and keeps it under the names.
    pub(super) fn build(
        &self,
        context: &Path,
        names: &[Reference],
        registries: &Registries,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<AnyImage, CliError> {
        let request = self.request(context, names)?;
        let cancel = Cancel::new();
        let runtime = invocation.runtime()?;
        let interrupt = invocation.interrupt()?.clone();
        let told = cancel.clone();
        runtime.spawn(async move {
            interrupt.wait().await;
            told.cancel();
        });
        let env = BuildEnv { store: invocation.store()?, registries, progress, cancel: &cancel };
        runtime.block_on(build::build(&request, &env)).map_err(failure::of_build)
    }

    fn request(&self, context: &Path, names: &[Reference]) -> Result<BuildRequest, CliError> {
        if !context.is_dir() {
            return Err(CliError::plain(format!(
                "build context `{}` is not a folder",
                context.display()
            ))
            .hint("the last argument is the folder whose files COPY may take, often `.`"));
        }
        let context = context.canonicalize().at("open", context)?;
        let mut build_args = BTreeMap::new();
        for arg in &self.build_args {
            // A name that has no value in the environment is as good as not given.
            build_args.extend(arg.resolve().map(|value| (arg.name.clone(), value)));
        }
        let epoch = match build_args
            .get(env::SOURCE_DATE_EPOCH)
            .cloned()
            .or_else(|| env::text(env::SOURCE_DATE_EPOCH))
        {
            Some(text) => text.parse()?,
            None => Epoch::default(),
        };
        let (dockerfile, ignore) = self.texts(&context)?;
        Ok(BuildRequest {
            dockerfile,
            context,
            ignore,
            platforms: self.platforms.clone(),
            target: self.target.clone(),
            build_args,
            labels: self
                .labels
                .iter()
                .map(|label| (label.name.clone(), label.value.clone()))
                .collect(),
            names: names.to_vec(),
            epoch,
            form: LayerForm::default(),
            no_cache: self.no_cache,
            pull: self.pull,
            sandbox: self.sandbox.map(SandboxTier::tier),
        })
    }

    /// The Dockerfile, and the ignore file that belongs to it: the one named after
    /// it comes before the context's.
    fn texts(&self, context: &Path) -> Result<(Source, Option<Source>), CliError> {
        let (path, text) = match &self.file {
            Some(path) if path == Path::new("-") => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).at("read", "stdin")?;
                return Ok((
                    Source::new("stdin", text),
                    ignore_file(&[context.join(".dockerignore")])?,
                ));
            }
            Some(path) => (path.clone(), std::fs::read(path)),
            None => {
                let path = context.join("Dockerfile");
                (path.clone(), std::fs::read(path))
            }
        };
        let bytes = match text {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(CliError::plain(format!("no Dockerfile at {}", path.display()))
                    .hint("name it with --file, or the folder that has it as the last argument"));
            }
            other => other.at("read", &path)?,
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| CliError::plain(format!("{} is not UTF-8 text", path.display())))?;
        let mut own = path.clone().into_os_string();
        own.push(".dockerignore");
        let ignore = ignore_file(&[PathBuf::from(own), context.join(".dockerignore")])?;
        Ok((Source::new(path.display().to_string(), text), ignore))
    }
}

/// The first of these files that exists.
fn ignore_file(paths: &[PathBuf]) -> Result<Option<Source>, CliError> {
    for path in paths {
        match std::fs::read(path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Some(Source::new(path.display().to_string(), text)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => return Err(Err::<(), _>(error).at("read", path).unwrap_err().into()),
        }
    }
    Ok(None)
}

impl SandboxTier {
    fn tier(self) -> Tier {
        match self {
            Self::Root => Tier::Root,
            Self::Subuid => Tier::Subuid,
            Self::SingleId => Tier::SingleId,
        }
    }
}

fn write_output(
    output: &OutputArg,
    image: &AnyImage,
    names: &[Reference],
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let images = [Named { names: names.to_vec(), image: image.clone() }];
    let store = invocation.store()?;
    let task = progress.task("write the output");
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let work = Work::new(&task, &stop);
    let platform = Platform::host();
    let fill = |to: &mut dyn Write| match output.kind {
        Kind::Oci => output::write_archive(Archive::Oci, &images, &platform, store, to, &work),
        Kind::Docker => {
            output::write_archive(Archive::Docker, &images, &platform, store, to, &work)
        }
        Kind::Tar | Kind::Local => output::write_tar(image, store, to, &work),
    };
    match (&output.dest, output.kind) {
        (Dest::Path(path), Kind::Local) => {
            let left = output::write_local(image, store, path, &work)?;
            if let Some(first) = left.devices.first() {
                progress.warn(match left.devices.len() {
                    1 => format!("device `{first}` is left out of {}", path.display()),
                    all => {
                        format!("{all} devices are left out of {}: `{first}`, …", path.display())
                    }
                });
            }
        }
        (Dest::Path(path), _) => output::to_file(path, fill)?,
        (Dest::Stdout, _) => fill(&mut std::io::stdout().lock())?,
    }
    task.done();
    Ok(())
}
