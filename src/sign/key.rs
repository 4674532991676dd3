//! Keys: public ones that vouch, private ones that sign.
//!
//! Algorithms are those that cosign chooses for each kind of key, and ring does them: ECDSA
//! over P-256 with SHA-256 and over P-384 with SHA-384 (signatures in DER), Ed25519, RSA with
//! PKCS#1 v1.5 and SHA-256, of 2048 to 8192 bits. A signature of ECDSA has a random part; the
//! others are the same each time.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::SignatureScheme;
use rustls::pki_types::{
    PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
};
use webpki::ring as verify;
use zeroize::Zeroizing;

use super::error::KeyError;
use super::sealed;
use crate::digest::BlobDigest;

/// Most bytes of a file that holds a key.
pub(super) const MOST: u64 = 64 << 10;

const PUBLIC: &str = "PUBLIC KEY";
const PKCS8: &str = "PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
/// What cosign writes, by its name of today and the one before.
const SEALED: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];

/// Of what kind a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl Kind {
    /// What a signature may be of this key's; cosign once signed with P-384 and SHA-256.
    fn algorithms(self) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
        static P256: [&dyn SignatureVerificationAlgorithm; 1] = [verify::ECDSA_P256_SHA256];
        static P384: [&dyn SignatureVerificationAlgorithm; 2] =
            [verify::ECDSA_P384_SHA384, verify::ECDSA_P384_SHA256];
        static ED25519: [&dyn SignatureVerificationAlgorithm; 1] = [verify::ED25519];
        static RSA: [&dyn SignatureVerificationAlgorithm; 1] = [verify::RSA_PKCS1_2048_8192_SHA256];
        match self {
            Self::P256 => &P256,
            Self::P384 => &P384,
            Self::Ed25519 => &ED25519,
            Self::Rsa => &RSA,
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::P384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::Ed25519 => SignatureScheme::ED25519,
            Self::Rsa => SignatureScheme::RSA_PKCS1_SHA256,
        }
    }
}

/// A key that tells whose signatures are good.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) in DER.
    spki: Vec<u8>,
    kind: Kind,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl PublicKey {
    /// Reads a file's text: one key in PEM.
    ///
    /// # Errors
    /// If it holds none, or one that is of no kind that is known here, or weak.
    pub fn read(text: &[u8]) -> Result<Self, KeyError> {
        let (label, der) = pem(text)?;
        match label.as_str() {
            PUBLIC => Self::of(der.to_vec()),
            PKCS8 | SEC1 | PKCS1 => Err(KeyError::Private),
            sealed if SEALED.contains(&sealed) => Err(KeyError::Private),
            _ => Err(KeyError::Label { label }),
        }
    }

    fn of(spki: Vec<u8>) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from(spki.as_slice());
        let entity = webpki::RawPublicKeyEntity::try_from(&der).map_err(|_| KeyError::Malformed)?;
        // Which algorithm takes the key; no signature is empty, so none is found to be good.
        let takes = |algorithm: &dyn SignatureVerificationAlgorithm| {
            let asked = entity.verify_signature(algorithm, b"", b"");
            !matches!(
                asked,
                Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_))
            )
        };
        let kinds = [Kind::P256, Kind::P384, Kind::Ed25519, Kind::Rsa];
        let first = |kind: &Kind| kind.algorithms().first().is_some_and(|one| takes(*one));
        let kind = kinds.into_iter().find(first).ok_or(KeyError::Unknown)?;
        // What the modulus of 2048 bits, its exponent and their frame take at the least.
        const RSA_2048: usize = 256 + 30;
        if kind == Kind::Rsa && spki.len() < RSA_2048 {
            return Err(KeyError::Weak);
        }
        Ok(Self { spki, kind })
    }

    /// Whether a signature over a message is this key's.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let der = SubjectPublicKeyInfoDer::from(self.spki.as_slice());
        let Ok(entity) = webpki::RawPublicKeyEntity::try_from(&der) else { return false };
        let good = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            entity.verify_signature(*algorithm, message, signature).is_ok()
        };
        self.kind.algorithms().iter().any(good)
    }

    /// The digest of the key, by which people tell it from others.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        BlobDigest::of(&self.spki).to_string()
    }

    /// What sigstore's bundles name a key by.
    #[must_use]
    pub fn hint(&self) -> String {
        BASE64.encode(BlobDigest::of(&self.spki).0.bytes())
    }

    /// The text of a file that holds it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        to_pem(PUBLIC, &self.spki)
    }
}

