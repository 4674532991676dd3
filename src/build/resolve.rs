//! Where bases come from: the store, else their registry.

use super::{BuildEnv, BuildError, BuildRequest};
use crate::image::Image;
use crate::plan::{Base, BaseRequest};
use crate::registry;

/// Finds out a base's manifest and config; its layers stay where they are until
/// somebody reads them.
pub(super) async fn base(
    want: &BaseRequest,
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<Base, BuildError> {
    let from_store =
        if ask.pull && want.reference.digest().is_none() { None } else { stored(want, env)? };
    let image = match from_store {
        Some(image) => image,
        None => {
            let name = want.reference.familiar();
            let task = env.progress.task(format!("resolve {name} for {}", want.platform));
            let resolved =
                registry::resolve(&want.reference, &want.platform, env.registries, env.progress)
                    .await
                    .map_err(|source| BuildError::Base {
                        name: want.reference.clone().into(),
                        span: want.span,
                        source_text: ask.dockerfile.clone(),
                        source: source.into(),
                    })?;
            task.done();
            resolved.image
        }
    };
    Ok(Base {
        reference: want.reference.clone(),
        digest: image.digest(),
        config: image.config().clone(),
        layers: image.layers().to_vec(),
    })
}

fn stored(want: &BaseRequest, env: &BuildEnv<'_>) -> Result<Option<Image>, BuildError> {
    let Some(at) = env.store.find(&want.reference)? else { return Ok(None) };
    let found = env.store.image(&at)?;
    Ok(found.images().iter().find(|image| image.platform().satisfies(&want.platform)).cloned())
}
