//! `ARG`: variables that the builder's caller may set.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::super::words;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    pub span: Span,
    pub text: String,
    pub items: Vec<ArgItem>,
}

/// One variable of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgItem {
    /// Never expanded.
    pub name: Spanned<String>,
    /// What it is if nobody sets it: as written, expanded when it is needed.
    pub default: Option<Spanned<String>>,
}

impl Arg {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let words = words::quoted(&st.line.text, st.rest.clone(), st.escape);
        if words.is_empty() {
            out.push(st.lacks("a name").hint("write ARG NAME or ARG NAME=default"));
            return None;
        }
        let mut items = Vec::with_capacity(words.len());
        let errors = out.len();
        for word in words {
            match st.line.text[word.clone()].find('=') {
                None => items.push(ArgItem { name: st.spanned(&word), default: None }),
                Some(0) => out.push(st.nameless(&word)),
                Some(length) => {
                    let equals = word.start + length;
                    items.push(ArgItem {
                        name: st.spanned(&(word.start..equals)),
                        default: Some(st.spanned(&(equals + 1..word.end))),
                    });
                }
            }
        }
        (out.len() == errors).then(|| Self { span: st.span(), text: st.text(), items })
    }
}
