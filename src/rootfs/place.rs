//! Where the folder of an unpacked layer lies, and what it takes from the layers
//! below it.
//!
//! A layer is unpacked for itself, and its folder serves every stack that has it.
//! Some layers name a folder only as part of a path. In an overlay the topmost
//! folder's mode, owner and time hold, so such a folder must be unpacked as it is
//! in the layers below: then the unpacked layer is one for these lower layers,
//! and has a name of its own. So with a root that the lowest layers changed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::content::index;
use super::{RootfsError, recent};
use crate::digest::{DiffId, Digest};
use crate::layer::{Entry, Layer, Name, View};
use crate::store::Store;

/// One layer of a stack, as it is unpacked.
pub(super) struct Place<'a> {
    pub layer: &'a Layer,
    /// The diff ID, unless something of lower layers goes in.
    pub id: DiffId,
    /// Folders of lower layers that this one only implies.
    pub folders: Vec<Entry>,
}

impl<'a> Place<'a> {
    /// Of a layer that stands for itself.
    pub(super) fn alone(layer: &'a Layer) -> Self {
        Self { layer, id: layer.diff_id, folders: Vec::new() }
    }
}

/// What must be known of a layer to see that it stands for itself.
#[derive(Serialize, Deserialize)]
pub(super) struct Facts {
    pub implied: BTreeSet<Name>,
    root: Option<Entry>,
}

/// The records' area: facts by diff ID.
const AREA: &str = "folders";

/// The places of a stack, the lowest first.
pub(super) fn places<'a>(
    store: &Store,
    layers: &'a [Layer],
) -> Result<Vec<Place<'a>>, RootfsError> {
    let mut facts = Vec::with_capacity(layers.len());
    for layer in layers {
        facts.push(recent::facts(layer.diff_id, || facts_of(store, layer))?);
    }
    let alone = facts.iter().skip(1).all(|facts| facts.implied.is_empty())
        && facts.iter().all(|facts| facts.root.as_ref().is_none_or(ordinary));
    if alone {
        return Ok(layers.iter().map(Place::alone).collect());
    }
    let mut below = View::default();
    let mut places = Vec::with_capacity(layers.len());
    for (number, (layer, facts)) in layers.iter().zip(&facts).enumerate() {
        let known = |name: &Name| below.get(name).filter(|_| below.is_dir(name));
        let mut folders: Vec<Entry> =
            facts.implied.iter().filter_map(known).map(|node| node.entry.clone()).collect();
        let root = known(&Name::root()).map(|node| node.entry.clone());
        folders.extend(root.filter(|root| facts.root.is_none() && !ordinary(root)));
        places.push(if folders.is_empty() {
            Place::alone(layer)
        } else {
            // Serialising plain data of ours does not fail.
            let text = serde_json::to_vec(&(layer.diff_id, &folders)).unwrap_or_default();
            Place { layer, id: DiffId(Digest::of(&text)), folders }
        });
        below.apply(number, index(store, layer)?.as_ref())?;
    }
    Ok(places)
}

/// A root as a layer that does not list it has it.
fn ordinary(root: &Entry) -> bool {
    (root.mode, root.uid, root.gid) == (0o755, 0, 0) && root.xattrs.is_empty()
}

fn facts_of(store: &Store, layer: &Layer) -> Result<Facts, RootfsError> {
    if let Some(facts) = store.record::<Facts>(AREA, &layer.diff_id.0) {
        return Ok(facts);
    }
    let index = index(store, layer)?;
    let root = index.entries.iter().rev().find(|entry| entry.name.is_root()).cloned();
    let facts = Facts { implied: index.implied(), root };
    store.slot(AREA, &layer.diff_id.0)?.write(&facts)?;
    Ok(facts)
}
