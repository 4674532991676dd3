//! `WORKDIR`: the folder that later steps and the image's command start in.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workdir {
    pub span: Span,
    pub text: String,
    /// All that follows the keyword, spaces within it too.
    pub path: Spanned<String>,
}

impl Workdir {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let path = st.single("a path", out)?;
        Some(Self { span: st.span(), text: st.text(), path })
    }
}
