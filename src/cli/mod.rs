//! The command line: arguments in, one call into the library, results out.
//!
//! Only this module prints, reads arguments and chooses exit codes. Results go
//! to stdout, everything else to stderr. One file per subcommand holds its
//! `Args` (whose doc comments are the help) and `run(args, &Invocation)`.
//!
//! A new subcommand is a file, a variant of [`Command`] and an arm in
//! `dispatch`; its help text goes into `testdata/cli`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod attest;
pub mod build;
pub mod bundle;
pub mod check;
pub mod copy;
pub mod credentials;
pub mod deploy;
pub mod diff;
pub mod doctor;
pub mod du;
pub mod generate_key_pair;
pub mod given;
pub mod images;
pub mod inspect;
pub mod invocation;
pub mod keys;
pub mod kill;
pub mod limits;
pub mod load;
pub mod lock;
pub mod login;
pub mod logout;
pub mod logs;
pub mod manifest;
pub mod progress;
pub mod prune;
pub mod ps;
pub mod pull;
pub mod push;
pub mod report;
pub mod rm;
pub mod rmi;
pub mod run;
pub mod save;
pub mod sbom;
pub mod serve;
pub mod sign;
pub mod sign_blob;
pub mod stop;
pub mod tag;
pub mod tags;
pub mod up;
pub mod update;
pub mod value;
pub mod verify;
pub mod verify_blob;

mod attached;
mod failure;
mod hint;
mod interrupt;
mod offline;
mod place;
mod text;

use invocation::{Globals, Invocation};
use report::CliError;

/// Builds, stores, moves and runs container images, without a daemon.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, propagate_version = false, max_term_width = 100)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What kiln can be asked to do.
#[derive(Debug, Subcommand)]
enum Command {
    Attest(attest::Args),
    Build(Box<build::Args>),
    Bundle(Box<bundle::Args>),
    Check(check::Args),
    Copy(Box<copy::Args>),
    Deploy(deploy::Args),
    Diff(diff::Args),
    Doctor(doctor::Args),
    Du(du::Args),
    GenerateKeyPair(generate_key_pair::Args),
    Images(images::Args),
    Inspect(inspect::Args),
    Kill(kill::Args),
    Load(load::Args),
    Lock(Box<lock::Args>),
    Login(login::Args),
    Logout(logout::Args),
    Logs(logs::Args),
    Manifest(manifest::Args),
    Prune(prune::Args),
    Ps(ps::Args),
    Pull(pull::Args),
    Push(push::Args),
    Rm(rm::Args),
    Rmi(rmi::Args),
    Run(Box<run::Args>),
    Save(save::Args),
    Sbom(sbom::Args),
    Serve(serve::Args),
    Sign(sign::Args),
    SignBlob(sign_blob::Args),
    Stop(stop::Args),
    Tag(tag::Args),
    Tags(tags::Args),
    Up(Box<up::Args>),
    Update(update::Args),
    Verify(verify::Args),
    VerifyBlob(verify_blob::Args),
}

impl Command {
    /// True if the exit code is that of a program the command runs; kiln's own
    /// failures then have codes of their own.
    fn runs_a_program(&self) -> bool {
        match self {
            Self::Attest(_)
            | Self::Build(_)
            | Self::Bundle(_)
            | Self::Check(_)
            | Self::Copy(_)
            | Self::Manifest(_)
            | Self::Tags(_)
            | Self::Deploy(_)
            | Self::Diff(_)
            | Self::Doctor(_)
            | Self::Du(_)
            | Self::Prune(_)
            | Self::Login(_)
            | Self::Logout(_)
            | Self::Pull(_)
            | Self::Push(_)
            | Self::Up(_)
            | Self::Kill(_)
            | Self::Logs(_)
            | Self::Ps(_)
            | Self::Rm(_)
            | Self::Stop(_)
            | Self::Update(_)
            | Self::Images(_)
            | Self::Inspect(_)
            | Self::Load(_)
            | Self::Lock(_)
            | Self::Rmi(_)
            | Self::Save(_)
            | Self::Sbom(_)
            | Self::Serve(_)
            | Self::Tag(_)
            | Self::GenerateKeyPair(_)
            | Self::Sign(_)
            | Self::SignBlob(_)
            | Self::Verify(_)
            | Self::VerifyBlob(_) => false,
            Self::Run(_) => true,
        }
    }
}

