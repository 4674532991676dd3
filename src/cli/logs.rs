//! `kiln logs`.

use std::str::FromStr;

/// Show what a container wrote
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,

    /// Go on until the container ends
    #[arg(short, long)]
    pub follow: bool,

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
