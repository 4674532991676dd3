//! All that an image consists of: documents, which are read, and blobs, which are not.
//!
//! Manifests are taken as they are, whatever their config and layers hold, and indexes with
//! all that they list. Documents are in memory: their number, their size in all and the depth
//! of indexes have an end.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::source::Source;
use super::{AT_ONCE, CopyError};
use crate::digest::BlobDigest;
use crate::image::{
    Descriptor, ImageConfig, ImageError, Index, Manifest, MediaType, Purpose, Raw, strict_json,
};
use crate::platform::Platform;
use crate::progress::Progress;

/// Most bytes of all documents.
const MOST_BYTES: u64 = 8 << 20;
/// Most documents.
const MOST: usize = 2000;
/// Most indexes within one another.
const DEEPEST: usize = 8;

/// An image and what refers to it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// What each lists comes before it.
    pub(super) documents: Vec<Raw>,
    /// Where the image itself is among the documents; what comes later refers to it.
    pub(super) root: usize,
    pub(super) blobs: BTreeMap<BlobDigest, Descriptor>,
    /// What refers to each manifest.
    pub(super) referrers: BTreeMap<BlobDigest, Vec<Descriptor>>,
    /// What a place for images of a few platforms cannot hold, in words.
    pub(super) odd: Option<String>,
    seen: BTreeSet<BlobDigest>,
    bytes: u64,
}

impl Tree {
    /// Reads the documents of an image, and of what refers to it if that is wanted.
    pub(super) async fn of(
        source: &Source<'_>,
        root: Raw,
        referrers: bool,
        progress: &Progress,
    ) -> Result<Self, CopyError> {
        let mut tree = Self::default();
        tree.count(root.bytes.len() as u64, source)?;
        tree.seen.insert(root.digest);
        tree.add(source, root, 0).await?;
        tree.root = tree.documents.len() - 1;
        if referrers {
            tree.refer(source, progress).await?;
        }
        Ok(tree)
    }

    /// Reads what refers to documents that are elsewhere already. There is no root.
    pub(super) async fn about(
        source: &Source<'_>,
        subjects: Vec<Raw>,
        progress: &Progress,
    ) -> Result<Self, CopyError> {
        let count = subjects.len();
        let seen = subjects.iter().map(|raw| raw.digest).collect();
        let mut tree = Self { documents: subjects, seen, ..Self::default() };
        tree.refer(source, progress).await?;
        tree.documents.drain(..count);
        Ok(tree)
    }

    /// The same without some documents, and without the blobs that only they list.
    pub(super) fn without(
        &self,
        source: &Source<'_>,
        known: &BTreeSet<BlobDigest>,
    ) -> Result<Self, CopyError> {
        let mut tree = Self::default();
        for raw in self.documents.iter().filter(|raw| !known.contains(&raw.digest)) {
            if !raw.media_type.is_index() {
                let manifest = Manifest::read(&raw.bytes).map_err(|wrong| CopyError::Document {
                    place: source.place(),
                    digest: raw.digest,
                    source: wrong,
                })?;
                tree.manifest(source, &manifest)?;
            }
            tree.documents.push(raw.clone());
        }
        Ok(tree)
    }

    pub(super) fn root(&self) -> &Raw {
        &self.documents[self.root]
    }

    fn count(&mut self, bytes: u64, source: &Source<'_>) -> Result<(), CopyError> {
        let place = || source.place();
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MOST_BYTES {
            let limit = usize::try_from(MOST_BYTES).unwrap_or(usize::MAX);
            return Err(CopyError::TooMany { place: place(), what: "bytes of manifests", limit });
        }
        if self.seen.len() >= MOST {
            return Err(CopyError::TooMany { place: place(), what: "manifests", limit: MOST });
        }
        Ok(())
    }

