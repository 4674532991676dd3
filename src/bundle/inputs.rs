//! The inputs of builds, as a lock names them.
//!
//! Bases are images of the layout, with the platforms that are locked, and marked as `base` by
//! the annotation `kiln.bundle.input`; their bytes are those of the registry. All else belongs to one artifact: the lock, which says what is what, the
//! files of URLs, and a pack for each commit. Media types and annotations are these:
//!
//! ```text
//! application/vnd.kiln.inputs.v1       the artifact
//! application/vnd.kiln.lock.v1+toml    `kiln.lock`
//! application/vnd.kiln.file.v1         a file; `kiln.url` says from where
//! application/vnd.kiln.git.pack.v1     a commit; `kiln.git.remote` and `kiln.git.object`
//! ```

use std::collections::BTreeMap;

use super::BundleError;
use crate::build::Opening;
use crate::copy::Parcel;
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Artifact, Descriptor, Index, MediaType, Raw};
use crate::lock::{self, Entry, Lock};
use crate::output::{CONTAINERD_NAME, INPUT, REF_NAME};
use crate::progress::Progress;
use crate::registry::{self, Registries, Resolved};
use crate::store::Store;

pub(super) const INPUTS: &str = "application/vnd.kiln.inputs.v1";
pub(super) const LOCK: &str = "application/vnd.kiln.lock.v1+toml";
const FILE: &str = "application/vnd.kiln.file.v1";
pub(super) const PACK: &str = "application/vnd.kiln.git.pack.v1";
const URL: &str = "kiln.url";
pub(super) const REMOTE: &str = "kiln.git.remote";
pub(super) const OBJECT: &str = "kiln.git.object";
/// What other tools show of a blob.
const TITLE: &str = "org.opencontainers.image.title";

/// Adds the bases of a lock, fetched as far as the store lacks them.
///
/// # Errors
/// If one cannot be had as the lock has it.
pub async fn bases(
    lock: &Lock,
    parcel: &mut Parcel,
    store: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<(), BundleError> {
    for entry in lock.entries() {
        if let Entry::Base(base) = entry {
            one(base, parcel, store, at, progress).await?;
        }
    }
    Ok(())
}

async fn one(
    base: &lock::Base,
    parcel: &mut Parcel,
    store: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<(), BundleError> {
    let name = base.reference.pin(base.digest).reference();
    let task = progress.task(format!("gather {} for {}", base.reference.familiar(), base.platform));
    let Resolved { image, .. } =
        registry::resolve_known(&name, &base.platform, store, at, progress).await?;
    registry::pull_layers(Some(&name), image.layers(), store, at, progress).await?;
    store.keep_documents(&AnyImage::Image(image.clone()))?;
    let root = match base.index {
        None => image.manifest().clone(),
        Some(digest) => {
            let index = index(base, digest, store, at, progress).await?;
            store.put(&index.bytes)?;
            index
        }
    };
    let mut entry = root.descriptor();
    let name = base.reference.to_string();
    entry.annotations.insert(REF_NAME.to_owned(), name.clone());
    entry.annotations.insert(CONTAINERD_NAME.to_owned(), name);
    entry.annotations.insert(INPUT.to_owned(), "base".to_owned());
    let documents = [root, image.manifest().clone()];
    let mut blobs: BTreeMap<BlobDigest, u64> =
        image.layers().iter().map(|layer| (layer.digest, layer.size)).collect();
    let config = image.config_raw();
    blobs.insert(config.digest, config.bytes.len() as u64);
    parcel.put(entry, documents, blobs);
    task.done();
    Ok(())
}

/// The index that lists a base, which the store need not have for a build.
async fn index(
    base: &lock::Base,
    digest: BlobDigest,
    store: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<Raw, BundleError> {
    let wrong = |source| BundleError::Document { digest, source };
    let raw = match store.hold_blob(&digest) {
        true => Raw::read(store.document(&digest)?).map_err(wrong)?,
        false => registry::document(&base.reference.pin(digest).reference(), at, progress).await?,
    };
    let listed = Index::read(&raw.bytes).map_err(wrong)?;
    if listed.manifests.iter().all(|entry| entry.digest != base.digest) {
        let (name, platform) = (base.reference.clone(), base.platform.clone());
        return Err(BundleError::NotListed {
            name: Box::new(name),
            platform: Box::new(platform),
            index: digest,
            digest: base.digest,
        });
    }
    Ok(raw)
}

/// Adds the lock, its files and its commits. The caller's thread waits; it must not be one of
/// the runtime's workers.
///
/// # Errors
/// If one cannot be had as the lock has it.
pub fn sources(lock: &Lock, parcel: &mut Parcel, how: &Opening<'_>) -> Result<(), BundleError> {
    let text = lock.to_string();
    let digest = how.store.put(text.as_bytes())?;
    let mut parts = vec![part(LOCK, digest, text.len() as u64, &[(TITLE, lock::FILE)])];
    for entry in lock.entries() {
        match entry {
            Entry::Base(_) => {}
            Entry::Url(url) => {
                how.locked_url(url)?;
                parts.push(part(FILE, url.digest, url.size, &[(URL, &url.url)]));
            }
            Entry::Git(commit) => {
                let (digest, size) = how.pack(commit)?;
                let known = [(REMOTE, commit.remote.as_str()), (OBJECT, &commit.object)];
                // Two refs may be one commit.
                let pack = part(PACK, digest, size, &known);
                if !parts.contains(&pack) {
                    parts.push(pack);
                }
            }
        }
    }
    let blobs: Vec<(BlobDigest, u64)> = parts.iter().map(|at| (at.digest, at.size)).collect();
    let made = Artifact::alone(INPUTS, parts)
        .map_err(|source| BundleError::Document { digest, source })?;
    let mut entry = made.manifest.descriptor();
    entry.artifact_type = Some(INPUTS.to_owned());
    parcel.put(entry, [made.manifest, made.config], blobs);
    Ok(())
}

fn part(kind: &str, digest: BlobDigest, size: u64, known: &[(&str, &str)]) -> Descriptor {
    let mut part = Descriptor::new(MediaType::from(kind.to_owned()), digest, size);
    part.annotations =
        known.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    part
}

/// What a part is, and what it is called.
pub(super) fn name(part: &Descriptor) -> (&'static str, String) {
    let note = |name: &str| part.annotations.get(name).cloned().unwrap_or_default();
    match part.media_type.as_str() {
        LOCK => ("lock", note(TITLE)),
        PACK => ("commit", format!("{}#{}", note(REMOTE), note(OBJECT))),
        _ => ("file", note(URL)),
    }
}
