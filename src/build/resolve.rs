//! Where bases come from: the store, else their registry. A name without a registry is first
//! one that the store has, then what it means for a pull.

use super::{BuildEnv, BuildError, BuildRequest, ContextSource};
use crate::image::{AnyImage, Image};
use crate::plan::{Base, BaseRequest, NamedContext};
use crate::reference::Reference;
use crate::registry::{self, RegistryError};

/// What the plan has to know of a named context.
pub(super) fn named(source: &ContextSource) -> NamedContext {
    match source {
        ContextSource::Image(reference) => NamedContext::Image(reference.clone()),
        ContextSource::Loaded { name, .. } => NamedContext::Image(name.clone()),
        ContextSource::Scratch => NamedContext::Scratch,
        ContextSource::Folder { .. } | ContextSource::Files(_) => NamedContext::Files,
    }
}

/// Finds out a base's manifest and config; its layers stay where they are until
/// somebody reads them.
pub(super) async fn base(
    want: &BaseRequest,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<Base, BuildError> {
    if let Some(base) = at_hand(want, ask, env)? {
        return Ok(base);
    }
    let name = meant(want, ask, env)?;
    let task = env.progress.task(format!("resolve {} for {}", name.familiar(), want.platform));
    let BuildEnv { store, registries, progress, .. } = env;
    let resolved =
        registry::resolve_known(&name, &want.platform, store, registries, progress).await;
    let resolved = resolved.map_err(|error| wrong(want, ask, error))?;
    task.done();
    let layers = resolved.image.layers();
    registry::remember_layers(&name, layers, env.store, env.registries).map_err(Box::new)?;
    Ok(base_of(&name, &resolved.image))
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
    let loaded = ask.contexts.iter().find_map(|(_, source)| match source {
        ContextSource::Loaded { name, image } if want.reference == *name => Some(image),
        _ => None,
    });
    if let Some(loaded) = loaded {
        return match for_platform(loaded, want) {
            Some(image) => Ok(Some(base_of(&want.reference, &image))),
            None => Err(BuildError::ContextPlatform {
                platform: Box::new(want.platform.clone()),
                span: want.span,
                source_text: ask.dockerfile.clone(),
            }),
        };
    }
    if ask.pull && want.reference.digest().is_none() {
        return Ok(None);
    }
    if let Some(image) = stored(&want.reference, want, env)? {
        return Ok(Some(base_of(&want.reference, &image)));
    }
    let name = meant(want, ask, env)?;
    if name == want.reference {
        return Ok(None);
    }
    Ok(stored(&name, want, env)?.map(|image| base_of(&name, &image)))
}

fn base_of(name: &Reference, image: &Image) -> Base {
    Base {
        reference: name.clone(),
        digest: image.digest(),
        config: image.config().clone(),
        layers: image.layers().to_vec(),
    }
}

fn for_platform(image: &AnyImage, want: &BaseRequest) -> Option<Image> {
    let near = |image: &&Image| image.platform().distance(&want.platform);
    let fitting = image.images().iter().filter(|image| near(image).is_some());
    fitting.min_by_key(near).cloned()
}

fn stored(
    name: &Reference,
    want: &BaseRequest,
    env: &BuildEnv<'_>,
) -> Result<Option<Image>, BuildError> {
    let Some(at) = env.store.find(name)? else { return Ok(None) };
    let image = for_platform(&env.store.image(&at)?, want);
    // Its layers are read much later, if at all, and its name may be taken away until then.
    for layer in image.iter().flat_map(Image::layers) {
        let _ = env.store.has_blob(&layer.digest, layer.size);
    }
    Ok(image)
}
