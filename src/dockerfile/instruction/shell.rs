//! `SHELL`: what runs the commands that are no JSON array.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    pub span: Span,
    pub text: String,
    /// At least one; never expanded.
    pub arguments: Vec<Spanned<String>>,
}

impl Shell {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let hint = r#"write SHELL ["/bin/bash", "-c"]"#;
        match st.json(out)? {
            Some(arguments) if !arguments.is_empty() => {
                Some(Self { span: st.span(), text: st.text(), arguments })
            }
            None if !st.rest.is_empty() => {
                let place = st.line.span(&st.rest);
                out.push(Diagnostic::error(place, "SHELL takes a JSON array only").hint(hint));
                None
            }
            Some(_) | None => {
                out.push(st.lacks("a command").hint(hint));
                None
            }
        }
    }
}
