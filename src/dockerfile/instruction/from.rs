//! `FROM`: what a stage starts from, and what it is called.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::super::flags::Known;
use super::super::lexer::shown;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    pub span: Span,
    pub text: String,
    /// An image, an earlier stage's name or `scratch`; to be expanded.
    pub image: Spanned<String>,
    /// `--platform`; to be expanded.
    pub platform: Option<Spanned<String>>,
    /// `AS`: in lower case, since stages are looked up without regard to case.
    pub name: Option<Spanned<String>>,
}

pub(super) const FLAGS: &[Known] = &[Known::full("platform")];

impl From {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        let flags = st.flags(FLAGS, out);
        let words: Vec<Spanned<String>> =
            st.blank_separated().iter().map(|word| st.spanned(word)).collect();
        let (image, name) = match &words[..] {
            [] => {
                out.push(st.lacks("an image").hint("write FROM IMAGE, or FROM scratch"));
                return None;
            }
            [image] => (image, None),
            [image, word, name] if word.value.eq_ignore_ascii_case("as") => (image, Some(name)),
            [_, word] if word.value.eq_ignore_ascii_case("as") => {
                let said = Diagnostic::error(word.span, "AS needs a name for the stage");
                out.push(said.hint("write FROM IMAGE AS NAME"));
                return None;
            }
            [_, second, ..] => {
                out.push(
                    Diagnostic::error(second.span, "FROM takes an image, and AS with a name")
                        .label("not expected")
                        .hint("write FROM IMAGE or FROM IMAGE AS NAME"),
                );
                return None;
            }
        };
        let name = match name {
            Some(name) => Some(stage_name(name, out)?),
            None => None,
        };
        Some(Self {
            span: st.span(),
            text: st.text(),
            image: image.clone(),
            platform: flags?.value("platform").filter(|platform| !platform.value.is_empty()),
            name,
        })
    }
}

fn stage_name(word: &Spanned<String>, out: &mut Vec<Diagnostic>) -> Option<Spanned<String>> {
    let name = word.value.to_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits) {
        return Some(Spanned::new(name, word.span));
    }
    out.push(
        Diagnostic::error(word.span, format!("`{}` cannot name a stage", shown(&word.value)))
            .hint("a name begins with a letter; letters, digits, `-`, `_` and `.` follow"),
    );
    None
}
