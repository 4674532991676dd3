//! `MAINTAINER`: the image's author; never expanded.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintainer {
    pub span: Span,
    pub text: String,
    /// All that follows the keyword, spaces within it too.
    pub name: Spanned<String>,
}

impl Maintainer {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let name = st.single("a name", out)?;
        Some(Self { span: st.span(), text: st.text(), name })
    }
}
