//! What this process read of layers not long ago. Every step asks for the tables of
//! contents of all layers below it, and for the same two small files in them; both are
//! named by a digest, so that what was read once holds.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::place::Facts;
use crate::digest::DiffId;
use crate::layer::LayerIndex;

/// Bytes of all tables together: some 20 for each entry.
const MAX_PACKED: usize = 8 << 20;
/// Folders of all facts together; some 100 bytes each.
const MAX_ENTRIES: usize = 1 << 16;
/// Bytes of all files together.
const MAX_BYTES: usize = 4 << 20;

static INDEXES: LazyLock<Recent<DiffId, LayerIndex>> = LazyLock::new(|| Recent::new(MAX_PACKED));
static FOLDERS: LazyLock<Recent<DiffId, Facts>> = LazyLock::new(|| Recent::new(MAX_ENTRIES));
static FILES: LazyLock<Recent<(DiffId, usize), Vec<u8>>> = LazyLock::new(|| Recent::new(MAX_BYTES));

/// Values up to a total weight. What would exceed it takes the place of all others: the
/// next look-ups fill it again.
struct Recent<K, V>(Mutex<Kept<K, V>>, usize);

struct Kept<K, V> {
    values: HashMap<K, Arc<V>>,
    weight: usize,
}

impl<K: Eq + std::hash::Hash, V> Recent<K, V> {
    fn new(limit: usize) -> Self {
        Self(Mutex::new(Kept { values: HashMap::new(), weight: 0 }), limit)
    }

    fn kept(&self) -> MutexGuard<'_, Kept<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key, made if it is not there.
    fn get<E>(
        &self,
        key: K,
        weight: impl FnOnce(&V) -> usize,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        if let Some(value) = self.kept().values.get(&key) {
            return Ok(value.clone());
        }
        let value = Arc::new(make()?);
        let weight = weight(&value);
        let mut kept = self.kept();
        if kept.weight + weight > self.1 {
            kept.values.clear();
            kept.weight = 0;
        }
        if weight <= self.1 && kept.values.insert(key, value.clone()).is_none() {
            kept.weight += weight;
        }
        Ok(value)
    }
}

/// A layer's table of contents.
pub(super) fn index<E>(
    layer: DiffId,
    read: impl FnOnce() -> Result<LayerIndex, E>,
) -> Result<Arc<LayerIndex>, E> {
    INDEXES.get(layer, LayerIndex::weight, read)
}

/// What a layer takes from those below it.
pub(super) fn facts<E>(
    layer: DiffId,
    read: impl FnOnce() -> Result<Facts, E>,
) -> Result<Arc<Facts>, E> {
    FOLDERS.get(layer, |facts| 1 + facts.implied.len(), read)
}

/// A small file's content, by its layer and its place there.
pub(super) fn file<E>(
    layer: DiffId,
    ordinal: usize,
    read: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Arc<Vec<u8>>, E> {
    FILES.get((layer, ordinal), Vec::len, read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_goes() {
        let recent = Recent::<u8, usize>::new(10);
        let get = |key, size: usize| {
            let mut made = false;
            let make = || -> Result<usize, ()> {
                made = true;
                Ok(size)
            };
            assert_eq!(*recent.get(key, |size| *size, make).unwrap(), size);
            made
        };
        assert!(get(1, 4) && !get(1, 4) && get(2, 6));
        assert!(get(3, 1) && get(1, 4), "all others went");
        assert!(get(4, 11) && get(4, 11), "too large to be kept");
        assert!(recent.get(9, |_| 0, || Err("no")).is_err());
    }
}
