//! Signing: images in the store or in a registry.
//!
//! A signature is a statement in an envelope in a bundle, in an artifact that refers to what
//! is signed: what cosign 3 makes, without a time and without a log. What a key has said
//! already is not said again, since signatures of ECDSA differ each time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::envelope::{BUNDLE, Envelope};
use super::error::SignError;
use super::evidence::Evidence;
use super::judge::listed;
use super::key::PrivateKey;
use super::statement::{SIGNATURE, Statement, repositories};
use crate::copy::{Env, Place, Reader};
use crate::digest::BlobDigest;
use crate::image::{
    Annotations, Artifact, Descriptor, ImageError, Linked, MAX_DOCUMENT, MediaType,
};
use crate::reference::Reference;
use crate::registry;
use crate::store::Store;

/// What is said, and with which key.
pub struct Signing<'a> {
    pub key: &'a PrivateKey,
    /// What signatures have noted.
    pub annotations: &'a BTreeMap<String, String>,
    /// The images that an index lists, too.
    pub recursive: bool,
    /// Which of the statements that are attached and that nobody signed, too.
    pub attestations: Attestations<'a>,
}

/// Statements that nobody signed.
#[derive(Debug, Clone, Copy)]
pub enum Attestations<'a> {
    None,
    /// In these artifacts.
    These(&'a BTreeSet<BlobDigest>),
    All,
}

impl Attestations<'_> {
    fn take(&self, digest: &BlobDigest) -> bool {
        match self {
            Self::None => false,
            Self::These(digests) => digests.contains(digest),
            Self::All => true,
        }
    }
}

/// What was signed.
#[derive(Debug, Clone)]
pub struct Signed {
    pub digest: BlobDigest,
    /// The artifacts that hold the signatures, new ones and those that were there.
    pub attached: Vec<BlobDigest>,
}

/// Where what is made goes.
struct Maker<'a> {
    /// The repository in a registry; none for the store.
    to: Option<Reference>,
    /// What the image is called there.
    names: &'a [Reference],
    key: &'a PrivateKey,
    store: &'a Store,
    env: &'a Env<'a>,
}

/// Signs an image, in the store or in a registry. `store` holds what is made on its way.
///
/// # Errors
/// If the place does not give the image or take the signature.
pub async fn sign(
    place: &Place,
    signing: &Signing<'_>,
    store: &Store,
    env: &Env<'_>,
) -> Result<Signed, SignError> {
    let (to, name) = destination(place, env)?;
    let maker = Maker { to, names: &[name], key: signing.key, store, env };
    maker.sign(&Reader::open(place, env)?, signing).await
}

/// Signs an image of the store under all the names that it is to have, which it need not have
/// yet.
///
/// # Errors
/// If it is not there whole, or the store cannot be written.
pub async fn sign_stored(
    at: Descriptor,
    names: &[Reference],
    signing: &Signing<'_>,
    store: &Store,
    env: &Env<'_>,
) -> Result<Signed, SignError> {
    let maker = Maker { to: None, names, key: signing.key, store, env };
    maker.sign(&Reader::stored(store, at, names.first().cloned(), env), signing).await
}

/// Signs a predicate about an image.
///
/// # Errors
/// As [`sign`].
pub async fn attest(
    place: &Place,
    predicate_type: &str,
    predicate: Value,
    key: &PrivateKey,
    store: &Store,
    env: &Env<'_>,
) -> Result<Signed, SignError> {
    let (to, name) = destination(place, env)?;
    let maker = Maker { to, names: &[name], key, store, env };
    let reader = Reader::open(place, env)?;
    let root = reader.root().await?.descriptor();
    let evidence = Evidence::gather(&reader, root.digest).await?;
    let statement = Statement {
        predicate_type: predicate_type.to_owned(),
        predicate,
        names: repositories(maker.names),
        annotations: serde_json::Map::new(),
    };
    let bytes = statement.bytes(root.digest);
    let attached = vec![maker.attach(&root, bytes, predicate_type, &evidence).await?];
    Ok(Signed { digest: root.digest, attached })
}

