//! Operating system, architecture and variant: what an image is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A platform in the words of Go (`GOOS`, `GOARCH`, `GOARM`), as the OCI image
/// spec's index uses them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: os/arch or os/arch/variant is expected, such as linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    #[must_use]
    pub fn new(os: &str, architecture: &str) -> Self {
        Self { os: os.into(), architecture: architecture.into(), variant: None, os_version: None }
    }

    /// The platform kiln itself runs on.
    #[must_use]
    pub fn host() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self::new("linux", arch)
    }

    /// True if an image for `self` is what somebody who asked for `wanted` means.
    /// A missing variant is the architecture's usual one: v8 for arm64, v7 for arm.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && self.usual_variant() == wanted.usual_variant()
    }

    fn usual_variant(&self) -> Option<&str> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", None) => Some("v8"),
            ("arm", None) => Some("v7"),
            ("amd64", Some("v1")) => None,
            (_, variant) => variant,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = || PlatformError(text.to_owned());
        let word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
        };
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(refuse());
        }
        let (os, arch, variant) = match parts[..] {
            ["local"] => return Ok(Self::host()),
            [os, arch] => (os, arch, None),
            [os, arch, variant] => (os, arch, Some(variant.to_owned())),
            _ => return Err(refuse()),
        };
        // The names that `uname -m` gives are common in scripts.
        let architecture = match arch {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            other => other,
        };
        let variant = match (architecture, variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            _ => variant,
        };
        Ok(Self { os: os.into(), architecture: architecture.into(), variant, os_version: None })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        let is = |have: &str, want: &str| {
            have.parse::<Platform>().unwrap().satisfies(&want.parse().unwrap())
        };
        assert!(is("linux/amd64", "linux/x86_64"));
        assert!(is("linux/arm64/v8", "linux/arm64"));
        assert!(is("linux/arm/v7", "linux/arm"));
        assert!(!is("linux/arm/v6", "linux/arm"));
        assert!(!is("windows/amd64", "linux/amd64"));
        assert!("linux".parse::<Platform>().is_err());
        assert!("linux//v8".parse::<Platform>().is_err());
        assert!("linux/am d64".parse::<Platform>().is_err());
    }
}
