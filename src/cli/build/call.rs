//! `--call`: answers about a Dockerfile. The JSON has the fields of BuildKit's
//! answers, so that tools read either.

mod json;
mod tables;

use std::path::Path;

use super::args::BuildFlags;
use super::request::cancelled_by_signals;
use crate::build::{self, BuildEnv, Cache, Checked, Question};
use crate::cli::failure;
use crate::cli::invocation::Invocation;
use crate::cli::report::{self, CliError};
use crate::cli::value::{CallArg, Method};
use crate::diagnostic::{Diagnostic, Source};
use crate::dockerfile;
use crate::layer::LayerForm;
use crate::progress::Progress;
use crate::registry::Registries;

/// Answers what is asked about a context's Dockerfile.
///
/// # Errors
/// If there is no answer, or a check has found something.
pub(in crate::cli) fn answer(
    call: CallArg,
    how: &BuildFlags,
    context: &Path,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let cancel = cancelled_by_signals(invocation)?;
    let form = LayerForm::default();
    let sources = &how.lock.sources(context)?;
    let ask = how.request(context, &[], form, sources, progress, &cancel, invocation)?;
    let source = &ask.dockerfile;
    let question = match call.method {
        // There is nothing to answer: the caller builds.
        Method::Build => return Ok(()),
        Method::Targets => {
            let (file, said) = dockerfile::parse(source);
            if said.iter().any(Diagnostic::is_error) {
                return Err(CliError::drawn(source.clone(), said));
            }
            return if call.json {
                invocation.print_json(&json::targets(&file, source))
            } else {
                invocation.print(tables::targets(&file))
            };
        }
        Method::Check => Question::Rules,
        Method::Outline => Question::Outline,
    };
    let (store, cache, cancel) = (invocation.store()?, &Cache::default(), &cancel);
    let (ready, outcome) = (None, None);
    let env = BuildEnv { store, registries, progress, cancel, ready, cache, sources, outcome };
    let found = invocation
        .block_on(async { build::check(&ask, question, &env).await.map_err(failure::of_build) })?;
    if question == Question::Rules {
        return told(call, source, &found, invocation);
    }
    match (&found.outline, call.json) {
        (None, _) => Err(CliError::drawn(source.clone(), found.errors)),
        (Some(outline), true) => {
            invocation.print_json(&json::outline(outline, &found.file, source))
        }
        (Some(outline), false) => invocation.print(tables::outline(outline)),
    }
}

/// Prints what a check has found.
fn told(
    call: CallArg,
    source: &Source,
    found: &Checked,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let (broken, other): (Vec<_>, Vec<_>) =
        found.warnings.iter().cloned().partition(|said| said.rule.is_some());
    // What no rule is about is no finding.
    invocation.diagnose(source, &other);
    if call.json {
        invocation.print_json(&json::check(&broken, &found.errors, &found.file, source))?;
    } else {
        let colours = invocation.colours_on_stdout();
        for one in broken.iter().chain(&found.errors) {
            invocation.print(report::draw(source, one, colours) + "\n")?;
        }
        invocation.print(sum(broken.len(), found.errors.len()))?;
    }
    let clean = broken.is_empty() && found.errors.is_empty();
    if clean || call.ignore_status { Ok(()) } else { Err(CliError::Exit(1)) }
}

fn sum(warnings: usize, errors: usize) -> String {
    let count = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        many => Some(format!("{many} {what}s")),
    };
    let counts: Vec<String> =
        [count(errors, "error"), count(warnings, "warning")].into_iter().flatten().collect();
    if counts.is_empty() { "no warnings".to_owned() } else { counts.join(", ") }
}
