//! The only notion of time in what kiln makes.
//!
//! Layers, configs and histories carry an [`Epoch`], never the clock's time: it
//! comes from `SOURCE_DATE_EPOCH` (reproducible-builds.org) or is the constant
//! [`Epoch::DEFAULT`], so that the same input gives the same digest for ever.

use std::fmt;
use std::str::FromStr;

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(i64);

/// Why a text is no epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SOURCE_DATE_EPOCH: whole seconds since 1970 are expected")]
pub struct EpochError(String);

impl Epoch {
    /// 1980-01-01T00:00:00Z: the earliest date that a zip archive can hold, so
    /// that a build step which zips what an earlier one made does not fail.
    pub const DEFAULT: Self = Self(315_532_800);

    /// The last second of the year 9999, beyond which RFC 3339 has no form.
    const MAX: i64 = 253_402_300_799;

    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// The form that image configs use (RFC 3339, UTC).
    #[must_use]
    pub fn rfc3339(self) -> String {
        // In range by construction: `FromStr` refuses what jiff could not hold.
        jiff::Timestamp::from_second(self.0).unwrap_or_default().to_string()
    }
}

impl Default for Epoch {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for Epoch {
    type Err = EpochError;
    fn from_str(text: &str) -> Result<Self, EpochError> {
        match text.parse::<i64>() {
            Ok(seconds) if (0..=Self::MAX).contains(&seconds) => Ok(Self(seconds)),
            _ => Err(EpochError(text.to_owned())),
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(Epoch::DEFAULT.rfc3339(), "1980-01-01T00:00:00Z");
        assert_eq!("1700000000".parse::<Epoch>().unwrap().rfc3339(), "2023-11-14T22:13:20Z");
        for bad in ["", "-1", "now", "1.5", "99999999999999999999", "253402300800"] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad}");
        }
    }
}
