//! `kiln ps`.

use super::invocation::Invocation;
use super::report::CliError;
use super::text;
use crate::container::{self, Status, Summary};

/// List containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show those that have ended too
    #[arg(short, long)]
    pub all: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Print their names alone
    #[arg(short, long)]
    pub quiet: bool,
}

/// Prints the list.
///
/// # Errors
/// If the containers cannot be read.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let found = container::list(invocation.store()?, args.all)?;
    if args.json {
        let rows: Vec<_> = found.iter().map(facts).collect();
        return invocation.print_json(&rows);
    }
    if args.quiet {
        let names: Vec<&str> = found.iter().map(|one| one.config.name.as_str()).collect();
        return if names.is_empty() { Ok(()) } else { invocation.print(names.join("\n")) };
    }
    let mut table = vec![["NAME", "ID", "IMAGE", "STATUS", "PORTS"].map(str::to_owned)];
    table.extend(found.iter().map(row));
    invocation.print(text::table(&table))
}

/// What a list tells; the environment may hold secrets and is left out.
fn facts(one: &Summary) -> serde_json::Value {
    serde_json::json!({
        "name": one.config.name,
        "id": one.config.id,
        "image": one.config.image,
        "image_digest": one.config.image_digest,
        "created": one.config.created,
        "state": one.state,
    })
}

fn row(one: &Summary) -> [String; 5] {
    let status = match (&one.state.status, one.state.exit_code) {
        (Status::Exited, Some(code)) => format!("exited ({code})"),
        (status, _) => status.to_string(),
    };
    let ports: Vec<String> = one.state.ports.iter().map(ToString::to_string).collect();
    [
        one.config.name.clone(),
        one.config.id.clone(),
        one.config.image.clone(),
        status,
        ports.join(", "),
    ]
}