    /// Adds a document, after what it lists.
    fn add<'s>(
        &'s mut self,
        source: &'s Source<'_>,
        raw: Raw,
        depth: usize,
    ) -> BoxFuture<'s, Result<(), CopyError>> {
        async move {
            let wrong = |source_: ImageError| CopyError::Document {
                place: source.place(),
                digest: raw.digest,
                source: source_,
            };
            if !raw.media_type.is_index() {
                let manifest = Manifest::read(&raw.bytes).map_err(wrong)?;
                self.manifest(source, &manifest)?;
                self.documents.push(raw);
                return Ok(());
            }
            if depth >= DEEPEST {
                return Err(CopyError::TooDeep { place: source.place(), limit: DEEPEST });
            }
            if depth > 0 {
                self.odd
                    .get_or_insert_with(|| format!("an index within an index ({})", raw.digest));
            }
            let mut listed = Vec::new();
            for entry in Index::read(&raw.bytes).map_err(wrong)?.manifests {
                if !(entry.media_type.is_manifest() || entry.media_type.is_index()) {
                    self.odd.get_or_insert_with(|| format!("what is no image ({})", entry.digest));
                    self.blob(source, entry)?;
                } else if !self.seen.contains(&entry.digest) {
                    self.count(entry.size, source)?;
                    self.seen.insert(entry.digest);
                    listed.push(entry);
                }
            }
            // In the order listed; a few are asked for at once.
            let asked: Vec<BoxFuture<'_, _>> =
                listed.iter().map(|entry| source.document(entry).boxed()).collect();
            let asked = futures_util::stream::iter(asked).buffered(AT_ONCE);
            let documents: Vec<Raw> = asked.try_collect().await?;
            for (entry, document) in listed.iter().zip(documents) {
                // Attestations are listed like images and are none.
                let beside = entry.platform.as_ref().is_some_and(|on| on.os == "unknown");
                let odd = self.odd.clone();
                self.add(source, document, depth + 1).await?;
                if beside {
                    self.odd = odd;
                }
            }
            self.documents.push(raw);
            Ok(())
        }
        .boxed()
    }

    fn manifest(&mut self, source: &Source<'_>, manifest: &Manifest) -> Result<(), CopyError> {
        let kind = &manifest.config.media_type;
        if !matches!(kind, MediaType::OciConfig | MediaType::DockerConfig) {
            let kind = crate::net::escaped(kind.as_str(), 100);
            self.odd.get_or_insert_with(|| format!("an artifact (its config is a `{kind}`)"));
        }
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.blob(source, blob.clone())?;
        }
        Ok(())
    }

    fn blob(&mut self, source: &Source<'_>, blob: Descriptor) -> Result<(), CopyError> {
        if !blob.urls.is_empty() {
            let digest = blob.digest;
            return Err(crate::registry::RegistryError::ForeignLayer { digest }.into());
        }
        match self.blobs.get(&blob.digest) {
            Some(known) if known.size != blob.size => Err(CopyError::Mismatch {
                place: source.place(),
                what: format!("the size of {}", blob.digest),
                expected: known.size.to_string(),
                found: blob.size.to_string(),
            }),
            Some(_) => Ok(()),
            None => {
                // A manifest may list as many layers as fit into it.
                let limit = 100_000;
                if self.blobs.len() >= limit {
                    let place = source.place();
                    return Err(CopyError::TooMany { place, what: "blobs", limit });
                }
                self.blobs.insert(blob.digest, blob);
                Ok(())
            }
        }
    }

    /// Adds what refers to any of the documents, and what refers to that.
    async fn refer(&mut self, source: &Source<'_>, progress: &Progress) -> Result<(), CopyError> {
        let mut at = 0;
        while at < self.documents.len() {
            let subject = self.documents[at].digest;
            at += 1;
            for entry in source.referrers(subject).await? {
                let known = self.seen.contains(&entry.digest);
                let raw = if known {
                    let raw = self.documents.iter().find(|raw| raw.digest == entry.digest);
                    let Some(raw) = raw else { continue };
                    raw.clone()
                } else {
                    self.count(entry.size, source)?;
                    source.document(&entry).await?
                };
                let purpose = Purpose::read(&raw.bytes).map_err(|wrong| CopyError::Document {
                    place: source.place(),
                    digest: raw.digest,
                    source: wrong,
                })?;
                if purpose.subject.as_ref().is_none_or(|named| named.digest != subject) {
                    let digest = entry.digest;
                    progress.warn(format!(
                        "{digest} is listed as referring to {subject}, does not, and was left out"
                    ));
                    continue;
                }
                self.referrers.entry(subject).or_default().push(purpose.entry(&raw));
                if !known {
                    self.seen.insert(raw.digest);
                    let odd = self.odd.clone();
                    self.add(source, raw, 0).await?;
                    self.odd = odd;
                }
            }
        }
        Ok(())
    }
}