/// The bytes of a statement that is attached without a signature, and its predicate's type.
async fn unsigned(
    reader: &Reader<'_>,
    entry: &Descriptor,
    about: BlobDigest,
) -> Result<(Vec<u8>, String), SignError> {
    let wrong = |source: ImageError| SignError::Document { digest: entry.digest, source };
    let raw = reader.document(entry).await?;
    let linked = Linked::read(&raw.bytes, &raw.media_type).map_err(wrong)?;
    let Some(layer) = linked.blobs.get(1) else {
        let why = "it has no layer".into();
        return Err(wrong(ImageError::Malformed { what: "attestation", why }));
    };
    let bytes = reader.bytes(layer).await?;
    // Nobody signs what is about something else as well; whoever put it there may not be known.
    let kind = Statement::read_alone(&bytes, about).map_err(wrong)?.predicate_type;
    if kind == SIGNATURE {
        let why = "it is a signature that nobody has signed".into();
        return Err(wrong(ImageError::Malformed { what: "attestation", why }));
    }
    Ok((bytes, kind))
}

/// Where signatures of an image go, none for the store, and what it is called there.
fn destination(place: &Place, env: &Env<'_>) -> Result<(Option<Reference>, Reference), SignError> {
    match place {
        Place::Store(name) => Ok((None, name.clone())),
        Place::Registry { name, .. } => {
            let name = env.from.meaning(name)?;
            Ok((Some(name.clone()), name))
        }
        Place::Layout { .. } | Place::OciArchive { .. } | Place::DockerArchive { .. } => {
            Err(SignError::Place { place: place.to_string() })
        }
    }
}

impl Maker<'_> {
    async fn sign(&self, reader: &Reader<'_>, signing: &Signing<'_>) -> Result<Signed, SignError> {
        let root = reader.root().await?;
        let mut attached = Vec::new();
        let own = Statement::signature(self.names, signing.annotations);
        let parts = match root.media_type.is_index() {
            true => listed(&root)?,
            false => Vec::new(),
        };
        for (at, subject) in [root.descriptor()].iter().chain(&parts).enumerate() {
            let signs = at == 0 || signing.recursive;
            if !signs && matches!(signing.attestations, Attestations::None) {
                break;
            }
            let evidence = Evidence::gather(reader, subject.digest).await?;
            if signs {
                let bytes = own.bytes(subject.digest);
                let kind = &own.predicate_type;
                attached.push(self.attach(subject, bytes, kind, &evidence).await?);
            }
            let taken = |entry: &&Descriptor| signing.attestations.take(&entry.digest);
            for entry in evidence.unsigned.iter().filter(taken) {
                let (bytes, kind) = unsigned(reader, entry, subject.digest).await?;
                attached.push(self.attach(subject, bytes, &kind, &evidence).await?);
            }
        }
        Ok(Signed { digest: root.digest, attached })
    }

    /// Signs a statement and attaches it, unless the key has signed it before. Gives the
    /// artifact that holds it.
    async fn attach(
        &self,
        subject: &Descriptor,
        statement: Vec<u8>,
        predicate_type: &str,
        evidence: &Evidence,
    ) -> Result<BlobDigest, SignError> {
        let task = self.env.progress.task(format!("sign sha256:{}", subject.digest.short()));
        if let Some(there) = evidence.has(&statement, self.key.public()) {
            task.cached();
            return Ok(there);
        }
        let wrong = |source: ImageError| SignError::Document { digest: subject.digest, source };
        let envelope = Envelope::sign(statement, self.key).map_err(SignError::Signing)?;
        let bundle = envelope.bundle(self.key.public());
        let size = bundle.len() as u64;
        if size > MAX_DOCUMENT {
            return Err(wrong(ImageError::TooLarge { what: "the attestation", size }));
        }
        let kind = MediaType::from(BUNDLE.to_owned());
        let layer = Descriptor::new(kind, self.store.put(&bundle)?, size);
        let notes: Annotations = [
            ("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()),
            ("dev.sigstore.bundle.predicateType".to_owned(), predicate_type.to_owned()),
        ]
        .into();
        let artifact = Artifact::about(subject, BUNDLE, vec![layer], notes).map_err(wrong)?;
        match &self.to {
            None => {
                self.store.attach(&artifact)?;
            }
            Some(name) => {
                let to = name.pin(subject.digest).reference();
                let (at, progress) = (self.env.to, self.env.progress);
                registry::push_artifact(&artifact, &to, self.store, at, progress).await?;
            }
        }
        task.done();
        Ok(artifact.manifest.digest)
    }
}
