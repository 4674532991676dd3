//! Texts of servers are data: they may hold anything and be of any length.

use std::fmt::Write as _;

/// A text that is safe to show: control characters (among them escape sequences
/// and line breaks) and marks that reorder text are escaped, and what is longer
/// than `limit` characters is cut. Blanks around it are left out.
#[must_use]
pub fn escaped(text: &str, limit: usize) -> String {
    spelled(text.trim(), limit)
}

/// As [`escaped`], with the blanks around it: for names and lines that differ in them.
#[must_use]
pub fn spelled(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == limit {
            out.push('…');
            break;
        }
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || reorders {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_24_server_text_is_data() {
        for (text, expected) in [
            (" plain words\r\n", "plain words"),
            ("plain words: ünïcode", "plain words: ünïcode"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("two\nlines", "two\\u{a}lines"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("0123456789abc", "0123456789…"),
        ] {
            assert_eq!(escaped(text, if text.starts_with('0') { 10 } else { 100 }), expected);
        }
        assert_eq!(spelled(" a\r", 100), " a\\u{d}");
    }
}
