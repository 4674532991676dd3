//! From bytes to logical lines: directives, comments, continuations.
//!
//! A [`Line`] is what one instruction is read from. It knows where each of its
//! bytes stood, so that a word of it can be shown in the file.

use std::borrow::Cow;
use std::ops::Range;

use crate::diagnostic::{Diagnostic, Span};

use super::ast::Spanned;

/// What the comment lines at the very top may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) escape: char,
    pub(super) syntax: Option<Spanned<String>>,
    pub(super) check: Option<Spanned<String>>,
}

/// One instruction's text with the line ends and comments taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// Where in `text` a piece begins and where in the file; by `text`, never empty.
    pieces: Vec<(usize, usize)>,
    /// The first of its lines, counted from 1.
    pub(super) number: usize,
    /// The comment lines above; see [`Note`](super::ast::Note).
    pub(super) comments: Vec<String>,
    /// The last of the continued lines, if there are empty ones among them.
    pub(super) over_blank: Option<Span>,
    /// Where all of it is said to stand, if it is from elsewhere.
    place: Option<Span>,
}

impl Line {
    fn source(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.0 <= at);
        let (text, file) = self.pieces[after.saturating_sub(1)];
        file + at.saturating_sub(text)
    }

    /// The line, as if all of it stood at one place.
    pub(super) fn placed(self, place: Span) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Where a part of `text` stands in the file.
    pub(super) fn span(&self, range: &Range<usize>) -> Span {
        if let Some(place) = self.place {
            return place;
        }
        let start = self.source(range.start);
        // The end belongs to the last byte: the place after it may be lines below.
        let end = if range.is_empty() { start } else { self.source(range.end - 1) + 1 };
        Span::new(start, end)
    }

    pub(super) fn spanned(&self, range: &Range<usize>) -> Spanned<String> {
        Spanned::new(self.text[range.clone()].to_owned(), self.span(range))
    }

    fn push(&mut self, file: &str, range: Range<usize>) {
        if !range.is_empty() {
            if self.text.is_empty() {
                self.pieces.clear();
            }
            self.pieces.push((self.text.len(), range.start));
            self.text.push_str(&file[range]);
        }
    }
}

/// `range` without the white space at both ends.
pub(super) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..(start + part.trim().len())
}

