//! Names that secrets have.

/// What a part of a name between underscores says about the value.
const SECRET: &[&str] = &[
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
/// Parts that say that the value is not the secret itself.
const HARMLESS: &[&str] = &["public", "file", "version"];

/// Whether a variable of this name would hold a secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let has = |words: &[&str]| {
        name.split('_').any(|part| words.iter().any(|word| word.eq_ignore_ascii_case(part)))
    };
    has(SECRET) && !has(HARMLESS)
}
