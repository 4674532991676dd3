//! `ONBUILD`: an instruction for the images that start from this one.

use crate::diagnostic::{Diagnostic, Severity, Span};

use super::super::heredoc::Heredoc;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    pub span: Span,
    pub text: String,
    /// As the image config keeps it: the instruction behind the keyword, blanks at
    /// the line's end and its heredocs with it.
    pub trigger: String,
}

/// What cannot wait for another image.
const REFUSED: &[&str] = &["ONBUILD", "FROM", "MAINTAINER"];

impl Onbuild {
    /// `read` parses what follows the keyword. What is wrong there is no error
    /// yet, unless it cannot be cut into words: nothing of it happens in this build.
    pub(in super::super) fn parse(
        st: &Statement<'_>,
        heredocs: &[Heredoc],
        out: &mut Vec<Diagnostic>,
        read: impl FnOnce(&Statement<'_>, &mut Vec<Diagnostic>),
    ) -> Option<Self> {
        st.no_flags(out)?;
        if st.rest.is_empty() {
            out.push(st.lacks("an instruction").hint("write ONBUILD RUN make, for instance"));
            return None;
        }
        let inner = st.within();
        if REFUSED.contains(&inner.keyword.as_str()) {
            let said = format!("{} cannot be a trigger", inner.keyword);
            out.push(Diagnostic::error(inner.word().span, said).label("not behind ONBUILD"));
            return None;
        }
        let mut said = Vec::new();
        read(&inner, &mut said);
        if inner.malformed() {
            out.extend(said);
            return None;
        }
        out.extend(said.into_iter().map(|said| Diagnostic {
            severity: Severity::Warning,
            message: format!("builds from this image will fail: {}", said.message),
            ..said
        }));
        let mut trigger = inner.text_to_the_end();
        trigger.extend(heredocs.iter().map(Heredoc::raw));
        Some(Self { span: st.span(), text: st.text(), trigger })
    }
}
