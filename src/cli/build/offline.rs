//! What a build's flags ask of a network, where there is to be none: said together with what
//! the build itself lacks ([`build::lacking`]), before anything is done.

use tokio::runtime::Runtime;

use super::args::Args;
use super::request::Goal;
use crate::build::{self, BuildEnv, BuildRequest};
use crate::cli::failure;
use crate::cli::report::CliError;
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::net;

/// What has no place in the file; nothing if there is a network.
pub(super) fn asked(args: &Args, goal: &Goal<'_>) -> Vec<Diagnostic> {
    if net::is_shut().is_none() {
        return Vec::new();
    }
    let one = |what: String, hint: &str| Diagnostic::error(Span::default(), what).hint(hint);
    let pushed = goal.pushed.iter().map(|name| {
        one(
            format!("offline, nothing is pushed to {}", name.familiar()),
            "write the image to a file, -o type=oci,dest=FILE, and push it where there is a network",
        )
    });
    let caches = args.cache.remote().map(|name| {
        one(
            format!("offline, no cache is given to {}", name.familiar()),
            "leave --cache-to out, or give it to a folder: type=local,dest=FOLDER",
        )
    });
    pushed.chain(caches).collect()
}

/// Refuses what was asked for, with all that a build of the request lacks besides.
///
/// # Errors
/// That, if anything was asked for.
pub(super) fn refuse(
    asked: &[Diagnostic],
    request: &Result<BuildRequest, CliError>,
    env: &BuildEnv<'_>,
    runtime: &Runtime,
) -> Result<(), CliError> {
    if asked.is_empty() {
        // The build says the rest.
        return Ok(());
    }
    let mut said = asked.to_vec();
    let text = match request {
        Ok(request) => {
            let lacking = runtime.block_on(build::lacking(request, env));
            said.extend(lacking.map_err(failure::of_build)?);
            request.dockerfile.clone()
        }
        // Which Dockerfile there is stays unknown.
        Err(CliError::Drawn { source, diagnostics }) => {
            said.extend_from_slice(diagnostics);
            source.clone()
        }
        Err(error) => {
            said.extend(env.sources.absent());
            said.push(Diagnostic::error(Span::default(), error.text()));
            Source::new("", "")
        }
    };
    Err(CliError::drawn(text, said))
}
