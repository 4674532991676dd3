//! The rules of style: BuildKit's build checks, under their names.
//!
//! [`syntax`] is for those that the text alone decides. Those that need a
//! variable's value, a base image or the context are followed where these are
//! known, in the plan. [`Settings`] says which rules count: the file's `# check=`,
//! a build argument in its place, and a `# check=` above one instruction.

mod casing;
mod descriptions;
mod lines;
mod names;
mod rules;
mod secrets;
mod settings;
#[cfg(test)]
mod tests;

pub use rules::*;
pub use secrets::is_secret;
pub use settings::{CHECK_ARGUMENT, Settings, SettingsError};

use crate::diagnostic::{Diagnostic, Rule, Span};

use super::ast::Dockerfile;

/// Where BuildKit's authors describe a rule; none if they do not.
#[must_use]
pub fn url(rule: &Rule) -> Option<String> {
    if rule == &INVALID_BASE_IMAGE_PLATFORM {
        return None;
    }
    let letters: Vec<char> = rule.name.chars().collect();
    let mut name = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let small = |at: usize| letters.get(at).is_some_and(char::is_ascii_lowercase);
        if at > 0 && letter.is_ascii_uppercase() && (small(at - 1) || small(at + 1)) {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    Some(format!("https://docs.docker.com/go/dockerfile/rule/{name}/"))
}

/// Follows the rules that the text alone decides. Of a file that could not be read
/// whole only the rules for single instructions are.
#[must_use]
pub fn syntax(file: &Dockerfile, whole: bool, settings: &Settings) -> Vec<Diagnostic> {
    let mut found = Found { file, settings, said: Vec::new() };
    lines::check(&mut found);
    casing::check_stages(&mut found);
    descriptions::check(&mut found);
    if whole {
        names::check(&mut found);
        casing::check_keywords(&mut found);
    }
    found.said
}

/// What the rules have found in a file.
struct Found<'a> {
    file: &'a Dockerfile,
    settings: &'a Settings,
    said: Vec<Diagnostic>,
}

impl Found<'_> {
    /// Says that an instruction breaks a rule, unless a comment above it says that
    /// this one may.
    fn add(&mut self, rule: &'static Rule, instruction: Span, said: Diagnostic) {
        if self.settings.above(self.file.note(instruction)).follows(rule) {
            self.said.push(said.rule(rule));
        }
    }

    /// As [`Self::add`], for rules about the whole file: comments above single
    /// instructions have no say.
    fn add_whole(&mut self, rule: &'static Rule, said: Diagnostic) {
        if self.settings.follows(rule) {
            self.said.push(said.rule(rule));
        }
    }
}
