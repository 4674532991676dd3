//! What a process has to know of the root that it is to stand on, before it is mounted:
//! the root's mode, and the users and groups.
//!
//! Merging the tables of contents of a large image and looking for `etc/passwd` in its
//! archives takes longer than a small step runs. So what was found is remembered by the
//! stack's diff IDs: in the process for the steps of one build, most of which change none
//! of it, and in the store for large images.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::RootfsError;
use super::account::{self, Account};
use super::content::{Rootfs, index};
use crate::digest::Digest;
use crate::layer::{Kind, Layer, LayerIndex, Name, Whiteout, whiteout_of};
use crate::store::Store;

/// The records' area: by digest of the diff IDs.
const AREA: &str = "standing";
/// A stack with fewer entries is merged as fast as a record is read.
const LARGE: usize = 1000;
/// Bytes of both files that a record may hold.
const MAX_RECORD: usize = 64 << 10;
/// Bytes that this process keeps.
const MAX_KEPT: usize = 4 << 20;

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    root_mode: u32,
    passwd: String,
    group: String,
    /// Neither `etc` nor the two files are links: an upper layer that has none of these
    /// names changes nothing.
    direct: bool,
}

impl Facts {
    fn weight(&self) -> usize {
        self.passwd.len() + self.group.len() + 256
    }
}

static KEPT: LazyLock<Mutex<HashMap<Digest, Arc<Facts>>>> = LazyLock::new(Mutex::default);

/// The mode of a stack's root, and the account that a `USER` of it is.
///
/// # Errors
/// If a layer cannot be read, or the user is not known there.
pub fn standing(
    store: &Store,
    layers: &[Layer],
    user: &str,
) -> Result<(Account, u32), RootfsError> {
    let facts = facts(store, layers)?;
    Ok((account::resolve(user, &facts.passwd, &facts.group)?, facts.root_mode))
}

fn facts(store: &Store, layers: &[Layer]) -> Result<Arc<Facts>, RootfsError> {
    let own = key(layers);
    if let Some(known) = kept(&own) {
        return Ok(known);
    }
    if let Some((top, below)) = layers.split_last()
        && let Some(known) = kept(&key(below)).filter(|known| known.direct)
        && !touches(index(store, top)?.as_ref())
    {
        return Ok(keep(own, known));
    }
    if let Some(known) = store.record::<Facts>(AREA, &own) {
        return Ok(keep(own, Arc::new(known)));
    }
    let rootfs = Rootfs::open(store, layers)?;
    let facts = Arc::new(read(store, &rootfs)?);
    let mut entries = 0;
    for layer in layers {
        entries += index(store, layer)?.len();
    }
    if entries >= LARGE && facts.weight() <= MAX_RECORD {
        store.slot(AREA, &own)?.write(facts.as_ref())?;
    }
    Ok(keep(own, facts))
}

fn read(store: &Store, rootfs: &Rootfs) -> Result<Facts, RootfsError> {
    let view = rootfs.view();
    let text = |path: &str| -> Result<String, RootfsError> {
        let bytes = rootfs.read(store, path, account::LIMIT)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let linked = |path: &str| {
        let node = Name::clean(path.as_bytes()).and_then(|name| view.get(&name));
        node.is_some_and(|node| matches!(node.entry.kind, Kind::Symlink { .. }))
    };
    Ok(Facts {
        root_mode: view.get(&Name::root()).map_or(0o755, |node| node.entry.mode),
        passwd: text(PASSWD)?,
        group: text(GROUP)?,
        direct: !["etc", PASSWD, GROUP].into_iter().any(linked),
    })
}

/// Whether a layer may change what was found below it.
fn touches(index: &LayerIndex) -> bool {
    let at_or_above = |name: &Name, path: &str| {
        let path = Name::clean(path.as_bytes()).unwrap_or_default();
        path.below(name).is_some()
    };
    index.iter().any(|entry| match whiteout_of(&entry.name) {
        Some(Whiteout::Gone(name) | Whiteout::Opaque(name)) => {
            at_or_above(&name, PASSWD) || at_or_above(&name, GROUP)
        }
        Some(Whiteout::Malformed) => true,
        None if entry.name.is_root() => true,
        // A folder that stays one hides nothing.
        None if entry.kind == Kind::Dir && entry.name.as_bytes() == b"etc" => false,
        None => {
            let inside = |path: &str| {
                let path = Name::clean(path.as_bytes()).unwrap_or_default();
                entry.name.below(&path).is_some()
            };
            at_or_above(&entry.name, PASSWD)
                || at_or_above(&entry.name, GROUP)
                || inside(PASSWD)
                || inside(GROUP)
        }
    })
}

fn key(layers: &[Layer]) -> Digest {
    let all: Vec<u8> = layers.iter().flat_map(|layer| *layer.diff_id.0.bytes()).collect();
    Digest::of(&all)
}

fn kept(key: &Digest) -> Option<Arc<Facts>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
}

