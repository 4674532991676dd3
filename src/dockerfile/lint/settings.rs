//! Which rules count: `skip=A,B;error=true;experimental=C`.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Rule, Span};

use super::super::ast::{Dockerfile, Note};
use super::super::lexer;

/// The build argument that takes the place of the file's `# check=`.
pub const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Which rules are followed, and whether breaking one ends a build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    skipped: Chosen,
    experimental: Chosen,
    error: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Chosen {
    all: bool,
    /// Names that no rule has change nothing.
    names: BTreeSet<String>,
}

/// Why a text says nothing about rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("`{0}` is no setting of checks")]
    Unknown(String),
    #[error("`error` is true or false, not `{0}`")]
    NoSwitch(String),
}

impl Settings {
    /// What holds for a file: the build argument, else its own `# check=`.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn of(
        file: &Dockerfile,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Self, Diagnostic> {
        const HINT: &str =
            "write skip=RULE,RULE;error=true;experimental=RULE, each part if it is needed";
        if let Some(given) = build_args.get(CHECK_ARGUMENT) {
            return given.parse().map_err(|error: SettingsError| {
                Diagnostic::error(Span::default(), format!("{CHECK_ARGUMENT}: {error}")).hint(HINT)
            });
        }
        let Some(check) = &file.check else { return Ok(Self::default()) };
        first_word(&check.value).parse().map_err(|error: SettingsError| {
            Diagnostic::error(check.span, error.to_string()).hint(HINT)
        })
    }

    #[must_use]
    pub fn follows(&self, rule: &Rule) -> bool {
        if rule.experimental { self.experimental.has(rule) } else { !self.skipped.has(rule) }
    }

    /// Whether a broken rule ends a build.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.error
    }

    /// What holds for an instruction: the first `# check=` of the comments above it
    /// adds to the file's. What cannot be read there adds nothing, and so does
    /// `error`.
    #[must_use]
    pub fn above(&self, note: Option<&Note>) -> Self {
        let own = note
            .into_iter()
            .flat_map(|note| &note.comments)
            .filter_map(|comment| lexer::directive_of(comment))
            .find(|(name, _)| name.eq_ignore_ascii_case("check"))
            .and_then(|(_, value)| first_word(value).parse::<Self>().ok());
        let mut all = self.clone();
        if let Some(own) = own {
            all.skipped.add(own.skipped);
            all.experimental.add(own.experimental);
        }
        all
    }
}

impl Chosen {
    fn of(text: &str) -> Self {
        match text.trim() {
            "all" => Self { all: true, names: BTreeSet::new() },
            list => Self {
                all: false,
                names: list.split(',').map(|name| name.trim().to_owned()).collect(),
            },
        }
    }

    fn has(&self, rule: &Rule) -> bool {
        self.all || self.names.contains(rule.name)
    }

    fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.names.extend(other.names);
    }
}

impl std::str::FromStr for Settings {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let mut read = Self::default();
        for part in text.trim().splitn(3, ';').filter(|_| !text.trim().is_empty()) {
            let unknown = || SettingsError::Unknown(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(unknown)?;
            match name.trim() {
                "skip" => read.skipped = Chosen::of(value),
                "experimental" => read.experimental = Chosen::of(value),
                "error" => {
                    read.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        other => return Err(SettingsError::NoSwitch(other.to_owned())),
                    }
                }
                _ => return Err(unknown()),
            }
        }
        Ok(read)
    }
}

/// A directive's value ends at its first space, so that a reason may follow.
fn first_word(value: &str) -> &str {
    value.split(' ').next().unwrap_or(value)
}
