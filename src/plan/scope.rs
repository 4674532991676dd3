//! Variables: which are set where, and words with them filled in.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::lint::{self, Settings};
use crate::dockerfile::{
    Arg, Dockerfile, ExpandError, Spanned, Variable, expand, expand_words, nearest,
};
use crate::epoch::Epoch;
use crate::platform::Platform;

use super::graph::PlanRequest;
use super::outline::Head;
use super::time;

/// Variables in the order in which they were last set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Vars {
    /// A name's value, and the number of the time it was set.
    values: BTreeMap<String, (usize, String)>,
    times: usize,
}

impl Vars {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.times += 1;
        self.values.insert(name.to_owned(), (self.times, value.into()));
    }
    /// Sets what a list of `NAME=value` says, as a config has it.
    pub(super) fn set_all(&mut self, env: &[String]) {
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.set(name, value);
        }
    }
    pub(super) fn to_vec(&self) -> Vec<(String, String)> {
        let mut all: Vec<(&String, &(usize, String))> = self.values.iter().collect();
        all.sort_unstable_by_key(|(_, (time, _))| *time);
        all.into_iter().map(|(name, (_, value))| (name.clone(), value.clone())).collect()
    }
}

/// What holds before the first `FROM`, and is seen by `FROM` and by an `ARG`
/// without a default.
#[derive(Debug, Clone, Default)]
pub(super) struct Globals {
    pub(super) vars: Vars,
    /// Declared by an `ARG`, set or not.
    declared: BTreeSet<String>,
    /// What `SOURCE_DATE_EPOCH` comes to, if anybody set it.
    pub(super) epoch: Option<Epoch>,
    pub(super) heads: BTreeMap<String, Head>,
}

impl Globals {
    /// The platform's arguments, then those that the file declares with what is given
    /// for them.
    pub(super) fn new(
        file: &Dockerfile,
        ask: &PlanRequest,
        given: &BTreeMap<String, String>,
        out: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut globals = Self::default();
        let last = file.stages.last().and_then(|stage| stage.from.name.as_ref());
        let target = ask.target.as_deref().or(last.map(|name| name.value.as_str()));
        for (name, value) in predefined(ask, target.unwrap_or("default")) {
            let value = ask.build_args.get(&name).cloned().unwrap_or(value);
            globals.vars.set(&name, value);
        }
        let items = file.meta_args.iter().flat_map(|arg| arg.items.iter().map(move |it| (arg, it)));
        for (arg, item) in items {
            globals.declared.insert(item.name.value.clone());
            let value = match (given.get(&item.name.value), &item.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    match fill(default, file.escape, &globals.vars, &mut |_, _| ()) {
                        Ok(value) => Some(value),
                        Err(said) => {
                            out.push(said);
                            None
                        }
                    }
                }
                (None, None) => None,
            };
            let (name, own) = (&item.name.value, item.default.as_ref());
            let default = own.filter(|_| !given.contains_key(name));
            let head = Head::new(file, arg, name, value.as_deref(), default, &globals);
            globals.heads.insert(name.clone(), head);
            if let Some(value) = value {
                globals.vars.set(&item.name.value, value);
            }
        }
        globals
    }

    /// A word of `FROM`.
    pub(super) fn fill(
        &self,
        word: &Spanned<String>,
        escape: char,
        lint: &Settings,
        out: &mut Vec<Diagnostic>,
    ) -> Option<String> {
        let mut undeclared = Vec::new();
        let follows = lint.follows(&lint::UNDEFINED_ARG_IN_FROM);
        let filled = fill(word, escape, &self.vars, &mut |name, span| {
            if !self.declared.contains(name) && follows {
                undeclared.push(
                    Diagnostic::warning(span, format!("FROM uses `{name}`, which is not declared"))
                        .hint(format!("put ARG {name} before the first FROM"))
                        .rule(&lint::UNDEFINED_ARG_IN_FROM),
                );
            }
        });
        out.append(&mut undeclared);
        filled.map_err(|said| out.push(said)).ok()
    }

    /// Sets what is set, to something else or to nothing.
    pub(super) fn reset(&mut self, name: &str, value: Option<&str>) {
        if self.vars.get(name).is_some() {
            match value {
                Some(value) => self.vars.set(name, value),
                None => drop(self.vars.values.remove(name)),
            }
        }
    }

    /// Whether an `ARG` before the first `FROM` declares it.
    pub(super) fn declares(&self, name: &str) -> bool {
        self.declared.contains(name)
    }
}

