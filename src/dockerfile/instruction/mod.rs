//! The instructions, one file each: what it holds, and how it is read.
//!
//! A `parse` takes a [`Statement`] and gives the instruction, or says in `out`
//! why there is none. A new instruction is a file here and a variant of
//! [`Instruction`](super::ast::Instruction).

mod add;
mod arg;
mod cmd;
mod copy;
mod entrypoint;
mod env;
mod expose;
mod from;
mod healthcheck;
mod label;
mod maintainer;
mod mount;
mod onbuild;
mod run;
mod shell;
mod stopsignal;
mod user;
mod volume;
mod workdir;

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Span};

use super::ast::{CommandLine, Pair, Spanned};
use super::flags::{self, Flag, Known, Taken};
use super::heredoc::{self, Heredoc};
use super::json::{self, Form};
use super::lexer::{Line, shown, trim};
use super::words;

pub use add::{Add, Remote, remote};
pub use arg::{Arg, ArgItem};
pub use cmd::Cmd;
pub use copy::Copy;
pub use entrypoint::Entrypoint;
pub use env::Env;
pub use expose::{Expose, PortError, Ports};
pub use from::From;
pub use healthcheck::{HealthTest, Healthcheck};
pub use label::Label;
pub use maintainer::Maintainer;
pub use mount::{Mount, MountType, Sharing};
pub use onbuild::Onbuild;
pub use run::{Run, RunNetwork, Security};
pub use shell::Shell;
pub use stopsignal::Stopsignal;
pub use user::User;
pub use volume::Volume;
pub use workdir::Workdir;

/// The flags that an instruction knows.
#[cfg(test)]
pub(super) fn flags_of(keyword: &str) -> &'static [Known] {
    match keyword {
        "ADD" => add::FLAGS,
        "COPY" => copy::FLAGS,
        "FROM" => from::FLAGS,
        "HEALTHCHECK" => healthcheck::FLAGS,
        "RUN" => run::FLAGS,
        _ => &[],
    }
}

/// The types and keys of `--mount`.
#[cfg(test)]
pub(super) fn mount_words() -> (Vec<&'static str>, Vec<&'static str>) {
    let keys = mount::KEYS
        .iter()
        .flat_map(|(key, aliases)| std::iter::once(*key).chain(aliases.iter().copied()));
    (mount::TYPES.iter().map(|(name, _)| *name).collect(), keys.collect())
}

/// A line cut into keyword, flags and the rest.
#[derive(Clone)]
pub(super) struct Statement<'a> {
    line: &'a Line,
    escape: char,
    /// All of it, without white space around.
    whole: Range<usize>,
    word: Range<usize>,
    /// The keyword in capitals.
    pub(super) keyword: String,
    flags: Vec<Flag>,
    rest: Range<usize>,
}

impl<'a> Statement<'a> {
    pub(super) fn new(line: &'a Line, escape: char) -> Self {
        Self::of(line, trim(&line.text, 0..line.text.len()), escape)
    }

    fn of(line: &'a Line, whole: Range<usize>, escape: char) -> Self {
        let length = line.text[whole.clone()].find(words::is_blank).unwrap_or(whole.len());
        let word = whole.start..whole.start + length;
        let (flags, rest) = flags::split(line, word.end..whole.end, escape);
        let rest = trim(&line.text, rest);
        let keyword = line.text[word.clone()].to_ascii_uppercase();
        Self { line, escape, whole, word, keyword, flags, rest }
    }

