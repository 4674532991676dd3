//! Text of strangers (programs, servers, files) made harmless for a terminal.

use crate::progress::Cause;

/// What is done with colours (`ESC [ … m`); every other escape sequence goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Keep,
    Strip,
}

/// Most characters of one line; what follows is cut.
const LONGEST: usize = 8192;

/// One line: of what a program draws over itself with carriage returns the last
/// state stays, escape sequences go, other control characters are spelled out.
pub(super) fn line(text: &str, colours: Colours) -> String {
    let last = text.trim_end_matches(['\r', '\n']);
    clean(last.rsplit('\r').find(|part| !part.is_empty()).unwrap_or(""), colours)
}

/// Most lines of one message.
const MOST_LINES: usize = 200;

/// Several lines, without colours.
pub(super) fn message(text: &str) -> String {
    let lines: Vec<String> =
        text.trim_end().lines().take(MOST_LINES).map(|line| clean(line, Colours::Strip)).collect();
    lines.join("\n")
}

fn clean(text: &str, colours: Colours) -> String {
    let mut out = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    let mut count = 0;
    while let Some(c) = rest.chars().next() {
        if c == '\u{1b}' || c == '\u{9b}' {
            let (sequence, after) = escape(rest);
            if colours == Colours::Keep && is_colour(sequence) {
                out.push_str(sequence);
                coloured = true;
            }
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        count += 1;
        if count > LONGEST {
            out.push('…');
            break;
        }
        match c {
            '\t' => out.push('\t'),
            // Direction overrides make a text look other than it is.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    if coloured {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// Splits off the escape sequence that a text begins with (ECMA-48): CSI up to
/// its final byte, the string kinds (OSC, DCS, …) up to their terminator, any
/// other up to the first byte that is no intermediate one.
fn escape(text: &str) -> (&str, &str) {
    let mut chars = text.char_indices();
    let first = chars.next().map(|(_, c)| c);
    let kind = if first == Some('\u{9b}') { Some('[') } else { chars.next().map(|(_, c)| c) };
    let end = match kind {
        None => text.len(),
        Some('[') => chars
            .find(|(_, c)| !(' '..='?').contains(c))
            .map_or(text.len(), |(at, c)| at + c.len_utf8()),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let mut end = text.len();
            let mut before = ' ';
            for (at, c) in chars {
                if c == '\u{7}' || c == '\u{9c}' || (before == '\u{1b}' && c == '\\') {
                    end = at + c.len_utf8();
                    break;
                }
                before = c;
            }
            end
        }
        Some(' '..='/') => chars
            .find(|(_, c)| !(' '..='/').contains(c))
            .map_or(text.len(), |(at, c)| at + c.len_utf8()),
        Some(c) => text.find(c).map_or(text.len(), |at| at + c.len_utf8()),
    };
    text.split_at(end)
}

fn is_colour(sequence: &str) -> bool {
    sequence
        .strip_prefix("\u{1b}[")
        .and_then(|rest| rest.strip_suffix('m'))
        .is_some_and(|inner| inner.bytes().all(|c| c.is_ascii_digit() || b";:".contains(&c)))
}

/// A JSON object on one line, in which every control character is escaped, also
/// those beyond ASCII that JSON itself allows.
pub(super) fn json(object: &serde_json::Value) -> String {
    let mut out = String::new();
    for c in object.to_string().chars() {
        if c.is_control() {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON on several lines, in which every control character is escaped.
pub(super) fn pretty_json(value: &serde_json::Value) -> serde_json::Result<String> {
    let mut out = String::new();
    for c in serde_json::to_string_pretty(value)?.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Why a step is made anew: in one line, or each cause on one of its own.
pub(super) fn causes(causes: &[Cause], all: bool) -> Vec<String> {
    /// Named in one line.
    const FEW: usize = 3;
    let told = |cause: &Cause| line(&cause.text, Colours::Strip);
    if all {
        return causes.iter().map(|cause| format!("made anew: {}", told(cause))).collect();
    }
    let mut few: Vec<String> = causes.iter().take(FEW).map(told).collect();
    few.extend((causes.len() > FEW).then(|| "…".to_owned()));
    vec![format!("made anew: {}", few.join("; "))]
}

/// Bytes as people read them: decimal units, three figures.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "three figures are shown")]
    let mut value = count as f64;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// Columns, each as wide as its widest cell, with two spaces between them.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (text, stripped, kept) in [
            ("plain\ttab", "plain\ttab", "plain\ttab"),
            ("10%\r20%\r30%\r", "30%", "30%"),
            ("\u{1b}[31mred", "red", "\u{1b}[31mred\u{1b}[0m"),
            ("\u{1b}[2J\u{1b}[1;1Hx", "x", "x"),
            ("\u{1b}]0;title\u{7}x", "x", "x"),
            ("\u{1b}]8;;http://e\u{1b}\\x", "x", "x"),
            ("\u{9b}31mx", "x", "x"),
            ("\u{1b}", "", ""),
            ("\u{1b}[", "", ""),
            ("\u{1b}(Bx", "x", "x"),
            ("\u{1b}cx", "x", "x"),
            ("a\u{8}b\u{85}", "a\\u{8}b\\u{85}", "a\\u{8}b\\u{85}"),
            ("\u{202e}x", "\\u{202e}x", "\\u{202e}x"),
            ("", "", ""),
        ] {
            assert_eq!(line(text, Colours::Strip), stripped, "{text:?}");
            assert_eq!(line(text, Colours::Keep), kept, "{text:?}");
        }
        assert_eq!(line(&"x".repeat(20_000), Colours::Strip).chars().count(), LONGEST + 1);
        assert_eq!(message("a\nb\u{7}\n"), "a\nb\\u{7}");
    }

    #[test]
    fn json_is_harmless() {
        let value = serde_json::json!({ "a": "\u{1b}\u{9b}" });
        assert_eq!(pretty_json(&value).unwrap(), "{\n  \"a\": \"\\u001b\\u009b\"\n}");
    }

    #[test]
    fn sizes() {
        for (count, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (12_345, "12.3kB"),
            (999_499, "999kB"),
            (999_999, "1.00MB"),
            (5_000_000_000, "5.00GB"),
            (u64::MAX, "18446744TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
