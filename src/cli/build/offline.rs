//! What a build's flags ask of a network, where there is to be none: said together with what
//! the build itself lacks ([`build::lacking`]), before anything is done.

use super::args::Args;
use super::request::{Goal, cancelled_by_signals};
use crate::build::{self, BuildEnv};
use crate::cli::failure;
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::net;
use crate::progress::Progress;
use crate::registry::Registries;

/// Refuses flags that need a network which there is not to be.
///
/// # Errors
/// That, with everything else that the build lacks.
pub(super) fn check(
    args: &Args,
    goal: &Goal<'_>,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    if net::is_shut().is_none() {
        return Ok(());
    }
    let mut said: Vec<Diagnostic> = asked(args, goal).collect();
    if said.is_empty() {
        // The build says the rest.
        return Ok(());
    }
    let cancel = cancelled_by_signals(invocation)?;
    let request =
        args.how.request(&args.context, goal.names, goal.form, progress, &cancel, invocation);
    let text = match request {
        Ok(request) => {
            let (store, cache) = (invocation.store()?, goal.cache);
            let env = BuildEnv { store, registries, progress, cancel: &cancel, ready: None, cache };
            said.extend(build::lacking(&request, &env).map_err(failure::of_build)?);
            request.dockerfile
        }
        // What the context is stays unknown then.
        Err(error) => {
            said.push(Diagnostic::error(Span::default(), error.text()));
            Source::new("", "")
        }
    };
    Err(CliError::drawn(text, said))
}

/// What has no place in the file.
fn asked(args: &Args, goal: &Goal<'_>) -> impl Iterator<Item = Diagnostic> {
    let one = |what: String, hint: &str| Diagnostic::error(Span::default(), what).hint(hint);
    let pushed = goal.pushed.iter().map(move |name| {
        one(
            format!("offline, nothing is pushed to {}", name.familiar()),
            "write the image to a file, -o type=oci,dest=FILE, and push it where there is a network",
        )
    });
    let caches = args.cache.remote().map(move |name| {
        one(
            format!("offline, no cache is given to {}", name.familiar()),
            "leave --cache-to out, or give it to a folder: type=local,dest=FOLDER",
        )
    });
    pushed.chain(caches)
}
