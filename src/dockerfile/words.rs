//! How an instruction's text is cut into words before anything is expanded.
//!
//! Two ways, as BuildKit has them: at white space alone (`COPY`, `FROM`,
//! `EXPOSE`, …), and with regard to quotes (`ENV`, `LABEL`, `ARG`). Quotes and
//! escapes stay in the words; [`expand()`](super::expand()) takes them out.

use std::ops::Range;

/// What separates words where quotes mean nothing.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

/// The words of a part of `text`, cut at white space alone.
pub(super) fn blank_separated(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text[range.clone()].char_indices() {
        let at = range.start + at;
        match (start, is_blank(c)) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                words.push(from..at);
                start = None;
            }
            (None, true) | (Some(_), false) => {}
        }
    }
    words.extend(start.map(|from| from..range.end));
    words
}

/// The words of a part of `text`; white space within quotes or after an escape
/// belongs to the word.
pub(super) fn quoted(text: &str, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut end = range.end;
    let mut chars = text[range.clone()].char_indices().map(|(at, c)| (range.start + at, c));
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|from| from..at));
            continue;
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') {
            // An escape that has nothing to escape is no part of the word.
            if chars.next().is_none() {
                end = at;
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|from| from..end).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting() {
        let cases: [(&str, &[&str]); 9] = [
            ("a=b c=d", &["a=b", "c=d"]),
            (r#"a="x y" b='p q'"#, &[r#"a="x y""#, "b='p q'"]),
            (r"a=x\ y b=2", &[r"a=x\ y", "b=2"]),
            (r#"a="x\" y" b"#, &[r#"a="x\" y""#, "b"]),
            (r"a='x\' b", &[r"a='x\'", "b"]),
            (r#""" b"#, &[r#""""#, "b"]),
            (r"a\", &["a"]),
            (r"\", &[]),
            ("a=\"한 국\" b", &["a=\"한 국\"", "b"]),
        ];
        for (text, want) in cases {
            let words: Vec<&str> =
                quoted(text, 0..text.len(), '\\').into_iter().map(|word| &text[word]).collect();
            assert_eq!(words, want, "{text}");
        }
        let text = " a\t\"b  c\" ";
        let words: Vec<&str> =
            blank_separated(text, 0..text.len()).into_iter().map(|word| &text[word]).collect();
        assert_eq!(words, ["a", "\"b", "c\""]);
    }
}
