//! What is carried to machines without a network, in one archive.
//!
//! A bundle is an OCI image layout in a tar, which any reader of image archives takes. It has
//! the results of builds, with all platforms and all that refers to them; and inputs: the
//! bases, files and commits that a lock names, and the lock itself (`inputs` has the form).
//! The same content gives the same bytes: what is in it is sorted, and each blob is there once.
//!
//! Its digest is that of its `index.json`, which leads to all else by digests. So whoever
//! trusts the digest of a bundle, as a signature gives it, can trust all that is in it.
//!
//! A bundle may leave out what other bundles have (`--since`), and says which. Manifests,
//! indexes and configs are in each, so that it can be told what is lacking.
//!
//! A bundle is a stranger's when it is read: every blob is hashed on its way into the store,
//! and has no name there before all of it is in.

mod inputs;
mod list;
mod make;
mod take;

pub use inputs::{bases, sources};
pub use list::{Input, Listed, Listing, Referrer, list};
pub use make::{Image, Made, Making, cache, gather, make};
pub use take::{Locks, Taken, take};

use std::path::{Path, PathBuf};

use crate::build::OpenError;
use crate::copy::CopyError;
use crate::digest::BlobDigest;
use crate::image::ImageError;
use crate::lock::{FILE, Key};
use crate::output::{Opened, OutputError, Volume, Work, archive_name};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::RegistryError;
use crate::store::{Store, StoreError};

/// What can go wrong with bundles.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Of a bundle that is read.
    #[error("{}: {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: OutputError,
    },
    #[error(transparent)]
    Write(OutputError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{}` is asked for twice, from {one} and from {other}", name.familiar())]
    Twice { name: Reference, one: String, other: String },
    #[error("{image} has {what}, which no store of kiln's takes there")]
    Odd { image: String, what: String },
    #[error("{digest}: {source}")]
    Document { digest: BlobDigest, source: ImageError },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{}: the index {index} does not list {digest}, which the lock has for {platform}", name.familiar())]
    NotListed {
        name: Box<Reference>,
        platform: Box<Platform>,
        index: BlobDigest,
        digest: BlobDigest,
    },
    #[error("{} would be written over what it is to leave out", path.display())]
    Itself { path: PathBuf },
    #[error("{} has no inputs of a build", path.display())]
    NoInputs { path: PathBuf },
    #[error("{}: its {FILE}: {why}", path.display())]
    Lock { path: PathBuf, why: String },
    #[error("{key} is {one} in one bundle and {other} in another")]
    Conflict { key: Box<Key>, one: String, other: String },
}

impl BundleError {
    /// What to try, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Odd { .. } => Some(
                "`kiln copy --referrers` writes it to oci-archive:FILE, for other tools".into(),
            ),
            Self::Copy(CopyError::Absent { .. }) => Some(
                "the store has the image only in part; docker://NAME takes it from its registry"
                    .into(),
            ),
            Self::Copy(error) => error.hint(),
            Self::Read { source, .. } | Self::Write(source) => source.hint(),
            Self::Registry(error) => error.hint(),
            Self::NoInputs { .. } => Some(
                "it may have results: `kiln load` takes those, and `kiln bundle --list` tells"
                    .into(),
            ),
            Self::Itself { .. } => Some("give the new bundle a name of its own".into()),
            Self::Conflict { .. } => Some(
                "give bundles that were made with one lock, or one that was made --since the other; \
                 or say with --locked what is meant"
                    .into(),
            ),
            Self::Store(_)
            | Self::Twice { .. }
            | Self::Document { .. }
            | Self::Open(_)
            | Self::NotListed { .. }
            | Self::Lock { .. } => None,
        }
    }
}

/// Opens a bundle, by its name or that of its first part.
fn open(path: &Path, store: &Store, work: &Work<'_>) -> Result<Opened, BundleError> {
    let opened = Volume::open(path, work).and_then(|from| Opened::open(from, store, work));
    opened.map_err(|source| BundleError::Read { path: path.into(), source })
}

/// The digest of a bundle: it changes with anything that is in it.
///
/// # Errors
/// If the file is no image layout in a tar, or a part of it is missing.
pub fn digest(path: &Path, store: &Store, work: &Work<'_>) -> Result<BlobDigest, BundleError> {
    let opened = open(path, store, work)?;
    let index = opened.index(work);
    Ok(index.map_err(|source| BundleError::Read { path: path.into(), source })?.0)
}

/// A file beside a bundle, whether the bundle comes in parts or not: `NAME` and an ending.
/// Signatures lie there, since a bundle cannot hold what speaks of it.
#[must_use]
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = archive_name(path).into_os_string();
    name.push(ending);
    name.into()
}
