//! What a name without a registry means where it is pulled.
//!
//! Docker Hub, as for docker and BuildKit, so that a Dockerfile means the same on each
//! machine; unless whoever administers or uses this one says otherwise in registries.conf:
//! by an alias for that very name, or else by a search list. A list with one registry
//! means that one. Of several none is tried after the other, since any of them could then
//! take a name that was meant for the next: it is Docker Hub if that is listed, else an
//! error that tells what could be meant.
//!
//! Not read are the aliases that distributions ship (`…shortnames.conf` in the system's
//! folder) and those that podman writes down as it goes (`short-name-aliases.conf`): what
//! happens to be installed, or was once answered, must not change what a Dockerfile means.
//! `short-name-mode` is accepted and means nothing, as kiln never asks.
//!
//! An image that is pulled by a short name is kept under the name that it was found to
//! mean. Where images of the store are meant, a short name is Docker Hub's first, as builds
//! and `tag` give it; if there is none, it is what a pull would have brought. Where something
//! is pushed to, caches included, it is Docker Hub's.

use std::path::Path;

use super::{Mirrors, RegistryError};
use crate::reference::{DOCKER_HUB, Reference};

/// The name of the lists that distributions ship.
pub(super) fn is_guess(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix("shortnames.conf"))
        .is_some_and(|order| order.bytes().all(|c| c.is_ascii_digit() || c == b'-'))
}

impl Mirrors {
    /// The name that is pulled for a name.
    pub(in crate::registry) fn meaning(
        &self,
        name: &Reference,
    ) -> Result<Reference, RegistryError> {
        let Some(written) = name.short() else { return Ok(name.clone()) };
        let (target, path) = match (self.0.aliases.get(written), &self.0.search) {
            (Some((target, path)), _) if !target.is_empty() => (target.clone(), path),
            (_, Some((list, path))) => match list.as_slice() {
                [] => return Ok(name.clone()),
                [one] => (format!("{one}/{written}"), path),
                several if several.iter().any(|it| it == DOCKER_HUB) => return Ok(name.clone()),
                several => {
                    return Err(RegistryError::Short {
                        name: written.to_owned(),
                        candidates: several.iter().map(|it| format!("{it}/{written}")).collect(),
                        path: path.clone(),
                    });
                }
            },
            _ => return Ok(name.clone()),
        };
        let found: Reference = target.parse().map_err(|error| RegistryError::Config {
            path: path.clone(),
            why: format!("`{written}` leads to no image: {error}"),
        })?;
        Ok(name.at(found.registry(), found.repository()))
    }
}
