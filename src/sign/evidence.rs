//! What is said of a manifest at a place, signed or not: gathered, not believed.
//!
//! cosign 3 attaches a bundle for each signature and attestation (OCI image spec 1.1,
//! `subject`); before, it listed signatures in an image with the tag `sha256-HEX.sig`, and
//! attestations under `….att`. All of these are read. What cannot be read is noted and left
//! out: whoever may write to a place can hide signatures there in any case, but shall not be
//! able to make a good one useless by a broken one beside it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::envelope::{BUNDLES, Bundle, ENVELOPE, Envelope};
use super::error::SignError;
use super::key::PublicKey;
use super::statement::Statement;
use crate::attest::IN_TOTO;
use crate::copy::{CopyError, Reader};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, ImageError, Linked, MediaType, Purpose, Raw, referrers_tag};
use crate::net::escaped;

/// Most signatures and attestations of one manifest that are looked at.
const MOST: usize = 500;

/// Most bytes of them all, which are in memory.
const MOST_BYTES: u64 = 64 << 20;

/// Media type of the payload of one of cosign's old signatures.
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Where such a layer has its signature.
const SIMPLE_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Artifact type of such signatures where they are attached (cosign 2, on request).
const SIMPLE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// What was found of one manifest.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) about: BlobDigest,
    found: Vec<Said>,
    /// Statements that nobody signed, as the entries that list them.
    pub(super) unsigned: Vec<Descriptor>,
    /// What could not be read, and why.
    pub(super) odd: Vec<String>,
    bytes: u64,
}

#[derive(Debug)]
enum Said {
    Envelope {
        envelope: Envelope,
        /// The artifact that holds it in a bundle.
        of: Option<BlobDigest>,
    },
    Simple {
        payload: Vec<u8>,
        signature: Vec<u8>,
    },
}

impl Said {
    fn is_signed_by(&self, key: &PublicKey) -> bool {
        match self {
            Self::Envelope { envelope, .. } => envelope.is_signed_by(key),
            Self::Simple { payload, signature } => key.verifies(payload, signature),
        }
    }

    fn statement(&self, about: BlobDigest) -> Result<Statement, ImageError> {
        match self {
            Self::Envelope { envelope, .. } if envelope.payload_type != IN_TOTO => {
                let kind = escaped(&envelope.payload_type, 100);
                let why = format!("its payloadType is `{kind}`, not `{IN_TOTO}`");
                Err(ImageError::Malformed { what: "envelope", why })
            }
            Self::Envelope { envelope, .. } => Statement::read(&envelope.payload, about),
            Self::Simple { payload, .. } => Statement::read_simple(payload, about),
        }
    }
}

impl Evidence {
    /// What a key's owner says of the manifest, and what that key has signed and is no such
    /// thing: statements about something else first of all.
    pub(super) fn by(&self, key: &PublicKey) -> (Vec<Statement>, Vec<String>) {
        let (mut said, mut odd) = (Vec::new(), Vec::new());
        for one in self.found.iter().filter(|one| one.is_signed_by(key)) {
            match one.statement(self.about) {
                Ok(statement) => said.push(statement),
                Err(error) => odd.push(escaped(&error.to_string(), 300)),
            }
        }
        (said, odd)
    }

    /// The artifact in which a key has signed the very bytes of a statement.
    pub(super) fn has(&self, payload: &[u8], key: &PublicKey) -> Option<BlobDigest> {
        self.found.iter().find_map(|one| match one {
            Said::Envelope { envelope, of } if envelope.payload == payload => {
                of.filter(|_| envelope.is_signed_by(key))
            }
            Said::Envelope { .. } | Said::Simple { .. } => None,
        })
    }

