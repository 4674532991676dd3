//! Patterns over slash paths: Go's `filepath.Match`, as the wildcards of `COPY`
//! use it, and the parts that `.dockerignore` adds.
//!
//! All states are followed at once: a match takes at most the pattern's length
//! times the name's.

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at} of the pattern")]
pub struct GlobError {
    pub problem: GlobProblem,
    /// Bytes before the faulty part.
    pub at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobProblem {
    #[error("a `[` that is never closed")]
    OpenClass,
    #[error("a range of characters that is none")]
    Range,
    #[error("a backslash that escapes nothing")]
    Escape,
}

/// A character of a name. Bytes that are no UTF-8 are characters beyond Unicode,
/// each like no other.
type Unit = u32;

const SLASH: Unit = b'/' as Unit;
const BEYOND: Unit = 0x11_0000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Unit(Unit),
    /// `?`: one character, no slash.
    One,
    /// `*`: any number of characters, no slash.
    Any,
    /// `[…]`: one character; Go lets it be a slash.
    Class {
        negated: bool,
        ranges: Vec<(Unit, Unit)>,
    },
    /// `**/`: nothing, or anything that ends in a slash. Always followed by `Inside`.
    Folders,
    /// Within what `Folders` stands for.
    Inside,
    /// `**` at the end: anything.
    Rest,
}

/// A pattern that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    /// What every name that matches begins and ends with: most names are told
    /// apart by these alone.
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

/// True if `name`, all of it, is what `pattern` means.
///
/// # Errors
/// The pattern may be faulty, whether or not the name gets to that part.
pub fn matches(pattern: &str, name: &[u8]) -> Result<bool, GlobError> {
    Ok(Glob::new(pattern)?.matches(name))
}

/// True if a text has a character that makes it more than a name. An escaped one
/// does not, and a closing bracket alone does not.
#[must_use]
pub fn has_wildcard(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

impl Glob {
    /// Reads a pattern of Go's `filepath.Match`.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        let mut reader = Reader { text: pattern, at: 0 };
        let mut tokens = Vec::new();
        while let Some(token) = reader.token()? {
            tokens.push(token);
        }
        Ok(Self::from_tokens(tokens))
    }

    pub(super) fn from_tokens(tokens: Vec<Token>) -> Self {
        let literal = |token: &Token| match token {
            Token::Unit(unit) => char::from_u32(*unit),
            _ => None,
        };
        let prefix: String = tokens.iter().map_while(literal).collect();
        let suffix: Vec<char> = tokens.iter().rev().map_while(literal).collect();
        let suffix: String = suffix.into_iter().rev().collect();
        Self { tokens, prefix: prefix.into_bytes(), suffix: suffix.into_bytes() }
    }

    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        name.starts_with(&self.prefix)
            && name.ends_with(&self.suffix)
            && self.run(name)[self.tokens.len()]
    }

    /// True if some name that begins with `start` matches.
    pub(super) fn may_go_on_from(&self, start: &[u8]) -> bool {
        self.run(start).contains(&true)
    }

    /// The states after `name`.
    fn run(&self, name: &[u8]) -> Vec<bool> {
        let mut states = vec![false; self.tokens.len() + 1];
        let mut next = states.clone();
        self.enter(&mut states, 0);
        for unit in units(name) {
            next.fill(false);
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| states[*at]) {
                match token {
                    Token::Unit(wanted) if *wanted == unit => self.enter(&mut next, at + 1),
                    Token::One if unit != SLASH => self.enter(&mut next, at + 1),
                    Token::Any if unit != SLASH => self.enter(&mut next, at),
                    Token::Class { negated, ranges } if *negated != within(ranges, unit) => {
                        self.enter(&mut next, at + 1);
                    }
                    Token::Inside => {
                        next[at] = true;
                        if unit == SLASH {
                            self.enter(&mut next, at + 1);
                        }
                    }
                    Token::Rest => self.enter(&mut next, at),
                    Token::Unit(_)
                    | Token::One
                    | Token::Any
                    | Token::Class { .. }
                    | Token::Folders => {}
                }
            }
            std::mem::swap(&mut states, &mut next);
        }
        states
    }

    /// Marks `at` and what is reached from it without a character.
    fn enter(&self, states: &mut [bool], mut at: usize) {
        while !std::mem::replace(&mut states[at], true) {
            match self.tokens.get(at) {
                Some(Token::Any | Token::Rest) => at += 1,
                Some(Token::Folders) => {
                    states[at + 1] = true;
                    at += 2;
                }
                Some(Token::Unit(_) | Token::One | Token::Class { .. } | Token::Inside) | None => {
                    return;
                }
            }
        }
    }
}

fn within(ranges: &[(Unit, Unit)], unit: Unit) -> bool {
    ranges.iter().any(|(low, high)| (*low..=*high).contains(&unit))
}

fn units(name: &[u8]) -> impl Iterator<Item = Unit> {
    name.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(u32::from);
        valid.chain(chunk.invalid().iter().map(|byte| BEYOND + Unit::from(*byte)))
    })
}

pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
    /// Steps over `text` if it comes next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }
    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// The next token of Go's grammar.
    pub(super) fn token(&mut self) -> Result<Option<Token>, GlobError> {
        let at = self.at;
        let fault = |problem| GlobError { problem, at };
        Ok(Some(match self.next() {
            None => return Ok(None),
            Some('*') => Token::Any,
            Some('?') => Token::One,
            Some('\\') => Token::Unit(self.next().ok_or(fault(GlobProblem::Escape))?.into()),
            Some('[') => self.class(at)?,
            Some(c) => Token::Unit(c.into()),
        }))
    }

    fn class(&mut self, start: usize) -> Result<Token, GlobError> {
        let open = GlobError { problem: GlobProblem::OpenClass, at: start };
        let negated = self.take("^");
        let mut ranges = Vec::new();
        loop {
            if !ranges.is_empty() && self.take("]") {
                return Ok(Token::Class { negated, ranges });
            }
            let at = self.at;
            let low = self.class_unit(open)?;
            let high = if self.take("-") { self.class_unit(open)? } else { low };
            if high < low {
                return Err(GlobError { problem: GlobProblem::Range, at });
            }
            ranges.push((low, high));
        }
    }

    fn class_unit(&mut self, open: GlobError) -> Result<Unit, GlobError> {
        let at = self.at;
        match self.next() {
            None => Err(open),
            Some('-' | ']') => Err(GlobError { problem: GlobProblem::Range, at }),
            Some('\\') => Ok(self.next().ok_or(open)?.into()),
            Some(c) => Ok(c.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_matches() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ];
        for (pattern, name, want) in cases {
            assert_eq!(matches(pattern, name.as_bytes()), Ok(want), "{pattern} {name}");
        }
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a["] {
            assert!(matches(pattern, b"zzz").is_err(), "{pattern}");
        }
        assert_eq!(matches("a?b", b"a\xffb"), Ok(true));
        assert_eq!(matches("a?b", b"a\xff\xfeb"), Ok(false));
    }

    #[test]
    fn wildcards() {
        assert!(has_wildcard("a*") && has_wildcard("a?") && has_wildcard("[ab]"));
        assert!(!has_wildcard("a\\*") && !has_wildcard("a]") && !has_wildcard("a\\"));
    }
}
