//! From lines to stages.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Source, Span};

use super::ast::{Dockerfile, Instruction, Note, Spanned, Stage};
use super::heredoc::{self, Heredoc};
use super::instruction::{
    Add, Arg, Cmd, Copy, Entrypoint, Env, Expose, From, Healthcheck, Label, Maintainer, Mount,
    Onbuild, Run, Shell, Statement, Stopsignal, User, Volume, Workdir,
};
use super::lexer::{Lexer, Line, shown};
use super::suggest;

pub(super) const KEYWORDS: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile. What cannot be read is left out of the result and told:
/// if any diagnostic is an error, the result is not what the file means.
#[must_use]
pub fn parse(src: &Source) -> (Dockerfile, Vec<Diagnostic>) {
    let mut out = Vec::new();
    let mut lexer = Lexer::new(src.text());
    let mut meta_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut notes = BTreeMap::new();
    // A FROM that cannot be read still begins a stage, so that what follows is
    // not refused for it; then stages cannot be counted any more.
    let mut any_from = false;
    let mut stage_lost = false;
    let mut early = false;
    while let Some(line) = lexer.line(&mut out) {
        let st = Statement::new(&line, lexer.directives.escape);
        let Some(heredocs) = heredocs(&st, &line, src.text(), &mut lexer, &mut out) else {
            continue;
        };
        let start = st.span().start;
        let note = Note {
            comments: line.comments.clone(),
            lines: line.number..=lexer.lines,
            continues_over_blank: line.over_blank,
        };
        notes.insert(start, note);
        match st.keyword.as_str() {
            "FROM" => {
                any_from = true;
                match From::parse(&st, &mut out) {
                    Some(from) => {
                        stages.push(Stage { span: from.span, from, instructions: Vec::new() });
                    }
                    None => stage_lost = true,
                }
            }
            "ARG" if !any_from => meta_args.extend(Arg::parse(&st, &mut out)),
            keyword if KEYWORDS.contains(&keyword) && !any_from => {
                // Once is enough: those that follow have the same fault.
                if !std::mem::replace(&mut early, true) {
                    let said = format!("{keyword} before the first FROM");
                    out.push(
                        Diagnostic::error(st.word().span, said)
                            .label("no stage to belong to")
                            .hint("begin with FROM IMAGE; only ARG may stand before it"),
                    );
                }
            }
            keyword => {
                if meant(keyword) == Some("FROM") {
                    any_from = true;
                    stage_lost = true;
                }
                let read = instruction(&st, heredocs, &mut out);
                if let (Some(read), Some(stage)) = (read, stages.last_mut()) {
                    stage.span = stage.span.to(read.span());
                    stage.instructions.push(read);
                }
            }
        }
    }
    if !any_from && !early {
        let end = src.text().len();
        out.push(
            Diagnostic::error(Span::new(end, end), "the Dockerfile has no FROM")
                .hint("begin with FROM IMAGE, or FROM scratch"),
        );
    }
    if !stage_lost {
        check_copies(&stages, &mut out);
        check_circles(&stages, &mut out);
    }
    out.sort_by_key(|diagnostic| diagnostic.span.start);
    let directives = lexer.directives;
    let file = Dockerfile {
        escape: directives.escape,
        syntax: directives.syntax,
        check: directives.check,
        meta_args,
        stages,
        notes,
    };
    (file, out)
}

fn instruction(
    st: &Statement<'_>,
    heredocs: Vec<Heredoc>,
    out: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    Some(match st.keyword.as_str() {
        "ADD" => Instruction::Add(Add::parse(st, &heredocs, out)?),
        "ARG" => Instruction::Arg(Arg::parse(st, out)?),
        "CMD" => Instruction::Cmd(Cmd::parse(st, out)?),
        "COPY" => Instruction::Copy(Copy::parse(st, &heredocs, out)?),
        "ENTRYPOINT" => Instruction::Entrypoint(Entrypoint::parse(st, out)?),
        "ENV" => Instruction::Env(Env::parse(st, out)?),
        "EXPOSE" => Instruction::Expose(Expose::parse(st, out)?),
        "HEALTHCHECK" => Instruction::Healthcheck(Healthcheck::parse(st, out)?),
        "LABEL" => Instruction::Label(Label::parse(st, out)?),
        "MAINTAINER" => Instruction::Maintainer(Maintainer::parse(st, out)?),
        "RUN" => Instruction::Run(Run::parse(st, heredocs, out)?),
        "SHELL" => Instruction::Shell(Shell::parse(st, out)?),
        "STOPSIGNAL" => Instruction::Stopsignal(Stopsignal::parse(st, out)?),
        "USER" => Instruction::User(User::parse(st, out)?),
        "VOLUME" => Instruction::Volume(Volume::parse(st, out)?),
        "WORKDIR" => Instruction::Workdir(Workdir::parse(st, out)?),
        "ONBUILD" => {
            let read = |inner: &Statement<'_>, said: &mut Vec<Diagnostic>| {
                drop(instruction(inner, heredocs.clone(), said));
            };
            Instruction::Onbuild(Onbuild::parse(st, &heredocs, out, read)?)
        }
        _ => {
            out.push(unknown(st));
            return None;
        }
    })
}

