//! What can go wrong with keys, signatures and policies.

use std::path::PathBuf;

use super::key;
use crate::atomic::PathError;
use crate::copy::CopyError;
use crate::digest::BlobDigest;
use crate::image::ImageError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why a text is no key. It says nothing of what the text holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it holds no key in PEM (`-----BEGIN …-----`)")]
    NoPem,
    #[error("it holds a `{label}`, which is no key that is known here")]
    Label { label: String },
    #[error("it is a private key; a public one is expected")]
    Private,
    #[error("it is a public key; a private one is expected")]
    Public,
    #[error("the key in it is malformed")]
    Malformed,
    #[error(
        "the key in it is malformed, or neither ECDSA (P-256, P-384), Ed25519 nor RSA (2048 to 8192 bits)"
    )]
    PrivateMalformed,
    #[error("the key in it is neither ECDSA (P-256, P-384), Ed25519 nor RSA")]
    Unknown,
    #[error("the key in it is weak: RSA keys have 2048 bits and more")]
    Weak,
    #[error("it is encrypted, and not as cosign does it")]
    OtherEncryption,
    #[error("it is no key that cosign encrypted: the JSON object in it is another one")]
    Sealed,
    #[error("it asks for more work to open it than cosign's keys do")]
    Cost,
    #[error("it is encrypted, and no password was given")]
    NoPassword,
    #[error("the password is wrong, or the file is damaged")]
    Password,
    #[error("the system gives no random bytes")]
    Random,
}

/// Why nothing was signed or verified. Texts of strangers are escaped and cut before they get
/// here.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("{}: {source}", path.display())]
    Key { path: PathBuf, source: KeyError },
    #[error("cannot sign: {0}")]
    Signing(KeyError),
    #[error("{} has more than {most} bytes", path.display())]
    TooLarge { path: PathBuf, most: u64 },
    #[error("{}: {why}", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{place} has more than {most} signatures and attestations of {digest}")]
    TooMany { place: String, digest: BlobDigest, most: usize },
    #[error("{place} can be read here, but not signed in")]
    Place { place: String },
    #[error("{digest}: {source}")]
    Document { digest: BlobDigest, source: ImageError },
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Path(#[from] PathError),
}

impl SignError {
    /// What to try, if there is something that the error's own source does not say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Key { source, .. } => match source {
                KeyError::NoPassword | KeyError::Password => {
                    Some("the password is taken from COSIGN_PASSWORD, or with --password-stdin".into())
                }
                KeyError::OtherEncryption => {
                    Some("`openssl pkcs8 -topk8 -nocrypt` or `cosign import-key-pair` writes it anew".into())
                }
                KeyError::PrivateMalformed => Some(
                    "`openssl pkcs8 -topk8 -nocrypt` writes a key in the form that all take".into(),
                ),
                KeyError::Label { .. } | KeyError::NoPem | KeyError::Private | KeyError::Public => {
                    Some("`kiln generate-key-pair` makes cosign.key to sign with, and cosign.pub to verify with".into())
                }
                _ => None,
            },
            Self::TooLarge { path, most } if *most == key::MOST => {
                Some(format!("{} is no key", path.display()))
            }
            Self::Place { .. } => {
                Some("sign the image in the store, and `kiln save`, `kiln bundle` or `kiln copy --referrers` it".into())
            }
            Self::Copy(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            _ => None,
        }
    }
}