    /// The statement that the arguments are, behind `ONBUILD`.
    fn within(&self) -> Statement<'a> {
        Self::of(self.line, self.rest.clone(), self.escape)
    }

    pub(super) fn span(&self) -> Span {
        self.line.span(&self.whole)
    }
    pub(super) fn text(&self) -> String {
        self.line.text[self.whole.clone()].to_owned()
    }
    /// With the white space at the line's end.
    fn text_to_the_end(&self) -> String {
        self.line.text[self.whole.start..].to_owned()
    }
    /// The keyword as written.
    pub(super) fn word(&self) -> Spanned<String> {
        self.line.spanned(&self.word)
    }
    /// True if the arguments begin like a JSON array.
    fn bracketed(&self) -> bool {
        self.rest().starts_with('[')
    }
    fn rest(&self) -> &str {
        &self.line.text[self.rest.clone()]
    }
    fn spanned(&self, range: &Range<usize>) -> Spanned<String> {
        self.line.spanned(range)
    }
    fn blank_separated(&self) -> Vec<Range<usize>> {
        words::blank_separated(&self.line.text, self.rest.clone())
    }

    fn flags(&self, known: &[Known], out: &mut Vec<Diagnostic>) -> Option<Taken> {
        flags::take(&self.keyword, &self.flags, known, out)
    }
    fn no_flags(&self, out: &mut Vec<Diagnostic>) -> Option<()> {
        self.flags(&[], out).map(|_| ())
    }

    /// All arguments as one word; `what` names it where there is none.
    fn single(&self, what: &str, out: &mut Vec<Diagnostic>) -> Option<Spanned<String>> {
        if self.rest.is_empty() {
            out.push(self.lacks(what));
            return None;
        }
        Some(self.spanned(&self.rest))
    }

    fn lacks(&self, what: &str) -> Diagnostic {
        Diagnostic::error(self.word().span, format!("{} needs {what}", self.keyword))
    }

    fn json(&self, out: &mut Vec<Diagnostic>) -> Option<Option<Vec<Spanned<String>>>> {
        match json::form(self.line, &self.rest) {
            Form::Strings(strings) => Some(Some(strings)),
            Form::Plain => Some(None),
            Form::Refused(diagnostic) => {
                out.push(diagnostic);
                None
            }
        }
    }

    /// The elements of a JSON array, or the words between white space.
    fn list(&self, out: &mut Vec<Diagnostic>) -> Option<Vec<Spanned<String>>> {
        Some(match self.json(out)? {
            Some(strings) => strings,
            None => self.blank_separated().iter().map(|word| self.spanned(word)).collect(),
        })
    }

    fn command_line(&self, out: &mut Vec<Diagnostic>) -> Option<CommandLine> {
        if let Some(arguments) = self.json(out)? {
            return Some(CommandLine::Exec(arguments));
        }
        let rest = self.rest();
        // `[ "$A" = b ]` is a shell's test: it has a blank behind the bracket. There is
        // a rule for all of CMD and ENTRYPOINT that is no JSON.
        let inner = rest.strip_prefix('[').unwrap_or_default();
        let ruled = matches!(self.keyword.as_str(), "CMD" | "ENTRYPOINT");
        if !ruled && inner.starts_with(['"', '\'', '“']) && rest.ends_with(']') {
            let said =
                format!("{} is no JSON array, so a shell runs it as it stands", self.keyword);
            out.push(
                Diagnostic::warning(self.line.span(&self.rest), said)
                    .hint("the JSON form needs double quotes around every argument"),
            );
        }
        Some(CommandLine::Shell(self.spanned(&self.rest)))
    }

    /// `key=value …`, or the old `key value`.
    fn pairs(&self, out: &mut Vec<Diagnostic>) -> Option<(Vec<Pair>, bool)> {
        let text = &self.line.text;
        let words = words::quoted(text, self.rest.clone(), self.escape);
        let Some(first) = words.first() else {
            out.push(self.lacks("a name and a value").hint("write KEY=value"));
            return None;
        };
        if !text[first.clone()].contains('=') {
            return Some((vec![self.old_pair(out)?], true));
        }
        let mut pairs = Vec::with_capacity(words.len());
        let errors = out.len();
        for word in words {
            match text[word.clone()].find('=') {
                None => out.push(
                    Diagnostic::error(
                        self.line.span(&word),
                        format!("`{}` has no value", shown(&text[word.clone()])),
                    )
                    .label("`=` expected")
                    .hint("write KEY=value, with quotes around a value that has spaces"),
                ),
                Some(0) => out.push(self.nameless(&word)),
                Some(length) => {
                    let equals = word.start + length;
                    pairs.push(Pair {
                        key: self.spanned(&(word.start..equals)),
                        value: self.spanned(&(equals + 1..word.end)),
                    });
                }
            }
        }
        (out.len() == errors).then_some((pairs, false))
    }

    fn old_pair(&self, out: &mut Vec<Diagnostic>) -> Option<Pair> {
        let rest = self.rest();
        let Some(length) = rest.find(words::is_blank) else {
            out.push(
                Diagnostic::error(
                    self.line.span(&self.rest),
                    format!("{} `{}` has no value", self.keyword, shown(rest)),
                )
                .hint(format!("write {} {}=value", self.keyword, shown(rest))),
            );
            return None;
        };
        let value = rest[length..].trim_start_matches(words::is_blank);
        Some(Pair {
            key: self.spanned(&(self.rest.start..self.rest.start + length)),
            value: self.spanned(&(self.rest.end - value.len()..self.rest.end)),
        })
    }

    fn nameless(&self, word: &Range<usize>) -> Diagnostic {
        Diagnostic::error(self.line.span(word), format!("{} needs a name before `=`", self.keyword))
            .label("no name")
    }

    /// Whether the arguments have a form that the instruction cannot have, whatever
    /// their words mean.
    fn malformed(&self) -> bool {
        let json = matches!(json::form(self.line, &self.rest), Form::Refused(_));
        match self.keyword.as_str() {
            "ENV" | "LABEL" => !self.rest.is_empty() && self.pairs(&mut Vec::new()).is_none(),
            "ADD" | "CMD" | "COPY" | "ENTRYPOINT" | "RUN" | "SHELL" | "VOLUME" => json,
            _ => false,
        }
    }

    /// Whether the instruction could have heredocs.
    pub(super) fn may_have_heredocs(&self) -> bool {
        let json =
            || self.bracketed() && matches!(json::form(self.line, &self.rest), Form::Strings(_));
        match self.keyword.as_str() {
            "RUN" | "COPY" | "ADD" => !json(),
            "ONBUILD" => {
                let inner = self.within();
                inner.keyword != "ONBUILD" && inner.may_have_heredocs()
            }
            _ => false,
        }
    }
}

