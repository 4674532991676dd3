//! What a Dockerfile says, as written: nothing expanded, everything with its
//! place.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use crate::diagnostic::Span;

use super::instruction::{
    Add, Arg, Cmd, Copy, Entrypoint, Env, Expose, From, Healthcheck, Label, Maintainer, Onbuild,
    Run, Shell, Stopsignal, User, Volume, Workdir,
};

/// A value and the place it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl Spanned<String> {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// The place of a part of the word: exact where the word stands in the text
    /// as it is here, else the whole word (it runs over a continued line, or is
    /// a JSON string, or a flag's value whose quotes are gone).
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Span {
        let plain = self.span.end - self.span.start == self.value.len();
        let inside = range.start <= range.end && range.end <= self.value.len();
        if plain && inside {
            Span::new(self.span.start + range.start, self.span.start + range.end)
        } else {
            self.span
        }
    }
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Escapes a character, and continues a line: `\` or, by directive, `` ` ``.
    pub escape: char,
    /// `# syntax=`: which frontend BuildKit would fetch; kiln fetches none.
    pub syntax: Option<Spanned<String>>,
    /// `# check=`: settings of BuildKit's linter.
    pub check: Option<Spanned<String>>,
    /// The `ARG` instructions before the first `FROM`.
    pub meta_args: Vec<Arg>,
    pub stages: Vec<Stage>,
    /// What stands around the instructions, by their first bytes.
    pub notes: BTreeMap<usize, Note>,
}

impl Dockerfile {
    /// What stands around the instruction that begins where a span does; none for
    /// what comes from elsewhere, as triggers do.
    #[must_use]
    pub fn note(&self, instruction: Span) -> Option<&Note> {
        self.notes.get(&instruction.start)
    }
}

/// What belongs to an instruction and is no part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The comment lines above, without `#` and white space around. A comment of
    /// nothing cuts off those above it, an empty line does not.
    pub comments: Vec<String>,
    /// The lines from the keyword to the last word, or to the end of the last
    /// heredoc; counted from 1.
    pub lines: RangeInclusive<usize>,
    /// Where a continued instruction ends that has empty lines in it.
    pub continues_over_blank: Option<Span>,
}

impl Note {
    /// What the comments say of a name: a line that begins with it.
    #[must_use]
    pub fn description(&self, name: &str) -> Option<&str> {
        self.comments
            .iter()
            .find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '))
            .filter(|_| !name.is_empty())
    }
}

/// A `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    pub from: From,
    pub instructions: Vec<Instruction>,
    /// From the `FROM` to the end of the last instruction.
    pub span: Span,
}

/// An instruction within a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    Add(Add),
    Arg(Arg),
    Cmd(Cmd),
    Copy(Copy),
    Entrypoint(Entrypoint),
    Env(Env),
    Expose(Expose),
    Healthcheck(Healthcheck),
    Label(Label),
    Maintainer(Maintainer),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Shell),
    Stopsignal(Stopsignal),
    User(User),
    Volume(Volume),
    Workdir(Workdir),
}

macro_rules! each {
    ($instruction:expr, $it:ident => $value:expr) => {
        match $instruction {
            Instruction::Add($it) => $value,
            Instruction::Arg($it) => $value,
            Instruction::Cmd($it) => $value,
            Instruction::Copy($it) => $value,
            Instruction::Entrypoint($it) => $value,
            Instruction::Env($it) => $value,
            Instruction::Expose($it) => $value,
            Instruction::Healthcheck($it) => $value,
            Instruction::Label($it) => $value,
            Instruction::Maintainer($it) => $value,
            Instruction::Onbuild($it) => $value,
            Instruction::Run($it) => $value,
            Instruction::Shell($it) => $value,
            Instruction::Stopsignal($it) => $value,
            Instruction::User($it) => $value,
            Instruction::Volume($it) => $value,
            Instruction::Workdir($it) => $value,
        }
    };
}

impl Instruction {
    /// Where the instruction stands, from its keyword to its last word.
    #[must_use]
    pub fn span(&self) -> Span {
        each!(self, it => it.span)
    }

    /// The instruction on one line: continuations joined, comments left out.
    #[must_use]
    pub fn text(&self) -> &str {
        each!(self, it => &it.text)
    }

    /// The keyword in capitals.
    #[must_use]
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// The two ways of `RUN`, `CMD` and `ENTRYPOINT` to name a command. Neither is
/// expanded: what `$` means is the shell's matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// One text for the shell that `SHELL` names; may be empty.
    Shell(Spanned<String>),
    /// A JSON array: the arguments themselves; may be empty.
    Exec(Vec<Spanned<String>>),
}

/// `key=value`, both as written: quotes and escapes still in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub key: Spanned<String>,
    pub value: Spanned<String>,
}
