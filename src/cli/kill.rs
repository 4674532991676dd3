//! `kiln kill`.

use super::invocation::Invocation;
use super::report::CliError;
use crate::container;

/// Send a signal to containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,

    /// Name or number of the signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
}

/// Signals them, and prints their names.
///
/// # Errors
/// The first failure, after all were tried.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let store = invocation.store()?;
    let signal = container::parse_signal(&args.signal).ok_or_else(|| {
        CliError::usage(format!("`{}` is no signal", args.signal))
            .hint("a name such as TERM, or a number, is expected")
    })?;
    invocation.each(&args.containers, |name| Ok(container::kill(store, name, signal)?))
}
