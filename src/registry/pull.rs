//! Images from a registry into the store.

mod documents;
mod sources;

pub use documents::{Document, documents};
pub(super) use sources::{Sources, Turns, refuse_foreign};

use super::{Registries, RegistryError};
use crate::image::{AnyImage, Descriptor, Image, Index, Manifest, Raw};
use crate::layer::{Compression, Layer};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::{Pinned, Reference};
use crate::store::Store;

/// Blobs that are fetched or brought at once.
pub(super) const AT_ONCE: usize = 4;

/// Most manifests of one index that are fetched together: their documents are
/// in memory, and an index has room for thousands of entries.
const MANIFESTS: usize = 200;

/// Which platforms of an image are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    One(Platform),
    /// All that are listed, and what is listed beside them.
    All,
}

/// An image's documents.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What the name means: an index, or the manifest itself.
    pub raw: Raw,
    /// The platform's image: manifest and config, verified.
    pub image: Image,
}

/// Reads what a name means for a platform: the documents only.
///
/// # Errors
/// If the registry does not give them, or what it gives is wrong.
pub async fn resolve(
    from: &Reference,
    platform: &Platform,
    at: &Registries,
    progress: &Progress,
) -> Result<Resolved, RegistryError> {
    let from = &at.mirrors().meaning(from)?;
    let sources = Sources::new(from, at, progress)?;
    one(&sources, from, platform).await
}

/// As [`resolve`], with a store that may have the documents: where it does, only what a tag
/// means is asked for.
///
/// # Errors
/// As [`resolve`], or if the store cannot be read.
pub async fn resolve_known(
    from: &Reference,
    platform: &Platform,
    store: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<Resolved, RegistryError> {
    let from = &at.mirrors().meaning(from)?;
    one(&sources(from, store, at, progress)?, from, platform).await
}

/// The places of a repository. What the store has of the image is not fetched; whether a
/// tag still means that is asked only if the store knows the name, since it would be a
/// request more otherwise.
fn sources<'a>(
    from: &Reference,
    store: &'a Store,
    at: &'a Registries,
    progress: &'a Progress,
) -> Result<Sources<'a>, RegistryError> {
    let sources = Sources::new(from, at, progress)?;
    let knows = from.digest().is_some() || store.find(from)?.is_some();
    Ok(if knows { sources.knowing(store) } else { sources })
}

/// What a name points to in its registry now, as a reference that always will; of a short
/// name, in the registry that it means.
///
/// # Errors
/// If the registry does not say.
pub async fn pin(
    name: &Reference,
    at: &Registries,
    progress: &Progress,
) -> Result<Pinned, RegistryError> {
    let name = &at.mirrors().meaning(name)?;
    if let Some(digest) = name.digest() {
        return Ok(name.pin(digest));
    }
    let raw = Sources::new(name, at, progress)?.manifest(&name.selector()).await?;
    Ok(name.pin(raw.digest))
}

async fn one(
    sources: &Sources<'_>,
    from: &Reference,
    platform: &Platform,
) -> Result<Resolved, RegistryError> {
    let raw = sources.manifest(&from.selector()).await?;
    if !raw.media_type.is_index() {
        let image = sources.image(raw.clone()).await?;
        let has = image.platform();
        if !has.satisfies(platform) {
            let name = from.familiar();
            sources.progress.warn(format!("`{name}` is an image for {has}, not for {platform}"));
        }
        return Ok(Resolved { raw, image });
    }
    let index = index(&raw, from)?;
    let entry = index.choose(platform).ok_or_else(|| RegistryError::Platform {
        name: from.familiar(),
        wanted: Box::new(platform.clone()),
        available: index.platforms(),
    })?;
    let manifest = sources.listed(entry).await?;
    let image = sources.image(manifest).await?;
    Ok(Resolved { raw, image })
}

fn index(raw: &Raw, from: &Reference) -> Result<Index, RegistryError> {
    Index::read(&raw.bytes).map_err(|source| RegistryError::Document {
        what: format!("index of {}", from.familiar()),
        source,
    })
}

