//! One piece of software that an image has.

use std::collections::BTreeSet;

use super::licence::Licence;
use crate::digest::{BlobDigest, DiffId};

/// Whose rules a component's name and version follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Apk,
    Cargo,
    Deb,
    Golang,
    Npm,
    Pypi,
    Rpm,
}

impl Kind {
    /// Its type in package URLs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Cargo => "cargo",
            Self::Deb => "deb",
            Self::Golang => "golang",
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Rpm => "rpm",
        }
    }
}

/// Where it was found: what is written there says that the component is installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The file that says so, in the image.
    pub path: String,
    /// The layer that brought the component, counted from the lowest, and its names.
    pub layer: usize,
    pub diff_id: DiffId,
    pub digest: BlobDigest,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    pub kind: Kind,
    pub name: String,
    /// Empty if it is not known.
    pub version: String,
    pub arch: Option<String>,
    /// Its package URL.
    pub purl: String,
    pub licence: Option<Licence>,
    /// Who answers for the package.
    pub supplier: Option<String>,
    /// The source package that it was built from, if that has another name or version.
    pub source: Option<String>,
    /// At least one place.
    pub found: BTreeSet<Found>,
}
