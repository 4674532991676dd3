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
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
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
    fn places_of_elements() {
        let text = r#"[ "a" , "b,\"]", [1, 2], {"x": "]"} ,3 ]"#;
        let found: Vec<&str> = elements(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, [r#""a""#, r#""b,\"]""#, "[1, 2]", r#"{"x": "]"}"#, "3"]);
        assert!(elements("[]").is_empty());
    }
}