    /// How many signatures there are, of whomever.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Looks for all that is said of a manifest.
    pub(super) async fn gather(reader: &Reader<'_>, about: BlobDigest) -> Result<Self, SignError> {
        let mut evidence =
            Self { about, found: Vec::new(), unsigned: Vec::new(), odd: Vec::new(), bytes: 0 };
        let mut looked = 0;
        let mut look = || {
            looked += 1;
            let (place, digest) = (reader.place(), about);
            if looked <= MOST {
                Ok(())
            } else {
                Err(SignError::TooMany { place, digest, most: MOST })
            }
        };
        for entry in reader.referrers(about).await? {
            match entry.artifact_type.as_deref() {
                Some(IN_TOTO) => evidence.unsigned.push(entry),
                // Some lists do not say what they list.
                Some(kind) if !kind.starts_with(BUNDLES) && kind != SIMPLE_ARTIFACT => (),
                _ => {
                    look()?;
                    if let Err(why) = evidence.attached(reader, &entry).await {
                        evidence.note(entry.digest, &why);
                    }
                }
            }
        }
        for ending in ["sig", "att"] {
            let tag = format!("{}.{ending}", referrers_tag(about));
            let Some(raw) = reader.tagged(&tag).await? else { continue };
            match layers(&raw) {
                Ok(layers) => {
                    for layer in &layers {
                        look()?;
                        if let Err(why) = evidence.listed(reader, layer).await {
                            evidence.note(layer.digest, &why);
                        }
                    }
                }
                Err(error) => evidence.note(raw.digest, &error.into()),
            }
        }
        Ok(evidence)
    }

    fn note(&mut self, digest: BlobDigest, why: &Odd) {
        let Odd(why) = why;
        self.odd.push(format!("sha256:{}: {why}", digest.short()));
    }

    async fn read(&mut self, reader: &Reader<'_>, layer: &Descriptor) -> Result<Vec<u8>, Odd> {
        let bytes = reader.bytes(layer).await?;
        self.bytes += bytes.len() as u64;
        match self.bytes > MOST_BYTES {
            true => Err(Odd(format!("what came before it has nearly {MOST_BYTES} bytes"))),
            false => Ok(bytes),
        }
    }

    /// Takes what one referrer holds.
    async fn attached(&mut self, reader: &Reader<'_>, entry: &Descriptor) -> Result<(), Odd> {
        let raw = reader.document(entry).await?;
        let purpose = Purpose::read(&raw.bytes)?;
        if purpose.subject.is_none_or(|subject| subject.digest != self.about) {
            return Err(Odd("it is listed here, and refers to something else".into()));
        }
        let layers = layers(&raw)?;
        let is_bundle = |layer: &&Descriptor| layer.media_type.as_str().starts_with(BUNDLES);
        match layers.as_slice() {
            [only] if is_bundle(&only) => match Bundle::read(&self.read(reader, only).await?)? {
                Bundle::Envelope(envelope) => {
                    self.found.push(Said::Envelope { envelope, of: Some(raw.digest) });
                }
                Bundle::File { .. } => return Err(Odd("it is a signature over a file".into())),
            },
            layers => {
                for layer in layers.iter().take(MOST) {
                    self.listed(reader, layer).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes what a layer holds in the old way.
    async fn listed(&mut self, reader: &Reader<'_>, layer: &Descriptor) -> Result<(), Odd> {
        match layer.media_type.as_str() {
            SIMPLE => {
                let none = || Odd(format!("it has no annotation `{SIMPLE_SIGNATURE}`"));
                let text = layer.annotations.get(SIMPLE_SIGNATURE).ok_or_else(none)?;
                let signature = BASE64.decode(text).map_err(|_| Odd("it is no base64".into()))?;
                let payload = self.read(reader, layer).await?;
                self.found.push(Said::Simple { payload, signature });
            }
            ENVELOPE => {
                let envelope = Envelope::read(&self.read(reader, layer).await?)?;
                self.found.push(Said::Envelope { envelope, of: None });
            }
            // Somebody else's, which says nothing here.
            _ => (),
        }
        Ok(())
    }
}

fn layers(raw: &Raw) -> Result<Vec<Descriptor>, ImageError> {
    if raw.media_type == MediaType::OciIndex {
        let why = "it is an index, not a manifest".into();
        return Err(ImageError::Malformed { what: "signature", why });
    }
    Ok(Linked::read(&raw.bytes, &raw.media_type)?.blobs.into_iter().skip(1).collect())
}

/// Why something was left out, for people.
struct Odd(String);

impl From<ImageError> for Odd {
    fn from(error: ImageError) -> Self {
        Self(escaped(&error.to_string(), 300))
    }
}

impl From<CopyError> for Odd {
    fn from(error: CopyError) -> Self {
        Self(escaped(&error.to_string(), 300))
    }
}
