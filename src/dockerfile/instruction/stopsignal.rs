//! `STOPSIGNAL`: what a container of the image is sent to stop it.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopsignal {
    pub span: Span,
    pub text: String,
    /// All that follows the keyword, spaces within it too.
    pub signal: Spanned<String>,
}

impl Stopsignal {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let signal = st.single("a signal", out)?;
        Some(Self { span: st.span(), text: st.text(), signal })
    }
}
