//! `USER`: who later steps and the image's command run as.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub span: Span,
    pub text: String,
    /// All that follows the keyword, spaces within it too.
    pub user: Spanned<String>,
}

impl User {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let user = st.single("a user", out)?;
        Some(Self { span: st.span(), text: st.text(), user })
    }
}
