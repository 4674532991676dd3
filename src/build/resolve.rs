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
                        name: want.reference.familiar(),
                        span: want.span,
                        source_text: ask.dockerfile.clone(),
                        source: Box::new(source),
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
    let near = |image: &&Image| image.platform().distance(&want.platform);
    let fitting = found.images().iter().filter(|image| near(image).is_some());
    Ok(fitting.min_by_key(near).cloned())
}
