//! A repository's name.

use std::str::FromStr;

use super::ValueError;
use crate::reference::Reference;

/// A name without tag and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository(Reference);

impl Repository {
    /// The name, with a tag that stands for none.
    #[must_use]
    pub fn name(&self) -> &Reference {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(name) = format!("{text}:latest").parse() {
            return Ok(Self(name));
        }
        Err(match text.parse::<Reference>() {
            Ok(_) => ValueError::new("a repository is expected, without a tag or digest"),
            Err(error) => ValueError::new(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_tag() {
        assert_eq!("r:5000/a".parse::<Repository>().unwrap().name().name(), "r:5000/a");
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for (text, says) in [("a:1", "without a tag"), (&digest, "without a tag"), ("A", "lower")] {
            let said = text.parse::<Repository>().unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
