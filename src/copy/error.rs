//! What can go wrong between places.

use crate::atomic::PathError;
use crate::digest::BlobDigest;
use crate::image::ImageError;
use crate::output::OutputError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why an image was not copied. Texts of strangers are escaped and cut before they get here.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("cannot read {place}: {source}")]
    Read { place: String, source: std::io::Error },
    #[error("{place} has no image `{wanted}`; it has {}", listed(.have))]
    NoEntry { place: String, wanted: String, have: Vec<String> },
    #[error("{place} holds several images: {}", listed(.have))]
    Several { place: String, have: Vec<String> },
    #[error("{place} is no image layout: {why}")]
    NotALayout { place: String, why: String },
    #[error("{place}: {name} {why}")]
    Hostile { place: String, name: String, why: &'static str },
    #[error("{what} in {place} does not match: {expected} was expected, {found} found")]
    Mismatch { place: String, what: String, expected: String, found: String },
    #[error("{digest} in {place}: {source}")]
    Document { place: String, digest: BlobDigest, source: ImageError },
    #[error("{place} does not have {digest}, which the image lists")]
    Absent { place: String, digest: BlobDigest },
    #[error("{place} nests indexes more than {limit} deep")]
    TooDeep { place: String, limit: usize },
    #[error("{place} has more than {limit} {what}")]
    TooMany { place: String, what: &'static str, limit: usize },
    #[error("`{place}` has no image for {wanted}; it has {}", listed(.have))]
    NoPlatform { place: String, wanted: String, have: Vec<String> },
    /// The place is of a kind that cannot hold this.
    #[error("{place} cannot hold {what}")]
    Holds { place: String, what: String, instead: &'static str },
    #[error("{place} is {found}, not {wanted}")]
    OtherDigest { place: String, wanted: BlobDigest, found: BlobDigest },
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none with a name".to_owned(),
        names if names.len() > 20 => {
            format!("{}, … ({} in all)", names[..20].join(", "), names.len())
        }
        names => names.join(", "),
    }
}

impl CopyError {
    /// What to try, if there is something that the error's own source does not say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoEntry { .. } | Self::Several { .. } => {
                Some("name one of them behind a colon: PLACE:NAME".into())
            }
            Self::Holds { instead, .. } => Some((*instead).into()),
            Self::Absent { .. } => Some(
                "with --platform only what that platform needs is copied; else copy the image \
                 there in whole first"
                    .into(),
            ),
            Self::NoPlatform { .. } => Some("choose one of these with --platform".into()),
            Self::Registry(error) => error.hint(),
            Self::Output(error) => error.hint(),
            Self::Store(_)
            | Self::Path(_)
            | Self::Read { .. }
            | Self::NotALayout { .. }
            | Self::Hostile { .. }
            | Self::Mismatch { .. }
            | Self::Document { .. }
            | Self::TooDeep { .. }
            | Self::TooMany { .. }
            | Self::OtherDigest { .. } => None,
        }
    }
}