/// Fetches an image into the store and names it there. For one platform of
/// several the name points to that platform's manifest, unless it has a digest:
/// then to what has that digest. A short name is kept as what it means.
///
/// # Errors
/// If the registry does not give it, or what it gives is wrong. What is in the
/// store then is verified, but has no name.
pub async fn pull(
    from: &Reference,
    want: &Want,
    into: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<AnyImage, RegistryError> {
    let from = &at.mirrors().meaning(from)?;
    let sources = sources(from, into, at, progress)?;
    let platform = match want {
        Want::One(platform) => platform,
        Want::All => return all(&sources, from, into).await,
    };
    let Resolved { raw, image } = one(&sources, from, platform).await?;
    sources.layers(image.layers(), into).await?;
    into.put(&raw.bytes)?;
    let image = AnyImage::Image(image);
    into.keep_documents(&image)?;
    let named = if from.digest() == Some(raw.digest) { &raw } else { image.raw() };
    into.tag(from, named.descriptor())?;
    Ok(image)
}

/// The manifest or index that a name means; nothing is kept.
///
/// # Errors
/// If the registry does not give it, or what it gives is wrong.
pub async fn document(
    name: &Reference,
    at: &Registries,
    progress: &Progress,
) -> Result<Raw, RegistryError> {
    let name = &at.mirrors().meaning(name)?;
    Sources::new(name, at, progress)?.manifest(&name.selector()).await
}

/// Fetches the documents of an image for all of its platforms into the store, without a name.
/// Its layers stay in the registry; where they are is remembered.
///
/// # Errors
/// As [`pull`].
pub async fn pull_documents(
    from: &Reference,
    into: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<AnyImage, RegistryError> {
    let from = &at.mirrors().meaning(from)?;
    let sources = sources(from, into, at, progress)?;
    let (image, layers) = listed(&sources, from, into).await?;
    super::origin::remember_layers(from, &layers, into, at)?;
    into.keep_documents(&image)?;
    Ok(image)
}

async fn all(
    sources: &Sources<'_>,
    from: &Reference,
    into: &Store,
) -> Result<AnyImage, RegistryError> {
    let (image, layers) = listed(sources, from, into).await?;
    sources.layers(&layers, into).await?;
    into.keep(from, &image)?;
    Ok(image)
}

/// The documents of all platforms, and the layers that they list. What is listed beside
/// images is kept at once.
async fn listed(
    sources: &Sources<'_>,
    from: &Reference,
    into: &Store,
) -> Result<(AnyImage, Vec<Layer>), RegistryError> {
    let raw = sources.manifest(&from.selector()).await?;
    let mut layers = Vec::new();
    let image = if raw.media_type.is_index() {
        let mut images = Vec::new();
        let mut beside = Vec::new();
        let mut size = documents::Sum::of(from);
        let listed = index(&raw, from)?.manifests;
        if listed.len() > MANIFESTS {
            let (name, count) = (from.familiar(), listed.len());
            return Err(RegistryError::TooManyManifests { name, count, limit: MANIFESTS });
        }
        for entry in &listed {
            if !(entry.media_type.is_manifest() || entry.media_type.is_index()) {
                let kind = crate::net::escaped(entry.media_type.as_str(), 100);
                sources.progress.note(format!("left out {}: a `{kind}`", entry.digest));
                continue;
            }
            size.add(entry.size)?;
            let manifest = sources.listed(entry).await?;
            if entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
                beside.push(manifest);
                continue;
            }
            let image = sources.image(manifest).await?;
            size.add(image.config_raw().bytes.len() as u64)?;
            layers.extend_from_slice(image.layers());
            images.push(image);
        }
        for manifest in beside {
            layers.extend(attached(sources, &manifest, into).await?);
        }
        AnyImage::Index { raw, images }
    } else {
        let image = sources.image(raw).await?;
        layers.extend_from_slice(image.layers());
        AnyImage::Image(image)
    };
    Ok((image, layers))
}

/// Keeps a manifest that is no image (an attestation) with its config, and gives
/// its blobs.
async fn attached(
    sources: &Sources<'_>,
    raw: &Raw,
    into: &Store,
) -> Result<Vec<Layer>, RegistryError> {
    let parsed = Manifest::read(&raw.bytes).map_err(|source| RegistryError::Document {
        what: format!("manifest {} of {}", raw.digest, sources.name),
        source,
    })?;
    refuse_foreign(&parsed)?;
    into.put(&sources.config(&parsed.config).await?)?;
    into.put(&raw.bytes)?;
    let as_layer = |entry: &Descriptor| Layer {
        // Such a blob is no tar and has no diff ID; only its digest and size matter here.
        diff_id: crate::digest::DiffId(entry.digest.0),
        digest: entry.digest,
        size: entry.size,
        compression: Compression::None,
    };
    Ok(parsed.layers.iter().map(as_layer).collect())
}
