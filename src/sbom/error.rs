//! What can go wrong with a bill of materials.

use std::io;

use super::OpenError;
use crate::digest::BlobDigest;
use crate::layer::{ReadError, ViewError};

/// Why an image's components cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    #[error("layer {digest}: {source}")]
    Open { digest: BlobDigest, source: OpenError },
    #[error("layer {digest}: {source}")]
    Layer { digest: BlobDigest, source: ReadError },
    #[error("layer {digest} cannot be read: {source}")]
    Blob { digest: BlobDigest, source: io::Error },
    #[error("layer {digest}: with it there are more entries, or longer names, than can be held")]
    TooMuch { digest: BlobDigest },
    #[error("the layers of the image do not fit together: {0}")]
    Tree(#[from] ViewError),
    #[error("cannot keep files to look into: {0}")]
    Scratch(#[source] io::Error),
    #[error("{0}")]
    Store(#[source] OpenError),
    #[error("the work was stopped")]
    Stopped,
}

impl SbomError {
    /// What to try, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Layer { .. } | Self::Blob { .. } => {
                Some("the image is damaged; fetch it again".into())
            }
            Self::Scratch(_) => Some("files are kept in the store's folder meanwhile".into()),
            Self::Open { .. }
            | Self::TooMuch { .. }
            | Self::Tree(_)
            | Self::Store(_)
            | Self::Stopped => None,
        }
    }
}

/// A file that says what is installed and could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Its path in the image.
    pub path: String,
    pub why: String,
}
