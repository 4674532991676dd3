//! The rules of style that need to know what variables, images and the context
//! hold; see [`lint`].

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Rule, Span};
use crate::dockerfile::lint::{self, Settings};
use crate::dockerfile::{CommandLine, Dockerfile, From, Instruction, Ports, Spanned, expand};
use crate::platform::Platform;
use crate::reference::Reference;

use super::graph::{Base, PlanRequest};
use super::instruction::InStage;
use super::scope::{Globals, fill};

/// The instructions of a stage so far of which the last alone counts.
#[derive(Debug, Default)]
pub(super) struct Once {
    pub(super) cmd: Option<Span>,
    entrypoint: Option<Span>,
    healthcheck: Option<Span>,
}

/// Whether it is known what the image below a stage says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sure {
    Known,
    NotYet,
    Never,
}

/// `InvalidDefaultArgInFrom`: what `FROM` means if nobody sets an argument.
pub(super) fn defaults(
    file: &Dockerfile,
    ask: &PlanRequest,
    settings: &Settings,
    out: &mut Vec<Diagnostic>,
) {
    let mut wrong = Vec::new();
    let globals = Globals::new(file, ask, &BTreeMap::new(), &mut wrong);
    if !wrong.is_empty() || !settings.follows(&lint::INVALID_DEFAULT_ARG_IN_FROM) {
        return;
    }
    for (at, stage) in file.stages.iter().enumerate() {
        let word = &stage.from.image;
        let Ok(image) = fill(word, file.escape, &globals.vars, &mut |_, _| ()) else { return };
        let is_stage = file.stages[..at].iter().any(|stage| {
            stage.from.name.as_ref().is_some_and(|name| name.value.eq_ignore_ascii_case(&image))
        });
        if is_stage || image.parse::<Reference>().is_ok() {
            continue;
        }
        let said = match image.as_str() {
            "" => "without build arguments this names no image".to_owned(),
            image => format!("without build arguments this is `{image}`, which names no image"),
        };
        let said = Diagnostic::warning(word.span, said).rule(&lint::INVALID_DEFAULT_ARG_IN_FROM);
        out.push(if word.value.contains('$') {
            said.hint("give each ARG that is used here a default with which it does")
        } else {
            said
        });
    }
}

/// `RedundantTargetPlatform` and `FromPlatformFlagConstDisallowed`.
pub(super) fn platform(
    from: &From,
    word: &Spanned<String>,
    escape: char,
    globals: &Globals,
    settings: &Settings,
    out: &mut Vec<Diagnostic>,
) {
    const TARGET: &str = "TARGETPLATFORM";
    let value = |name: &str| globals.vars.get(name).map(str::to_owned);
    // What cannot be filled in or read is told where it is used.
    let Ok(filled) = expand(&word.value, escape, &value) else { return };
    let names: BTreeSet<(&str, bool)> =
        filled.variables.iter().map(|used| (used.name.as_str(), used.defined)).collect();
    if names == BTreeSet::from([(TARGET, true)])
        && Some(filled.value.as_str()) == globals.vars.get(TARGET)
        && settings.follows(&lint::REDUNDANT_TARGET_PLATFORM)
    {
        out.push(
            Diagnostic::warning(word.span, "the stage has this platform without the flag, too")
                .hint("leave --platform out")
                .rule(&lint::REDUNDANT_TARGET_PLATFORM),
        );
    }
    if !names.is_empty() || !settings.follows(&lint::FROM_PLATFORM_FLAG_CONST_DISALLOWED) {
        return;
    }
    let Ok(platform) = filled.value.parse::<Platform>() else { return };
    let name = from.name.as_ref().map_or("", Spanned::as_str);
    if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
        out.push(
            Diagnostic::warning(word.span, format!("the stage is always for {platform}"))
                .hint(format!(
                    "leave --platform out, write $BUILDPLATFORM, or put `{}` into the stage's name",
                    platform.architecture
                ))
                .rule(&lint::FROM_PLATFORM_FLAG_CONST_DISALLOWED),
        );
    }
}

/// `InvalidBaseImagePlatform`. An image without layers fits everywhere.
pub(super) fn base_platform(
    reference: &Reference,
    wanted: &Platform,
    base: &Base,
    span: Span,
    settings: &Settings,
    out: &mut Vec<Diagnostic>,
) {
    let found = base.config.platform();
    let fits = found.os == wanted.os && found.architecture == wanted.architecture;
    let empty = base.config.rootfs.diff_ids.is_empty();
    if !fits && !empty && settings.follows(&lint::INVALID_BASE_IMAGE_PLATFORM) {
        let said = format!("{} is for {found}, not for {wanted}", reference.familiar());
        out.push(Diagnostic::warning(span, said).rule(&lint::INVALID_BASE_IMAGE_PLATFORM));
    }
}

