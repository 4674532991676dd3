//! `COPY`: files of the context, of a stage or of an image into the image.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::super::expand::expand;
use super::super::flags::Known;
use super::super::lexer::shown;
use super::{Remote, Statement, remote, sources};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub span: Span,
    pub text: String,
    /// At least one; each may be a pattern.
    pub sources: Vec<Spanned<String>>,
    pub destination: Spanned<String>,
    /// `--from`: a stage's name or number, or an image; has no variables.
    pub from: Option<Spanned<String>>,
    pub chown: Option<Spanned<String>>,
    pub chmod: Option<Spanned<String>>,
}

const FLAGS: &[Known] = &[
    Known::full("from"),
    Known::full("chown"),
    Known::full("chmod"),
    Known::lacking("link", &["false"], "leave --link out: the files are the same without it"),
    Known::lacking("parents", &["false"], "name the parent folders in the destination"),
    Known::lacking("exclude", &[], "list the files in .dockerignore, or copy fewer"),
];

impl Copy {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        let flags = st.flags(FLAGS, out);
        let (sources, destination) = sources(st, out)?;
        let errors = out.len();
        for source in &sources {
            out.extend(remote(&source.value).map(|remote| {
                let what = match remote {
                    Remote::Url => "a URL",
                    Remote::Git => "a git repository",
                };
                Diagnostic::error(source.span, format!("COPY cannot take {what}"))
                    .label("not a file of the context")
                    .hint("fetch it in a RUN step, or put it into the context")
            }));
        }
        if out.len() > errors {
            return None;
        }
        let mut flags = flags?;
        let from = flags.value("from").filter(|from| !from.value.is_empty());
        if let Some(from) = &from
            && !is_literal(&from.value, st.escape)
        {
            out.push(
                Diagnostic::error(
                    from.span,
                    format!("--from cannot have variables: `{}`", shown(&from.value)),
                )
                .hint("add a stage `FROM $VARIABLE AS name` with an ARG above it, and name that"),
            );
            return None;
        }
        Some(Self {
            span: st.span(),
            text: st.text(),
            sources,
            destination,
            from,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
        })
    }
}

fn is_literal(word: &str, escape: char) -> bool {
    expand(word, escape, &|_| None).is_ok_and(|expanded| expanded.value == word)
}
