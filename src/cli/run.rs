//! `kiln run`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ValueEnum};

use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::limits::{LimitFlags, OwnLimitFlags};
use super::progress::ProgressArgs;
use super::report::{CliError, FailureKind};
use super::value::{EnvAssignment, Publish, SandboxTier, Volume, duration};
use crate::atomic::AtPath as _;
use crate::container::{self, ContainerError, NetworkMode, Outcome, RunRequest};
use crate::image::Image;
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry;
use crate::sandbox::Io;

/// Run a program in a new container; its exit code becomes kiln's
///
/// kiln's own failures give 125, a program that cannot be started 126, one that
/// is not there 127.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the image; it is pulled if the store does not have it
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Program and arguments, instead of the image's CMD
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,

    /// Leave it running and print its name
    #[arg(short, long, conflicts_with = "interactive")]
    pub detach: bool,

    /// Name of the container [default: one is made up]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Variable of the environment; NAME alone takes the caller's value; may be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<EnvAssignment>,

    /// File of variables, one a line; may be repeated
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,

    /// Port of the host that leads to one of the container; may be repeated
    #[arg(short, long = "publish", value_name = "[[ADDRESS:]HOST:]CONTAINER[/udp]")]
    pub publish: Vec<Publish>,

    /// Which network the container has
    #[arg(long, value_name = "KIND", value_enum)]
    pub network: Option<NetworkKind>,

    /// Which users the container sees [default: the best that this machine allows]
    #[arg(long, value_name = "TIER", value_enum)]
    pub sandbox: Option<SandboxTier>,

    #[command(flatten)]
    pub limits: LimitFlags,

    #[command(flatten)]
    pub own_limits: OwnLimitFlags,

    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,

    /// Pass stdin on
    #[arg(short, long)]
    pub interactive: bool,

    /// User, with an optional group: names of the image or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Folder the program starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,

    /// Path of the host that the container sees; may be repeated
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]")]
    pub volumes: Vec<Volume>,

    /// Program to run instead of the image's ENTRYPOINT; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,

    /// Host name inside the container
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,

    /// How long the program may take to end after its stop signal, before it is killed
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub stop_timeout: Duration,

    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,

    /// Say more: why steps ran, what was asked of registries; twice for still more
    // The flag of every command, without `-v`, which is docker's for volumes here.
    #[arg(long, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkKind {
    /// The host's own
    Host,
    /// Loopback alone
    None,
    /// Loopback, and published ports from outside; no way out. What -p means
    Private,
}

/// Runs the program, and becomes its exit code.
///
/// # Errors
/// If the image is not to be had or the container cannot be started; and the
/// program's exit code, which is no error of kiln's.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let image = image(&args, &progress, invocation)?;
    let request = args.request(image)?;
    let stream = |fd: &dyn std::os::fd::AsFd| fd.as_fd().try_clone_to_owned();
    let io = Io {
        stdin: if args.interactive { Some(stream(&io::stdin())?) } else { None },
        stdout: Some(stream(&io::stdout())?),
        stderr: Some(stream(&io::stderr())?),
    };
    match container::run(&request, invocation.store()?, io, &progress).map_err(failed)? {
        Outcome::Started { name, .. } => invocation.print(name),
        Outcome::Ended { code: 0 } => Ok(()),
        Outcome::Ended { code } => Err(CliError::Exit(u8::try_from(code).unwrap_or(1))),
    }
}