impl InStage<'_, '_, '_> {
    fn breaks(&mut self, rule: &'static Rule, said: Diagnostic) {
        if self.lint.follows(rule) {
            self.walk.out.push(said.rule(rule));
        }
    }

    /// How sure it is what the image below the stage says. One of which nothing is
    /// known is asked for, unless that was of no use.
    pub(super) fn sure(&mut self) -> Sure {
        let Some(image) = &self.state.guess else { return Sure::Known };
        if !self.walk.bases.is_open(image) {
            return Sure::Never;
        }
        if !self.walk.doubts.contains(image) {
            self.walk.doubts.push(image.clone());
        }
        Sure::NotYet
    }

    /// `MultipleInstructionsDisallowed`: told at the instruction that has no effect.
    pub(super) fn used_once(&mut self, instruction: &Instruction) {
        let place = match instruction.keyword() {
            "CMD" => &mut self.once.cmd,
            "ENTRYPOINT" => &mut self.once.entrypoint,
            _ => &mut self.once.healthcheck,
        };
        if let Some(earlier) = place.replace(instruction.span()) {
            let keyword = instruction.keyword();
            let said = format!("this {keyword} has no effect: the stage has another one below");
            let said = Diagnostic::warning(earlier, said).hint("remove one of them");
            self.breaks(&lint::MULTIPLE_INSTRUCTIONS_DISALLOWED, said);
        }
    }

    /// What `CMD` and `ENTRYPOINT` are held to.
    pub(super) fn command_rules(&mut self, instruction: &Instruction, command: &CommandLine) {
        self.used_once(instruction);
        let CommandLine::Shell(text) = command else { return };
        let chosen = self.state.config.config.shell.as_ref().is_some_and(|it| !it.is_empty());
        if chosen || !self.lint.follows(&lint::JSON_ARGS_RECOMMENDED) {
            return;
        }
        match self.sure() {
            // Hardly any image names a shell.
            Sure::Known | Sure::Never => {}
            Sure::NotYet => return,
        }
        let keyword = instruction.keyword();
        let said = format!("a shell stands between signals and the program of this {keyword}");
        let hint = if text.value.starts_with('[') {
            "this is no JSON array: it needs double quotes around every argument".to_owned()
        } else {
            format!(
                "write {keyword} [\"PROGRAM\", \"ARGUMENT\"], or name the shell with SHELL if it is wanted"
            )
        };
        let said = Diagnostic::warning(instruction.span(), said).hint(hint);
        self.breaks(&lint::JSON_ARGS_RECOMMENDED, said);
    }

    /// `LegacyKeyValueFormat`.
    pub(super) fn old_form(&mut self, is_old: bool, span: Span, text: &str) {
        if is_old {
            let keyword = text.split_whitespace().next().unwrap_or_default();
            let said = Diagnostic::warning(span, format!("{keyword} without `=` is out of date"))
                .hint(format!("write {keyword} KEY=\"VALUE\""));
            self.breaks(&lint::LEGACY_KEY_VALUE_FORMAT, said);
        }
    }

    /// `SecretsUsedInArgOrEnv`.
    pub(super) fn secret(&mut self, keyword: &str, name: &str, span: Span) {
        if lint::is_secret(name) {
            let said =
                format!("{keyword} `{name}` looks like a secret, which the image would hold");
            let said = Diagnostic::warning(span, said).hint(
                "give it to the step that needs it: RUN --mount=type=secret,id=NAME,env=NAME",
            );
            self.breaks(&lint::SECRETS_USED_IN_ARG_OR_ENV, said);
        }
    }

    /// `WorkdirRelativePath`: only the first `WORKDIR` can break it.
    pub(super) fn relative_workdir(&mut self, path: &str, span: Span) {
        let drive = |path: &str| path.as_bytes().get(1) == Some(&b':') || path.starts_with('\\');
        let absolute =
            path.starts_with('/') || (self.state.platform.os == "windows" && drive(path));
        if !std::mem::replace(&mut self.state.workdir_set, true) && !absolute {
            let said = format!("where `{path}` lies depends on the base image");
            let said = Diagnostic::warning(span, said).hint("begin with an absolute WORKDIR");
            self.breaks(&lint::WORKDIR_RELATIVE_PATH, said);
        }
    }

    /// `ExposeProtoCasing` and `ExposeInvalidFormat`, for words that name ports.
    pub(super) fn port_rules(&mut self, words: &[String], span: Span) {
        for word in words {
            let Ok(ports) = word.parse::<Ports>() else { return };
            let (host, port) = match word.rsplit_once(':') {
                Some((host, port)) => (host, port),
                None => ("", word.as_str()),
            };
            let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
            if protocol != protocol.to_lowercase() {
                let said = format!("the protocol of `{word}` has capitals");
                let said =
                    Diagnostic::warning(span, said).hint(format!("write {}", ports.protocol));
                self.breaks(&lint::EXPOSE_PROTO_CASING, said);
            }
            if !host.trim_matches(':').is_empty() {
                let said = format!("`{host}` is the host's matter, and not taken from here");
                let said = Diagnostic::warning(span, said)
                    .hint(format!("write EXPOSE {port}, and `-p {word}` where the image is run"));
                self.breaks(&lint::EXPOSE_INVALID_FORMAT, said);
            }
        }
    }

    /// `CopyIgnoredFile`, for sources in the context.
    pub(super) fn ignored_sources(
        &mut self,
        keyword: &str,
        sources: &[String],
        words: &[Spanned<String>],
    ) {
        let Some(ignore) = &self.walk.ask.ignore else { return };
        let mut said = Vec::new();
        for (source, word) in sources.iter().zip(words) {
            if crate::dockerfile::remote(source).is_some() {
                continue;
            }
            if let Some(rule) = ignore.hides(source) {
                said.push(
                    Diagnostic::warning(word.span, format!("{keyword} finds no `{source}`"))
                        .label(format!("kept away by `{}` of the ignore file", rule.pattern))
                        .hint(format!("change line {} of the ignore file", rule.line)),
                );
            }
        }
        for said in said {
            self.breaks(&lint::COPY_IGNORED_FILE, said);
        }
    }
}
