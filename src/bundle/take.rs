//! Taking inputs out of bundles: into the store, by digests alone. Nothing gets a name.

use std::path::{Path, PathBuf};

use super::inputs::{INPUTS, LOCK, OBJECT, PACK, REMOTE};
use super::{BundleError, open};
use crate::build::{CACHE, Opening};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, ImageError, Manifest, Purpose, Raw};
use crate::lock::{Entry, Lock};
use crate::output::{Lacking, OutputError, Work};
use crate::store::Store;

/// What bundles had for a build.
#[derive(Debug, Default)]
pub struct Taken {
    /// What all of them lock.
    pub lock: Lock,
    /// Manifests of caches, whose layers are in the store.
    pub caches: Vec<BlobDigest>,
    packs: Vec<Pack>,
}

#[derive(Debug)]
struct Pack {
    remote: String,
    object: String,
    digest: BlobDigest,
}

/// Puts the inputs that bundles have into the store, each blob unless it is there. What one
/// leaves out another may have.
///
/// # Errors
/// If a bundle is damaged or has no inputs, two contradict each other, or all of them with the
/// store lack something: then all that is lacking is named.
pub fn take(paths: &[PathBuf], store: &Store, work: &Work<'_>) -> Result<Taken, BundleError> {
    let mut taken = Taken::default();
    let mut lacking: Vec<(&PathBuf, Lacking)> = Vec::new();
    let mut locks: Vec<(&PathBuf, Descriptor)> = Vec::new();
    for path in paths {
        let opened = open(path, store, work)?;
        let wrong = |source| BundleError::Read { path: path.clone(), source };
        let cargo = opened.read(store, work).map_err(wrong)?;
        // By digest: the names are those of where they come from.
        for (_, image) in &cargo.images {
            store.keep_documents(image)?;
        }
        lacking.extend(cargo.lacking.into_iter().map(|one| (path, one)));
        let before = locks.len();
        for raw in &cargo.artifacts {
            match kind(raw).map_err(wrong)?.as_deref() {
                Some(INPUTS) => {
                    let parts = parts(raw).map_err(wrong)?;
                    locks.extend(parts.iter().filter(|p| is(p, LOCK)).map(|p| (path, p.clone())));
                    taken.packs.extend(parts.iter().filter_map(Pack::of));
                }
                Some(CACHE) => taken.caches.push(raw.digest),
                _ => {}
            }
        }
        if locks.len() == before {
            return Err(BundleError::NoInputs { path: path.clone() });
        }
    }
    lacking.retain(|(_, one)| !store.has_blob(&one.digest, one.size));
    if let Some((path, _)) = lacking.first() {
        let path = (*path).clone();
        let all = lacking.into_iter().map(|(_, one)| one).collect();
        return Err(BundleError::Read { path, source: OutputError::Lacking(all) });
    }
    for (path, at) in locks {
        taken.add(path, &store.document(&at.digest)?)?;
    }
    Ok(taken)
}

fn kind(raw: &Raw) -> Result<Option<String>, OutputError> {
    let read = Purpose::read(&raw.bytes);
    Ok(read.map_err(|source| malformed(raw, source))?.artifact_type)
}

fn parts(raw: &Raw) -> Result<Vec<Descriptor>, OutputError> {
    let read = Manifest::read(&raw.bytes);
    Ok(read.map_err(|source| malformed(raw, source))?.layers)
}

fn malformed(raw: &Raw, source: ImageError) -> OutputError {
    OutputError::Document { name: raw.digest.to_string(), source }
}

fn is(part: &Descriptor, kind: &str) -> bool {
    part.media_type.as_str() == kind
}

impl Pack {
    fn of(part: &Descriptor) -> Option<Self> {
        let note = |name: &str| part.annotations.get(name).cloned();
        if !is(part, PACK) {
            return None;
        }
        Some(Self { remote: note(REMOTE)?, object: note(OBJECT)?, digest: part.digest })
    }
}

impl Taken {
    fn add(&mut self, path: &Path, text: &[u8]) -> Result<(), BundleError> {
        let wrong = |why: String| BundleError::Lock { path: path.into(), why };
        let text = std::str::from_utf8(text).map_err(|_| wrong("it is no text".into()))?;
        let lock = Lock::parse(text).map_err(|said| wrong(said.message))?;
        for entry in lock.entries() {
            if let Some(known) =
                self.lock.get(&entry.key()).filter(|known| known.pin() != entry.pin())
            {
                let (one, other) = (known.pin(), entry.pin());
                return Err(BundleError::Conflict { key: Box::new(entry.key()), one, other });
            }
        }
        self.lock.merge(lock);
        Ok(())
    }

    /// Puts the commits that came in packs where builds look for them. A pack is believed to
    /// be nothing but what git finds in it.
    ///
    /// # Errors
    /// If a pack has not what the lock says.
    pub fn unpack(&self, how: &Opening<'_>) -> Result<(), BundleError> {
        for entry in self.lock.entries() {
            let Entry::Git(commit) = entry else { continue };
            let is_it = |p: &&Pack| p.remote == commit.remote && p.object == commit.object;
            if let Some(pack) = self.packs.iter().find(is_it) {
                how.unpack(commit, &pack.digest)?;
            }
        }
        Ok(())
    }
}
