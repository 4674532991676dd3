//! A step's output, line by line as it comes.

use std::io::{BufRead as _, BufReader, Read};

/// Bytes: longer lines are told in parts, none of which a display cuts.
const MAX_LINE: usize = 4 << 10;

/// Tells each line, without its end. What is no text is replaced, and a last line
/// needs no newline.
pub(super) fn lines(from: impl Read, mut tell: impl FnMut(&str)) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        let room = (MAX_LINE - line.len()) as u64;
        match reader.by_ref().take(room).read_until(b'\n', &mut line) {
            // The pipe ends with the last process that holds it.
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        // A character that goes on in the next part waits for it.
        let rest = if line.ends_with(b"\n") { 0 } else { unfinished(&line) };
        let whole = line.len() - rest;
        if whole > 0 && (rest == 0 || line.len() == MAX_LINE) {
            let text = String::from_utf8_lossy(&line[..whole]);
            tell(text.trim_end_matches(['\n', '\r']));
            line.drain(..whole);
        }
    }
    if !line.is_empty() {
        tell(&String::from_utf8_lossy(&line));
    }
}

/// How many bytes at the end begin a character of UTF-8 without ending it.
fn unfinished(line: &[u8]) -> usize {
    let tail = line.len().saturating_sub(3);
    let starts = (tail..line.len()).rev().find(|&at| line[at] & 0xC0 != 0x80);
    let Some(start) = starts else { return 0 };
    match std::str::from_utf8(&line[start..]) {
        Err(error) if error.error_len().is_none() => line.len() - start,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        lines(bytes, |line| told.push(line.to_owned()));
        told
    }

    #[test]
    fn lines_and_their_ends() {
        assert_eq!(told(b""), Vec::<String>::new());
        assert_eq!(told(b"a\n\nb\r\nlast"), ["a", "", "b", "last"]);
        assert_eq!(told(b"\xff\0x\n\xc3"), ["\u{fffd}\0x", "\u{fffd}"]);
        assert_eq!(told("ü".as_bytes()), ["ü"]);
    }

    /// Parts of a long line are the line, whatever characters are where it is cut.
    #[test]
    fn long_lines() {
        for (text, shift) in [("x", 0), ("ü", 0), ("ü", 1), ("€", 1), ("€", 2), ("😀", 3)] {
            let line = "a".repeat(shift) + &text.repeat(3 * MAX_LINE);
            let parts = told(format!("{line}\nnext\n").as_bytes());
            let (next, parts) = parts.split_last().unwrap();
            assert_eq!(next, "next");
            assert_eq!(parts.concat(), line, "{text} {shift}");
            assert!(parts.iter().all(|part| part.len() <= MAX_LINE));
        }
        // No text at all is told as well.
        let parts = told(&vec![0x80; 2 * MAX_LINE + 1]);
        assert_eq!(parts.concat(), "\u{fffd}".repeat(2 * MAX_LINE + 1));
    }
}
