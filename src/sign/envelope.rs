//! DSSE envelopes (Dead Simple Signing Envelope, version 1) and the bundles that sigstore puts
//! them into (bundle v0.3), as far as keys go: certificates and transparency logs need a network.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::error::KeyError;
use super::key::{PrivateKey, PublicKey};
use crate::attest::IN_TOTO;
use crate::digest::{BlobDigest, Digest};
use crate::image::{ImageError, strict_json};

/// Media type of a bundle, artifact type of what holds one.
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// How the types of all versions of bundles begin.
pub(super) const BUNDLES: &str = "application/vnd.dev.sigstore.bundle";
/// Media type of an envelope that stands alone, as cosign once attached attestations.
pub(super) const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// Bytes with signatures over them and over what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) payload: Vec<u8>,
    pub(super) payload_type: String,
    pub(super) signatures: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload: String,
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Deserialize)]
struct WireSignature {
    sig: String,
}

/// What the signatures are over.
fn signed(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Base64 in the alphabet of either kind, which protobuf's JSON and DSSE allow.
fn decoded(text: &str) -> Result<Vec<u8>, ImageError> {
    let bytes = BASE64.decode(text).or_else(|_| URL_SAFE.decode(text));
    bytes.map_err(|_| malformed("it has a field that is no base64"))
}

fn malformed(why: impl Into<String>) -> ImageError {
    ImageError::Malformed { what: "signature", why: why.into() }
}

impl Envelope {
    /// Signs an in-toto statement.
    ///
    /// # Errors
    /// If the key cannot.
    pub(super) fn sign(statement: Vec<u8>, key: &PrivateKey) -> Result<Self, KeyError> {
        let signature = key.sign(&signed(IN_TOTO, &statement))?;
        Ok(Self {
            payload: statement,
            payload_type: IN_TOTO.to_owned(),
            signatures: vec![signature],
        })
    }

    /// Reads an envelope that stands alone.
    ///
    /// # Errors
    /// If it is malformed.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        Self::of(&strict_json("envelope", bytes)?)
    }

    fn of(wire: &Wire) -> Result<Self, ImageError> {
        /// Nobody signs one thing more often; each costs a check for each key.
        const MOST: usize = 16;
        if wire.signatures.is_empty() || wire.signatures.len() > MOST {
            return Err(malformed(format!("it has {} signatures", wire.signatures.len())));
        }
        let signatures = wire.signatures.iter().map(|one| decoded(&one.sig));
        Ok(Self {
            payload: decoded(&wire.payload)?,
            payload_type: wire.payload_type.clone(),
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }

    /// The bundle that it is kept in: the same for the same signature.
    pub(super) fn bundle(&self, by: &PublicKey) -> Vec<u8> {
        let signature = |sig: &Vec<u8>| json!({ "sig": BASE64.encode(sig) });
        let bundle = json!({
            "mediaType": BUNDLE,
            "verificationMaterial": { "publicKey": { "hint": by.hint() } },
            "dsseEnvelope": {
                "payload": BASE64.encode(&self.payload),
                "payloadType": self.payload_type,
                "signatures": self.signatures.iter().map(signature).collect::<Vec<_>>(),
            },
        });
        bundle.to_string().into_bytes()
    }

    /// Whether a key has signed it.
    #[must_use]
    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        let message = signed(&self.payload_type, &self.payload);
        self.signatures.iter().any(|signature| key.verifies(&message, signature))
    }
}

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bundle {
    Envelope(Envelope),
    /// A signature over a file, and the digest that it says the file has.
    File {
        digest: BlobDigest,
        signature: Vec<u8>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBundle {
    media_type: String,
    verification_material: Material,
    message_signature: Option<WireMessage>,
    dsse_envelope: Option<Wire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMessage {
    message_digest: WireDigest,
    signature: String,
}

#[derive(Deserialize)]
struct WireDigest {
    algorithm: String,
    digest: String,
}

impl Bundle {
    /// Reads a bundle of version 0.1 to 0.3, whose signature is a key's.
    ///
    /// # Errors
    /// If it is malformed, or signed by other means than a key.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let wire: WireBundle = strict_json("bundle", bytes)?;
        if !wire.media_type.starts_with(BUNDLES) {
            return Err(malformed("its mediaType is not that of a bundle"));
        }
        if wire.verification_material.public_key.is_none() {
            return Err(malformed("it was signed with a certificate, not with a key"));
        }
        match (wire.dsse_envelope, wire.message_signature) {
            (Some(envelope), None) => {
                let envelope = Envelope::of(&envelope)?;
                if envelope.signatures.len() != 1 {
                    return Err(malformed("a bundle has one signature"));
                }
                Ok(Self::Envelope(envelope))
            }
            (None, Some(message)) => {
                let WireDigest { algorithm, digest } = &message.message_digest;
                let digest = Some(decoded(digest)?).filter(|_| algorithm == "SHA2_256");
                let digest: [u8; 32] = digest
                    .and_then(|digest| digest.try_into().ok())
                    .ok_or_else(|| malformed("the digest in it is not SHA2_256"))?;
                let digest = BlobDigest(Digest::from_bytes(digest));
                Ok(Self::File { digest, signature: decoded(&message.signature)? })
            }
            _ => Err(malformed("it holds neither an envelope nor a signature, or both")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the protocol (DSSE v1, protocol.md, "Test vectors").
    #[test]
    fn what_is_signed() {
        assert_eq!(
            signed("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_bundle_has_one_meaning() {
        let (key, _) = PrivateKey::generate().unwrap();
        let envelope = Envelope::sign(b"{}".to_vec(), &key).unwrap();
        let text = String::from_utf8(envelope.bundle(key.public())).unwrap();
        assert!(envelope.is_signed_by(key.public()));
        assert_eq!(Bundle::read(text.as_bytes()).unwrap(), Bundle::Envelope(envelope));
        let signature = text.split_once("\"signatures\":[").unwrap().1.split_once(']').unwrap().0;
        for (from, to, says) in [
            ("\"payload\":", "\"payload\":\"e30=\",\"payload\":", "twice"),
            ("publicKey", "certificate", "certificate"),
            (BUNDLE, "application/json", "mediaType"),
            ("dsseEnvelope", "other", "neither"),
            (signature, "", "0 signatures"),
            (signature, &format!("{signature},{signature}"), "one signature"),
        ] {
            let error = Bundle::read(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(says), "{to}: {error}");
        }
    }

    #[test]
    fn what_is_not_signed_is_not_believed() {
        let (key, _) = PrivateKey::generate().unwrap();
        let (other, _) = PrivateKey::generate().unwrap();
        let good = Envelope::sign(b"{}".to_vec(), &key).unwrap();
        assert!(!good.is_signed_by(other.public()));
        let swapped = Envelope { payload: b"{ }".to_vec(), ..good.clone() };
        assert!(!swapped.is_signed_by(key.public()));
        let retyped = Envelope { payload_type: "text/plain".into(), ..good.clone() };
        assert!(!retyped.is_signed_by(key.public()));
        // The same signature over the payload alone is none over the envelope.
        let bare = Envelope { signatures: vec![key.sign(b"{}").unwrap()], ..good };
        assert!(!bare.is_signed_by(key.public()));
    }
}
