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

    /// True if programs for `self` run where `wanted` was asked for.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.distance(wanted).is_some()
    }

    /// How far an image for `self` is from what `wanted` means: 0 is the very
    /// same, and of several that run there the nearest is meant. The order is
    /// containerd's: lower variants, then the 32-bit sibling.
    #[must_use]
    pub fn distance(&self, wanted: &Self) -> Option<u32> {
        if self.os != wanted.os {
            return None;
        }
        let (have, want) = (self.number(), wanted.number());
        match (wanted.architecture.as_str(), self.architecture.as_str()) {
            _ if self.architecture == wanted.architecture => match (have, want) {
                (Some(have), Some(want)) => want.checked_sub(have),
                _ => (self.variant == wanted.variant).then_some(0),
            },
            ("amd64", "386") => Some(SIBLING),
            ("arm64", "arm") => have.map(|have| SIBLING + 100 - have.min(100)),
            _ => None,
        }
    }

    /// A variant as a number, ten for each whole version; a missing one is the
    /// architecture's usual one. None for variants that are not counted.
    fn number(&self) -> Option<u32> {
        let variant = match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", None) => "v8",
            ("arm", None) => "v7",
            ("amd64", None) => "v1",
            ("arm64" | "arm" | "amd64", Some(variant)) => variant,
            _ => return None,
        };
        let (major, minor) = match variant.strip_prefix('v')?.split_once('.') {
            Some((major, minor)) => (major, minor),
            None => (variant.strip_prefix('v')?, "0"),
        };
        Some(major.parse::<u32>().ok()?.min(1000) * 10 + minor.parse::<u32>().ok()?.min(9))
    }

    /// The same in the usual words: no variant where it is the usual one, but for
    /// arm, whose variants are always told.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let Self { os, architecture, variant, os_version } = self;
        let usual = Self::normal(os, architecture, variant.as_deref());
        Self { os_version: os_version.clone(), ..usual }
    }

    /// The words in which the rest of the field knows an architecture.
    fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = match (architecture, variant) {
            ("i386" | "i686" | "x86", _) => ("386", None),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant.filter(|v| *v != "v1")),
            ("aarch64" | "arm64", Some("8" | "v8" | "v8.0")) => ("arm64", None),
            ("aarch64" | "arm64", Some("9" | "9.0" | "v9.0")) => ("arm64", Some("v9")),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            other => other,
        };
        let os = if os == "macos" { "darwin" } else { os };
        Self { variant: variant.map(str::to_owned), ..Self::new(os, architecture) }
    }
}

/// Farther than any variant of the architecture itself.
const SIBLING: u32 = 100_000;

const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "macos",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

const ARCHITECTURES: [&str; 16] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "sparc64", "wasm", "riscv",
];

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/arch[/variant]`, and as containerd does `os` or `arch` alone,
    /// the other then being this machine's; `local` is this machine's platform.
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
        match parts[..] {
            ["local"] => Ok(Self::host()),
            [os] if SYSTEMS.contains(&os) => Ok(Self::normal(os, &Self::host().architecture, None)),
            [arch] => {
                let found = Self::normal("linux", arch, None);
                let known = ARCHITECTURES.contains(&found.architecture.as_str());
                if known { Ok(found) } else { Err(refuse()) }
            }
            [os, arch] => Ok(Self::normal(os, arch, None)),
            [os, arch, variant] => Ok(Self::normal(os, arch, Some(variant))),
            _ => Err(refuse()),
        }
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
        for (have, want) in [
            ("linux/amd64", "linux/x86_64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/arm/v6", "linux/arm"),
            ("linux/amd64", "linux/amd64/v2"),
            ("linux/386", "linux/amd64"),
            ("linux/arm/v7", "linux/arm64"),
            ("linux/arm64/v8.1", "linux/arm64/v9"),
            ("linux/riscv64", "riscv64"),
        ] {
            assert!(is(have, want), "{have} {want}");
        }
        for (have, want) in [
            ("linux/arm/v7", "linux/arm/v6"),
            ("linux/amd64/v3", "linux/amd64"),
            ("linux/amd64", "linux/386"),
            ("linux/arm64", "linux/arm"),
            ("windows/amd64", "linux/amd64"),
            ("linux/ppc64le", "linux/ppc64"),
        ] {
            assert!(!is(have, want), "{have} {want}");
        }
    }

    #[test]
    fn the_nearest_comes_first() {
        let of = |text: &str| text.parse::<Platform>().unwrap();
        for (want, order) in [
            (
                "linux/amd64/v3",
                vec!["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"],
            ),
            ("linux/arm64", vec!["linux/arm64", "linux/arm/v8", "linux/arm", "linux/arm/v5"]),
            ("linux/arm/v7", vec!["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ] {
            let far: Vec<u32> =
                order.iter().map(|have| of(have).distance(&of(want)).unwrap()).collect();
            assert_eq!(far[0], 0, "{want}");
            assert!(far.is_sorted_by(|a, b| a < b), "{want}: {far:?}");
        }
    }

    #[test]
    fn texts() {
        for (text, shown) in [
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/aarch64/v8", "linux/arm64"),
            ("macos/arm64", "darwin/arm64"),
            ("linux/386", "linux/386"),
            ("linux/amd64/v2", "linux/amd64/v2"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        assert_eq!("local".parse::<Platform>().unwrap(), Platform::host());
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
        for bad in ["", "linux//v8", "linux/am d64", "nothing", "a/b/c/d", "*"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