/// The image from the store, else from its registry.
fn image(args: &Args, progress: &Progress, invocation: &Invocation) -> Result<Image, CliError> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let store = invocation.store()?;
    let name = args.image.parse::<Reference>();
    let named = match &name {
        Ok(name) => invocation.named(name)?.map(|(_, at)| at),
        Err(_) => None,
    };
    let known = match named {
        Some(at) => Some(at),
        None => store.find_id(&args.image)?,
    };
    let found = match (known, name) {
        (Some(at), _) => store.image(&at)?,
        (None, Ok(name)) => {
            let registries = args.registry.to_pull(&name)?;
            let want = registry::Want::One(platform.clone());
            invocation.block_on(registry::pull(&name, &want, store, &registries, progress))?
        }
        (None, Err(error)) => return Err(error.into()),
    };
    let fits = |image: &&Image| image.platform().satisfies(&platform);
    let images = found.images();
    let image = images
        .iter()
        .find(fits)
        .or(if images.len() == 1 { images.first() } else { None })
        .cloned()
        .ok_or_else(|| {
            let have: Vec<String> =
                images.iter().map(|image| image.platform().to_string()).collect();
            CliError::plain(format!(
                "`{}` is not there for {platform}, but for {}",
                args.image,
                have.join(", ")
            ))
            .hint("choose with --platform, or pull it for this one")
        })?;
    // One that was only pushed may have its base's layers in the registry alone.
    if !store.has_layers(image.layers()) {
        let name = args.image.parse::<Reference>().ok();
        let registries = match &name {
            Some(name) => args.registry.to_pull(name)?,
            None => args.registry.registries(None)?,
        };
        let layers = image.layers();
        let pull = registry::pull_layers(None, layers, store, &registries, progress);
        invocation.block_on(pull)?;
    }
    Ok(image)
}

/// Exit codes 126 and 127 say that it was the program and not kiln.
fn failed(error: ContainerError) -> CliError {
    let kind = match error.exit_code() {
        126 => FailureKind::NotExecutable,
        127 => FailureKind::NotFound,
        _ => FailureKind::Failed,
    };
    let hint = match &error {
        ContainerError::Foreign { why, .. } => Some(why.hint()),
        _ => None,
    };
    let error = CliError::from(error).kind(kind);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

impl Args {
    fn request(&self, image: Image) -> Result<RunRequest, CliError> {
        let mut env = Vec::new();
        for path in &self.env_files {
            let text = std::fs::read_to_string(path).at("read", path)?;
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let one: EnvAssignment = line.parse().map_err(|why| {
                    CliError::usage(format!("{}: `{line}`: {why}", path.display()))
                })?;
                env.extend(one.resolve().map(|value| (one.name.clone(), value)));
            }
        }
        for one in &self.env {
            env.extend(one.resolve().map(|value| (one.name.clone(), value)));
        }
        Ok(RunRequest {
            name: self.name.clone(),
            detach: self.detach,
            env,
            publish: self.publish.iter().map(|port| port.0.clone()).collect(),
            network: self.network.map(NetworkKind::mode),
            sandbox: self.sandbox.map(|tier| tier.0),
            limits: self.limits.limits(),
            own_limits: self.own_limits.own(),
            command: self.command.clone(),
            entrypoint: self
                .entrypoint
                .as_ref()
                .map(|program| if program.is_empty() { Vec::new() } else { vec![program.clone()] }),
            user: self.user.clone(),
            workdir: self.workdir.as_ref().map(PathBuf::from),
            hostname: self.hostname.clone(),
            volumes: self.volumes.iter().map(|volume| volume.0.clone()).collect(),
            remove: self.rm,
            interactive: self.interactive,
            stop_timeout: Some(self.stop_timeout),
            ..RunRequest::new(image, &self.image)
        })
    }
}

impl NetworkKind {
    fn mode(self) -> NetworkMode {
        match self {
            Self::Host => NetworkMode::Host,
            Self::None => NetworkMode::None,
            Self::Private => NetworkMode::Private,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::Args;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let globals = crate::cli::invocation::Globals::augment_args(clap::Command::new("kiln"));
        let command = globals.subcommand(Args::augment_args(clap::Command::new("run")));
        let matches = command.try_get_matches_from(line.split(' '))?;
        Args::from_arg_matches(matches.subcommand_matches("run").expect("the line has `run`"))
    }

    /// After the image everything is the program's, as docker has it.
    #[test]
    fn the_programs_own_flags() {
        let args = parse("kiln run -d -v /a:/b --verbose alpine ls -d --help -- -x").unwrap();
        assert!(args.detach);
        assert_eq!(args.volumes.len(), 1);
        assert_eq!(args.image, "alpine");
        assert_eq!(args.command, ["ls", "-d", "--help", "--", "-x"]);
        assert_eq!(parse("kiln run alpine -l").unwrap().command, ["-l"]);
        let error = parse("kiln run --memory 1x alpine").unwrap_err().to_string();
        assert!(error.contains("--memory"), "{error}");
        assert!(parse("kiln run --pids-limit -1 alpine").is_ok());
        assert!(parse("kiln run").is_err());
    }
}
