//! Where the folder of an unpacked layer lies, and what it takes from the layers
//! below it.
//!
//! A layer is unpacked for itself, and its folder serves every stack that has it.
//! Some layers name a folder only as part of a path. In an overlay the topmost
//! folder's mode, owner and time hold, so such a folder must be unpacked as it is
//! in the layers below: then the unpacked layer is one for these lower layers,
//! and has a name of its own. So with a root that the lowest layers changed.

use std::collections::BTreeSet;
use std::sync::Arc;

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
/// The records' area: the places of a stack whose layers depend on each other, by the
/// digest of their diff IDs.
const STACKS: &str = "places";

/// The places of a stack, the lowest first.
pub(super) fn places<'a>(
    store: &Store,
    layers: &'a [Layer],
) -> Result<Vec<Place<'a>>, RootfsError> {
    let mut facts = Vec::with_capacity(layers.len());
    for layer in layers {
        facts.push(recent::facts(layer.diff_id, || facts_of(store, layer))?);
    }
    let plain = |facts: &Facts| facts.root.as_ref().is_none_or(ordinary);
    let roots = facts.iter().all(|facts| plain(facts));
    // Upper layers that take nothing from those below are as they are on any stack.
    let upper = facts.iter().rev().take_while(|facts| facts.implied.is_empty()).count();
    let lower = if roots { layers.len() - upper } else { layers.len() };
    let (lower, upper) = layers.split_at(if lower < 2 { 0 } else { lower });
    let mut places = dependent(store, lower, &facts)?;
    places.extend(upper.iter().map(Place::alone));
    Ok(places)
}

/// Of layers that may take something from those below them. Their merged tables of
/// contents say what, and that is remembered.
fn dependent<'a>(
    store: &Store,
    layers: &'a [Layer],
    facts: &[Arc<Facts>],
) -> Result<Vec<Place<'a>>, RootfsError> {
    if layers.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<u8> = layers.iter().flat_map(|layer| *layer.diff_id.0.bytes()).collect();
    let stack = Digest::of(&all);
    if let Some(known) = store.record::<Vec<(DiffId, Vec<Entry>)>>(STACKS, &stack)
        && known.len() == layers.len()
    {
        let known = layers.iter().zip(known);
        return Ok(known.map(|(layer, (id, folders))| Place { layer, id, folders }).collect());
    }
    let mut below = View::default();
    let mut places = Vec::with_capacity(layers.len());
    for (number, (layer, facts)) in layers.iter().zip(facts).enumerate() {
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
    let known: Vec<_> = places.iter().map(|place| (place.id, &place.folders)).collect();
    // It is a memory only: a full disk must not keep anybody from reading.
    let _ = store.slot(STACKS, &stack).and_then(|slot| slot.write(&known));
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
    let root = index.iter().filter(|entry| entry.name.is_root()).last();
    let facts = Facts { implied: index.implied(), root };
    let _ = store.slot(AREA, &layer.diff_id.0).and_then(|slot| slot.write(&facts));
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Compression, Kind, LayerWriter};

    fn written(store: &Store, entries: &[(&str, u32)]) -> Layer {
        let mut writer = LayerWriter::new(store.writer().unwrap(), Compression::Gzip.into());
        for (name, mode) in entries {
            let kind = if name.ends_with('/') { Kind::Dir } else { Kind::File { size: 0 } };
            let name = Name::clean(name.trim_end_matches('/').as_bytes()).unwrap();
            let entry = Entry { kind, mode: *mode, ..Entry::dir(name, 0) };
            writer.entry(&entry, &mut std::io::empty()).unwrap();
        }
        let (blob, diff_id) = writer.finish().unwrap();
        let (digest, size) = blob.commit(None).unwrap();
        Layer { diff_id, digest, size, compression: Compression::Gzip }
    }

    /// Found by the tables of contents, and by what was remembered of them.
    #[test]
    fn a_stack_lies_where_it_lay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let base = written(&store, &[("a/", 0o700), ("a/b/", 0o711)]);
        let implies = written(&store, &[("a/b/c", 0o644)]);
        let lists = written(&store, &[("a/", 0o750), ("a/d", 0o644)]);
        let root = written(&store, &[("./", 0o700)]);
        let of = |stack: &[&Layer]| -> Vec<(DiffId, Vec<u32>)> {
            let stack: Vec<Layer> = stack.iter().map(|&layer| layer.clone()).collect();
            let read = || -> Vec<_> {
                let modes = |place: &Place<'_>| place.folders.iter().map(|f| f.mode).collect();
                let places = places(&store, &stack).unwrap();
                places.iter().map(|place| (place.id, modes(place))).collect()
            };
            let first = read();
            assert_eq!(read(), first);
            assert_eq!(first.len(), stack.len());
            first
        };
        let alone = |layer: &Layer| (layer.diff_id, Vec::new());
        assert_eq!(of(&[&base, &lists]), [alone(&base), alone(&lists)]);
        let on_base = of(&[&base, &implies, &lists]);
        assert_eq!([&on_base[0], &on_base[2]], [&alone(&base), &alone(&lists)]);
        assert_eq!(on_base[1].1, [0o700, 0o711]);
        let on_both = of(&[&base, &lists, &implies]);
        assert_eq!(on_both[2].1, [0o750, 0o711]);
        assert_ne!(on_both[2].0, on_base[1].0, "on other folders it is another tree");
        // A root that is not the usual one goes into all that lie on it.
        let rooted = of(&[&root, &base, &lists]);
        assert_eq!((rooted[1].1.as_slice(), rooted[2].1.as_slice()), (&[0o700][..], &[0o700][..]));
        assert_eq!(of(&[&implies, &base]), [alone(&implies), alone(&base)]);
        assert_eq!(of(&[]), []);
    }
}
