//! The JSON form of an instruction's arguments: `["a", "b"]`.

use std::ops::Range;

use crate::diagnostic::Diagnostic;

use super::ast::Spanned;
use super::lexer::Line;

/// What a text in brackets turned out to be.
pub(super) enum Form {
    /// An array of strings.
    Strings(Vec<Spanned<String>>),
    /// A JSON array of something else, which has no meaning here.
    Refused(Diagnostic),
    /// No JSON array: the text means what it says.
    Plain,
}

pub(super) fn form(line: &Line, range: &Range<usize>) -> Form {
    let text = &line.text[range.clone()];
    if !text.starts_with('[') {
        return Form::Plain;
    }
    let read = |text: &str| serde_json::from_str::<Vec<serde_json::Value>>(text).ok();
    let Some(values) = read(text).or_else(|| read(&without_halves(text))) else {
        return Form::Plain;
    };
    let mut strings = Vec::with_capacity(values.len());
    for (value, element) in values.into_iter().zip(elements(text)) {
        let place = line.span(&(range.start + element.start..range.start + element.end));
        match value {
            serde_json::Value::String(value) => strings.push(Spanned::new(value, place)),
            _ => {
                return Form::Refused(
                    Diagnostic::error(place, "the JSON form takes strings only")
                        .label("not a string")
                        .hint("put every argument in double quotes"),
                );
            }
        }
    }
    Form::Strings(strings)
}

/// The text with escapes of half a UTF-16 pair made those of U+FFFD, which Go reads
/// them as. Nothing moves.
fn without_halves(text: &str) -> String {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let here = text.len() - rest.len() + at;
        let length = match (unit(here), unit(here + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                whole.push_str(&rest[..at]);
                whole.push_str("\\ufffd");
                rest = &rest[at + 6..];
                continue;
            }
            // The character behind it is no escape's beginning.
            (Some(_) | None, _) => 1 + rest[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
        whole.push_str(&rest[..at + length]);
        rest = &rest[at + length..];
    }
    whole + rest
}

/// The places of the elements of a text known to be a JSON array.
fn elements(text: &str) -> Vec<Range<usize>> {
    let mut elements = Vec::new();
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut start = None;
    for (at, byte) in text.bytes().enumerate() {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b',' | b']' if depth == 1 => {
                let end = text[..at].trim_end().len();
                elements.extend(start.take().map(|start| start..end));
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth == 1 => {
                start.get_or_insert(at);
            }
            _ => {}
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_pairs() {
        for (text, want) in [
            (r#"["\ud83d\ude00"]"#, r#"["\ud83d\ude00"]"#),
            (
                r#"["\ud800", "\udc00x", "\ud800\ud800\udc00"]"#,
                r#"["\ufffd", "\ufffdx", "\ufffd\ud800\udc00"]"#,
            ),
            (r#"["\\ud800", "\u00e9"]"#, r#"["\\ud800", "\u00e9"]"#),
            (r#"["é\"#, r#"["é\"#),
        ] {
            assert_eq!(without_halves(text), want);
        }
    }

    #[test]
    fn places_of_elements() {
        let text = r#"[ "a" , "b,\"]", [1, 2], {"x": "]"} ,3 ]"#;
        let found: Vec<&str> = elements(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, [r#""a""#, r#""b,\"]""#, "[1, 2]", r#"{"x": "]"}"#, "3"]);
        assert!(elements("[]").is_empty());
    }
}
