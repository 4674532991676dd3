//! What can go wrong with a comparison.

use std::io;
use std::path::PathBuf;

use super::{MOST_ENTRIES, MOST_TEXT};
use crate::atomic::PathError;
use crate::digest::BlobDigest;
use crate::image::ImageError;
use crate::layer::{ReadError, ViewError};
use crate::store::StoreError;

/// Why images cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("`{image}` has no image for {wanted}, only for {}", .have.join(", "))]
    NoPlatform { image: String, wanted: String, have: Vec<String> },
    #[error("layer {digest}: {source}")]
    Layer { digest: BlobDigest, source: ReadError },
    #[error("blob {digest} cannot be read: {source}")]
    Blob { digest: BlobDigest, source: io::Error },
    #[error("layer {digest} cannot be compared: with it there are {what}")]
    TooMuch { digest: BlobDigest, what: TooMuch },
    #[error("the work was stopped")]
    Stopped,
    #[error("the layers of `{image}` do not fit together: {source}")]
    Tree { image: String, source: ViewError },
    #[error("cannot keep files to compare: {0}")]
    Scratch(#[source] io::Error),
    #[error("{} is no image layout: {why}", folder.display())]
    NotALayout { folder: PathBuf, why: String },
    #[error("{} has no image `{tag}`", folder.display())]
    NoTag { folder: PathBuf, tag: String, have: Vec<String> },
    #[error("{} has several images", folder.display())]
    Several { folder: PathBuf, have: Vec<String> },
    #[error("{} has no blob {digest}", folder.display())]
    NoBlob { folder: PathBuf, digest: BlobDigest },
    #[error("blob {digest} of {}: {source}", folder.display())]
    Document { folder: PathBuf, digest: BlobDigest, source: ImageError },
}

/// What a layer has too much of to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    #[error("more than {MOST_ENTRIES} entries")]
    Entries,
    #[error("more than {} MiB of names and attributes", MOST_TEXT >> 20)]
    Text,
    #[error("files with more holes than are worth the time")]
    Holes,
}

impl CompareError {
    /// What to try, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoPlatform { .. } => Some("choose one that both have with --platform".into()),
            Self::NoTag { have, .. } | Self::Several { have, .. } if have.is_empty() => Some(
                "its images have no names, so it can only be told apart if there is one".into(),
            ),
            Self::NoTag { have, .. } | Self::Several { have, .. } => {
                Some(format!("name one of {} after a colon", have.join(", ")))
            }
            Self::Layer { .. } | Self::Blob { .. } | Self::NoBlob { .. } => {
                Some("the image is there in part, or damaged; fetch it again".into())
            }
            Self::Scratch(_) => Some("files are kept in the store's folder meanwhile".into()),
            Self::Store(_)
            | Self::Path(_)
            | Self::TooMuch { .. }
            | Self::Stopped
            | Self::Tree { .. }
            | Self::NotALayout { .. }
            | Self::Document { .. } => None,
        }
    }
}
