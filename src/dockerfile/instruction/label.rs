//! `LABEL`: facts about the image.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Pair;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
    /// In the order given; keys and values are both expanded.
    pub pairs: Vec<Pair>,
    /// True for the old form, `LABEL key value`.
    pub old_form: bool,
}

impl Label {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let (pairs, old_form) = st.pairs(out)?;
        Some(Self { span: st.span(), text: st.text(), pairs, old_form })
    }
}
