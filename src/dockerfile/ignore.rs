//! `.dockerignore`: which files of the context a build does not see.
//!
//! Patterns are read in order and the last that matches decides; `!` takes files
//! back in. A pattern that matches a folder goes for all below it. This is
//! moby's `patternmatcher` as BuildKit walks a context with it: a `!` pattern
//! counts at a folder only if that folder was excluded until then.

use super::glob::{Glob, GlobError, Reader, Token};

/// The patterns of a `.dockerignore`, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    rule: Rule,
    /// `!`: takes back in.
    exception: bool,
    glob: Glob,
}

/// Which patterns have matched a folder or one above it.
#[derive(Debug, Clone)]
pub struct Above(Vec<bool>);

/// A line of the file that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Counted from 1.
    pub line: usize,
    /// As written, without white space around.
    pub pattern: String,
}

/// A line that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{pattern}` is no pattern: {problem}")]
pub struct IgnoreError {
    /// Counted from 1.
    pub line: usize,
    pub pattern: String,
    pub problem: IgnoreProblem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreProblem {
    #[error("nothing follows the `!`")]
    Empty,
    #[error(transparent)]
    Glob(GlobError),
}

impl Ignore {
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (at, written) in text.split('\n').enumerate() {
            // A comment's `#` stands first of all; elsewhere it is a character.
            let trimmed = written.trim();
            if written.starts_with('#') || trimmed.is_empty() {
                continue;
            }
            let rule = Rule { line: at + 1, pattern: trimmed.to_owned() };
            match read(trimmed) {
                Ok((exception, glob)) => patterns.push(Pattern { rule, exception, glob }),
                Err(problem) => {
                    let Rule { line, pattern } = rule;
                    return Err(IgnoreError { line, pattern, problem });
                }
            }
        }
        Ok(Self { patterns })
    }

    /// The patterns of flags, such as `--exclude`: as moby's `patternmatcher` has
    /// them, without what `.dockerignore` adds. A rule's line is its place here.
    pub fn of_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, IgnoreError> {
        let mut read = Vec::new();
        for (at, written) in patterns.into_iter().enumerate() {
            let text = written.trim();
            if text.is_empty() {
                continue;
            }
            let rule = Rule { line: at + 1, pattern: written.to_owned() };
            match single(text) {
                Ok((exception, glob)) => read.push(Pattern { rule, exception, glob }),
                Err(problem) => {
                    let Rule { line, pattern } = rule;
                    return Err(IgnoreError { line, pattern, problem });
                }
            }
        }
        Ok(Self { patterns: read })
    }

    /// The line that excludes a file, given as a relative slash path; none if the
    /// build sees it.
    #[must_use]
    pub fn excluded(&self, path: impl AsRef<[u8]>) -> Option<&Rule> {
        let path = path.as_ref();
        let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        let mut above = self.at_root();
        let mut decided = None;
        for end in ends.filter(|end| *end > 0) {
            decided = self.enter(&mut above, &path[..end]);
        }
        decided
    }

    /// True if every file is seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What holds above everything.
    #[must_use]
    pub fn at_root(&self) -> Above {
        Above(vec![false; self.patterns.len()])
    }

    /// As [`Ignore::excluded`] for what lies in a folder of which it is known what holds
    /// there, so that nobody who walks down asks for a folder twice. What is given is
    /// changed to what holds in what the path names.
    pub fn enter(&self, above: &mut Above, path: &[u8]) -> Option<&Rule> {
        let mut decided = None;
        for (pattern, matched) in self.patterns.iter().zip(&mut above.0) {
            let counts = pattern.exception == decided.is_some();
            *matched = *matched || (counts && pattern.glob.matches(path));
            if *matched {
                decided = (!pattern.exception).then_some(&pattern.rule);
            }
        }
        decided
    }

    /// The line that keeps a source of `COPY` away, as far as the name alone tells: if
    /// there are `!` patterns it does not. The whole context is kept away by a pattern
    /// for everything only.
    #[must_use]
    pub fn hides(&self, source: &str) -> Option<&Rule> {
        if self.patterns.iter().any(|pattern| pattern.exception) {
            return None;
        }
        let source = clean(source);
        if source == "." || source == "/" {
            let everything = |pattern: &&Pattern| {
                let cleaned = clean(&pattern.rule.pattern);
                ["*", "**", "**/*"].contains(&cleaned.trim_start_matches('/'))
            };
            return self.patterns.iter().find(everything).map(|pattern| &pattern.rule);
        }
        self.excluded(&source)
    }

    /// True if a `!` pattern may take something below an excluded folder back in;
    /// where it is false, nobody needs to look into the folder.
    #[must_use]
    pub fn may_reinclude_below(&self, folder: impl AsRef<[u8]>) -> bool {
        let mut below = folder.as_ref().to_vec();
        below.push(b'/');
        self.patterns.iter().any(|pattern| pattern.exception && pattern.glob.may_go_on_from(&below))
    }
}

/// Reads a line as Docker's two readers do, one after the other: the first makes
/// it relative to the context, the second looks for `!` (again, so that `/!name`
/// is an exception, too).
fn read(written: &str) -> Result<(bool, Glob), IgnoreProblem> {
    let relative = |pattern: &str| {
        let clean = clean(pattern);
        clean.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&clean).to_owned()
    };
    let normal = match written.strip_prefix('!').map(str::trim) {
        Some("") => return Err(IgnoreProblem::Empty),
        Some(pattern) => format!("!{}", relative(pattern)),
        None => relative(written),
    };
    single(normal.trim())
}

/// Reads a pattern with its `!`.
fn single(text: &str) -> Result<(bool, Glob), IgnoreProblem> {
    let normal = clean(text);
    let (exception, pattern) = match normal.strip_prefix('!') {
        Some("") => return Err(IgnoreProblem::Empty),
        Some(pattern) => (true, pattern),
        None => (false, normal.as_str()),
    };
    Ok((exception, glob(pattern).map_err(IgnoreProblem::Glob)?))
}

/// Go's `filepath.Clean`: no `.`, no empty element, no `..` behind a name.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut elements: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." if elements.last().is_some_and(|last| *last != "..") => drop(elements.pop()),
            ".." if rooted => {}
            element => elements.push(element),
        }
    }
    match (rooted, elements.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

/// Reads a pattern, with `**` besides what Go knows.
fn glob(pattern: &str) -> Result<Glob, GlobError> {
    // Faults are found by Go's grammar, where `**` is `*` twice.
    Glob::new(pattern)?;
    let mut reader = Reader::new(pattern);
    let mut tokens = Vec::new();
    loop {
        if reader.take("**") {
            let start = tokens.is_empty();
            let folder = reader.take("/");
            // `**name` at the start is any path that ends in the name.
            let literal = !reader.rest().contains(['*', '?', '[', ']', '\\']);
            if reader.rest().is_empty() || (start && !folder && literal) {
                tokens.push(Token::Rest);
            } else {
                tokens.extend([Token::Folders, Token::Inside]);
            }
            continue;
        }
        match reader.token()? {
            Some(token) => tokens.push(token),
            None => return Ok(Glob::from_tokens(tokens)),
        }
    }
}
