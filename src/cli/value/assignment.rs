//! `NAME=value`.

use std::str::FromStr;

use super::ValueError;

/// `NAME=value`; the value may be empty and may have further `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub name: String,
    pub value: String,
}

impl FromStr for Assignment {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.into(), value: value.into() })
            }
            _ => Err(ValueError::new("NAME=VALUE is expected")),
        }
    }
}

/// `NAME=value`, or `NAME` alone for the value it has in the caller's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvAssignment {
    pub name: String,
    pub value: Option<String>,
}

impl FromStr for EnvAssignment {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(ValueError::new("NAME=VALUE or NAME is expected"));
        }
        Ok(Self { name: name.into(), value })
    }
}

impl EnvAssignment {
    /// The value, taken from the caller's environment where none was given;
    /// `None` if it has none there either.
    #[must_use]
    pub fn resolve(&self) -> Option<String> {
        self.value.clone().or_else(|| crate::env::text(&self.name))
    }
}

/// `NAME=value` of a label; `NAME` alone has no value, as for docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelArg {
    pub name: String,
    pub value: String,
}

impl FromStr for LabelArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(ValueError::new("NAME=VALUE is expected"));
        }
        Ok(Self { name: name.into(), value: value.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let of = |text: &str| text.parse::<Assignment>().map(|a| (a.name, a.value)).ok();
        assert_eq!(of("a=b=c"), Some(("a".into(), "b=c".into())));
        assert_eq!(of("a="), Some(("a".into(), String::new())));
        assert_eq!(of("a"), None);
        assert_eq!(of("=b"), None);
        let label = |text: &str| text.parse::<LabelArg>().map(|label| (label.name, label.value));
        assert_eq!(label("a"), Ok(("a".into(), String::new())));
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(label("=b").is_err());
        assert_eq!("A".parse::<EnvAssignment>().unwrap().value, None);
        assert!("a b=c".parse::<EnvAssignment>().is_err());
    }
}
