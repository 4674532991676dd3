//! `RUN`: a command whose changes to the file system become a layer.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::CommandLine;
use super::super::flags::Known;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub span: Span,
    pub text: String,
    pub command: CommandLine,
}

const FLAGS: &[Known] = &[
    Known::lacking("mount", &[], "COPY the files in, and remove caches within the same RUN"),
    Known::lacking(
        "network",
        &["default"],
        "leave the flag out: the step uses the build's network",
    ),
    Known::lacking("security", &["sandbox"], "leave the flag out: the step runs in the sandbox"),
    Known::lacking("device", &[], "leave the flag out: steps see no devices of the host"),
];

impl Run {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        let flags = st.flags(FLAGS, out);
        let command = st.command_line(out)?;
        flags?;
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
        Some(Self { span: st.span(), text: st.text(), command })
    }
}
