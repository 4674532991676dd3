//! What a build of the target can be given: arguments, secrets, agents, caches.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Span;
use crate::dockerfile::{Arg, Dockerfile, Mount, Spanned, expand};

use super::bases::{Layout, Origin};
use super::path;
use super::scope::Globals;

/// What the stages that the target needs can be given; each once, in the order of
/// the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name; none if it has none.
    pub name: Option<String>,
    /// What the comment above its `FROM` says of it.
    pub description: Option<String>,
    pub args: Vec<OutlineArg>,
    pub secrets: Vec<OutlineUse>,
    pub ssh: Vec<OutlineUse>,
    pub caches: Vec<OutlineUse>,
}

/// An argument that has an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    pub name: String,
    /// Empty if nothing sets it.
    pub value: String,
    pub description: Option<String>,
    /// The `ARG`.
    pub span: Span,
}

/// A mount that somebody else fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineUse {
    /// The mount's id.
    pub name: String,
    pub required: bool,
    /// The `RUN`.
    pub span: Span,
}

/// An `ARG` before the first `FROM`.
#[derive(Debug, Clone)]
pub(super) struct Head {
    arg: OutlineArg,
    /// The variables that its default uses.
    uses: BTreeSet<String>,
}

/// What is noted while the stages are walked, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Uses(BTreeMap<usize, StageUses>);

#[derive(Debug, Default)]
struct StageUses {
    /// By name; none for one that takes its value from the file's head.
    args: BTreeMap<String, Option<OutlineArg>>,
    secrets: Vec<OutlineUse>,
    ssh: Vec<OutlineUse>,
    caches: Vec<OutlineUse>,
}

impl Head {
    /// `known` are the heads above.
    pub(super) fn new(
        file: &Dockerfile,
        arg: &Arg,
        name: &str,
        value: Option<&str>,
        default: Option<&Spanned<String>>,
        globals: &Globals,
    ) -> Self {
        let mut uses = default.map(|word| used(word, file.escape, globals)).unwrap_or_default();
        if uses.remove(name)
            && let Some(above) = globals.heads.get(name)
        {
            uses.extend(above.uses.iter().cloned());
        }
        Self { arg: outlined(file, arg, name, value), uses }
    }
}

fn outlined(file: &Dockerfile, arg: &Arg, name: &str, value: Option<&str>) -> OutlineArg {
    let note = file.note(arg.span);
    OutlineArg {
        name: name.to_owned(),
        value: value.unwrap_or_default().to_owned(),
        description: note.and_then(|note| note.description(name)).map(str::to_owned),
        span: arg.span,
    }
}

/// The names of the variables that a word has the values of.
fn used(word: &Spanned<String>, escape: char, globals: &Globals) -> BTreeSet<String> {
    let value = |name: &str| globals.vars.get(name).map(str::to_owned);
    let filled = expand(&word.value, escape, &value).unwrap_or_default();
    filled.variables.into_iter().filter(|used| used.defined).map(|used| used.name).collect()
}

impl Uses {
    pub(super) fn arg(
        &mut self,
        stage: usize,
        file: &Dockerfile,
        arg: &Arg,
        name: &str,
        value: Option<&str>,
        inherited: bool,
    ) {
        let args = &mut self.0.entry(stage).or_default().args;
        if inherited && value.is_some() {
            args.entry(name.to_owned()).or_default();
        } else {
            args.insert(name.to_owned(), Some(outlined(file, arg, name, value)));
        }
    }

    pub(super) fn secret(&mut self, stage: usize, name: &str, required: bool, span: Span) {
        push(&mut self.0.entry(stage).or_default().secrets, name, required, span);
    }

    pub(super) fn ssh(&mut self, stage: usize, name: &str, required: bool, span: Span) {
        push(&mut self.0.entry(stage).or_default().ssh, name, required, span);
    }

    pub(super) fn cache(&mut self, stage: usize, mount: &Mount, span: Span) {
        let name = mount.id.clone().unwrap_or_else(|| path::join("/", &mount.target));
        push(&mut self.0.entry(stage).or_default().caches, &name, false, span);
    }
}

fn push(to: &mut Vec<OutlineUse>, name: &str, required: bool, span: Span) {
    if !to.iter().any(|known| known.name == name) {
        to.push(OutlineUse { name: name.to_owned(), required, span });
    }
}

/// Gathers what was noted in the stages that the target needs. Of what has one
/// name, the stage that is nearest to the target is taken.
pub(super) fn of(file: &Dockerfile, globals: &Globals, layout: &Layout, uses: &Uses) -> Outline {
    let from = &file.stages[layout.target].from;
    let name = from.name.as_ref().map(|name| name.value.clone());
    let described = name.as_deref().zip(file.note(from.span));
    let mut outline = Outline {
        description: described.and_then(|(name, note)| note.description(name)).map(str::to_owned),
        name,
        ..Outline::default()
    };
    let nothing = StageUses::default();
    for at in layout.needed(layout.target) {
        let own = uses.0.get(&at).unwrap_or(&nothing);
        for name in names(file, globals, layout, at, own) {
            let arg = match own.args.get(&name) {
                Some(Some(arg)) => Some(arg),
                Some(None) | None => globals.heads.get(&name).map(|head| &head.arg),
            };
            let known = |arg: &&OutlineArg| outline.args.iter().any(|known| known.name == arg.name);
            outline.args.extend(arg.filter(|arg| !known(arg)).cloned());
        }
        let pairs = [
            (&mut outline.secrets, &own.secrets),
            (&mut outline.ssh, &own.ssh),
            (&mut outline.caches, &own.caches),
        ];
        for (all, own) in pairs {
            own.iter().for_each(|it| push(all, &it.name, it.required, it.span));
        }
    }
    outline.args.sort_by_key(|arg| arg.span.start);
    for uses in [&mut outline.secrets, &mut outline.ssh, &mut outline.caches] {
        uses.sort_by_key(|it| it.span.start);
    }
    outline
}

/// The arguments that a stage uses: those that it declares, those of its `FROM`,
/// and those that their defaults use.
fn names(
    file: &Dockerfile,
    globals: &Globals,
    layout: &Layout,
    at: usize,
    own: &StageUses,
) -> BTreeSet<String> {
    let mut open: Vec<String> = own.args.keys().cloned().collect();
    let mut stage = Some(at);
    while let Some(at) = stage {
        let from = &file.stages[at].from;
        for word in [Some(&from.image), from.platform.as_ref()].into_iter().flatten() {
            open.extend(used(word, file.escape, globals));
        }
        stage = layout.starts[at].as_ref().and_then(Origin::stage);
    }
    let mut names = BTreeSet::new();
    while let Some(name) = open.pop() {
        if matches!(own.args.get(&name), Some(None) | None)
            && let Some(head) = globals.heads.get(&name)
        {
            open.extend(head.uses.iter().filter(|used| !names.contains(*used)).cloned());
        }
        names.insert(name);
    }
    names
}
