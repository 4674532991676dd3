//! Signatures of files, kept beside them: archives, bundles, locks.
//!
//! What is made is a statement about the file's digest, so that a file of any size is hashed as
//! it is read. `cosign verify-blob --bundle` takes it. What `cosign sign-blob` makes is a
//! signature over the file itself: to verify it, the file is in memory.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use super::envelope::{Bundle, Envelope};
use super::error::SignError;
use super::key::{PrivateKey, PublicKey};
use super::policy;
use super::statement::{SIGNATURE, Statement};
use crate::atomic::AtPath as _;
use crate::attest::IN_TOTO;
use crate::digest::{BlobDigest, Hashing};
use crate::image::{ImageError, MAX_DOCUMENT};
use crate::net::escaped;

/// Largest file that is read whole.
const MOST: u64 = 256 << 20;

/// Signs a file; gives the bytes of the bundle to keep beside it.
///
/// # Errors
/// If it cannot be read, or is a manifest.
pub fn sign_file(path: &Path, key: &PrivateKey) -> Result<Vec<u8>, SignError> {
    let (digest, head) = hashed(path)?;
    if is_manifest(&head) {
        let why = "it is a manifest, and a signature of it would be one of the image; `kiln sign` \
                   makes those"
            .into();
        return Err(SignError::Malformed { path: path.into(), why });
    }
    let statement = Statement::signature(&[], &BTreeMap::new()).bytes(digest);
    let envelope = Envelope::sign(statement, key).map_err(SignError::Signing)?;
    Ok(envelope.bundle(key.public()))
}

/// Whether a bundle is a key's signature over a file; if not, why.
///
/// # Errors
/// If a file cannot be read, or is malformed.
pub fn verify_file(
    path: &Path,
    bundle: &Path,
    key: &PublicKey,
) -> Result<Result<BlobDigest, String>, SignError> {
    let malformed = |error: ImageError| SignError::Malformed {
        path: bundle.into(),
        why: escaped(&error.to_string(), 300),
    };
    let read = Bundle::read(&policy::read(bundle, MAX_DOCUMENT)?).map_err(malformed)?;
    let envelope = match read {
        Bundle::Envelope(envelope) => envelope,
        Bundle::File { digest, signature } => {
            let bytes = policy::read(path, MOST)?;
            // What the bundle says of the digest is nobody's word; cosign compares it, too.
            let good = BlobDigest::of(&bytes) == digest && key.verifies(&bytes, &signature);
            return Ok(good.then_some(digest).ok_or_else(other));
        }
    };
    if !envelope.is_signed_by(key) {
        return Ok(Err("it is signed by another key, or was changed".into()));
    }
    if envelope.payload_type != IN_TOTO {
        return Ok(Err("what is signed is no statement".into()));
    }
    let (digest, _) = hashed(path)?;
    Ok(match Statement::read(&envelope.payload, digest) {
        Ok(said) if said.predicate_type == SIGNATURE => Ok(digest),
        Ok(said) => {
            let kind = escaped(&said.predicate_type, 200);
            Err(format!("it is no signature but an attestation: {kind}"))
        }
        Err(_) => Err(other()),
    })
}

/// Whether a file is the manifest of an image, or an index of some.
fn is_manifest(bytes: &[u8]) -> bool {
    let read = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
    let has = |name: &str| read.get(name).is_some();
    has("schemaVersion") && (has("layers") || has("manifests") || has("config"))
}

fn other() -> String {
    "it is signed by another key, or is of another file".into()
}

/// The digest of a file, and as much of its beginning as a document may have. A pipe is read
/// once.
fn hashed(path: &Path) -> Result<(BlobDigest, Vec<u8>), SignError> {
    let mut file = std::fs::File::open(path).at("open", path)?;
    let mut to = Hashing::new(std::io::sink());
    let (mut piece, mut head) = (vec![0; 1 << 18], Vec::new());
    loop {
        match file.read(&mut piece).at("read", path)? {
            0 => break,
            n => {
                std::io::Write::write_all(&mut to, &piece[..n]).at("read", path)?;
                if head.len() as u64 <= MAX_DOCUMENT {
                    head.extend_from_slice(&piece[..n]);
                }
            }
        }
    }
    Ok((BlobDigest(to.finish().1), head))
}
