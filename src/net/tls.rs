//! How TLS is spoken: whom to trust, and what to show of oneself.
//!
//! Roots are those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, else the system's, else
//! Mozilla's; those of a host's own folder come on top ([`Certs`]). A certificate that is
//! among the roots is taken for itself, though it says that it may sign others: self-signed
//! ones do, and whoever put it there meant it.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::{Certs, ClientError};
use crate::env;

/// The roots of this machine, read when first needed.
#[derive(Debug, Default)]
pub(super) struct Roots(OnceLock<Result<Arc<RootCertStore>, ClientError>>);

impl Roots {
    fn get(&self) -> Result<Arc<RootCertStore>, ClientError> {
        self.0.get_or_init(|| of_machine().map(Arc::new)).clone()
    }
}

fn of_machine() -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // A bundle may hold what no verifier can read; the rest of it counts.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        if let Some(name) = [env::SSL_CERT_FILE, env::SSL_CERT_DIR]
            .into_iter()
            .find(|name| env::get(name).is_some())
        {
            let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(ClientError(format!("{name} leads to no root certificates{why}")));
        }
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    Ok(roots)
}

/// How a client speaks TLS. `asked` becomes true once a server wants to see a certificate.
pub(super) fn config(
    verify: bool,
    certs: Option<&Certs>,
    roots: &Roots,
    asked: &Arc<AtomicBool>,
) -> Result<ClientConfig, ClientError> {
    let cannot = |error: &dyn std::fmt::Display| ClientError(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = certs.map(|certs| certs.roots.clone()).unwrap_or_default();
    let verifier: Arc<dyn ServerCertVerifier> = if verify {
        let mut roots = roots.get()?;
        if !own.is_empty() {
            let all = Arc::make_mut(&mut roots);
            for root in &own {
                all.add(root.clone()).map_err(|error| cannot(&error))?;
            }
        }
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        Arc::new(Vouched { inner: inner.build().map_err(|error| cannot(&error))?, own })
    } else {
        Arc::new(Anybody(Arc::clone(&provider)))
    };
    let pairs = certs.map(|certs| certs.pairs.clone()).unwrap_or_default();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| cannot(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(Shown { pairs, asked: Arc::clone(asked) }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Trusts what roots vouch for, and the roots themselves.
#[derive(Debug)]
struct Vouched {
    inner: Arc<WebPkiServerVerifier>,
    /// The host's own.
    own: Vec<CertificateDer<'static>>,
}

impl Vouched {
    fn is_root(&self, shown: &CertificateDer<'_>) -> bool {
        // The system's are read again: this is rare, and keeping them whole is not free.
        self.own.iter().any(|root| root.as_ref() == shown.as_ref())
            || rustls_native_certs::load_native_certs()
                .certs
                .iter()
                .any(|root| root.as_ref() == shown.as_ref())
    }
}

/// True if the only objection is that the certificate may sign others. It comes after
/// the check of its time, and before the one of its name.
fn says_it_signs(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(shown, between, name, ocsp, now) {
            Err(error) if says_it_signs(&error) => {
                if self.is_root(shown) {
                    verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                    return Ok(ServerCertVerified::assertion());
                }
                // What is wrong with one that is signed by itself is that nobody knows it.
                let own = webpki::EndEntityCert::try_from(shown)
                    .is_ok_and(|cert| cert.issuer() == cert.subject());
                Err(if own { CertificateError::UnknownIssuer.into() } else { error })
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// For hosts that were named as insecure: any certificate will do.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What is shown to a server that asks.
struct Shown {
    pairs: Vec<Arc<CertifiedKey>>,
    asked: Arc<AtomicBool>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shown({})", self.pairs.len())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        let usable = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(schemes).is_some();
        let known = |pair: &&Arc<CertifiedKey>| {
            issuers.is_empty() || pair.cert.iter().any(|cert| issued_by(cert, issuers))
        };
        let mut pairs = self.pairs.iter().filter(usable);
        // One that the server has not named is shown all the same: its refusal says more
        // than silence does.
        pairs.clone().find(known).or_else(|| pairs.next()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.pairs.is_empty()
    }
}

/// True if a certificate was issued under one of these names (DER, with their header).
fn issued_by(cert: &CertificateDer<'_>, issuers: &[&[u8]]) -> bool {
    webpki::EndEntityCert::try_from(cert).is_ok_and(|cert| {
        let issuer = cert.issuer();
        issuers.iter().any(|name| {
            // A header has 2 to 4 bytes at these lengths.
            name.len() <= issuer.len() + 4 && name.ends_with(issuer)
        })
    })
}
