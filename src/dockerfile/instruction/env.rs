//! `ENV`: variables of later steps and of the image's command.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Pair;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Env {
    pub span: Span,
    pub text: String,
    /// In the order given; keys and values are both expanded.
    pub pairs: Vec<Pair>,
    /// True for the old form, `ENV key value`.
    pub old_form: bool,
}

impl Env {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let (pairs, old_form) = st.pairs(out)?;
        Some(Self { span: st.span(), text: st.text(), pairs, old_form })
    }
}
