//! What a bundle has, told without taking it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::inputs::{self, INPUTS};
use super::{BundleError, open};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, ImageConfig, ImageError, Index, Manifest, MediaType, Purpose, Raw};
use crate::output::{MOST_DOCUMENTS, Opened, OutputError, REF_NAME, SINCE, Work, subject_of_list};
use crate::reference::Reference;
use crate::store::Store;

/// A bundle. What is in it may lie: only who takes it compares its blobs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    pub digest: BlobDigest,
    /// Blobs that are there, and their bytes.
    pub blobs: usize,
    pub size: u64,
    /// Bundles that have what this one leaves out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub since: Vec<BlobDigest>,
    pub images: Vec<Listed>,
    /// The lock, files and commits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// Artifacts that are no images and refer to none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Referrer>,
}

/// An image of a bundle.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub digest: BlobDigest,
    /// Those that are there.
    pub platforms: Vec<String>,
    /// Bytes of its blobs, here or left out.
    pub size: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<BlobDigest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<Referrer>,
}

/// An artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub digest: BlobDigest,
    /// What it refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<BlobDigest>,
}

/// A part of a build's inputs that is no image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// `lock`, `file` or `commit`.
    pub kind: &'static str,
    /// The lock's name, a URL, or a repository with the commit behind `#`.
    pub name: String,
    pub digest: BlobDigest,
    pub size: u64,
    pub left_out: bool,
}

/// Lists what a bundle has.
///
/// # Errors
/// If the file is no image layout in a tar, a part of it is missing, or a document in it is
/// damaged.
pub fn list(path: &Path, store: &Store, work: &Work<'_>) -> Result<Listing, BundleError> {
    let opened = open(path, store, work)?;
    let read = Reading { opened: &opened, work, read: Cell::default() };
    read.listing().map_err(|source| BundleError::Read { path: path.into(), source })
}

struct Reading<'a> {
    opened: &'a Opened,
    work: &'a Work<'a>,
    /// Bytes of documents.
    read: Cell<u64>,
}

impl Reading<'_> {
    /// A document; what lists name again and again is no endless work.
    fn document(&self, at: &Descriptor) -> Result<Raw, OutputError> {
        self.read.set(self.read.get() + at.size);
        if self.read.get() > MOST_DOCUMENTS {
            return Err(OutputError::Documents);
        }
        self.opened.document(at, self.work)
    }

    fn listing(&self) -> Result<Listing, OutputError> {
        let (digest, index) = self.opened.index(self.work)?;
        let mut referrers: BTreeMap<BlobDigest, Vec<Referrer>> = BTreeMap::new();
        let (mut images, mut artifacts, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for entry in &index.manifests {
            let raw = self.document(entry)?;
            if let Some(subject) = subject_of_list(entry) {
                for one in read(&raw, Index::read)?.manifests {
                    let raw = self.document(&one)?;
                    referrers.entry(subject).or_default().push(artifact(&raw)?);
                }
            } else if is_artifact(&raw)? {
                let artifact = artifact(&raw)?;
                if artifact.artifact_type.as_deref() == Some(INPUTS) {
                    inputs.extend(read(&raw, Manifest::read)?.layers.iter().map(|p| self.input(p)));
                } else {
                    artifacts.push(artifact);
                }
            } else {
                images.push((entry, raw));
            }
        }
        let images = images.iter().map(|(entry, raw)| self.image(entry, raw, &referrers));
        let blobs: BTreeMap<BlobDigest, u64> = self.opened.blobs().collect();
        let since = index.annotations.get(SINCE).map(String::as_str).unwrap_or_default();
        Ok(Listing {
            digest,
            size: blobs.values().sum(),
            blobs: blobs.len(),
            since: since.split(' ').filter_map(|digest| digest.parse().ok()).collect(),
            images: images.collect::<Result<_, _>>()?,
            inputs,
            artifacts,
        })
    }

    fn input(&self, part: &Descriptor) -> Input {
        let (kind, name) = inputs::name(part);
        let left_out = self.opened.blob(&part.digest).is_none();
        let name = crate::net::escaped(&name, 400);
        Input { kind, name, digest: part.digest, size: part.size, left_out }
    }

    fn image(
        &self,
        entry: &Descriptor,
        raw: &Raw,
        referrers: &BTreeMap<BlobDigest, Vec<Referrer>>,
    ) -> Result<Listed, OutputError> {
        let (mut platforms, mut blobs) = (Vec::new(), BTreeMap::new());
        let mut about = BTreeSet::from([raw.digest]);
        let mut add = |raw: &Raw| -> Result<(), OutputError> {
            about.insert(raw.digest);
            let manifest = read(raw, Manifest::read)?;
            let all = manifest.layers.iter().chain([&manifest.config]);
            blobs.extend(all.map(|blob| (blob.digest, blob.size)));
            Ok(())
        };
        if raw.media_type.is_index() {
            for child in read(raw, Index::read)?.manifests {
                let here = self.opened.blob(&child.digest).is_some();
                if !here || !child.media_type.is_manifest() {
                    continue;
                }
                add(&self.document(&child)?)?;
                let known = child.platform.filter(|platform| platform.os != "unknown");
                platforms.extend(known.map(|platform| platform.to_string()));
            }
        } else {
            add(raw)?;
            let config = read(raw, Manifest::read)?.config;
            let config = self.document(&config)?;
            platforms.push(read(&config, ImageConfig::read)?.platform().to_string());
        }
        let left_out = blobs.keys().filter(|digest| self.opened.blob(digest).is_none());
        let (left_out, size) = (left_out.copied().collect(), blobs.values().sum());
        // What refers to what refers to it is its, too.
        let (mut waiting, mut of_it) = (about.into_iter().collect::<Vec<_>>(), Vec::new());
        while let Some(subject) = waiting.pop() {
            for one in referrers.get(&subject).into_iter().flatten() {
                if !of_it.contains(one) {
                    of_it.push(one.clone());
                    waiting.push(one.digest);
                }
            }
        }
        of_it.sort_by(|a, b| (&a.artifact_type, a.digest).cmp(&(&b.artifact_type, b.digest)));
        let name = entry.annotations.get(REF_NAME);
        let familiar = |name: &String| match name.parse::<Reference>() {
            Ok(name) => name.familiar(),
            Err(_) => crate::net::escaped(name, 200),
        };
        let (name, digest) = (name.map(familiar), raw.digest);
        Ok(Listed { name, digest, platforms, size, left_out, referrers: of_it })
    }
}

fn read<T>(raw: &Raw, of: impl FnOnce(&[u8]) -> Result<T, ImageError>) -> Result<T, OutputError> {
    of(&raw.bytes).map_err(|source| OutputError::Document { name: raw.digest.to_string(), source })
}

fn is_artifact(raw: &Raw) -> Result<bool, OutputError> {
    if !raw.media_type.is_manifest() {
        return Ok(false);
    }
    let kind = read(raw, Manifest::read)?.config.media_type;
    Ok(!matches!(kind, MediaType::OciConfig | MediaType::DockerConfig))
}

fn artifact(raw: &Raw) -> Result<Referrer, OutputError> {
    let purpose = read(raw, Purpose::read)?;
    let kind = purpose.artifact_type.map(|kind| crate::net::escaped(&kind, 200));
    let subject = purpose.subject.map(|subject| subject.digest);
    Ok(Referrer { artifact_type: kind, digest: raw.digest, subject })
}
