//! A failed build as the user sees it: the Dockerfile's line drawn where one is
//! to blame, and what to try.

use super::report::CliError;
use crate::build::{BuildError, FetchError, GitError, StepError, Unlocked};
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::dockerfile;
use crate::registry::RegistryError;
use crate::rootfs::{AccountError, RootfsError};
use crate::sandbox::{Exit, SandboxError};

pub(super) fn of_build(error: BuildError) -> CliError {
    let (source, span, message, hint) = match error {
        BuildError::Dockerfile { source_text, diagnostics } => {
            return CliError::drawn(source_text, diagnostics);
        }
        BuildError::Base { name, span, source_text, source } => {
            let hint = stage_hint(&name, &source_text).or_else(|| base_hint(&source));
            (source_text, Some(span), format!("base image {name}: {source}"), hint)
        }
        BuildError::Foreign { ref why, span, ref source_text, .. } => {
            (source_text.clone(), span, error.to_string(), {
                let cross = "cross-compile in a stage `FROM --platform=$BUILDPLATFORM`";
                Some(format!("{}; or {cross}", why.hint()))
            })
        }
        BuildError::Unlocked { source_text, unlocked } => {
            return self::unlocked(&source_text, &unlocked);
        }
        BuildError::ContextPlatform { span, ref source_text, .. } => {
            (source_text.clone(), Some(span), error.to_string(), None)
        }
        BuildError::ContextLocked { span, ref source_text, .. } => {
            let hint = "leave --build-context out; or `kiln lock` with it locks that image";
            (source_text.clone(), Some(span), error.to_string(), Some(hint.to_owned()))
        }
        BuildError::Step { name, span, source_text, source } => {
            return step(&name, span, source_text, &source);
        }
        other => return other.into(),
    };
    drawn(source, span, message, hint)
}

/// What the lock does not have, each with its line.
pub(super) fn unlocked(text: &Source, all: &[Unlocked]) -> CliError {
    CliError::drawn(text.clone(), all.iter().map(Unlocked::told).collect())
}

/// An image that nobody has may have been meant for a stage.
fn stage_hint(name: &str, text: &Source) -> Option<String> {
    let name = name.strip_suffix(":latest").unwrap_or(name);
    let (file, _) = dockerfile::parse(text);
    let stages = file.stages.iter().filter_map(|stage| stage.from.name.as_ref());
    let near = dockerfile::nearest(name, stages.map(|stage| stage.value.as_str()))?;
    // An image and a stage of one name, as in `FROM debian AS debian`.
    if near == name {
        return None;
    }
    Some(format!(
        "did you mean the stage `{near}`? No stage above is called `{name}`, so it is an image's name"
    ))
}

fn drawn(source: Source, span: Option<Span>, message: String, hint: Option<String>) -> CliError {
    let Some(span) = span else {
        let plain = CliError::plain(message);
        return match hint {
            Some(hint) => plain.hint(hint),
            None => plain,
        };
    };
    let mut diagnostic = Diagnostic::error(span, message);
    diagnostic.hint = hint;
    CliError::drawn(source, vec![diagnostic])
}

fn step(name: &str, span: Option<Span>, text: Source, error: &StepError) -> CliError {
    if error.is_cancelled() {
        return CliError::plain(format!("{name}: cancelled"));
    }
    let keyword = span
        .and_then(|span| text.text().get(span.range())?.split_whitespace().next())
        .unwrap_or("step");
    let message = format!("{} {error}", keyword.to_ascii_uppercase());
    drawn(text.clone(), span, message, step_hint(error))
}

fn base_hint(error: &RegistryError) -> Option<String> {
    error.hint()
}

/// What to try where a lock says otherwise.
const MOVED: &str = "if the change is meant, `kiln lock --update` takes what there is now";

/// What to try when a repository cannot be had.
pub(super) fn git_hint(error: &GitError) -> Option<&'static str> {
    match error {
        GitError::NoGit => Some(
            "install the package `git`; or clone the repository yourself and build from that folder, or name an archive of it by its URL",
        ),
        GitError::Locked { .. } => Some(MOVED),
        GitError::NoAgent { .. } => {
            Some("give it with --ssh default, after `ssh-add`; or take the https:// URL")
        }
        GitError::NoRef { .. } => {
            Some("a branch, a tag or the whole hash of a commit is expected behind the `#`")
        }
        GitError::Checksum { .. } => {
            Some("the ref may have been moved since the checksum was taken")
        }
        GitError::Failed { why, .. }
            if why.contains("terminal prompts disabled")
                || why.contains("Authentication failed") =>
        {
            Some(
                "give a token with --secret id=GIT_AUTH_TOKEN, or a whole header with --secret id=GIT_AUTH_HEADER",
            )
        }
        GitError::Failed { why, .. }
            if why.contains("Permission denied")
                || why.contains("Host key verification failed") =>
        {
            Some(
                "the agent given with --ssh default needs a key that the server knows, and ~/.ssh/known_hosts the server's own",
            )
        }
        _ => None,
    }
}

fn step_hint(error: &StepError) -> Option<String> {
    match error {
        StepError::SourceNotFound { rule: Some(rule), source_name, .. } => Some(format!(
            "`{source_name}` is excluded by line {} of the ignore file (`{}`)",
            rule.line, rule.pattern
        )),
        StepError::SourceNotFound { .. } => {
            Some("sources are looked for in the build context, the folder named last on the command line".into())
        }
        StepError::Git(error) => git_hint(error).map(Into::into),
        StepError::Fetch(FetchError::Locked { .. } | FetchError::Stated { .. }) => {
            Some(MOVED.into())
        }
        StepError::NotAFolder { .. } => {
            Some("a destination that ends in `/` is a folder".into())
        }
        StepError::Memory { .. } => {
            Some("give it more with --memory, or have it do less at once, as with `make -j1`".into())
        }
        StepError::Exit { exit: Exit::Code(127), command } => {
            Some(format!("127 mostly means that a program was not found in the image; the command was {command:?}"))
        }
        StepError::Exit { exit, .. } if exit.told_signal().is_some() => {
            let signal = exit.told_signal().unwrap_or_default();
            Some(format!("a code above 128 mostly means that a program of the step was ended by {signal}"))
        }
        StepError::Exit { exit: Exit::Signal(9), .. } => {
            Some("signal 9 without a sender is mostly the kernel running out of memory; `dmesg` tells".into())
        }
        StepError::Rootfs(RootfsError::Account(AccountError::User(_) | AccountError::Group(_))) => {
            Some("make it in an earlier RUN (useradd, groupadd), or use a number".into())
        }
        StepError::Rootfs(RootfsError::Supply(source)) => {
            source.downcast_ref::<RegistryError>().and_then(base_hint)
        }
        StepError::Sandbox(SandboxError::NoTier { .. }) => {
            Some("`kiln doctor` tells what is missing; Dockerfiles without RUN build without a sandbox".into())
        }
        _ => None,
    }
}
