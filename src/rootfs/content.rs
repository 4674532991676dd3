//! Reading from a stack of layers without unpacking it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{RootfsError, recent};
use crate::digest::{DiffId, Digest, Hashing};
use crate::layer::{Decompressor, Kind, Layer, LayerIndex, Located, ReadError, Reader, View};
use crate::store::{Store, StoreError};

/// Brings layers that the store lacks, or that nobody has looked at yet.
pub trait Supply: fmt::Debug + Sync {
    /// Fetches what the store lacks of these layers, several at once. What is here already
    /// and trusted costs nothing.
    ///
    /// # Errors
    /// If one cannot be had, or is something else.
    fn fetch(&self, layers: &[Layer]) -> Result<(), RootfsError>;
}

/// A stack of layers, the lowest first, and what they amount to.
#[derive(Debug)]
pub struct Rootfs<'a> {
    layers: Vec<Layer>,
    view: View,
    supply: Option<&'a dyn Supply>,
}

/// The records' area: tables of contents by diff ID.
const AREA: &str = "index";

/// The records' area: small files that were read, by diff ID and place in the layer.
const FILES: &str = "files";

/// Larger files are read again from their layer.
const SMALL: usize = 64 << 10;

impl<'a> Rootfs<'a> {
    /// Reads the layers' tables of contents: from the records, else each layer
    /// once from end to end, which also proves its diff ID.
    ///
    /// # Errors
    /// If a layer is absent, damaged or hostile.
    pub fn open(store: &Store, layers: &[Layer]) -> Result<Self, RootfsError> {
        Self::of(store, layers, None)
    }

    /// As [`Rootfs::open`], of layers that may be absent: they are brought when something
    /// of them is read that no record tells.
    ///
    /// # Errors
    /// If a layer cannot be had, is damaged or hostile.
    pub fn supplied(
        store: &Store,
        layers: &[Layer],
        supply: &'a dyn Supply,
    ) -> Result<Self, RootfsError> {
        Self::of(store, layers, Some(supply))
    }

    fn of(
        store: &Store,
        layers: &[Layer],
        supply: Option<&'a dyn Supply>,
    ) -> Result<Self, RootfsError> {
        let indexes = tables(store, layers, supply)?;
        Ok(Self { layers: layers.to_vec(), view: View::new(&indexes)?, supply })
    }

    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    #[must_use]
    pub fn diff_ids(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// Calls `each` for the content of every place in `wanted`, layer by layer in
    /// the archives' order, and no layer that has none of them is opened.
    ///
    /// # Errors
    /// If a layer cannot be read, or what `each` returns.
    pub fn contents<T>(
        &self,
        store: &Store,
        wanted: &BTreeMap<Located, T>,
        mut each: impl FnMut(&T, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), RootfsError> {
        let holds = |number: usize| {
            let (from, to) = (Located { layer: number, ordinal: 0 }, number + 1);
            wanted.range(from..Located { layer: to, ordinal: 0 }).next().is_some()
        };
        let needed = self.layers.iter().enumerate().filter(|(number, _)| holds(*number));
        bring(needed.map(|(_, layer)| layer), self.supply)?;
        for (number, layer) in self.layers.iter().enumerate() {
            let here =
                Located { layer: number, ordinal: 0 }..Located { layer: number + 1, ordinal: 0 };
            let Some((last, _)) = wanted.range(here.clone()).next_back() else { continue };
            let wrong = |source| RootfsError::Archive { layer: layer.diff_id, source };
            let mut reader = Reader::new(decompressed(store, layer)?);
            let mut ordinal = 0;
            while let Some(_entry) = reader.next().map_err(wrong)? {
                if let Some(what) = wanted.get(&Located { layer: number, ordinal }) {
                    each(what, &mut reader).map_err(|error| wrong(ReadError::Io(error)))?;
                }
                if ordinal == last.ordinal {
                    break;
                }
                ordinal += 1;
            }
        }
        Ok(())
    }

    /// Reads a small file, links followed inside the root. `None` if there is no
    /// such regular file.
    ///
    /// # Errors
    /// If it is larger than `limit` or its layer cannot be read.
    pub fn read(
        &self,
        store: &Store,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, RootfsError> {
        let name = self.view.resolve(path.as_bytes(), true)?;
        let Some(node) = self.view.get(&name) else { return Ok(None) };
        let Kind::File { size } = node.entry.kind else { return Ok(None) };
        if size > limit {
            return Err(RootfsError::TooLarge { path: path.to_owned(), limit });
        }
        let layer = self.layers[node.content.layer].diff_id;
        let key = Digest::of(format!("{layer} {}", node.content.ordinal).as_bytes());
        let read = || -> Result<Vec<u8>, RootfsError> {
            if let Some(text) = store.record::<String>(FILES, &key) {
                return Ok(text.into_bytes());
            }
            let mut bytes = Vec::new();
            let wanted = BTreeMap::from([(node.content, ())]);
            self.contents(store, &wanted, |(), content| content.read_to_end(&mut bytes).map(drop))?;
            if let Some(text) = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= SMALL)
            {
                store.slot(FILES, &key)?.write(&text)?;
            }
            Ok(bytes)
        };
        let bytes = recent::file(layer, node.content.ordinal, read)?;
        Ok(Some(bytes.as_ref().clone()))
    }
}

/// Layers whose tables are made at once: some of them arrive while others are read.
const TABLES: usize = 4;

/// The tables of contents of layers. What no record tells is read of several layers at
/// once, of each as soon as it is here.
fn tables(
    store: &Store,
    layers: &[Layer],
    supply: Option<&dyn Supply>,
) -> Result<Vec<Arc<LayerIndex>>, RootfsError> {
    let unread: Vec<&Layer> = layers.iter().filter(|layer| !is_read(store, layer)).collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), RootfsError> {
        while let Some(layer) = unread.get(next.fetch_add(1, Ordering::Relaxed)) {
            bring(std::iter::once(*layer), supply)?;
            index(store, layer)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others = 1..unread.len().min(TABLES);
        let others: Vec<_> = others.map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().fold(own, |done, other| done.and(other.join().unwrap_or(Ok(()))))
    })?;
    let again = |layer: &Layer| match index(store, layer) {
        // Its record was damaged, or has gone: the layer itself is needed after all.
        Err(RootfsError::Store(StoreError::NoBlob(_))) if supply.is_some() => {
            bring(std::iter::once(layer), supply)?;
            index(store, layer)
        }
        other => other,
    };
    layers.iter().map(again).collect()
}

/// Brings those that are to be read. Whether one is here is the supply's to say: of what a
/// stranger has named, it is not enough that the store has it.
fn bring<'l>(
    layers: impl Iterator<Item = &'l Layer>,
    supply: Option<&dyn Supply>,
) -> Result<(), RootfsError> {
    let Some(supply) = supply else { return Ok(()) };
    supply.fetch(&layers.cloned().collect::<Vec<Layer>>())
}

