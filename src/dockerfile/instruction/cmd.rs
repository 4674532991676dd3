//! `CMD`: what a container of the image runs, or the arguments of its `ENTRYPOINT`.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::CommandLine;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmd {
    pub span: Span,
    pub text: String,
    pub command: CommandLine,
}

impl Cmd {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        Some(Self { span: st.span(), text: st.text(), command: st.command_line(out)? })
    }
}
