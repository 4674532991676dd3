//! `VOLUME`: folders that are to lie outside a container's own file system.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub span: Span,
    pub text: String,
    pub paths: Vec<Spanned<String>>,
}

impl Volume {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let mut paths = st.list(out)?;
        if paths.is_empty() {
            out.push(st.lacks("a path"));
            return None;
        }
        for path in &mut paths {
            path.value = path.value.trim().to_owned();
            if path.value.is_empty() {
                out.push(Diagnostic::error(path.span, "VOLUME cannot be an empty path"));
                return None;
            }
        }
        Some(Self { span: st.span(), text: st.text(), paths })
    }
}
