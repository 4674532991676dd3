//! Certificates for one host: the folders of containers-certs.d(5).
//!
//! `*.crt` are roots that are trusted besides the system's, `*.cert` with the `*.key` of the
//! same name are what kiln shows of itself to a server that asks. All are PEM; what cannot be
//! read is an error that names the file, since to leave it out would change who is trusted.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// No certificate or key comes near it; a bundle of roots has a fifth.
const LIMIT: u64 = 1 << 20;

/// What a folder holds for one host.
#[derive(Clone)]
pub struct Certs {
    folder: PathBuf,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) pairs: Vec<Arc<CertifiedKey>>,
}

/// Why a file of such a folder cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct CertsError {
    pub path: PathBuf,
    pub why: String,
}

impl fmt::Debug for Certs {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certs({})", self.folder.display())
    }
}

impl Certs {
    /// Reads a folder. `None` if there is none, or none that may be entered: the system's
    /// may be meant for others of its users.
    ///
    /// # Errors
    /// If a file in it is malformed, or one of a pair is absent.
    pub fn read(folder: &Path) -> Result<Option<Self>, CertsError> {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), NotADirectory | NotFound | PermissionDenied) => {
                return Ok(None);
            }
            Err(error) => return Err(wrong(folder, error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(|error| wrong(folder, error))?.path());
        }
        // The first certificate that a server takes is shown: let it be the same each time.
        paths.sort();
        let mut certs = Self { folder: folder.into(), roots: Vec::new(), pairs: Vec::new() };
        for path in &paths {
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("crt") => certs.roots.extend(chain(path)?),
                Some("cert") => certs.pairs.push(Arc::new(pair(path)?)),
                Some("key") if !paths.contains(&path.with_extension("cert")) => {
                    return Err(wrong(
                        path,
                        format!(
                            "there is no certificate for this key: {} is expected",
                            path.with_extension("cert").display()
                        ),
                    ));
                }
                _ => {}
            }
        }
        Ok(Some(certs))
    }

    /// Where they were read.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// True if there is something to show to a server that asks who is there.
    #[must_use]
    pub fn has_pairs(&self) -> bool {
        !self.pairs.is_empty()
    }

    /// The roots alone, for a host that is not to learn who is there.
    #[must_use]
    pub fn roots_only(&self) -> Self {
        Self { pairs: Vec::new(), ..self.clone() }
    }
}

fn wrong(path: &Path, why: impl fmt::Display) -> CertsError {
    CertsError { path: path.into(), why: why.to_string() }
}

fn bytes(path: &Path) -> Result<Vec<u8>, CertsError> {
    let cannot = |error: io::Error| wrong(path, format!("it cannot be read: {error}"));
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(cannot)?;
    io::Read::read_to_end(&mut io::Read::take(file, LIMIT + 1), &mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LIMIT {
        return Err(wrong(path, format!("it has more than {LIMIT} bytes")));
    }
    Ok(bytes)
}

/// The certificates of a file: at least one.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertsError> {
    let bytes = bytes(path)?;
    let mut chain = Vec::new();
    for one in CertificateDer::pem_slice_iter(&bytes) {
        let one = one.map_err(|error| wrong(path, format!("it is malformed: {error}")))?;
        if let Err(error) = webpki::anchor_from_trusted_cert(&one) {
            return Err(wrong(path, format!("a certificate in it is malformed: {error}")));
        }
        chain.push(one);
    }
    if chain.is_empty() {
        return Err(wrong(path, "it holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)"));
    }
    Ok(chain)
}

fn pair(cert: &Path) -> Result<CertifiedKey, CertsError> {
    let path = cert.with_extension("key");
    let chain = chain(cert)?;
    if !path.exists() {
        return Err(wrong(
            cert,
            format!(
                "there is no key for this client certificate: {} is expected (a root of trust \
                 ends in .crt)",
                path.display()
            ),
        ));
    }
    let text = bytes(&path)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = text.windows(9).any(|part| part == b"ENCRYPTED");
        wrong(
            &path,
            if encrypted {
                "it is encrypted; a key without a password is expected".to_owned()
            } else {
                format!("it holds no private key in PEM: {error}")
            },
        )
    })?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(|error| {
        let why = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("it is not the key of {}", cert.display())
            }
            error => format!("it cannot be used: {error}"),
        };
        wrong(&path, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_malformed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(Certs::read(&at("absent")).unwrap().is_none());
        assert!(!Certs::read(folder.path()).unwrap().unwrap().has_pairs());
        fs::write(at("readme.txt"), "anything").unwrap();
        let pem = |kind: &str| format!("-----BEGIN {kind}-----\nMAA=\n-----END {kind}-----\n");
        for (name, text, says) in [
            ("a.crt", String::new(), "no certificate in PEM"),
            ("a.crt", "-----BEGIN CERTIFICATE-----\n!\n".into(), "a.crt: it is malformed"),
            ("a.crt", pem("CERTIFICATE"), "a certificate in it is malformed"),
            ("a.cert", "x".into(), "a.cert: it holds no certificate"),
            ("a.key", "x".into(), "a.cert is expected"),
        ] {
            fs::write(at(name), text).unwrap();
            let error = Certs::read(folder.path()).unwrap_err();
            assert_eq!(error.path, at(name));
            assert!(error.to_string().contains(says), "{error}");
            fs::remove_file(at(name)).unwrap();
        }
    }
}
