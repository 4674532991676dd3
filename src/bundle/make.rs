//! Making a bundle: what is in it is put into the store first, and then written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{BundleError, open};
use crate::build::CACHE;
use crate::copy::{Env, Parcel, Place};
use crate::digest::BlobDigest;
use crate::image::{Artifact, Manifest};
use crate::output::{self, Contents, SINCE, Work, Written};
use crate::reference::Reference;
use crate::store::Store;

/// A result: where it is, and what it is called in the bundle.
#[derive(Debug, Clone)]
pub struct Image {
    pub from: Place,
    pub name: Reference,
}

/// How a bundle is written.
#[derive(Debug, Clone)]
pub struct Making {
    pub to: PathBuf,
    /// Most bytes of a part; without it, it is one file.
    pub split: Option<u64>,
    /// Bundles whose blobs are left out.
    pub since: Vec<PathBuf>,
}

impl Making {
    /// That what is to be written does away with nothing that is read, and lies beside no other
    /// form of itself. To be asked before anything is gathered, which may take long.
    ///
    /// # Errors
    /// If it is not so.
    pub fn check(&self) -> Result<(), BundleError> {
        let own = place(&self.to);
        if self.since.iter().any(|path| place(&output::archive_name(path)) == own) {
            return Err(BundleError::Itself { path: self.to.clone() });
        }
        output::refuse_other_form(&self.to, self.split.is_some()).map_err(BundleError::Write)
    }
}

/// A bundle that was written.
#[derive(Debug)]
pub struct Made {
    pub digest: BlobDigest,
    /// The blobs that were left out, and their bytes.
    pub left_out: (usize, u64),
    /// Set if it was written in parts.
    pub parts: Option<Written>,
}

/// Adds results to what is to be written.
///
/// # Errors
/// If one cannot be had, or the store of kiln's that it goes to could not hold it.
pub async fn gather(
    images: &[Image],
    parcel: &mut Parcel,
    env: &Env<'_>,
) -> Result<(), BundleError> {
    let mut names: BTreeMap<&Reference, &Place> = BTreeMap::new();
    for image in images {
        match names.insert(&image.name, &image.from) {
            Some(before) if *before == image.from => continue,
            Some(before) => {
                let (one, other) = (before.to_string(), image.from.to_string());
                return Err(BundleError::Twice { name: image.name.clone(), one, other });
            }
            None => (),
        }
        let odd = parcel.gather(&image.from, &image.name.to_string(), env).await?;
        if let Some(what) = odd {
            return Err(BundleError::Odd { image: image.name.familiar(), what });
        }
    }
    Ok(())
}

/// Adds the cache of a build, whose layers are in the store.
pub fn cache(artifact: Artifact, parcel: &mut Parcel) {
    let mut entry = artifact.manifest.descriptor();
    entry.artifact_type = Some(CACHE.to_owned());
    let blobs: Vec<_> = artifact.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
    parcel.put(entry, [artifact.manifest, artifact.config], blobs);
}

/// Writes a bundle. It appears whole or not at all; of one in parts, those that were finished
/// stay.
///
/// # Errors
/// If a blob is absent or damaged, another bundle cannot be read, or nothing can be written.
pub fn make(
    parcel: Parcel,
    making: &Making,
    store: &Store,
    work: &Work<'_>,
) -> Result<Made, BundleError> {
    making.check()?;
    let mut contents = parcel.contents()?;
    let left_out = leave_out(&mut contents, &making.since, store, work)?;
    let digest = contents.index().map_err(BundleError::Write)?.digest;
    let written = match making.split {
        Some(size) => output::to_parts(&making.to, size, |to| {
            output::write_contents(contents, store, to, work)
        })
        .map(Some),
        None => output::to_file(&making.to, |to| output::write_contents(contents, store, to, work))
            .map(|()| None),
    };
    Ok(Made { digest, left_out, parts: written.map_err(BundleError::Write)? })
}

/// Where an archive is, which may be there in parts only.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let named = |folder: PathBuf| folder.join(path.file_name().unwrap_or_default());
    let whole = path.canonicalize().or_else(|_| folder.canonicalize().map(named));
    whole.unwrap_or_else(|_| path.into())
}

/// Takes out what other bundles have, and says which those are.
fn leave_out(
    contents: &mut Contents,
    since: &[PathBuf],
    store: &Store,
    work: &Work<'_>,
) -> Result<(usize, u64), BundleError> {
    let mut configs = BTreeSet::new();
    for raw in contents.documents.iter().filter(|raw| raw.media_type.is_manifest()) {
        let wrong = |source| BundleError::Document { digest: raw.digest, source };
        configs.insert(Manifest::read(&raw.bytes).map_err(wrong)?.config.digest);
    }
    let (mut needed, mut sum) = (BTreeSet::new(), (0, 0));
    for path in since {
        let (digest, has) = blobs(path, store, work)?;
        contents.blobs.retain(|(blob, size)| {
            let there = has.get(blob) == Some(size) && !configs.contains(blob);
            if there {
                needed.insert(digest);
                sum = (sum.0 + 1, sum.1 + size);
            }
            !there
        });
    }
    if !needed.is_empty() {
        let all: Vec<String> = needed.iter().map(ToString::to_string).collect();
        contents.annotations.insert(SINCE.to_owned(), all.join(" "));
    }
    Ok(sum)
}

/// The digest of a bundle, and the blobs that it has with their sizes.
fn blobs(
    path: &Path,
    store: &Store,
    work: &Work<'_>,
) -> Result<(BlobDigest, BTreeMap<BlobDigest, u64>), BundleError> {
    let opened = open(path, store, work)?;
    let wrong = |source| BundleError::Read { path: path.into(), source };
    let (digest, _) = opened.index(work).map_err(wrong)?;
    Ok((digest, opened.blobs().collect()))
}
