//! `kiln doctor`.

use super::invocation::Invocation;
use super::report::CliError;
use crate::sandbox::{Sandbox, SandboxError, Tier};

/// Check what this machine allows, and what to change where it does not
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Probes the sandbox and says which tier works, and why no better one does.
///
/// # Errors
/// If nothing that runs a command works here.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let (chosen, refused) = match Sandbox::open(None) {
        Ok(sandbox) => (Some(sandbox.tier()), sandbox.refused().to_vec()),
        Err(SandboxError::NoTier { refused }) => (None, refused),
        Err(error) => return Err(error.into()),
    };
    if args.json {
        let refused: Vec<_> = refused
            .iter()
            .map(|(tier, why)| serde_json::json!({"tier": tier.to_string(), "reason": why}))
            .collect();
        let chosen = chosen.map(|tier| tier.to_string());
        invocation.print_json(&serde_json::json!({"sandbox": chosen, "refused": refused}))?;
    } else {
        for (tier, why) in &refused {
            invocation.print(format!("no   {tier}: {why}"))?;
        }
        if let Some(tier) = chosen {
            invocation.print(format!("yes  {tier}: {}", meaning(tier)))?;
        }
    }
    match chosen {
        Some(_) => Ok(()),
        None => Err(CliError::plain("RUN and `kiln run` do not work here")
            .hint("Dockerfiles without RUN build all the same")),
    }
}

fn meaning(tier: Tier) -> &'static str {
    match tier {
        Tier::Root => "steps run as real root, every owner is exact",
        Tier::Subuid => {
            "steps run in a user namespace with the ranges of /etc/subuid and /etc/subgid, every owner is exact"
        }
        Tier::SingleId => {
            "steps run in a user namespace with root alone; a supervisor emulates the other users, every owner is exact"
        }
    }
}