/// A layer's tar.
pub(super) fn decompressed<'a>(
    store: &Store,
    layer: &Layer,
) -> Result<Decompressor<'a>, RootfsError> {
    let blob = store.open_blob(&layer.digest)?;
    let wrong = |source| RootfsError::Decompress { layer: layer.diff_id, source };
    Decompressor::new(blob, layer.compression).map_err(wrong)
}

pub(super) fn index(store: &Store, layer: &Layer) -> Result<Arc<LayerIndex>, RootfsError> {
    recent::index(layer.diff_id, || read_index(store, layer))
}

/// Whether the table of contents of a layer is known.
#[must_use]
pub fn is_read(store: &Store, layer: &Layer) -> bool {
    store.has_record(AREA, &layer.diff_id.0)
}

/// Keeps the table of contents of a layer that was just written, which need not be read
/// for it then.
///
/// # Errors
/// If the store cannot be written.
pub fn remember(store: &Store, layer: DiffId, index: LayerIndex) -> Result<(), RootfsError> {
    let index = recent::index(layer, || Ok::<_, RootfsError>(index))?;
    if !store.has_record(AREA, &layer.0) {
        store.set_record_bytes(AREA, &layer.0, &index.to_bytes())?;
    }
    Ok(())
}

fn read_index(store: &Store, layer: &Layer) -> Result<LayerIndex, RootfsError> {
    let record = store.record_path(AREA, &layer.diff_id.0);
    let known = || LayerIndex::from_bytes(&std::fs::read(&record).ok()?).ok();
    if let Some(index) = known() {
        return Ok(index);
    }
    let _slot = store.slot(AREA, &layer.diff_id.0)?;
    if let Some(index) = known() {
        return Ok(index);
    }
    let index = scan(store, layer)?;
    store.set_record_bytes(AREA, &layer.diff_id.0, &index.to_bytes())?;
    Ok(index)
}

/// Reads a layer from end to end: its bytes have its digest, and unpack to its diff ID.
/// What it holds is known then.
///
/// # Errors
/// If the layer is absent, damaged, hostile, or something else.
pub fn prove(store: &Store, layer: &Layer) -> Result<(), RootfsError> {
    let index = scan(store, layer)?;
    remember(store, layer.diff_id, index)
}

fn scan(store: &Store, layer: &Layer) -> Result<LayerIndex, RootfsError> {
    let mut through = Hashing::new(decompressed(store, layer)?);
    let wrong = |source| RootfsError::Archive { layer: layer.diff_id, source };
    let buffered = io::BufReader::with_capacity(1 << 16, &mut through);
    let index = LayerIndex::read(buffered).map_err(wrong)?;
    // The reader stops at the archive's end; the digest covers the stream.
    io::copy(&mut through, &mut io::sink()).map_err(|error| wrong(error.into()))?;
    let (_, digest, _) = through.finish();
    if DiffId(digest) != layer.diff_id {
        return Err(RootfsError::DiffId { layer: layer.diff_id, found: DiffId(digest) });
    }
    Ok(index)
}
