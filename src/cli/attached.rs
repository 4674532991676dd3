//! What is attached to an image, on the way of the image itself.

use super::copy::with_env;
use super::invocation::Invocation;
use super::report::CliError;
use crate::copy;
use crate::image::{AnyImage, Image};
use crate::progress::{Progress, Way};
use crate::reference::{Pinned, Reference};
use crate::registry::{self, Registries};
use crate::store::Store;

/// Whether it goes along.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ReferrersFlag {
    /// With `=false`: leave out what is attached to the image, as signatures, SBOMs and
    /// provenance
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub referrers: bool,
}

/// Pushes an image, and what is attached to it if that is wanted.
///
/// # Errors
/// If the registry does not take it. The image may be there then.
pub(super) fn push(
    image: &AnyImage,
    to: &Reference,
    referrers: bool,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Pinned, CliError> {
    let store = invocation.store()?;
    let pinned = invocation.block_on(registry::push(image, to, store, registries, progress))?;
    if referrers {
        with_env(Some(store), registries, progress, invocation, async |env| {
            copy::push_referrers(image, to, env).await
        })?;
    }
    progress.transferred(Way::Push);
    Ok(pinned)
}

/// Fetches what a registry has attached to an image that was pulled from there.
///
/// # Errors
/// If the registry does not give it.
pub(super) fn pull(
    image: &AnyImage,
    from: &Reference,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let store = invocation.store()?;
    let found = with_env(Some(store), registries, progress, invocation, async |env| {
        copy::pull_referrers(image, from, env).await
    })?;
    progress.note(match found {
        0 => format!("nothing is attached to {}", from.familiar()),
        1 => "attached: 1 manifest".to_owned(),
        found => format!("attached: {found} manifests"),
    });
    Ok(())
}

/// Says that what is attached to an image stays behind, if there is something.
///
/// # Errors
/// If the store cannot be read.
pub(super) fn left_out(
    image: &AnyImage,
    why: &str,
    progress: &Progress,
    store: &Store,
) -> Result<(), CliError> {
    let manifests = image.images().iter().map(Image::digest);
    for digest in std::iter::once(image.digest()).chain(manifests) {
        if !store.attached(&digest)?.is_empty() {
            progress.note(format!("left out what is attached to {digest}: {why}"));
            break;
        }
    }
    Ok(())
}