fn dispatch(command: Command, invocation: &Invocation) -> Result<(), CliError> {
    match command {
        Command::Attest(args) => attest::run(args, invocation),
        Command::Build(args) => build::run(*args, invocation),
        Command::Bundle(args) => bundle::run(*args, invocation),
        Command::Check(args) => check::run(args, invocation),
        Command::Copy(args) => copy::run(*args, invocation),
        Command::Deploy(args) => deploy::run(args, invocation),
        Command::Diff(args) => diff::run(args, invocation),
        Command::Doctor(args) => doctor::run(args, invocation),
        Command::Du(args) => du::run(args, invocation),
        Command::Prune(args) => prune::run(args, invocation),
        Command::Login(args) => login::run(args, invocation),
        Command::Logout(args) => logout::run(args, invocation),
        Command::Pull(args) => pull::run(args, invocation),
        Command::Push(args) => push::run(args, invocation),
        Command::Up(args) => up::run(*args, invocation),
        Command::Kill(args) => kill::run(args, invocation),
        Command::Logs(args) => logs::run(args, invocation),
        Command::Manifest(args) => manifest::run(args, invocation),
        Command::Ps(args) => ps::run(args, invocation),
        Command::Rm(args) => rm::run(args, invocation),
        Command::Run(args) => run::run(*args, invocation),
        Command::Stop(args) => stop::run(args, invocation),
        Command::Update(args) => update::run(args, invocation),
        Command::Images(args) => images::run(args, invocation),
        Command::Inspect(args) => inspect::run(args, invocation),
        Command::Load(args) => load::run(args, invocation),
        Command::Lock(args) => lock::run(*args, invocation),
        Command::Rmi(args) => rmi::run(args, invocation),
        Command::Save(args) => save::run(args, invocation),
        Command::Sbom(args) => sbom::run(args, invocation),
        Command::Serve(args) => serve::run(args, invocation),
        Command::Tag(args) => tag::run(args, invocation),
        Command::Tags(args) => tags::run(args, invocation),
        Command::GenerateKeyPair(args) => generate_key_pair::run(args, invocation),
        Command::Sign(args) => sign::run(args, invocation),
        Command::SignBlob(args) => sign_blob::run(args, invocation),
        Command::Verify(args) => verify::run(args, invocation),
        Command::VerifyBlob(args) => verify_blob::run(args, invocation),
    }
}

/// Runs kiln with a command line whose first word is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let command = <Cli as clap::CommandFactory>::command();
            return report::refused(&error, runs_a_program(command, &args));
        }
    };
    let offline = cli.globals.offline;
    let invocation = Invocation::new(cli.globals);
    let runs_a_program = cli.command.runs_a_program();
    let outcome =
        offline::settle(offline, &cli.command).and_then(|()| dispatch(cli.command, &invocation));
    invocation.end(outcome, runs_a_program)
}

/// As [`Command::runs_a_program`], of a command line that cannot be parsed.
fn runs_a_program(command: clap::Command, args: &[OsString]) -> bool {
    command
        .ignore_errors(true)
        .try_get_matches_from(args)
        .is_ok_and(|found| matches!(found.subcommand_name(), Some("run" | "exec")))
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    #[test]
    fn a_wrong_line_of_run_is_told_apart() {
        for (line, expected) in [
            ("kiln --store run images --frob", false),
            ("kiln images run --frob", false),
            ("kiln --store x run --frob y", true),
            ("kiln run --memory 1x y", true),
            ("kiln run", true),
            ("kiln --frob", false),
        ] {
            let root = super::invocation::Globals::augment_args(Command::new("kiln"))
                .subcommand(super::run::Args::augment_args(Command::new("run")))
                .subcommand(super::images::Args::augment_args(Command::new("images")));
            let args: Vec<std::ffi::OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(super::runs_a_program(root, &args), expected, "{line}");
        }
    }

    /// clap's own check of flags that clash, also of commands with long lists.
    #[test]
    fn flags_do_not_clash() {
        let with_globals = |command: Command| {
            let root = super::invocation::Globals::augment_args(Command::new("kiln"));
            root.subcommand(command).debug_assert();
        };
        with_globals(super::build::Args::augment_args(Command::new("build")));
        with_globals(super::bundle::Args::augment_args(Command::new("bundle")));
        with_globals(super::check::Args::augment_args(Command::new("check")));
        with_globals(super::copy::Args::augment_args(Command::new("copy")));
        with_globals(super::manifest::Args::augment_args(Command::new("manifest")));
        with_globals(super::tags::Args::augment_args(Command::new("tags")));
        with_globals(super::deploy::Args::augment_args(Command::new("deploy")));
        with_globals(super::diff::Args::augment_args(Command::new("diff")));
        with_globals(super::doctor::Args::augment_args(Command::new("doctor")));
        with_globals(super::du::Args::augment_args(Command::new("du")));
        with_globals(super::prune::Args::augment_args(Command::new("prune")));
        with_globals(super::lock::Args::augment_args(Command::new("lock")));
        with_globals(super::kill::Args::augment_args(Command::new("kill")));
        with_globals(super::login::Args::augment_args(Command::new("login")));
        with_globals(super::logout::Args::augment_args(Command::new("logout")));
        with_globals(super::logs::Args::augment_args(Command::new("logs")));
        with_globals(super::ps::Args::augment_args(Command::new("ps")));
        with_globals(super::pull::Args::augment_args(Command::new("pull")));
        with_globals(super::push::Args::augment_args(Command::new("push")));
        with_globals(super::rm::Args::augment_args(Command::new("rm")));
        with_globals(super::run::Args::augment_args(Command::new("run")));
        with_globals(super::sbom::Args::augment_args(Command::new("sbom")));
        with_globals(super::serve::Args::augment_args(Command::new("serve")));
        with_globals(super::stop::Args::augment_args(Command::new("stop")));
        with_globals(super::up::Args::augment_args(Command::new("up")));
        with_globals(super::update::Args::augment_args(Command::new("update")));
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