fn predefined(ask: &PlanRequest, target: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut of = |prefix: &str, platform: &Platform| {
        let or_empty = |value: &Option<String>| value.clone().unwrap_or_default();
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", or_empty(&platform.os_version)),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", or_empty(&platform.variant)),
        ] {
            all.push((format!("{prefix}{name}"), value));
        }
    };
    of("BUILD", &ask.build_platform);
    of("TARGET", &ask.platform);
    all.push(("TARGETSTAGE".to_owned(), target.to_owned()));
    all
}

/// `HTTP_PROXY` and its kin as given, under both spellings; programs differ in
/// which they read.
pub(super) fn proxies(ask: &PlanRequest) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for name in PROXIES {
        let given = ask.build_args.iter().rfind(|(given, _)| given.eq_ignore_ascii_case(name));
        if let Some((_, value)) = given {
            all.push((name.to_owned(), value.clone()));
            all.push((name.to_lowercase(), value.clone()));
        }
    }
    all
}

const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether an argument is for proxies, which steps get and nobody records.
#[must_use]
pub fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// Arguments that the file may use or not without anybody being surprised.
fn expected(name: &str) -> bool {
    is_proxy(name) || name == time::ARGUMENT || name.starts_with("BUILDKIT_")
}

/// Arguments that were given and that no `ARG` of the file declares.
pub(super) fn unused(file: &Dockerfile, ask: &PlanRequest) -> Option<Diagnostic> {
    use crate::dockerfile::Instruction;
    let in_stages = file.stages.iter().flat_map(|stage| &stage.instructions);
    let in_stages = in_stages.filter_map(|instruction| match instruction {
        Instruction::Arg(arg) => Some(arg),
        _ => None,
    });
    let mut known: BTreeSet<String> = file
        .meta_args
        .iter()
        .chain(in_stages)
        .flat_map(|arg: &Arg| arg.items.iter().map(|item| item.name.value.clone()))
        .collect();
    known.extend(predefined(ask, "").into_iter().map(|(name, _)| name));
    let unused: Vec<&str> = ask
        .build_args
        .keys()
        .map(String::as_str)
        .filter(|name| !known.contains(*name) && !expected(name))
        .collect();
    if unused.is_empty() {
        return None;
    }
    let said = format!("one or more build arguments [{}] were not consumed", unused.join(" "));
    Some(
        Diagnostic::warning(Span::default(), said)
            .hint("declare them with ARG in the stage that uses them"),
    )
}

/// What to say of a variable that nobody defined.
pub(super) fn define(name: &str, vars: &Vars) -> String {
    match nearest(name, vars.values.keys().map(String::as_str)) {
        Some(near) => format!("did you mean ${near}?"),
        None => "define it above with ARG or ENV".to_owned(),
    }
}

/// Told once of each variable of a word that nobody set.
pub(super) type Undefined<'a> = &'a mut dyn FnMut(&str, Span);

/// A word with its variables filled in and its quotes and escapes gone.
pub(super) fn fill(
    word: &Spanned<String>,
    escape: char,
    vars: &Vars,
    undefined: Undefined<'_>,
) -> Result<String, Diagnostic> {
    let filled = expand(&word.value, escape, &|name| vars.get(name).map(str::to_owned))
        .map_err(|error| refuse(word, &error))?;
    tell(word, filled.undefined(), undefined);
    Ok(filled.value)
}

/// As [`fill`], for a word that may become several.
pub(super) fn fill_words(
    word: &Spanned<String>,
    escape: char,
    vars: &Vars,
    undefined: Undefined<'_>,
) -> Result<Vec<String>, Diagnostic> {
    let filled = expand_words(&word.value, escape, &|name| vars.get(name).map(str::to_owned))
        .map_err(|error| refuse(word, &error))?;
    let lacking = filled.variables.iter().filter(|v| !v.defined);
    tell(word, lacking, undefined);
    Ok(filled.words)
}

fn tell<'a>(
    word: &Spanned<String>,
    lacking: impl Iterator<Item = &'a Variable>,
    undefined: Undefined<'_>,
) {
    let mut told = BTreeSet::new();
    for variable in lacking.filter(|variable| told.insert(variable.name.as_str())) {
        undefined(&variable.name, word.part(variable.range.clone()));
    }
}

fn refuse(word: &Spanned<String>, error: &ExpandError) -> Diagnostic {
    Diagnostic::error(word.part(error.range.clone()), error.problem.to_string())
}
