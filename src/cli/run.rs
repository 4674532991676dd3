//! `kiln run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ValueEnum};

use super::credentials::RegistryArgs;
use super::progress::ProgressArgs;
use super::value::{EnvAssignment, Publish, Volume, duration};
use crate::platform::Platform;

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

    #[command(flatten)]
    pub limits: LimitFlags,

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

/// What a container may use: what `run` and `update` share.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitFlags {
    /// Most memory, in bytes or with a unit (k, m, g): 64m; 0 is no limit
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<super::value::Size>,

    /// Most processor time, in processors: 1.5
    #[arg(long, value_name = "COUNT")]
    pub cpus: Option<super::value::Cpus>,

    /// Most processes; -1 is no limit
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub pids_limit: Option<super::value::PidsLimit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkKind {
    /// The host's own
    Host,
    /// Loopback alone
    None,
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
