//! Which stages are needed, and what each of them starts from and copies from.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::lint::Settings;
use crate::dockerfile::{Dockerfile, Instruction, Mount, Spanned, Stage, nearest};
use crate::platform::Platform;
use crate::reference::Reference;

use super::graph::{BaseRequest, Bases, NamedContext, PlanRequest};
use super::rules;
use super::scope::Globals;

/// Where a root comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Scratch,
    /// A stage, by its number.
    Stage(usize),
    Image {
        reference: Reference,
        platform: Platform,
    },
    /// A named context of files, by its place in the request.
    Files(usize),
}

impl Origin {
    pub(super) fn stage(&self) -> Option<usize> {
        match self {
            Self::Stage(at) => Some(*at),
            Self::Scratch | Self::Image { .. } | Self::Files(_) => None,
        }
    }

    /// What a named context stands for.
    fn of((at, context): (usize, &NamedContext), platform: Platform) -> Self {
        match context {
            NamedContext::Scratch => Self::Scratch,
            NamedContext::Files => Self::Files(at),
            NamedContext::Image(reference) => {
                Self::Image { reference: reference.clone(), platform }
            }
        }
    }
}

/// The stages and what they rest on.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) target: usize,
    /// For each stage, what it starts from; none for stages that are not needed.
    pub(super) starts: Vec<Option<Origin>>,
    /// For each `COPY --from`, by the numbers of its stage and instruction.
    pub(super) copies: BTreeMap<(usize, usize), Origin>,
    /// For each `RUN --mount` with a `from`, by the numbers of its stage, its
    /// instruction and the flag.
    pub(super) mounts: BTreeMap<(usize, usize, usize), Origin>,
    /// In the order of the file, each once.
    pub(super) wants: Vec<BaseRequest>,
}

impl Layout {
    /// None if something is wrong, which `out` then has an error of.
    pub(super) fn new(
        file: &Dockerfile,
        ask: &PlanRequest,
        globals: &Globals,
        lint: &Settings,
        out: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        // Every FROM must make sense, whether its stage is needed or not.
        let errors = out.len();
        let starts: Vec<Option<Origin>> =
            (0..file.stages.len()).map(|at| start(file, at, ask, globals, lint, out)).collect();
        let target = target(&file.stages, ask.target.as_deref(), out)?;
        if out[errors..].iter().any(Diagnostic::is_error) {
            return None;
        }
        let mut layout = Self {
            target,
            starts: vec![None; file.stages.len()],
            copies: BTreeMap::new(),
            mounts: BTreeMap::new(),
            wants: Vec::new(),
        };
        let mut open = vec![target];
        if ask.all_stages && ask.target.is_none() {
            open.extend(0..target);
        }
        while let Some(at) = open.pop() {
            if layout.starts[at].is_some() {
                continue;
            }
            if let Some(Origin::Stage(below)) = starts[at] {
                open.push(below);
            }
            layout.starts[at].clone_from(&starts[at]);
            for (number, instruction) in file.stages[at].instructions.iter().enumerate() {
                for (part, from) in sources(instruction) {
                    let Some(origin) = copied(&file.stages, at, &from, ask, out) else { continue };
                    if let Origin::Stage(other) = origin {
                        open.push(other);
                    }
                    match part {
                        None => drop(layout.copies.insert((at, number), origin)),
                        Some(flag) => drop(layout.mounts.insert((at, number, flag), origin)),
                    }
                }
            }
        }
        layout.collect_wants(file);
        (!out[errors..].iter().any(Diagnostic::is_error)).then_some(layout)
    }

    fn collect_wants(&mut self, file: &Dockerfile) {
        let mut wants: Vec<BaseRequest> = Vec::new();
        let mut want = |origin: &Origin, span: Span| {
            let Origin::Image { reference, platform } = origin else { return };
            if !wants.iter().any(|want| want.is(reference, platform)) {
                let (reference, platform) = (reference.clone(), platform.clone());
                wants.push(BaseRequest { reference, platform, span });
            }
        };
        for (at, stage) in file.stages.iter().enumerate() {
            if let Some(start) = &self.starts[at] {
                want(start, stage.from.image.span);
            }
            for (number, instruction) in stage.instructions.iter().enumerate() {
                for (part, from) in sources(instruction) {
                    let origin = match part {
                        None => self.copies.get(&(at, number)),
                        Some(flag) => self.mounts.get(&(at, number, flag)),
                    };
                    if let Some(origin) = origin {
                        want(origin, from.span);
                    }
                }
            }
        }
        self.wants = wants;
    }

    /// A stage and those that it needs: first what it starts from, all the way down,
    /// then what it copies from.
    pub(super) fn needed(&self, stage: usize) -> Vec<usize> {
        let mut needed = Vec::new();
        let mut open = vec![stage];
        while let Some(at) = open.pop() {
            if needed.contains(&at) {
                continue;
            }
            needed.push(at);
            let copies = self.copies.iter().filter(|((stage, _), _)| *stage == at);
            let mounts = self.mounts.iter().filter(|((stage, ..), _)| *stage == at);
            let others = copies.map(|(_, origin)| origin).chain(mounts.map(|(_, origin)| origin));
            let others = others.filter_map(Origin::stage).collect::<Vec<_>>();
            open.extend(others.into_iter().rev());
            open.extend(self.starts[at].as_ref().and_then(Origin::stage));
        }
        needed
    }

    /// The images that are not known yet.
    pub(super) fn missing(&self, bases: &Bases) -> Vec<BaseRequest> {
        let known = |want: &&BaseRequest| bases.get(&want.reference, &want.platform).is_none();
        self.wants.iter().filter(known).cloned().collect()
    }
}

