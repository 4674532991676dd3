//! `kiln logs`.

use std::io::{self, Write as _};
use std::str::FromStr;

use super::invocation::Invocation;
use super::report::CliError;
use crate::container::{self, LogRequest};
use crate::progress::Stream;

/// Show what a container wrote
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,

    /// Go on until the container ends
    #[arg(short, long)]
    pub follow: bool,

    /// Show when each line was written
    #[arg(long)]
    pub timestamps: bool,

    /// How many of the last lines to show, or `all`
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    pub tail: Tail,
}

/// How many of the last lines; `None` is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail(pub Option<u64>);

impl FromStr for Tail {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "all" => Ok(Self(None)),
            _ => text.parse().map(|n| Self(Some(n))).map_err(|_| "a number or `all` is expected"),
        }
    }
}

/// Passes the container's output on to the stream that it was written to.
///
/// # Errors
/// If there is no such container, or nothing can be written.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let ask = LogRequest { follow: args.follow, tail: args.tail.0, timestamps: args.timestamps };
    let mut sink = |stream: Stream, bytes: &[u8]| match stream {
        Stream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    };
    Ok(container::logs(invocation.store()?, &args.container, &ask, &mut sink)?)
}
