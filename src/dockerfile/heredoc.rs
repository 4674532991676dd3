//! Heredocs: `<<NAME` on an instruction's line, and the lines up to `NAME`.
//!
//! They are recognised, and their lines are read so that nobody takes these for
//! instructions; the instruction that has them is refused.

use crate::diagnostic::{Diagnostic, Span};

use super::expand::split_words;
use super::lexer::{Lexer, Line, shown};

/// A heredoc as its first line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    /// The line that ends it.
    name: String,
    /// `<<-`: tabs may stand before that line.
    chomp: bool,
    /// `<<NAME`, in the instruction's line.
    pub(super) span: Span,
}

/// The heredocs that a line announces.
pub(super) fn of(line: &Line) -> Vec<Heredoc> {
    if !line.text.contains("<<") {
        return Vec::new();
    }
    // A line that cannot be cut has none. Heredocs know no other escape character.
    let words = split_words(&line.text, '\\', true).unwrap_or_default();
    let mut from = 0;
    let mut found = Vec::new();
    for word in words {
        let start = line.text[from..].find(&word).map_or(from, |at| from + at);
        let end = (start + word.len()).min(line.text.len());
        let span = line.span(&(start..end));
        from = if line.text.is_char_boundary(end) { end } else { from };
        found.extend(heredoc(&word, span));
    }
    found
}

fn heredoc(word: &str, span: Span) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, name) = match rest.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, rest),
    };
    let name = name.trim_start();
    if name.is_empty() || name.contains('<') {
        return None;
    }
    match &split_words(name, '\\', false).ok()?[..] {
        [name] => Some(Heredoc { name: name.clone(), chomp, span }),
        _ => None,
    }
}

/// Reads the lines of `heredocs`, one after the other.
pub(super) fn skip(
    heredocs: &[Heredoc],
    file: &str,
    lexer: &mut Lexer<'_>,
    out: &mut Vec<Diagnostic>,
) {
    for heredoc in heredocs {
        let ends = |line: &str| {
            let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
            line == heredoc.name
        };
        loop {
            match lexer.physical() {
                Some(line) if ends(&file[line.clone()]) => break,
                Some(_) => {}
                None => {
                    let name = shown(&heredoc.name);
                    out.push(
                        Diagnostic::error(heredoc.span, "the heredoc does not end")
                            .label(format!("no line is `{name}`"))
                            .hint(format!("put `{name}` alone on the line behind the text")),
                    );
                    return;
                }
            }
        }
    }
}
