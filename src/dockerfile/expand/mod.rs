//! Variables, quotes and escapes of a word.
//!
//! The grammar is that of BuildKit's shell lexer, a part of the shell's:
//! `'…'` is literal, `"…"` expands, the escape character takes the next
//! character as it is, and `$name` and `${name…}` are replaced. Nothing runs,
//! nothing is split but by [`expand_words`], and the work is bounded: nesting,
//! the length of a result and the steps of a pattern have limits.

mod lexer;
mod pattern;

use std::ops::Range;

use lexer::Lexer;

/// How deep `${a:-${b:-…}}` may go.
pub const MAX_DEPTH: usize = 100;
/// How many bytes one word may become. Linux passes no longer string to a program.
pub const MAX_LENGTH: usize = 1 << 20;

/// What a word became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    pub value: String,
    /// Every use of a variable, in the order of the text.
    pub variables: Vec<Variable>,
}

/// Words that a text became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpandedWords {
    pub words: Vec<String>,
    pub variables: Vec<Variable>,
}

/// A use of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// From the `$` to the end of the name, in bytes of the word.
    pub range: Range<usize>,
    pub defined: bool,
}

impl Expanded {
    /// The variables that nobody defined. As for BuildKit, it does not matter
    /// whether the word says what holds without them.
    pub fn undefined(&self) -> impl Iterator<Item = &Variable> {
        self.variables.iter().filter(|variable| !variable.defined)
    }
}

/// Why a word cannot be expanded, and the part of it that is to blame, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ExpandError {
    pub problem: Problem,
    pub range: Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("a {0} quote is never closed")]
    OpenQuote(&'static str),
    #[error("`{0}` is missing in ${{…}}")]
    Missing(char),
    #[error("`${{` needs the name of a variable")]
    NoName,
    #[error("unsupported modifier `{0}` in ${{…}}")]
    Modifier(String),
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("invalid pattern in ${{…}}: `\\{0}` escapes nothing")]
    Pattern(String),
    #[error("${{…}} is nested more than {MAX_DEPTH} deep")]
    Depth,
    #[error("the result is longer than {MAX_LENGTH} bytes")]
    Length,
    #[error("the pattern in ${{…}} takes too long on this value")]
    Work,
}

/// Where the values come from; none for a variable that is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands a word and takes its quotes and escapes out.
pub fn expand(word: &str, escape: char, vars: Lookup<'_>) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer::new(word, escape, vars);
    let (value, _) = lexer.until(None, false)?;
    Ok(Expanded { value, variables: lexer.variables })
}

/// As [`expand`], with the result cut at white space that is not quoted,
/// whether it stands in the text or comes from a variable.
pub fn expand_words(
    text: &str,
    escape: char,
    vars: Lookup<'_>,
) -> Result<ExpandedWords, ExpandError> {
    let mut lexer = Lexer::new(text, escape, vars);
    let (_, words) = lexer.until(None, false)?;
    Ok(ExpandedWords { words, variables: lexer.variables })
}

/// As [`expand`], where quotes are characters like others. Escapes go.
pub fn expand_unquoted(
    text: &str,
    escape: char,
    vars: Lookup<'_>,
) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer::new(text, escape, vars);
    lexer.plain_quotes = true;
    let (value, _) = lexer.until(None, false)?;
    Ok(Expanded { value, variables: lexer.variables })
}

/// The words of a text with variables left as they are; with `raw`, quotes and
/// escapes too.
pub(super) fn split_words(text: &str, escape: char, raw: bool) -> Result<Vec<String>, ExpandError> {
    let mut lexer = Lexer::new(text, escape, &|_| None);
    lexer.keep_quotes = raw;
    lexer.keep_unset = true;
    Ok(lexer.until(None, raw)?.1)
}

#[cfg(test)]
mod tests;