fn keep(key: Digest, facts: Arc<Facts>) -> Arc<Facts> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.values().map(|facts| facts.weight()).sum::<usize>() + facts.weight() > MAX_KEPT {
        kept.clear();
    }
    kept.insert(key, facts.clone());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Compression, Entry, LayerWriter, RawBytes};

    fn written(store: &Store, entries: &[(&str, Kind, &str)]) -> Layer {
        let mut writer = LayerWriter::new(store.writer().unwrap(), Compression::Gzip.into());
        for (name, kind, content) in entries {
            let name = Name::clean(name.as_bytes()).unwrap();
            let mode = if *kind == Kind::Dir { 0o700 } else { 0o644 };
            let entry = Entry { kind: kind.clone(), mode, ..Entry::dir(name, 0) };
            writer.entry(&entry, &mut content.as_bytes()).unwrap();
        }
        let (blob, diff_id) = writer.finish().unwrap();
        let (digest, size) = blob.commit(None).unwrap();
        Layer { diff_id, digest, size, compression: Compression::Gzip }
    }

    fn file(content: &str) -> Kind {
        Kind::File { size: content.len() as u64 }
    }

    /// Each layer on top of a base is asked for after the base, as steps do it, and alone.
    #[test]
    fn what_is_remembered_is_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let text = "root:x:0:0::/root:\nann:x:7:8::/ann:\n";
        let other = "root:x:0:0::/root:\nann:x:9:9::/new:\n";
        let empty = file("");
        let link = |to: &str| Kind::Symlink { target: RawBytes(to.as_bytes().to_vec()) };
        let base = written(&store, &[("etc", Kind::Dir, ""), ("etc/passwd", file(text), text)]);
        let linked = written(
            &store,
            &[
                ("real", Kind::Dir, ""),
                ("real/passwd", file(text), text),
                ("etc", link("real"), ""),
            ],
        );
        for (below, above, touched) in [
            (&base, vec![("usr", Kind::Dir, ""), ("usr/a", empty.clone(), "")], false),
            (&base, vec![("etc", Kind::Dir, ""), ("etc/passwd-", empty.clone(), "")], false),
            (&base, vec![("etc", Kind::Dir, ""), ("etc/passwd", file(other), other)], true),
            (&base, vec![("etc/.wh.passwd", empty.clone(), "")], true),
            (&base, vec![("etc/.wh..wh..opq", empty.clone(), "")], true),
            (&base, vec![(".wh.etc", empty.clone(), "")], true),
            (&base, vec![(".wh..wh..opq", empty.clone(), "")], true),
            (&base, vec![("etc", link("usr"), "")], true),
            (&base, vec![("etc/passwd", Kind::Dir, ""), ("etc/passwd/x", empty.clone(), "")], true),
            (&base, vec![(".", Kind::Dir, "")], true),
            (&linked, vec![("real/passwd", file(other), other)], false),
        ] {
            let stack = [below.clone(), written(&store, &above)];
            let top = index(&store, &stack[1]).unwrap();
            assert_eq!(touches(&top), touched, "{above:?}");
            let rootfs = Rootfs::open(&store, &stack).unwrap();
            let wanted = read(&store, &rootfs).unwrap();
            facts(&store, &stack[..1]).unwrap();
            assert_eq!(*facts(&store, &stack).unwrap(), wanted, "{above:?}");
        }
        let known = |layers: &[Layer]| standing(&store, layers, "ann").unwrap().0.ids.uid;
        assert_eq!(known(std::slice::from_ref(&base)), 7);
        assert!(standing(&store, &[], "ann").is_err(), "nobody is known without layers");
    }

    #[test]
    fn a_large_stack_is_remembered_by_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let names: Vec<String> = (0..LARGE).map(|number| format!("large-{number}")).collect();
        let entries: Vec<_> = names.iter().map(|name| (name.as_str(), file(""), "")).collect();
        let stack = [written(&store, &entries)];
        let found = facts(&store, &stack).unwrap();
        assert_eq!(store.record::<Facts>(AREA, &key(&stack)).as_ref(), Some(found.as_ref()));
    }
}
