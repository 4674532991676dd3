//! Manifests and configs alone, whatever they describe: images or artifacts.

use super::super::{Registries, RegistryError};
use super::{MANIFESTS, Sources, index, refuse_foreign};
use crate::image::{Manifest, Raw};
use crate::progress::Progress;
use crate::reference::Reference;

/// A manifest and its config, verified by their digests.
#[derive(Debug, Clone)]
pub struct Document {
    pub raw: Raw,
    pub manifest: Manifest,
    pub config: Vec<u8>,
}

/// All documents together may have so many bytes: they are in memory at once.
const MOST: u64 = 64 << 20;

/// The sum of what is in memory.
pub(super) struct Sum<'a> {
    of: &'a Reference,
    bytes: u64,
}

impl<'a> Sum<'a> {
    pub(super) fn of(of: &'a Reference) -> Self {
        Self { of, bytes: 0 }
    }

    pub(super) fn add(&mut self, size: u64) -> Result<(), RegistryError> {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes <= MOST {
            return Ok(());
        }
        let (host, what) = (self.of.registry().into(), self.of.familiar());
        Err(RegistryError::TooLarge { host, what, limit: MOST })
    }
}

/// Reads what a name means: one document, or those that an index lists. Attestations
/// are left out.
///
/// # Errors
/// If the registry does not give them, or what it gives is wrong.
pub async fn documents(
    from: &Reference,
    at: &Registries,
    progress: &Progress,
) -> Result<Vec<Document>, RegistryError> {
    let sources = Sources::new(from, at, progress)?;
    let raw = sources.manifest(&from.selector()).await?;
    let mut manifests = Vec::new();
    let mut size = Sum::of(from);
    if raw.media_type.is_index() {
        let listed = index(&raw, from)?.manifests;
        if listed.len() > MANIFESTS {
            let (name, count) = (from.familiar(), listed.len());
            return Err(RegistryError::TooManyManifests { name, count, limit: MANIFESTS });
        }
        for entry in listed.iter().filter(|entry| entry.media_type.is_manifest()) {
            if entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown") {
                size.add(entry.size)?;
                manifests.push(sources.listed(entry).await?);
            }
        }
    } else {
        manifests.push(raw);
    }
    let mut documents = Vec::with_capacity(manifests.len());
    for raw in manifests {
        let manifest = Manifest::read(&raw.bytes).map_err(|source| RegistryError::Document {
            what: format!("manifest {} of {}", raw.digest, from.familiar()),
            source,
        })?;
        refuse_foreign(&manifest)?;
        size.add(manifest.config.size)?;
        let config = sources.config(&manifest.config).await?;
        documents.push(Document { raw, manifest, config });
    }
    Ok(documents)
}