/// Reads a trigger that an image's config or an `ONBUILD` has: one instruction.
/// All its places are `place`: where the file brings it in.
///
/// # Errors
/// If it is none, or cannot be read.
pub fn parse_trigger(trigger: &str, place: Span) -> Result<Instruction, Vec<Diagnostic>> {
    let mut out = Vec::new();
    let mut lexer = Lexer::new(trigger);
    let mut read = Vec::new();
    while let Some(line) = lexer.line(&mut out) {
        let line = line.placed(place);
        let st = Statement::new(&line, lexer.directives.escape);
        let Some(heredocs) = heredocs(&st, &line, trigger, &mut lexer, &mut out) else { break };
        read.extend(instruction(&st, heredocs, &mut out));
    }
    let wrong = out.iter().any(Diagnostic::is_error);
    match <[Instruction; 1]>::try_from(read) {
        Ok([one])
            if !wrong && !matches!(one, Instruction::Onbuild(_) | Instruction::Maintainer(_)) =>
        {
            return Ok(one);
        }
        Ok(_) | Err(_) if !wrong => {
            out.push(Diagnostic::error(place, "this is not one instruction that a trigger may be"));
        }
        Ok(_) | Err(_) => {}
    }
    Err(out
        .into_iter()
        .filter(Diagnostic::is_error)
        .map(|said| {
            Diagnostic { span: place, ..said }.label(format!("brings in ONBUILD {trigger}"))
        })
        .collect())
}

/// The heredocs of a line, with their text. None if one does not end.
fn heredocs(
    st: &Statement<'_>,
    line: &Line,
    file: &str,
    lexer: &mut Lexer<'_>,
    out: &mut Vec<Diagnostic>,
) -> Option<Vec<Heredoc>> {
    let mut heredocs = if st.may_have_heredocs() { heredoc::of(line) } else { Vec::new() };
    heredoc::fill(&mut heredocs, file, lexer, out).then_some(heredocs)
}

/// The keyword that a word which is none may have been meant for.
fn meant(word: &str) -> Option<&'static str> {
    suggest::nearest(word, KEYWORDS.iter().copied()).filter(|near| *near != word)
}

fn unknown(st: &Statement<'_>) -> Diagnostic {
    let word = st.word();
    if word.value.is_empty() {
        return Diagnostic::error(word.span, "a continued line that never begins")
            .hint("remove the escape character");
    }
    let said =
        Diagnostic::error(word.span, format!("unknown instruction `{}`", shown(&word.value)));
    match meant(&word.value) {
        Some(near) => said.hint(format!("did you mean {near}?")),
        None => said.hint("a line that continues the one above needs a `\\` at the end of that"),
    }
}

/// The stages that a stage needs, and where it says so.
fn needs(stages: &[Stage], at: usize) -> Vec<(usize, Span)> {
    let called = |stages: &[Stage], name: &str| {
        stages.iter().rposition(|stage| {
            stage.from.name.as_ref().is_some_and(|own| own.value.eq_ignore_ascii_case(name))
        })
    };
    let number = |text: &str| text.parse().ok().filter(|number| *number < stages.len());
    let image = &stages[at].from.image;
    let mut needs: Vec<(usize, Span)> =
        called(&stages[..at], &image.value).map(|other| (other, image.span)).into_iter().collect();
    for instruction in &stages[at].instructions {
        let sources: Vec<Spanned<String>> = match instruction {
            Instruction::Copy(copy) => copy.from.iter().cloned().collect(),
            Instruction::Run(run) => run.mounts.iter().filter_map(Mount::source).collect(),
            _ => Vec::new(),
        };
        let found = sources.iter().filter_map(|from| {
            let other = number(&from.value).or_else(|| called(stages, &from.value))?;
            Some((other, from.span))
        });
        needs.extend(found);
    }
    needs
}

/// Stages that need a later one which needs them.
fn check_circles(stages: &[Stage], out: &mut Vec<Diagnostic>) {
    let needs: Vec<_> = (0..stages.len()).map(|at| needs(stages, at)).collect();
    for (at, own) in needs.iter().enumerate() {
        for &(later, place) in own.iter().filter(|(other, _)| *other > at) {
            let (mut seen, mut open) = (vec![false; stages.len()], vec![later]);
            while let Some(stage) = open.pop() {
                if !std::mem::replace(&mut seen[stage], true) {
                    open.extend(needs[stage].iter().map(|(other, _)| *other));
                }
            }
            if seen[at] {
                out.push(
                    Diagnostic::error(place, "two stages need each other")
                        .label(format!("stage {later} needs this one, stage {at}"))
                        .hint("a stage sees only the stages above it"),
                );
            }
        }
    }
}

/// Stage numbers that do not exist, and stages that copy from themselves. A name
/// that no stage has is an image's.
fn check_copies(stages: &[Stage], out: &mut Vec<Diagnostic>) {
    for (at, stage) in stages.iter().enumerate() {
        for instruction in &stage.instructions {
            let Instruction::Copy(Copy { from: Some(from), .. }) = instruction else { continue };
            let named = |name: &str| {
                let own = stage.from.name.as_ref();
                own.is_some_and(|own| own.value.eq_ignore_ascii_case(name))
            };
            let own = match from.value.parse::<i64>() {
                Ok(number) => match usize::try_from(number) {
                    Ok(number) if number < stages.len() => number == at,
                    Ok(_) | Err(_) => {
                        out.push(
                            Diagnostic::error(from.span, format!("there is no stage {number}"))
                                .hint(format!("stages count from 0 to {}", stages.len() - 1)),
                        );
                        continue;
                    }
                },
                Err(_) => named(&from.value),
            };
            if own {
                out.push(
                    Diagnostic::error(from.span, "a stage cannot copy from itself")
                        .hint("name another stage, or use RUN cp"),
                );
            }
        }
    }
}
