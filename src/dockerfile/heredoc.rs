//! Heredocs: `<<NAME` on an instruction's line, and the lines up to `NAME`.
//!
//! `RUN`, `COPY` and `ADD` may have them, alone or behind `ONBUILD`, unless their
//! arguments are a JSON array. Several on one line follow each other.

use std::borrow::Cow;

use crate::diagnostic::{Diagnostic, Span};

use super::expand::split_words;
use super::lexer::{Lexer, Line, shown};

/// A heredoc: its name on the instruction's line, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The line that ends it; quotes are gone.
    pub name: String,
    /// The lines up to that, as they stand in the file.
    pub content: String,
    /// False where a part of the name is quoted: its variables are text then.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines do not count.
    pub chomp: bool,
    /// `<<NAME`, in the instruction's line.
    pub span: Span,
}

impl Heredoc {
    /// The text that is meant: without leading tabs after `<<-`.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        if !self.chomp {
            return Cow::Borrowed(&self.content);
        }
        let lines = self.content.split_inclusive('\n');
        Cow::Owned(lines.map(|line| line.trim_start_matches('\t')).collect())
    }

    /// As it stood behind its instruction: the text and the line that ends it.
    pub(super) fn raw(&self) -> String {
        format!("\n{}{}", self.content, self.name)
    }
}

/// What a word that announces a heredoc says; its content is empty. None for
/// other words.
pub(super) fn announced(word: &str, span: Span) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, name) = match rest.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, rest),
    };
    let name = name.trim_start();
    if name.is_empty() || name.contains('<') {
        return None;
    }
    let one = |raw: bool| match &split_words(name, '\\', raw).ok()?[..] {
        [one] => Some(one.clone()),
        _ => None,
    };
    let (word, raw) = (one(false)?, one(true)?);
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = quotes(&word) == quotes(&raw);
    Some(Heredoc { name: word, content: String::new(), expand, chomp, span })
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
        // Behind a quote or an escape the word may differ from the text.
        let plain = word.split(['"', '\'', '\\']).next().unwrap_or_default();
        let start = line.text[from..].find(plain).map_or(from, |at| from + at);
        let end = line.text.floor_char_boundary(start + word.len());
        found.extend(announced(&word, line.span(&(start..end))));
        from = start + plain.len();
    }
    found
}

/// Reads the lines of `heredocs`, one after the other. False if one does not end.
pub(super) fn fill(
    heredocs: &mut [Heredoc],
    file: &str,
    lexer: &mut Lexer<'_>,
    out: &mut Vec<Diagnostic>,
) -> bool {
    for heredoc in heredocs {
        loop {
            let Some(line) = lexer.physical_with_end() else {
                let name = shown(&heredoc.name);
                out.push(
                    Diagnostic::error(heredoc.span, "the heredoc does not end")
                        .label(format!("no line is `{name}`"))
                        .hint(format!("put `{name}` alone on the line behind the text")),
                );
                return false;
            };
            let line = &file[line];
            let bare = line.trim_end_matches(['\r', '\n']);
            let bare = if heredoc.chomp { bare.trim_start_matches('\t') } else { bare };
            if bare == heredoc.name {
                break;
            }
            heredoc.content.push_str(line);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements() {
        let read =
            |word: &str| announced(word, Span::default()).map(|it| (it.name, it.expand, it.chomp));
        let is = |name: &str, expand, chomp| Some((name.to_owned(), expand, chomp));
        for (word, want) in [
            ("<<EOF", is("EOF", true, false)),
            ("<<-EOF", is("EOF", true, true)),
            ("<<'EOF'", is("EOF", false, false)),
            ("<<-\"EOF\"", is("EOF", false, true)),
            ("<<E'O'F", is("EOF", false, false)),
            ("3<<EOF", is("EOF", true, false)),
            ("<<$EOF", is("$EOF", true, false)),
            ("<<", None),
            ("<<-", None),
            ("<<<EOF", None),
            ("a<<EOF", None),
            ("<EOF", None),
        ] {
            assert_eq!(read(word), want, "{word}");
        }
    }

    #[test]
    fn places() {
        // Of a name with escapes the end is a guess.
        for text in [r#"<<"a\b\c" 한국"#, r#"<<"\b\b\b"한<<x"#, r#""\b" <<a "\b" <<a b"#] {
            let mut out = Vec::new();
            let file = format!("RUN {text}");
            let line = Lexer::new(&file).line(&mut out).unwrap();
            for heredoc in of(&line) {
                let place = file.get(heredoc.span.range()).unwrap();
                assert!(place.starts_with("<<"), "{place} of {text}");
            }
        }
    }

    #[test]
    fn chomped_lines() {
        let heredoc = Heredoc {
            name: "E".into(),
            content: "\t\ta\n b\tc\n\t\n".into(),
            expand: true,
            chomp: true,
            span: Span::default(),
        };
        assert_eq!(heredoc.text(), "a\n b\tc\n\n");
    }
}
