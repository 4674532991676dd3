//! Taking inputs out of bundles: into the store, by digests alone. Nothing gets a name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::inputs::{INPUTS, LOCK, OBJECT, PACK, REMOTE};
use super::{BundleError, open};
use crate::build::{CACHE, Opening};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, ImageError, Manifest, Purpose, Raw};
use crate::lock::{self, Entry, Key, Lock};
use crate::output::{Lacking, OutputError, Work};
use crate::store::Store;

/// What bundles had for a build.
#[derive(Debug, Default)]
pub struct Taken {
    /// What all of them lock.
    pub lock: Lock,
    /// Manifests of caches, whose layers are in the store.
    pub caches: Vec<BlobDigest>,
    commits: Vec<(lock::Git, BlobDigest)>,
}

/// What the locks of several bundles mean together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// They decide what a build takes. So they may contradict each other only where one bundle
    /// was made since the other: the later one is meant then.
    Decide,
    /// Another lock decides.
    AreNotAsked,
}

#[derive(Debug)]
struct Pack {
    remote: String,
    object: String,
    digest: BlobDigest,
}

/// The inputs of a bundle.
#[derive(Debug)]
struct Inputs<'a> {
    path: &'a Path,
    digest: Option<BlobDigest>,
    /// The bundles that have what it leaves out.
    since: Vec<BlobDigest>,
    lock: Lock,
    packs: Vec<Pack>,
}

/// Puts the inputs that bundles have into the store, each blob unless it is there. What one
/// leaves out another may have; the order in which they are named says nothing.
///
/// # Errors
/// If a bundle is damaged or has no inputs, two contradict each other, or all of them with the
/// store lack something: then all that is lacking is named.
pub fn take(
    paths: &[PathBuf],
    locks: Locks,
    store: &Store,
    work: &Work<'_>,
) -> Result<Taken, BundleError> {
    let mut taken = Taken::default();
    let mut lacking: Vec<(&PathBuf, Lacking)> = Vec::new();
    let mut opened: Vec<(Inputs<'_>, Vec<Descriptor>)> = Vec::new();
    for path in paths {
        let archive = open(path, store, work)?;
        let wrong = |source| BundleError::Read { path: path.clone(), source };
        let cargo = archive.read(store, work).map_err(wrong)?;
        // By digest: the names are those of where they come from.
        for image in cargo.images.iter().map(|(_, image)| image).chain(&cargo.inputs) {
            store.keep_documents(image)?;
        }
        lacking.extend(cargo.lacking.into_iter().map(|one| (path, one)));
        let (digest, since) = (cargo.digest, cargo.since);
        let mut inputs = Inputs { path, digest, since, lock: Lock::default(), packs: Vec::new() };
        let mut locks = Vec::new();
        for raw in &cargo.artifacts {
            match kind(raw).map_err(wrong)?.as_deref() {
                Some(INPUTS) => {
                    let parts = parts(raw).map_err(wrong)?;
                    inputs.packs.extend(parts.iter().filter_map(Pack::of));
                    locks.extend(parts.into_iter().filter(|part| is(part, LOCK)));
                }
                Some(CACHE) => taken.caches.push(raw.digest),
                _ => {}
            }
        }
        if locks.is_empty() {
            return Err(BundleError::NoInputs { path: path.clone() });
        }
        opened.push((inputs, locks));
    }
    lacking.retain(|(_, one)| !store.has_blob(&one.digest, one.size));
    if let Some((path, _)) = lacking.first() {
        let path = (*path).clone();
        let all = lacking.into_iter().map(|(_, one)| one).collect();
        return Err(BundleError::Read { path, source: OutputError::Lacking(all) });
    }
    let mut bundles = Vec::with_capacity(opened.len());
    for (mut inputs, locks) in opened {
        for at in locks {
            inputs.lock.merge(parsed(inputs.path, &store.document(&at.digest)?)?);
        }
        bundles.push(inputs);
    }
    for bundle in &bundles {
        for entry in bundle.lock.entries() {
            let Entry::Git(commit) = entry else { continue };
            let is_it = |p: &&Pack| p.remote == commit.remote && p.object == commit.object;
            let pack = bundles.iter().flat_map(|bundle| &bundle.packs).find(is_it);
            let found = pack.map(|pack| (commit.clone(), pack.digest));
            taken.commits.extend(found.filter(|found| !taken.commits.contains(found)));
        }
    }
    taken.lock = settled(&bundles, locks)?;
    Ok(taken)
}

/// What the locks of bundles say together.
fn settled(bundles: &[Inputs<'_>], locks: Locks) -> Result<Lock, BundleError> {
    let before: Vec<BTreeSet<usize>> = bundles.iter().map(|one| one.before(bundles)).collect();
    let keys: BTreeSet<Key> =
        bundles.iter().flat_map(|one| one.lock.entries()).map(Entry::key).collect();
    let mut lock = Lock::default();
    for key in keys {
        let said = bundles.iter().zip(&before).enumerate();
        let said: Vec<(usize, &BTreeSet<usize>, &Entry)> = said
            .filter_map(|(at, (one, before))| Some((at, before, one.lock.get(&key)?)))
            .collect();
        let is_last = |at: usize| said.iter().all(|(_, before, _)| !before.contains(&at));
        let last = said.iter().filter(|(at, ..)| is_last(*at)).map(|(.., entry)| *entry);
        // One may say in which index a base is listed, and another not.
        let Some(most) = last.clone().max_by_key(|entry| match entry {
            Entry::Base(base) => base.index.is_some(),
            Entry::Url(_) | Entry::Git(_) => false,
        }) else {
            continue;
        };
        let other = last.filter(|_| locks == Locks::Decide).find(|one| one.pin() != most.pin());
        if let Some(other) = other {
            let (one, other) = (most.pin(), other.pin());
            return Err(BundleError::Conflict { key: Box::new(key), one, other });
        }
        lock.insert(most.clone());
    }
    Ok(lock)
}

impl Inputs<'_> {
    /// Which of the bundles it was made since, or those were.
    fn before(&self, bundles: &[Self]) -> BTreeSet<usize> {
        let (mut all, mut waiting) = (BTreeSet::new(), vec![self]);
        while let Some(one) = waiting.pop() {
            for (at, older) in bundles.iter().enumerate() {
                let named = older.digest.is_some_and(|digest| one.since.contains(&digest));
                if named && all.insert(at) {
                    waiting.push(older);
                }
            }
        }
        all
    }
}

fn parsed(path: &Path, text: &[u8]) -> Result<Lock, BundleError> {
    let wrong = |why: String| BundleError::Lock { path: path.into(), why };
    let text = std::str::from_utf8(text).map_err(|_| wrong("it is no text".into()))?;
    Lock::parse(text).map_err(|said| wrong(said.message))
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
    /// Puts the commits that came in packs where builds look for them. A pack is believed to
    /// be nothing but what git finds in it.
    ///
    /// # Errors
    /// If a pack has not what the lock says.
    pub fn unpack(&self, how: &Opening<'_>) -> Result<(), BundleError> {
        self.commits.iter().try_for_each(|(commit, pack)| Ok(how.unpack(commit, pack)?))
    }
}