/// What of an image is for platforms: of one, its manifest; of several, an index made anew
/// that lists no others. Without any, all of it.
pub(super) async fn chosen(
    source: &Source<'_>,
    root: Raw,
    platforms: &[Platform],
    progress: &Progress,
) -> Result<Raw, CopyError> {
    let [first, more @ ..] = platforms else { return Ok(root) };
    let place = source.place();
    let wrong = |wrong: ImageError| CopyError::Document {
        place: source.place(),
        digest: root.digest,
        source: wrong,
    };
    if !root.media_type.is_index() {
        let config = Manifest::read(&root.bytes).map_err(wrong)?.config;
        let config = ImageConfig::read(&source.bytes(&config).await?).map_err(wrong)?;
        let has = config.platform();
        if !platforms.iter().any(|wanted| has.satisfies(wanted)) {
            progress.warn(format!("{place} is an image for {has}, not for {first}"));
        }
        return Ok(root);
    }
    let index = Index::read(&root.bytes).map_err(wrong)?;
    let none = |wanted: &Platform| CopyError::NoPlatform {
        place: place.clone(),
        wanted: wanted.to_string(),
        have: index.platforms(),
    };
    if more.is_empty() {
        let entry = find(source, &index, first, 1).await?.ok_or_else(|| none(first))?;
        return source.document(&entry).await;
    }
    let mut digests = BTreeSet::new();
    for wanted in platforms {
        let entry = index.choose(wanted).ok_or_else(|| none(wanted))?;
        digests.insert(entry.digest.to_string());
    }
    let mut value: Value = strict_json("index", &root.bytes).map_err(wrong)?;
    if let Some(entries) = value["manifests"].as_array_mut() {
        let is_chosen = |value: &Value| value.as_str().is_some_and(|text| digests.contains(text));
        entries.retain(|entry| {
            // BuildKit's attestations name the manifest that they speak of.
            is_chosen(&entry["digest"])
                || is_chosen(&entry["annotations"]["vnd.docker.reference.digest"])
        });
    }
    let bytes = serde_json::to_vec(&value)
        .map_err(|error| wrong(ImageError::Malformed { what: "index", why: error.to_string() }))?;
    Ok(Raw::new(bytes, root.media_type.clone()))
}

/// The entry for a platform, in indexes below if the first has none.
fn find<'s>(
    source: &'s Source<'_>,
    index: &'s Index,
    wanted: &'s Platform,
    depth: usize,
) -> BoxFuture<'s, Result<Option<Descriptor>, CopyError>> {
    async move {
        if let Some(entry) = index.choose(wanted) {
            return Ok(Some(entry.clone()));
        }
        for entry in index.manifests.iter().filter(|entry| entry.media_type.is_index()) {
            if depth >= DEEPEST {
                return Err(CopyError::TooDeep { place: source.place(), limit: DEEPEST });
            }
            let raw = source.document(entry).await?;
            let below = Index::read(&raw.bytes).map_err(|wrong| CopyError::Document {
                place: source.place(),
                digest: entry.digest,
                source: wrong,
            })?;
            if let Some(entry) = find(source, &below, wanted, depth + 1).await? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
    .boxed()
}
