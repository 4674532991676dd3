//! What is attached to an image of the store, to registries and from them, where the image
//! itself goes by a push or a pull.

use std::collections::BTreeSet;

use super::local::Local;
use super::source::Source;
use super::tree::Tree;
use super::{CopyError, Env, target};
use crate::image::{AnyImage, Image, Raw};
use crate::reference::Reference;
use crate::registry::{Origin, Target};

/// Brings what is attached to an image, to its manifests and to that, to the repository of a
/// name. Nothing is asked if nothing is attached. Gives the number of manifests that the
/// registry did not list yet.
///
/// # Errors
/// If the store does not give it, or the registry does not take it.
pub async fn push_referrers(
    image: &AnyImage,
    to: &Reference,
    env: &Env<'_>,
) -> Result<usize, CopyError> {
    let store = env.store()?;
    let place = format!("store:{}", to.familiar());
    let source = Source::Local(Local::store(place, store, image.raw().descriptor()));
    let tree = Tree::about(&source, documents(image), env.progress).await?;
    if tree.documents.is_empty() {
        return Ok(0);
    }
    let target = Target::open(to, env.to).await?;
    target::referrers_to_registry(&source, &tree, &target, env).await
}

/// Fetches what a registry has attached to an image of the store, to its manifests and to
/// that. Gives the number of manifests.
///
/// # Errors
/// If the registry does not give it, or the store cannot be written.
pub async fn pull_referrers(
    image: &AnyImage,
    from: &Reference,
    env: &Env<'_>,
) -> Result<usize, CopyError> {
    let source = Source::Remote(Origin::new(from, env.from, env.progress)?);
    let tree = Tree::about(&source, documents(image), env.progress).await?;
    target::referrers_to_store(&source, &tree, env).await?;
    Ok(tree.documents.len())
}

/// The documents of an image that something may be about, each once.
fn documents(image: &AnyImage) -> Vec<Raw> {
    let mut seen = BTreeSet::new();
    let manifests = image.images().iter().map(Image::manifest);
    let all = std::iter::once(image.raw()).chain(manifests);
    all.filter(|raw| seen.insert(raw.digest)).cloned().collect()
}