/// A key that signs. It does not show itself.
pub struct PrivateKey {
    key: Arc<dyn rustls::sign::SigningKey>,
    public: PublicKey,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public.fingerprint())
    }
}

impl PrivateKey {
    /// Reads a file's text: PKCS#8, SEC1 or PKCS#1 in PEM, or a key as cosign encrypts it,
    /// which a password opens.
    ///
    /// # Errors
    /// If it holds no such key, or the password is not its own.
    pub fn read(text: &[u8], password: Option<&[u8]>) -> Result<Self, KeyError> {
        let (label, der) = pem(text)?;
        let der = match label.as_str() {
            PKCS8 => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_slice())),
            SEC1 => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der.as_slice())),
            PKCS1 => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der.as_slice())),
            PUBLIC => return Err(KeyError::Public),
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::OtherEncryption),
            label if SEALED.contains(&label) => {
                // cosign knows keys with an empty password, which is said by no variable here.
                let open = sealed::open(&der, password.unwrap_or_default());
                let open = open.map_err(|error| match (error, password) {
                    (KeyError::Password, None) => KeyError::NoPassword,
                    (error, _) => error,
                })?;
                return Self::of(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(open.as_slice())));
            }
            _ => return Err(KeyError::Label { label }),
        };
        Self::of(&der)
    }

    fn of(der: &PrivateKeyDer<'_>) -> Result<Self, KeyError> {
        // Its own words say no more, and might one day quote the key.
        let key = rustls::crypto::ring::sign::any_supported_type(der)
            .map_err(|_| KeyError::PrivateMalformed)?;
        let spki = key.public_key().ok_or(KeyError::Unknown)?.to_vec();
        Ok(Self { public: PublicKey::of(spki)?, key })
    }

    /// Makes a key over P-256, as cosign does.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::Random)?;
        let pkcs8 = Zeroizing::new(pkcs8.as_ref().to_vec());
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
        Ok((Self::of(&der)?, pkcs8))
    }

    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signer =
            self.key.choose_scheme(&[self.public.kind.scheme()]).ok_or(KeyError::Unknown)?;
        signer.sign(message).map_err(|_| KeyError::Random)
    }
}

/// The text of a file that holds a private key, encrypted as cosign does.
///
/// # Errors
/// If the system gives no random bytes.
pub fn sealed_pem(pkcs8: &[u8], password: &[u8]) -> Result<String, KeyError> {
    Ok(to_pem(SEALED[0], &sealed::seal(pkcs8, password)?))
}

fn to_pem(label: &str, bytes: &[u8]) -> String {
    let body = BASE64.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The first part of a text in PEM (RFC 7468) that is a key, with what it is called. OpenSSL
/// writes the parameters of a curve before a key.
fn pem(text: &[u8]) -> Result<(String, Zeroizing<Vec<u8>>), KeyError> {
    let text = std::str::from_utf8(text).map_err(|_| KeyError::NoPem)?;
    let mut lines = text.lines().map(str::trim_end);
    loop {
        let label = lines
            .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
            .ok_or(KeyError::NoPem)?;
        let end = format!("-----END {label}-----");
        // So large that it never moves, which would leave a part of it behind.
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        let mut closed = false;
        for line in lines.by_ref() {
            closed = line == end;
            if closed {
                break;
            }
            // `Proc-Type: 4,ENCRYPTED` and what goes with it: OpenSSL's old way.
            if line.contains(':') {
                return Err(KeyError::OtherEncryption);
            }
            body.push_str(line.trim());
        }
        if !closed {
            return Err(KeyError::NoPem);
        }
        if label == "EC PARAMETERS" {
            continue;
        }
        let bytes = BASE64.decode(body.as_bytes()).map_err(|_| KeyError::NoPem)?;
        return Ok((label.chars().take(60).collect(), Zeroizing::new(bytes)));
    }
}
