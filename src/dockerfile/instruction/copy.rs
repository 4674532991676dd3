//! `COPY`: files of the context, of a stage or of an image into the image.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::super::expand::expand;
use super::super::flags::Known;
use super::super::heredoc::Heredoc;
use super::super::lexer::shown;
use super::{Remote, Statement, Transfer, remote, transfer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub span: Span,
    pub text: String,
    pub files: Transfer,
    /// `--from`: a stage's name or number, a named context or an image; has no
    /// variables.
    pub from: Option<Spanned<String>>,
    pub chown: Option<Spanned<String>>,
    pub chmod: Option<Spanned<String>>,
    /// The layer does not depend on what is below.
    pub link: bool,
    /// The sources' own folders are made at the destination.
    pub parents: bool,
    /// Patterns of what is left out; no variables.
    pub excludes: Vec<Spanned<String>>,
}

pub(in super::super) const FLAGS: &[Known] = &[
    Known::full("from"),
    Known::full("chown"),
    Known::full("chmod"),
    Known::switch("link"),
    Known::switch("parents"),
    Known::many("exclude"),
];

impl Copy {
    pub(in super::super) fn parse(
        st: &Statement<'_>,
        heredocs: &[Heredoc],
        out: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let flags = st.flags(FLAGS, out);
        let files = transfer(st, heredocs, out)?;
        let errors = out.len();
        for source in &files.sources {
            out.extend(remote(&source.value).map(|remote| {
                let what = match remote {
                    Remote::Url => "a URL",
                    Remote::Git => "a git repository",
                };
                Diagnostic::error(source.span, format!("COPY cannot take {what}"))
                    .label("not a file of the context")
                    .hint("ADD takes it")
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
            files,
            from,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.switch("link").unwrap_or_default(),
            parents: flags.switch("parents").unwrap_or_default(),
            excludes: flags.values("exclude"),
        })
    }
}

fn is_literal(word: &str, escape: char) -> bool {
    expand(word, escape, &|_| None).is_ok_and(|expanded| expanded.value == word)
}