/// What `COPY` and `ADD` take, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Each may be a pattern. None only if there are contents.
    pub sources: Vec<Spanned<String>>,
    /// Files whose text stands in the Dockerfile; copied after the sources.
    pub contents: Vec<Inline>,
    pub destination: Spanned<String>,
}

/// A file that a heredoc writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    pub name: String,
    pub text: String,
    /// Whether the text has variables: see [`expand_unquoted`](super::expand_unquoted).
    pub expand: bool,
    pub span: Span,
}

/// Sources and the destination of `COPY` and `ADD`.
fn transfer(
    st: &Statement<'_>,
    heredocs: &[Heredoc],
    out: &mut Vec<Diagnostic>,
) -> Option<Transfer> {
    let mut words = st.list(out)?;
    let last = words.pop();
    let destination = match last {
        Some(destination) if !words.is_empty() => destination,
        only => {
            let said = st.lacks("a source and a destination");
            out.push(match only {
                Some(only) => Diagnostic { span: only.span, ..said }
                    .label("nothing follows")
                    .hint(format!("write {} {} DESTINATION", st.keyword, shown(&only.value))),
                None => said.hint(format!("write {} SOURCE… DESTINATION", st.keyword)),
            });
            return None;
        }
    };
    if heredoc::announced(&destination.value, destination.span).is_some() {
        let said = format!("{} cannot have a heredoc as its destination", st.keyword);
        out.push(Diagnostic::error(destination.span, said).hint(format!(
            "write {} {} DESTINATION",
            st.keyword,
            shown(&destination.value)
        )));
        return None;
    }
    let (mut sources, mut contents) = (Vec::new(), Vec::new());
    for word in words {
        let Some(announced) = heredoc::announced(&word.value, word.span) else {
            sources.push(word);
            continue;
        };
        // Of two of one name the later holds. In a JSON array none has lines.
        let found = heredocs.iter().rfind(|known| known.name == announced.name);
        let text = found
            .map(|known| Heredoc { chomp: announced.chomp, ..known.clone() }.text().into_owned());
        contents.push(Inline {
            name: announced.name,
            text: text.unwrap_or_default(),
            expand: announced.expand,
            span: word.span,
        });
    }
    Some(Transfer { sources, contents, destination })
}
