//! Which repositories have a blob: to mount it into another one, and to fetch it when the
//! store lacks it.
//!
//! A record of the store lists them, the one that was seen last first. It is a memory: that
//! a repository still has the blob is found out by asking.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::destination::as_layer;
use super::pull::{AT_ONCE, Sources};
use super::{Registries, RegistryError};
use crate::digest::BlobDigest;
use crate::layer::Layer;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{Store, StoreError};

/// The records' area: `host/repository` of those that have a blob, by its digest.
const AREA: &str = "blob-origins";

/// A few are enough to mount and fetch from.
const MOST: usize = 8;

/// The repositories known to have a blob, as `host/repository`; the one that was seen last
/// comes first.
#[must_use]
pub fn known_origins(store: &Store, digest: BlobDigest) -> Vec<String> {
    known(store, digest)
}

pub(super) fn known(store: &Store, digest: BlobDigest) -> Vec<String> {
    store.record(AREA, &digest.0).unwrap_or_default()
}

/// Remembers that a repository has a blob.
pub(super) fn remember(
    store: &Store,
    digest: BlobDigest,
    origin: &str,
) -> Result<(), RegistryError> {
    if known(store, digest).first().is_some_and(|first| first == origin) {
        return Ok(());
    }
    let slot = store.slot(AREA, &digest.0)?;
    let mut all: Vec<String> = slot.read().unwrap_or_default();
    all.retain(|other| other != origin);
    all.insert(0, origin.to_owned());
    all.truncate(MOST);
    slot.write(&all)?;
    Ok(())
}

/// Of what is known, a repository at this host other than the one that is meant.
pub(super) fn mountable(known: &[String], host: &str, repository: &str) -> Option<String> {
    known.iter().find_map(|origin| {
        let (at, name) = origin.split_once('/')?;
        (at == host && name != repository).then(|| name.to_owned())
    })
}

/// Remembers that the repository of an image has its layers, for those that are not
/// fetched now: its manifest was seen there.
///
/// # Errors
/// If the store cannot be written, or registries.conf blocks the repository.
pub fn remember_layers(
    of: &Reference,
    layers: &[Layer],
    store: &Store,
    at: &Registries,
) -> Result<(), RegistryError> {
    let of = &at.mirrors().meaning(of)?;
    let home = at.mirrors().for_pull(of)?.pop();
    let home = home.map(|place| place.name());
    for layer in layers {
        for origin in home.iter().filter(|home| **home != of.name()).chain([&of.name()]) {
            remember(store, layer.digest, origin)?;
        }
    }
    Ok(())
}

/// Fetches the layers that the store lacks, each from a repository that is known to have
/// it, or else from that of `of`.
///
/// # Errors
/// If no repository gives one, or what it gives is wrong.
pub async fn pull_layers(
    of: Option<&Reference>,
    layers: &[Layer],
    into: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<(), RegistryError> {
    let absent = |layer: &&Layer| !into.has_blob(&layer.digest, layer.size);
    let missing: BTreeMap<BlobDigest, &Layer> =
        layers.iter().filter(absent).map(|layer| (layer.digest, layer)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let of = of.map(|of| at.mirrors().meaning(of)).transpose()?;
    let mut names: BTreeMap<String, Sources<'_>> = BTreeMap::new();
    let mut wanted = Vec::with_capacity(missing.len());
    for layer in missing.into_values() {
        let mut blocked = None;
        let mut places = known(into, layer.digest);
        places.extend(of.as_ref().map(Reference::name).filter(|name| !places.contains(name)));
        for place in &places {
            // What the record holds that is no repository is no reason to stop.
            if let Ok(name) = place.parse::<Reference>()
                && !names.contains_key(place)
            {
                // By digest: mirrors may be for that only.
                let name = name.pin(layer.digest).reference();
                match Sources::new(&name, at, progress) {
                    Ok(sources) => drop(names.insert(place.clone(), sources)),
                    // Others may have it.
                    Err(error @ RegistryError::Blocked { .. }) => blocked = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        if let Some(error) = blocked
            && !places.iter().any(|place| names.contains_key(place))
        {
            return Err(error);
        }
        wanted.push((layer, places));
    }
    let mut waiting = wanted.iter();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < AT_ONCE {
            let Some((layer, places)) = waiting.next() else { break };
            running.push(one(layer, places, &names, into, at, progress));
        }
        match running.next().await {
            Some(result) => result?,
            None => return Ok(()),
        }
    }
}

/// Fetches a blob of an image that the store has, if it lacks that, from a repository that is
/// known to have it.
///
/// # Errors
/// As [`pull_layers`].
pub async fn pull_blob(
    digest: BlobDigest,
    size: u64,
    into: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<(), RegistryError> {
    pull_layers(None, &[as_layer(digest, size)], into, at, progress).await
}

async fn one(
    layer: &Layer,
    places: &[String],
    names: &BTreeMap<String, Sources<'_>>,
    into: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<(), RegistryError> {
    let once = at.fetching(layer.digest);
    let _once = once.lock().await;
    let mut failed = None;
    for (place, sources) in places.iter().filter_map(|place| names.get_key_value(place)) {
        if let Some(error) = failed.take() {
            progress.note(format!("{error}; trying {place} next"));
        }
        match sources.layer(layer, into).await {
            Ok(()) => return Ok(()),
            Err(error @ (RegistryError::Store(_) | RegistryError::Io(_))) => return Err(error),
            Err(error) => failed = Some(error),
        }
    }
    Err(match failed {
        Some(source) => RegistryError::Partial {
            digest: layer.digest,
            places: places.to_vec(),
            source: Box::new(source),
        },
        None => StoreError::NoBlob(layer.digest).into(),
    })
}