pub(super) struct Lexer<'a> {
    file: &'a str,
    at: usize,
    pub(super) directives: Directives,
    /// False from the first line on that is no directive.
    directives_open: bool,
    escape_seen: bool,
    /// How many lines were read.
    pub(super) lines: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self {
            file,
            at: if file.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 },
            directives: Directives { escape: '\\', syntax: None, check: None },
            directives_open: true,
            escape_seen: false,
            lines: 0,
        }
    }

    /// The next line of the file, with its line end.
    pub(super) fn physical_with_end(&mut self) -> Option<Range<usize>> {
        if self.at >= self.file.len() {
            return None;
        }
        let start = self.at;
        let rest = &self.file[start..];
        self.at += rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        self.lines += 1;
        Some(start..self.at)
    }

    /// The next line of the file, without its line end.
    fn physical(&mut self) -> Option<Range<usize>> {
        let line = self.physical_with_end()?;
        let text = self.file[line.clone()].trim_end_matches(['\r', '\n']);
        Some(line.start..line.start + text.len())
    }

    /// The next line that is not blank and no comment, with those it continues on.
    pub(super) fn line(&mut self, out: &mut Vec<Diagnostic>) -> Option<Line> {
        let mut comments = Vec::new();
        loop {
            let whole = self.physical()?;
            let first = trim_start(self.file, whole.clone());
            let directive = self.directives_open && self.directive(first.clone(), out);
            if self.file[first.clone()].starts_with('#') {
                // As BuildKit: one character goes, which in an indented comment is
                // not the `#`.
                let mut comment = self.file[whole].chars();
                comment.next();
                match comment.as_str().trim() {
                    "" => comments.clear(),
                    _ if directive => {}
                    comment => comments.push(comment.to_owned()),
                }
                continue;
            }
            if first.is_empty() {
                continue;
            }
            return Some(Line { comments, number: self.lines, ..self.continued(first) });
        }
    }

    fn continued(&mut self, first: Range<usize>) -> Line {
        let mut line = Line {
            text: String::new(),
            pieces: vec![(0, first.start)],
            number: 0,
            comments: Vec::new(),
            over_blank: None,
            place: None,
        };
        let (mut last, mut blank) = (first.clone(), false);
        let (part, mut more) = self.without_continuation(first);
        line.push(self.file, part);
        while more {
            let Some(next) = self.physical() else { break };
            let seen = self.file[next.clone()].trim_start();
            if seen.starts_with('#') {
                last = next;
                continue;
            }
            if seen.is_empty() {
                blank = true;
                last = next;
                continue;
            }
            last = next.clone();
            let (part, goes_on) = self.without_continuation(next);
            line.push(self.file, part);
            more = goes_on;
        }
        if blank {
            let last = trim(self.file, last);
            line.over_blank = Some(Span::new(last.start, last.end));
        }
        line
    }

    /// Takes the escape character at the end away, if it continues the line:
    /// blanks may follow it, and no other escape character stands before it.
    fn without_continuation(&self, range: Range<usize>) -> (Range<usize>, bool) {
        let escape = self.directives.escape;
        let text = self.file[range.clone()].trim_end_matches([' ', '\t']);
        match text.strip_suffix(escape) {
            Some(before) if !before.ends_with(escape) => {
                (range.start..range.start + before.len(), true)
            }
            _ => (range, false),
        }
    }

    /// Reads the line if it is a directive; whether it is one.
    fn directive(&mut self, line: Range<usize>, out: &mut Vec<Diagnostic>) -> bool {
        let Some((name, value)) = directive(self.file, line.clone()) else {
            self.directives_open = false;
            return false;
        };
        let key = self.file[name.clone()].to_ascii_lowercase();
        let span = Span::new(value.start, value.end);
        let spanned = Spanned::new(self.file[value].to_owned(), span);
        let again = match key.as_str() {
            "syntax" => self.directives.syntax.replace(spanned).is_some(),
            "check" => self.directives.check.replace(spanned).is_some(),
            "escape" => {
                match spanned.value.as_str() {
                    "\\" => self.directives.escape = '\\',
                    "`" => self.directives.escape = '`',
                    other => out.push(
                        Diagnostic::error(
                            span,
                            format!("`{other}` cannot be the escape character"),
                        )
                        .label("neither \\ nor `")
                        .hint("write `# escape=\\` or `# escape=` with a backtick"),
                    ),
                }
                std::mem::replace(&mut self.escape_seen, true)
            }
            _ => {
                self.directives_open = false;
                return false;
            }
        };
        if again {
            out.push(
                Diagnostic::error(
                    Span::new(name.start, name.end),
                    format!("the directive `{key}` is given twice"),
                )
                .hint("keep one of them"),
            );
        }
        true
    }
}

fn trim_start(file: &str, range: Range<usize>) -> Range<usize> {
    let text = &file[range.clone()];
    range.end - text.trim_start().len()..range.end
}

/// `# name = value`, as places of the name and the value.
fn directive(file: &str, line: Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    let text = file[line.clone()].strip_prefix('#')?.trim_start();
    let start = line.end - text.len();
    let (name, value) = named_value(text)?;
    Some((start + name.start..start + name.end, start + value.start..start + value.end))
}

/// `name = value`, as places in the text.
fn named_value(text: &str) -> Option<(Range<usize>, Range<usize>)> {
    let length = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let value = text[length..].trim_start().strip_prefix('=')?;
    let value = trim(text, text.len() - value.len()..text.len());
    (!value.is_empty()).then_some((0..length, value))
}

/// A comment's text as `name = value`, if it is a directive wherever it stands.
pub(super) fn directive_of(comment: &str) -> Option<(&str, &str)> {
    let text = comment.trim_start();
    let (name, value) = named_value(text)?;
    Some((&text[name], &text[value]))
}

/// A text in quotes for a message, cut where it is long.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => Cow::Owned(format!("{}…", &text[..cut])),
        None => Cow::Borrowed(text),
    }
}
