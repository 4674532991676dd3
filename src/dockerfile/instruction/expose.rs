//! `EXPOSE`: ports that a container of the image listens on.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    pub span: Span,
    pub text: String,
    /// Each may expand to several words, and each of these to a range of ports.
    pub ports: Vec<Spanned<String>>,
}

impl Expose {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let ports: Vec<_> = st.blank_separated().iter().map(|word| st.spanned(word)).collect();
        if ports.is_empty() {
            out.push(st.lacks("a port").hint("write EXPOSE 8080 or EXPOSE 53/udp"));
            return None;
        }
        Some(Self { span: st.span(), text: st.text(), ports })
    }
}
