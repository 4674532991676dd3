//! What is said of a component's licence, in SPDX's words where it fits them.

use spdx::{Expression, ParseMode};

/// Most letters of what is said of one licence; what is longer is a text, and no name.
const MOST: usize = 2000;

/// A licence as a component's metadata states it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Licence {
    /// A licence expression of SPDX (annex D) whose identifiers are on its list.
    Spdx(String),
    /// Anything else, in the words in which it stands there.
    Named(String),
}

impl Licence {
    /// Reads what a package says. `None` if that is nothing.
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty()
            || text.chars().count() > MOST
            || ["NOASSERTION", "NONE", "UNKNOWN"].contains(&text.to_uppercase().as_str())
        {
            return None;
        }
        Some(match expression(&text) {
            Some(expression) => Self::Spdx(expression),
            None => Self::Named(text),
        })
    }

    /// All of several that hold together, as of a package with files under each.
    pub(super) fn all(texts: impl IntoIterator<Item = String>) -> Option<Self> {
        let mut all: Vec<Self> = texts.into_iter().filter_map(|text| Self::of(&text)).collect();
        all.sort();
        all.dedup();
        if all.len() == 1 {
            return all.pop();
        }
        let parts: Vec<String> = all.iter().map(Self::part).collect();
        Self::of(&parts.join(" AND "))
    }

    /// As a part of a longer expression.
    fn part(&self) -> String {
        let text = self.text();
        if text.to_uppercase().contains(" OR ") { format!("({text})") } else { text.to_owned() }
    }

    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Spdx(text) | Self::Named(text) => text,
        }
    }
}

/// The expression, with identifiers as the list spells them.
fn expression(text: &str) -> Option<String> {
    // Fedora and Alpine write `and`, which not all that read SPDX take.
    let upper = |word: &str| match word.to_uppercase() {
        upper if ["AND", "OR", "WITH"].contains(&upper.as_str()) => upper,
        _ => word.to_owned(),
    };
    let words = text.split(' ').map(upper).collect::<Vec<_>>().join(" ");
    let mut mode = ParseMode::STRICT;
    mode.allow_deprecated = true;
    let parsed = Expression::parse_mode(&words, mode).ok()?;
    // References to licences that this document would have to hold are not the list's.
    let listed = parsed.requirements().all(|one| one.req.license.id().is_some());
    listed.then(|| parsed.to_string())
}

/// Debian's short names of licences (copyright-format 1.0) that SPDX calls otherwise.
pub(super) fn of_debian(name: &str) -> String {
    let parts: Vec<String> = name.split_whitespace().map(debian_word).collect();
    parts.join(" ")
}

fn debian_word(word: &str) -> String {
    let (bare, comma) = match word.strip_suffix(',') {
        Some(bare) => (bare, ","),
        None => (word, ""),
    };
    let spdx = match bare.to_lowercase().as_str() {
        "expat" => "MIT",
        "bsd-2-clause" => "BSD-2-Clause",
        "bsd-3-clause" => "BSD-3-Clause",
        "apache-2" | "apache-2.0" => "Apache-2.0",
        "artistic" | "artistic-1" => "Artistic-1.0",
        "artistic-2" => "Artistic-2.0",
        "zlib" => "Zlib",
        "isc" => "ISC",
        "openssl" => "OpenSSL",
        "psf-2" => "PSF-2.0",
        "cc0-1.0" | "cc0" => "CC0-1.0",
        _ => "",
    };
    let spdx = if spdx.is_empty() { gnu(bare) } else { Some(spdx.to_owned()) };
    format!("{}{comma}", spdx.unwrap_or_else(|| bare.to_owned()))
}

/// `GPL-2+` is `GPL-2.0-or-later`.
fn gnu(name: &str) -> Option<String> {
    let (family, rest) = ["LGPL-", "GPL-", "AGPL-", "GFDL-"]
        .iter()
        .find_map(|family| Some((*family, name.strip_prefix(family)?)))?;
    let (number, later) = match rest.strip_suffix('+') {
        Some(number) => (number, "or-later"),
        None => (rest, "only"),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let dot = if number.contains('.') { "" } else { ".0" };
    Some(format!("{family}{number}{dot}-{later}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let spdx = |text: &str| Some(Licence::Spdx(text.into()));
        let named = |text: &str| Some(Licence::Named(text.into()));
        for (text, expected) in [
            ("MIT", spdx("MIT")),
            ("MIT or Apache-2.0", spdx("MIT OR Apache-2.0")),
            ("  GPL-2.0-only\n WITH  Classpath-exception-2.0 ", {
                spdx("GPL-2.0-only WITH Classpath-exception-2.0")
            }),
            ("GPLv2+ and BSD", named("GPLv2+ and BSD")),
            ("LicenseRef-own", named("LicenseRef-own")),
            ("NOASSERTION", None),
            (" ", None),
        ] {
            assert_eq!(Licence::of(text), expected, "{text}");
        }
        for (name, expected) in [
            ("GPL-2+", "GPL-2.0-or-later"),
            ("LGPL-2.1", "LGPL-2.1-only"),
            ("Expat", "MIT"),
            ("BSD-3-clause", "BSD-3-Clause"),
            ("public-domain", "public-domain"),
            ("GPL-", "GPL-"),
        ] {
            assert_eq!(of_debian(name), expected);
        }
        let all = |texts: &[&str]| Licence::all(texts.iter().map(|text| (*text).to_owned()));
        assert_eq!(all(&["MIT", "ISC OR MIT", "MIT"]), spdx("(ISC OR MIT) AND MIT"));
        assert_eq!(all(&["MIT", "own words"]), named("MIT AND own words"));
        assert_eq!(all(&[]), None);
    }
}