/// What an instruction takes files from besides the context: `--from`, or the
/// `from` of a mount with the flag's number.
fn sources(instruction: &Instruction) -> Vec<(Option<usize>, Spanned<String>)> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().map(|from| (None, from.clone())).collect(),
        Instruction::Run(run) => {
            let flags = run.mounts.iter().enumerate();
            flags.filter_map(|(at, flag)| Some((Some(at), Mount::source(flag)?))).collect()
        }
        _ => Vec::new(),
    }
}

fn start(
    file: &Dockerfile,
    at: usize,
    ask: &PlanRequest,
    globals: &Globals,
    lint: &Settings,
    out: &mut Vec<Diagnostic>,
) -> Option<Origin> {
    let from = &file.stages[at].from;
    let lint = &lint.above(file.note(from.span));
    let image = globals.fill(&from.image, file.escape, lint, out);
    let platform = match &from.platform {
        Some(word) => {
            rules::platform(from, word, file.escape, globals, lint, out);
            Some(platform(word, file.escape, globals, lint, out)?)
        }
        None => None,
    };
    let image = image?;
    if image.is_empty() {
        out.push(
            Diagnostic::error(from.image.span, "FROM names no image")
                .label("empty once its variables are filled in")
                .hint("give the argument a default, or set it with --build-arg"),
        );
        return None;
    }
    if let Some(below) = named(&file.stages[..at], &image) {
        return Some(Origin::Stage(below));
    }
    if image == "scratch" {
        return Some(Origin::Scratch);
    }
    let wanted = platform.clone().unwrap_or_else(|| ask.platform.clone());
    if let Some(context) = ask.context(&image, &wanted) {
        return Some(Origin::of(context, wanted));
    }
    if named(&file.stages[at + 1..], &image).is_some() {
        let said = format!("`{image}` is taken as an image: the stage of that name comes later");
        out.push(
            Diagnostic::warning(from.image.span, said)
                .hint("move the stage above this one if it is what is meant"),
        );
    }
    let reference = reference(&image, from.image.span, out)?;
    Some(Origin::Image { reference, platform: platform.unwrap_or_else(|| ask.platform.clone()) })
}

fn platform(
    word: &Spanned<String>,
    escape: char,
    globals: &Globals,
    lint: &Settings,
    out: &mut Vec<Diagnostic>,
) -> Option<Platform> {
    let text = globals.fill(word, escape, lint, out)?;
    if text.is_empty() {
        out.push(
            Diagnostic::error(word.span, "--platform is empty")
                .hint("write --platform=$BUILDPLATFORM, or leave the flag out"),
        );
        return None;
    }
    let read = text.parse();
    read.map_err(|error| out.push(Diagnostic::error(word.span, format!("{error}")))).ok()
}

/// What `--from`, or a mount's `from`, of stage `at` means.
fn copied(
    stages: &[Stage],
    at: usize,
    from: &Spanned<String>,
    ask: &PlanRequest,
    out: &mut Vec<Diagnostic>,
) -> Option<Origin> {
    let text = from.value.as_str();
    let stage = match text.parse::<usize>() {
        Ok(number) if number < stages.len() => Some(number),
        Ok(number) => {
            out.push(
                Diagnostic::error(from.span, format!("there is no stage {number}"))
                    .hint(format!("stages count from 0 to {}", stages.len() - 1)),
            );
            return None;
        }
        Err(_) => named(stages, text),
    };
    match stage {
        Some(other) if other < at => Some(Origin::Stage(other)),
        Some(other) => {
            let said = if other == at {
                "a stage cannot copy from itself".to_owned()
            } else {
                format!("stage `{text}` comes after the stage that copies from it")
            };
            out.push(
                Diagnostic::error(from.span, said)
                    .hint("a stage sees only the stages above it: move that one up"),
            );
            None
        }
        None if text == "scratch" => Some(Origin::Scratch),
        None if let Some(context) = ask.context(text, &ask.platform) => {
            Some(Origin::of(context, ask.platform.clone()))
        }
        None => {
            let reference = reference(text, from.span, out)?;
            Some(Origin::Image { reference, platform: ask.platform.clone() })
        }
    }
}

/// The last stage of a name; names do not count their case.
fn named(stages: &[Stage], name: &str) -> Option<usize> {
    stages.iter().rposition(|stage| {
        stage.from.name.as_ref().is_some_and(|own| own.value.eq_ignore_ascii_case(name))
    })
}

fn reference(text: &str, span: Span, out: &mut Vec<Diagnostic>) -> Option<Reference> {
    text.parse().map_err(|error| out.push(Diagnostic::error(span, format!("{error}")))).ok()
}

fn target(stages: &[Stage], asked: Option<&str>, out: &mut Vec<Diagnostic>) -> Option<usize> {
    let Some(last) = stages.len().checked_sub(1) else {
        out.push(Diagnostic::error(Span::default(), "the Dockerfile has no stage to build"));
        return None;
    };
    let Some(asked) = asked else { return Some(last) };
    let number = || asked.parse().ok().filter(|number| *number <= last);
    let found = named(stages, asked).or_else(number);
    if found.is_none() {
        let list: Vec<String> = stages
            .iter()
            .enumerate()
            .map(|(number, stage)| match &stage.from.name {
                Some(name) => format!("{number} ({})", name.value),
                None => number.to_string(),
            })
            .collect();
        let names = stages.iter().filter_map(|stage| stage.from.name.as_ref());
        let near = nearest(asked, names.map(|name| name.value.as_str()));
        let meant = near.map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
        out.push(
            Diagnostic::error(Span::default(), format!("there is no target stage `{asked}`"))
                .hint(format!("{meant}the stages are {}", list.join(", "))),
        );
    }
    found
}
