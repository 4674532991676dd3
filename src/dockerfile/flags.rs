//! The `--name=value` words between a keyword and its arguments.
//!
//! Quotes and escapes are taken out of a flag here, as BuildKit does; what
//! remains of a value is expanded later like any other word.

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Span};

use super::ast::Spanned;
use super::lexer::{Line, shown};
use super::suggest;

/// A flag as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    /// With its two dashes.
    pub(super) name: Spanned<String>,
    pub(super) value: Option<Spanned<String>>,
}

impl Flag {
    fn short(&self) -> &str {
        self.name.value.strip_prefix("--").unwrap_or(&self.name.value)
    }
}

/// A flag that an instruction knows.
pub(super) struct Known {
    /// Without its dashes.
    pub(super) name: &'static str,
    pub(super) support: Support,
}

pub(super) enum Support {
    /// `--name=value`, once.
    Full,
    /// `--name=value`, as often as wanted.
    Many,
    /// `--name`, `--name=true` or `--name=false`.
    Switch,
    /// The flag exists, and kiln does not do it. Values that ask for nothing
    /// (the default) are taken.
    Lacking { idle: &'static [&'static str], instead: &'static str },
}

impl Known {
    pub(super) const fn full(name: &'static str) -> Self {
        Self { name, support: Support::Full }
    }
    pub(super) const fn many(name: &'static str) -> Self {
        Self { name, support: Support::Many }
    }
    pub(super) const fn switch(name: &'static str) -> Self {
        Self { name, support: Support::Switch }
    }
    pub(super) const fn lacking(
        name: &'static str,
        idle: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        Self { name, support: Support::Lacking { idle, instead } }
    }
}

/// Cuts the flags off the front of `range`; gives them and what remains.
pub(super) fn split(line: &Line, range: Range<usize>, escape: char) -> (Vec<Flag>, Range<usize>) {
    let mut flags = Vec::new();
    let mut at = range.start;
    loop {
        let rest = &line.text[at..range.end];
        at = range.end - rest.trim_start().len();
        if !line.text[at..range.end].starts_with("--") {
            return (flags, at..range.end);
        }
        let (word, end) = unquote(&line.text, at..range.end, escape);
        if word == "--" {
            return (flags, end..range.end);
        }
        flags.extend(flag(line, word, at..end));
        at = end;
    }
}

/// The word at the front of `range` without quotes and escapes, and where it ends.
fn unquote(text: &str, range: Range<usize>, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text[range.clone()].char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            return (word, range.start + at);
        }
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        } else if c == escape {
            word.extend(chars.next().map(|(_, escaped)| escaped));
        } else {
            word.push(c);
        }
    }
    (word, range.end)
}

fn flag(line: &Line, word: String, range: Range<usize>) -> Option<Flag> {
    let Some((name, value)) = word.split_once('=') else {
        return Some(Flag { name: Spanned::new(word, line.span(&range)), value: None });
    };
    let equals = range.start + line.text[range.clone()].find('=')?;
    Some(Flag {
        name: Spanned::new(name.to_owned(), line.span(&(range.start..equals))),
        value: Some(Spanned::new(value.to_owned(), line.span(&(equals + 1..range.end)))),
    })
}

/// The flags of one instruction that are known, done, and given once.
#[derive(Default)]
pub(super) struct Taken(Vec<(&'static str, Spanned<String>)>);

impl Taken {
    /// The value of a flag; none if the flag was not given.
    pub(super) fn value(&mut self, name: &str) -> Option<Spanned<String>> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }

    /// The values of a flag that may be repeated, in order.
    pub(super) fn values(&mut self, name: &str) -> Vec<Spanned<String>> {
        let (found, others) = std::mem::take(&mut self.0).into_iter().partition(|it| it.0 == name);
        self.0 = others;
        let found: Vec<(&str, Spanned<String>)> = found;
        found.into_iter().map(|(_, value)| value).collect()
    }

    /// What a switch is set to; none if it was not given.
    pub(super) fn switch(&mut self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value.value != "false")
    }
}

/// Sorts `flags` by what `keyword` knows of them. None if one of them is an error.
pub(super) fn take(
    keyword: &str,
    flags: &[Flag],
    known: &[Known],
    out: &mut Vec<Diagnostic>,
) -> Option<Taken> {
    let mut taken = Taken(Vec::new());
    let errors = out.len();
    for flag in flags {
        let name = flag.short();
        let Some(entry) = known.iter().find(|entry| entry.name == name) else {
            out.push(unknown(keyword, flag, known));
            continue;
        };
        let again = || taken.0.iter().any(|(known, _)| *known == entry.name);
        match (&entry.support, &flag.value) {
            (Support::Full | Support::Switch, _) if again() => out.push(
                Diagnostic::error(flag.name.span, format!("`--{name}` is given twice"))
                    .hint("keep one of them"),
            ),
            (Support::Full | Support::Many, None) => out.push(
                Diagnostic::error(flag.name.span, format!("`--{name}` needs a value"))
                    .hint(format!("write --{name}=VALUE")),
            ),
            (Support::Full | Support::Many, Some(value)) => {
                taken.0.push((entry.name, value.clone()));
            }
            (Support::Switch, None) => {
                taken.0.push((entry.name, Spanned::new("true".to_owned(), flag.name.span)));
            }
            (Support::Switch, Some(value)) => {
                let lower = value.value.to_ascii_lowercase();
                if lower == "true" || lower == "false" {
                    taken.0.push((entry.name, Spanned::new(lower, value.span)));
                } else {
                    let said =
                        format!("`--{name}` is true or false, not `{}`", shown(&value.value));
                    out.push(Diagnostic::error(value.span, said));
                }
            }
            (Support::Lacking { idle, .. }, Some(value))
                if idle.iter().any(|idle| idle.eq_ignore_ascii_case(&value.value)) => {}
            (Support::Lacking { instead, .. }, _) => {
                out.push(lacking(flag.name.span, &format!("{keyword} --{name}"), instead));
            }
        }
    }
    (out.len() == errors).then_some(taken)
}

/// Says that something of the language is not done.
pub(super) fn lacking(span: Span, what: &str, instead: &str) -> Diagnostic {
    Diagnostic::error(span, format!("kiln does not do {what}")).label("not supported").hint(instead)
}

fn unknown(keyword: &str, flag: &Flag, known: &[Known]) -> Diagnostic {
    let name = flag.short().trim_start_matches('-');
    let said = Diagnostic::error(
        flag.name.span,
        format!("unknown flag `{}` for {keyword}", shown(&flag.name.value)),
    );
    match suggest::nearest(name, known.iter().map(|entry| entry.name)) {
        Some(near) => said.hint(format!("did you mean --{near}?")),
        None if known.is_empty() => said.hint(format!(
            "{keyword} takes no flags; put `--` before an argument that begins with dashes"
        )),
        None => {
            let names: Vec<String> = known
                .iter()
                .filter(|entry| !matches!(entry.support, Support::Lacking { .. }))
                .map(|entry| format!("--{}", entry.name))
                .collect();
            match &names[..] {
                [] => said,
                names => said.hint(format!("{keyword} takes {}", names.join(", "))),
            }
        }
    }
}
