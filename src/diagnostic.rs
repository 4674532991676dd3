//! Places in texts, and what is to be said of them.
//!
//! A [`Source`] is a text with a name, a [`Span`] a range of bytes in one, a
//! [`Diagnostic`] a message with the places it speaks of. Drawing them is the
//! command line's work (`cli/report.rs`).

use std::ops::Range;
use std::sync::Arc;

/// A text that somebody wrote, and what it is called in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line a byte lies in, counted from 1.
    #[must_use]
    pub fn line(&self, byte: usize) -> usize {
        let end = byte.min(self.text.len());
        self.text.as_bytes()[..end].iter().filter(|&&c| c == b'\n').count() + 1
    }
}

/// A range of bytes in a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
    /// From the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end.max(self.start) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Error,
}

/// A rule that a text is held to. Whoever breaks it is warned, unless the rule is
/// switched off by its name.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    /// What the rule asks for, and why.
    pub sentence: &'static str,
    /// Followed only where somebody asks for it.
    pub experimental: bool,
}

/// A message about a place. `message` has no full stop and begins lower-case
/// unless with an instruction's name; `hint` says what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    pub span: Span,
    /// What stands at the place, under its underline; may be empty.
    pub label: String,
    pub hint: Option<String>,
    /// The rule that is broken, if it is one.
    pub rule: Option<&'static Rule>,
}

impl Diagnostic {
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span,
            label: String::new(),
            hint: None,
            rule: None,
        }
    }
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    #[must_use]
    pub fn rule(mut self, rule: &'static Rule) -> Self {
        self.rule = Some(rule);
        self
    }
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
