//! Where bases come from: the store, else their registry. A name without a registry is first
//! one that the store has, then what it means for a pull. What the lock has is looked for by
//! its digest alone, in either.

use serde::{Deserialize, Serialize};

use super::{BuildEnv, BuildError, BuildRequest, ContextSource};
use crate::digest::{BlobDigest, Digest};
use crate::image::{AnyImage, Image, Raw};
use crate::lock::{self, Entry, Key};
use crate::plan::{Base, BaseRequest, NamedContext};
use crate::reference::Reference;
use crate::registry::{self, RegistryError};
use crate::store::Store;

/// The records' area: what names of bases were when a registry was last asked.
const AREA: &str = "bases";

/// What the plan has to know of a named context.
pub(super) fn named(source: &ContextSource) -> NamedContext {
    match source {
        ContextSource::Image(reference) => NamedContext::Image(reference.clone()),
        ContextSource::Loaded { name, .. } => NamedContext::Image(name.clone()),
        ContextSource::Scratch => NamedContext::Scratch,
        ContextSource::Folder { .. } | ContextSource::Files(_) => NamedContext::Files,
    }
}

/// Whether a base may be used; if not, that is kept to be told with all the others.
pub(super) fn is_allowed(
    want: &BaseRequest,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<bool, BuildError> {
    if loaded(want, ask).is_some() {
        return Ok(true);
    }
    let (reference, platform) = (meant(want, ask, env)?, want.platform.clone());
    let allowed = env.sources.allow(Key::Base { reference, platform }, Some(want.span));
    Ok(allowed.map_err(|refused| env.sources.refuse(*refused)).is_ok())
}

/// Finds out a base's manifest and config; its layers stay where they are until
/// somebody reads them.
pub(super) async fn base(
    want: &BaseRequest,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<Base, BuildError> {
    if let Some(base) = at_hand(want, ask, env)? {
        let (has, name) = (base.config.platform(), want.reference.familiar());
        if !has.satisfies(&want.platform) {
            // As it is said of what a registry has.
            let said = format!("`{name}` is an image for {has}, not for {}", want.platform);
            env.progress.warn(said);
        }
        return Ok(base);
    }
    let name = meant(want, ask, env)?;
    let from = match env.sources.base(&name, &want.platform) {
        Some(locked) => name.pin(locked.digest).reference(),
        None => name.clone(),
    };
    let task = env.progress.task(format!("resolve {} for {}", name.familiar(), want.platform));
    let BuildEnv { store, registries, progress, .. } = env;
    let resolved = registry::resolve_known(&from, &want.platform, store, registries, progress);
    let registry::Resolved { raw, image } = match resolved.await {
        Ok(resolved) => resolved,
        // An image that was built here may be nowhere else.
        Err(error) if env.sources.fills() && from == name => {
            let Some(base) = in_store(want, ask, env)? else {
                return Err(wrong(want, ask, error));
            };
            let name = name.familiar();
            progress.warn(format!("{name}: {error}; it is locked as the store has it"));
            return Ok(base);
        }
        Err(error) => return Err(wrong(want, ask, error)),
    };
    task.done();
    registry::remember_layers(&name, image.layers(), store, registries).map_err(Box::new)?;
    store.keep_documents(&AnyImage::Image(image.clone()))?;
    let index = raw.media_type.is_index().then_some(raw.digest);
    if index.is_some() {
        // A bundle of what the lock names has it.
        store.put(&raw.bytes)?;
    }
    // What a lock says is no answer to what the name is now.
    if from == name {
        let slot = store.slot(AREA, &key(&name, want))?;
        slot.write(&Known { manifest: image.digest(), index })?;
    }
    Ok(noted(&name, want, &image, index, env))
}

/// The name that is pulled where the store has no such image.
fn meant(
    want: &BaseRequest,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<Reference, BuildError> {
    env.registries.meaning(&want.reference).map_err(|error| wrong(want, ask, error))
}

fn wrong(want: &BaseRequest, ask: &BuildRequest, source: RegistryError) -> BuildError {
    BuildError::Base {
        name: want.reference.familiar(),
        span: want.span,
        source_text: ask.dockerfile.clone(),
        source: Box::new(source),
    }
}

/// A base that needs no registry.
pub(super) fn at_hand(
    want: &BaseRequest,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<Option<Base>, BuildError> {
    if let Some((name, loaded)) = loaded(want, ask) {
        return match for_platform(loaded, want) {
            Some(image) => {
                note_loaded(name, want, loaded, &image, ask, env)?;
                Ok(Some(base_of(&want.reference, &image)))
            }
            None => Err(BuildError::ContextPlatform {
                platform: Box::new(want.platform.clone()),
                span: want.span,
                source_text: ask.dockerfile.clone(),
            }),
        };
    }
    let name = meant(want, ask, env)?;
    if let Some(locked) = env.sources.base(&name, &want.platform) {
        let found = pinned(&locked.digest, want, env.store);
        return Ok(found.map(|image| {
            hold(&image, env);
            noted(&name, want, &image, locked.index, env)
        }));
    }
    if ask.pull && !env.registries.is_offline() && want.reference.digest().is_none() {
        return Ok(None);
    }
    match in_store(want, ask, env)? {
        None if env.registries.is_offline() => Ok(remembered(&name, want, env)),
        found => Ok(found),
    }
}

/// What a name was for a platform, for builds that can ask nobody.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    manifest: BlobDigest,
    index: Option<BlobDigest>,
}

fn key(name: &Reference, want: &BaseRequest) -> Digest {
    // Neither can have a line break.
    Digest::of(format!("{name}\n{}", want.platform).as_bytes())
}

fn remembered(name: &Reference, want: &BaseRequest, env: &BuildEnv<'_>) -> Option<Base> {
    let known: Known = env.store.record(AREA, &key(name, want))?;
    let image = pinned(&known.manifest, want, env.store)?;
    hold(&image, env);
    Some(noted(name, want, &image, known.index, env))
}

/// The image of a named context that has none elsewhere, and what it stands for.
fn loaded<'a>(want: &BaseRequest, ask: &'a BuildRequest) -> Option<(&'a str, &'a AnyImage)> {
    ask.contexts.iter().find_map(|(stands_for, source)| match source {
        ContextSource::Loaded { name, image } if want.reference == *name => {
            Some((stands_for.as_str(), &**image))
        }
        _ => None,
    })
}

/// Notes such an image under the name that it stands for, and refuses it if the lock has
/// another one of that name. An image of a name that the lock lacks is the caller's own, as a
/// folder is.
fn note_loaded(
    stands_for: &str,
    want: &BaseRequest,
    loaded: &AnyImage,
    image: &Image,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<(), BuildError> {
    let named = stands_for.split("::").next().and_then(|name| name.parse::<Reference>().ok());
    let name = match named {
        Some(name) => env.registries.meaning(&name).map_err(|error| wrong(want, ask, error))?,
        // Of a stage, which may be called what no image is.
        None => want.reference.clone(),
    };
    let locked = env.sources.base(&name, &want.platform).filter(|_| env.sources.is_closed());
    if let Some(locked) = locked.filter(|locked| locked.digest != image.digest()) {
        return Err(BuildError::ContextLocked {
            name: name.familiar(),
            locked: locked.digest,
            found: image.digest(),
            span: want.span,
            source_text: ask.dockerfile.clone(),
        });
    }
    let index = matches!(loaded, AnyImage::Index { .. }).then(|| loaded.digest());
    noted(&name, want, image, index, env);
    Ok(())
}

/// The image of a digest that was found for a platform. An image that is no index's is taken
/// as it is, whatever it is for.
fn pinned(digest: &BlobDigest, want: &BaseRequest, store: &Store) -> Option<Image> {
    match kept(digest, store)? {
        AnyImage::Image(one) => Some(one),
        index => for_platform(&index, want),
    }
}

/// An image of a digest, if the store has all of its documents.
pub(super) fn kept(digest: &BlobDigest, store: &Store) -> Option<AnyImage> {
    if !store.hold_blob(digest) {
        return None;
    }
    // What is damaged here may be whole in the registry.
    let raw = Raw::read(store.document(digest).ok()?).ok()?;
    store.image(&raw.descriptor()).ok()
}

/// The image that has the name in the store: as it was written, or as it is meant.
fn in_store(
    want: &BaseRequest,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<Option<Base>, BuildError> {
    let name = meant(want, ask, env)?;
    for name in [&want.reference, &name] {
        let Some(at) = env.store.find(name)? else { continue };
        let image = match (name.digest(), env.store.image(&at)?) {
            (Some(_), AnyImage::Image(one)) => Some(one),
            (_, image) => for_platform(&image, want),
        };
        if let Some(image) = image {
            hold(&image, env);
            let index = at.media_type.is_index().then_some(at.digest);
            return Ok(Some(noted(name, want, &image, index, env)));
        }
    }
    Ok(None)
}

/// Layers are read much later, if at all, and the image's name may be taken away until then.
fn hold(image: &Image, env: &BuildEnv<'_>) {
    for layer in image.layers() {
        let _ = env.store.has_blob(&layer.digest, layer.size);
    }
}

fn base_of(name: &Reference, image: &Image) -> Base {
    Base {
        reference: name.clone(),
        digest: image.digest(),
        config: image.config().clone(),
        layers: image.layers().to_vec(),
    }
}

/// As [`base_of`], and the build's inputs have it.
fn noted(
    name: &Reference,
    want: &BaseRequest,
    image: &Image,
    index: Option<BlobDigest>,
    env: &BuildEnv<'_>,
) -> Base {
    let (reference, platform) = (name.clone(), want.platform.clone());
    let known = env.sources.base(name, &platform).filter(|known| known.digest == image.digest());
    let index = known.map_or(index, |known| known.index);
    let entry = lock::Base { reference, platform, digest: image.digest(), index };
    env.sources.note(Entry::Base(entry));
    base_of(name, image)
}

fn for_platform(image: &AnyImage, want: &BaseRequest) -> Option<Image> {
    let near = |image: &&Image| image.platform().distance(&want.platform);
    let fitting = image.images().iter().filter(|image| near(image).is_some());
    fitting.min_by_key(near).cloned()
}
