//! What clean-ups of the store take: `--filter`, `--store-limit`.

use std::str::FromStr;
use std::time::Duration;

use super::ValueError;
use super::amount::{Size, duration};
use crate::prune::{Kind, StoreLimit};

/// `type=KIND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreKind(pub Kind);

impl FromStr for StoreKind {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.strip_prefix("type=").unwrap_or_default();
        match Kind::ALL.iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(Self(*kind)),
            None => {
                let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                Err(ValueError::new(format!("type= and one of {} is expected", all.join(", "))))
            }
        }
    }
}

/// `until=AGE` or `type=KIND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneFilter {
    /// Not used for so long.
    Until(Duration),
    Kind(Kind),
}

impl FromStr for PruneFilter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('=') {
            Some(("until", age)) => duration(age).map(Self::Until),
            Some(("type", _)) => text.parse().map(|StoreKind(kind)| Self::Kind(kind)),
            _ => Err(ValueError::new("until=AGE, such as until=24h, or type=KIND is expected")),
        }
    }
}

/// `SIZE`, `inodes=COUNT`, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimitArg(pub StoreLimit);

/// A size in bytes, if it is one.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    text.parse().ok().map(|Size(bytes)| bytes)
}

impl FromStr for StoreLimitArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        StoreLimit::read(text, size).map(Self).map_err(|error| ValueError::new(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        assert_eq!("until=24h".parse(), Ok(PruneFilter::Until(Duration::from_secs(86_400))));
        assert_eq!("type=trees".parse(), Ok(PruneFilter::Kind(Kind::Trees)));
        for wrong in ["until", "until=x", "type=x", "unused-for=1h", ""] {
            assert!(wrong.parse::<PruneFilter>().is_err(), "{wrong}");
        }
        let limit = "1g,inodes=9".parse::<StoreLimitArg>().unwrap().0;
        assert_eq!((limit.bytes, limit.inodes), (Some(1 << 30), Some(9)));
        assert!("1x".parse::<StoreLimitArg>().is_err());
    }
}
