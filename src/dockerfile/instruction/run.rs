//! `RUN`: a command whose changes to the file system become a layer.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::{CommandLine, Spanned};
use super::super::flags::Known;
use super::super::heredoc::{self, Heredoc};
use super::super::suggest;
use super::{Statement, mount};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub span: Span,
    pub text: String,
    pub command: CommandLine,
    /// Their names stand in the command.
    pub heredocs: Vec<Heredoc>,
    /// The values of `--mount`, which [`Mount::parse`](super::Mount::parse) reads
    /// once the variables are known.
    pub mounts: Vec<Spanned<String>>,
    pub network: RunNetwork,
    pub security: Security,
}

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunNetwork {
    /// The build's.
    #[default]
    Default,
    None,
    Host,
}

/// `--security`: where it is written, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    #[default]
    Sandbox,
    Insecure(Span),
}

pub(in super::super) const FLAGS: &[Known] = &[
    Known::many("mount"),
    Known::full("network"),
    Known::full("security"),
    Known::lacking(
        "device",
        &[],
        "leave the flag out: it belongs to BuildKit's experimental syntax, and steps of kiln see no devices",
    ),
];

impl Run {
    pub(in super::super) fn parse(
        st: &Statement<'_>,
        heredocs: Vec<Heredoc>,
        out: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let errors = out.len();
        let flags = st.flags(FLAGS, out);
        let command = st.command_line(out)?;
        let mut flags = flags?;
        let mounts = flags.values("mount");
        out.extend(mounts.iter().filter_map(|flag| mount::early(flag).err()));
        let network = flags.value("network").and_then(|word| {
            let all = [
                ("default", RunNetwork::Default),
                ("none", RunNetwork::None),
                ("host", RunNetwork::Host),
            ];
            one_of(&word, &all, out)
        });
        let security = flags.value("security").and_then(|word| {
            let all = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure(word.span))];
            one_of(&word, &all, out)
        });
        if out[errors..].iter().any(Diagnostic::is_error) {
            return None;
        }
        match &command {
            CommandLine::Shell(text) if text.value.is_empty() => {
                out.push(Diagnostic::warning(st.word().span, "RUN has no command"));
            }
            CommandLine::Exec(arguments) if arguments.is_empty() => {
                out.push(st.lacks("a command to run"));
                return None;
            }
            CommandLine::Shell(_) | CommandLine::Exec(_) => {}
        }
        Some(Self {
            span: st.span(),
            text: st.text(),
            command,
            heredocs,
            mounts,
            network: network.unwrap_or_default(),
            security: security.unwrap_or_default(),
        })
    }

    /// The script that the whole command is: `RUN <<NAME` and nothing else.
    #[must_use]
    pub fn script(&self) -> Option<&Heredoc> {
        match &self.command {
            CommandLine::Shell(text) => {
                heredoc::announced(&text.value, text.span)?;
                self.heredocs.first()
            }
            CommandLine::Exec(_) => None,
        }
    }

    /// The command with its heredocs behind it, for the shell to read.
    #[must_use]
    pub fn reconstituted(&self, command: &str) -> String {
        let mut text = command.to_owned();
        text.extend(self.heredocs.iter().map(Heredoc::raw));
        text
    }
}

fn one_of<T: Copy>(
    word: &Spanned<String>,
    all: &[(&'static str, T)],
    out: &mut Vec<Diagnostic>,
) -> Option<T> {
    let name = word.value.to_ascii_lowercase();
    let found = all.iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let names: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
        let hint = match suggest::nearest(&name, names.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("it is one of {}", names.join(", ")),
        };
        let said = format!("`{}` is none of the values that this flag has", word.value);
        out.push(Diagnostic::error(word.span, said).hint(hint));
    }
    found.map(|(_, value)| *value)
}
