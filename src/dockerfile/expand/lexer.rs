//! The lexer behind [`expand`](super::expand()): one pass, value and words at once.

use std::ops::Range;

use super::pattern::{self, Budget, Pattern};
use super::{ExpandError, Lookup, MAX_DEPTH, MAX_LENGTH, Problem, Variable};

/// A word being read, and the ways to read it.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    vars: Lookup<'a>,
    pub(super) keep_quotes: bool,
    keep_escapes: bool,
    pub(super) keep_unset: bool,
    pub(super) plain_quotes: bool,
    depth: usize,
    length: usize,
    budget: Budget,
    pub(super) variables: Vec<Variable>,
}

/// Words in the making.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.end();
        } else {
            self.word.push(c);
        }
    }
    fn end(&mut self) {
        if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, escape: char, vars: Lookup<'a>) -> Self {
        Self {
            text,
            at: 0,
            escape,
            vars,
            keep_quotes: false,
            keep_escapes: false,
            keep_unset: false,
            plain_quotes: false,
            depth: 0,
            length: 0,
            budget: Budget::default(),
            variables: Vec::new(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }
    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }
    fn error<T>(&self, from: usize, problem: Problem) -> Result<T, ExpandError> {
        Err(ExpandError { problem, range: from..self.at })
    }

    /// Reads up to and over `stop`, or to the end; gives the text and its words.
    /// None of `stop` is an error that the caller, who knows what it closes, tells.
    pub(super) fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let read = self.read_until(stop);
        self.keep_escapes = outer;
        read
    }

    fn read_until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let start = self.at;
        let mut value = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.next();
                words.end();
                return Ok((value, words.done));
            }
            match c {
                '\'' | '"' if !self.plain_quotes => {
                    let part = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    value.push_str(&part);
                    words.word.push_str(&part);
                }
                '$' => {
                    let part = self.dollar()?;
                    value.push_str(&part);
                    part.chars().for_each(|c| words.push(c));
                }
                '<' => {
                    let part = self.angle();
                    value.push_str(part);
                    words.word.push_str(part);
                }
                _ if c == self.escape => {
                    self.next();
                    let escape = self.keep_escapes.then_some(c);
                    // At the end it escapes nothing, and goes.
                    let both = escape.into_iter().chain(self.next());
                    both.for_each(|c| {
                        value.push(c);
                        words.word.push(c);
                    });
                }
                _ => {
                    self.next();
                    value.push(c);
                    words.push(c);
                }
            }
        }
        match stop {
            Some(stop) => self.error(start, Problem::Missing(stop)),
            None => {
                words.end();
                Ok((value, words.done))
            }
        }
    }

    /// `<`, or `<<` with the blanks behind it: these split no word, since a
    /// heredoc's name may follow them.
    fn angle(&mut self) -> &'a str {
        let text = self.text;
        let rest = &text[self.at..];
        let length = match rest.strip_prefix("<<") {
            Some(after) => rest.len() - after.trim_start_matches([' ', '\t', '\r']).len(),
            None => 1,
        };
        self.at += length;
        &rest[..length]
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        let rest = &self.text[start + 1..];
        let Some(length) = rest.find('\'') else {
            self.at = self.text.len();
            return self.error(start, Problem::OpenQuote("single"));
        };
        self.at += length + 2;
        let inner = if self.keep_quotes { start..self.at } else { start + 1..self.at - 1 };
        Ok(self.text[inner].to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        let mut value = String::new();
        self.next();
        if self.keep_quotes {
            value.push('"');
        }
        while let Some(c) = self.peek() {
            if c == '$' {
                value.push_str(&self.dollar()?);
                continue;
            }
            self.next();
            if c == '"' {
                if self.keep_quotes {
                    value.push(c);
                }
                return Ok(value);
            }
            if c != self.escape {
                value.push(c);
                continue;
            }
            if self.keep_escapes {
                value.push(c);
            }
            match self.peek() {
                None => {}
                // Other characters need no escape here, and keep it.
                Some(next) if next == '"' || next == '$' || next == self.escape => {
                    self.next();
                    value.push(next);
                }
                Some(_) => value.push(c),
            }
        }
        self.error(start, Problem::OpenQuote("double"))
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        self.next();
        if self.peek() == Some('{') {
            if self.depth == MAX_DEPTH {
                return self.error(start, Problem::Depth);
            }
            self.depth += 1;
            let value = self.braces(start);
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.get(name, start..self.at)? {
            None if self.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// A name as the shell has it: letters, digits and `_`, or only digits, or
    /// one of the special parameters.
    fn name(&mut self) -> &'a str {
        let text = self.text;
        let rest = &text[self.at..];
        let length = |fits: fn(char) -> bool| rest.find(|c| !fits(c)).unwrap_or(rest.len());
        let length = match rest.chars().next() {
            Some(c) if c.is_numeric() => length(char::is_numeric),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => length(|c| c.is_alphanumeric() || c == '_'),
        };
        self.at += length;
        &rest[..length]
    }

    fn get(&mut self, name: &str, range: Range<usize>) -> Result<Option<String>, ExpandError> {
        let value = (self.vars)(name);
        self.length += value.as_ref().map_or(0, String::len);
        if self.length > MAX_LENGTH {
            return Err(ExpandError { problem: Problem::Length, range });
        }
        let defined = value.is_some();
        self.variables.push(Variable { name: name.to_owned(), range, defined });
        Ok(value)
    }

    /// What follows `$`, from `{` to `}`.
    fn braces(&mut self, start: usize) -> Result<String, ExpandError> {
        self.next();
        match self.peek() {
            None => return self.error(start, Problem::Missing('}')),
            Some('{' | '}' | ':') => {
                self.next();
                return self.error(start, Problem::NoName);
            }
            Some(_) => {}
        }
        let name = self.name();
        let named = start..self.at;
        let modifier = self.at;
        match self.next() {
            None => self.error(start, Problem::Missing('}')),
            Some('}') => match self.get(name, named)? {
                None if self.keep_unset => Ok(self.text[start..self.at].to_owned()),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => match self.next() {
                None => self.error(start, Problem::Missing('}')),
                Some(c @ ('-' | '+' | '?')) => self.alternative(start, name, named, c, true),
                Some(_) => self.unsupported(modifier),
            },
            Some(c @ ('-' | '+' | '?')) => self.alternative(start, name, named, c, false),
            Some(c @ ('#' | '%')) => self.trimmed(start, name, named, c),
            Some('/') => self.replaced(start, name, named),
            Some(_) => self.unsupported(modifier),
        }
    }

    fn unsupported<T>(&self, from: usize) -> Result<T, ExpandError> {
        self.error(from, Problem::Modifier(self.text[from..self.at].to_owned()))
    }

    /// Reads to `stop`; if the text ends first, all of the `${` is to blame.
    fn part(&mut self, start: usize, stop: char, keep: bool) -> Result<String, ExpandError> {
        match self.until(Some(stop), keep) {
            Ok((value, _)) => Ok(value),
            Err(ExpandError { problem: Problem::Missing(c), range }) if range.end == self.at => {
                self.error(start.min(range.start), Problem::Missing(c))
            }
            Err(error) => Err(error),
        }
    }

    /// `${name-word}`, `${name+word}`, `${name?word}`, and with `:`, where an
    /// empty value is like none.
    fn alternative(
        &mut self,
        start: usize,
        name: &str,
        named: Range<usize>,
        operator: char,
        null_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let word = self.part(start, '}', false)?;
        let value = self.get(name, named)?;
        if value.is_none() && self.keep_unset {
            return Ok(self.text[start..self.at].to_owned());
        }
        let usable = value.as_ref().filter(|value| !(null_is_unset && value.is_empty()));
        match (operator, usable) {
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(usable)) => Ok(usable.clone()),
            ('-', None) => Ok(word),
            (_, None) => {
                let message = match (word.is_empty(), &value) {
                    (false, _) => word,
                    (true, None) => "is not allowed to be unset".to_owned(),
                    (true, Some(_)) => "is not allowed to be empty".to_owned(),
                };
                self.error(start, Problem::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `${name#pattern}`, `##`, `%`, `%%`.
    fn trimmed(
        &mut self,
        start: usize,
        name: &str,
        named: Range<usize>,
        operator: char,
    ) -> Result<String, ExpandError> {
        let word = self.part(start, '}', true)?;
        let value = self.get(name, named)?;
        if value.is_none() && self.keep_unset {
            return Ok(self.text[start..self.at].to_owned());
        }
        let value = value.unwrap_or_default();
        let (word, longest) = match word.strip_prefix(operator) {
            Some(word) => (word, true),
            None => (word.as_str(), false),
        };
        let pattern = self.pattern(start, word)?;
        let trimmed = if operator == '#' {
            pattern.trim_start(&value, longest, &mut self.budget)
        } else {
            pattern.trim_end(&value, longest, &mut self.budget)
        };
        match trimmed {
            Ok(rest) => Ok(rest.to_owned()),
            Err(pattern::OverBudget) => self.error(start, Problem::Work),
        }
    }

    /// `${name/pattern/replacement}`, and `//` for every match.
    fn replaced(
        &mut self,
        start: usize,
        name: &str,
        named: Range<usize>,
    ) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let word = self.part(start, '/', true)?;
        let replacement = self.part(start, '}', true)?;
        let value = self.get(name, named)?;
        if value.is_none() && self.keep_unset {
            return Ok(self.text[start..self.at].to_owned());
        }
        let pattern = self.pattern(start, &word)?;
        let value = value.unwrap_or_default();
        match pattern.replace(&value, &replacement, all, &mut self.budget) {
            Ok(value) => {
                self.length += value.len();
                if self.length > MAX_LENGTH {
                    return self.error(start, Problem::Length);
                }
                Ok(value)
            }
            Err(pattern::OverBudget) => self.error(start, Problem::Work),
        }
    }

    fn pattern(&self, start: usize, word: &str) -> Result<Pattern, ExpandError> {
        match Pattern::new(word) {
            Ok(pattern) => Ok(pattern),
            Err(escaped) => self.error(start, Problem::Pattern(escaped)),
        }
    }
}
