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
    if raw.media_type.is_index() {
        let listed = index(&raw, from)?.manifests;
        if listed.len() > MANIFESTS {
            let (name, count) = (from.familiar(), listed.len());
            return Err(RegistryError::TooManyManifests { name, count, limit: MANIFESTS });
        }
        for entry in listed.iter().filter(|entry| entry.media_type.is_manifest()) {
            if entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown") {
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
        let config = sources.config(&manifest.config).await?;
        documents.push(Document { raw, manifest, config });
    }
    Ok(documents)
}
