//! A layer in another form: the same tar, compressed otherwise or not at all.
//!
//! What a layer is made of is its diff ID; its form is a matter of where it goes. So a
//! step is not run again because its layer is wanted in another form: the tar is
//! written anew from the one that is there, proven by the diff ID on the way, and the
//! result is what would have been written at once. Each form is remembered.

use std::io::{self, Read};

use super::RootfsError;
use super::content::decompressed;
use crate::atomic::AtPath as _;
use crate::digest::{DiffId, Digest};
use crate::layer::{Layer, LayerForm, LayerWriter, Reader};
use crate::store::Store;

/// The records' area: layers by diff ID and form.
const AREA: &str = "forms";

/// A layer in a form, if the store has it.
#[must_use]
pub fn known_form(store: &Store, layer: DiffId, form: LayerForm) -> Option<Layer> {
    let known = store.record::<Layer>(AREA, &key(layer, form))?;
    (known.diff_id == layer && store.has_blob(&known.digest, known.size)).then_some(known)
}

/// Writes a layer of the store in another form, unless that is there already. `stop` ends
/// the work early, with an error.
///
/// # Errors
/// If the layer is absent or damaged, or was not written by this [`LayerWriter`]; or if the
/// store cannot be written.
pub fn in_form(
    store: &Store,
    layer: &Layer,
    form: LayerForm,
    stop: &dyn Fn() -> bool,
) -> Result<Layer, RootfsError> {
    let known = || known_form(store, layer.diff_id, form);
    if let Some(known) = known() {
        return Ok(known);
    }
    let slot = store.slot(AREA, &key(layer.diff_id, form))?;
    if let Some(known) = known() {
        return Ok(known);
    }
    // Entry by entry: where large files begin and end decides on where blocks do.
    let wrong = |source| RootfsError::Archive { layer: layer.diff_id, source };
    let from = Stoppable { from: decompressed(store, layer)?, stop };
    let mut reader = Reader::new(io::BufReader::with_capacity(1 << 16, from));
    let mut writer = LayerWriter::new(store.writer()?, form);
    while let Some(entry) = reader.next().map_err(wrong)? {
        writer.entry(&entry, &mut reader).map_err(|error| wrong(error.into()))?;
    }
    let (blob, found) = writer.finish().at("write", store.root())?;
    if found != layer.diff_id {
        return Err(RootfsError::DiffId { layer: layer.diff_id, found });
    }
    let (digest, size) = blob.commit(None)?;
    let written = Layer { diff_id: layer.diff_id, digest, size, compression: form.compression };
    slot.write(&written)?;
    Ok(written)
}

/// Reads on until it is told to stop.
struct Stoppable<'a, R> {
    from: R,
    stop: &'a dyn Fn() -> bool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if (self.stop)() { Err(io::Error::other("stopped")) } else { self.from.read(buf) }
    }
}

fn key(layer: DiffId, form: LayerForm) -> Digest {
    Digest::of(format!("{layer} {}", form.name()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Compression, Entry, Kind, LayerWriter, Name};

    fn written(store: &Store, form: LayerForm) -> Layer {
        let mut writer = LayerWriter::new(store.writer().unwrap(), form);
        for (name, repeats) in [("a", 10_000), ("b", 200_000), ("c", 9)] {
            let content = format!("etaoin shrdlu {name}\n").repeat(repeats);
            let kind = Kind::File { size: content.len() as u64 };
            let name = Name::clean(name.as_bytes()).unwrap();
            let entry = Entry { kind, mode: 0o644, ..Entry::dir(name, 0) };
            writer.entry(&entry, &mut content.as_bytes()).unwrap();
        }
        let (blob, diff_id) = writer.finish().unwrap();
        let (digest, size) = blob.commit(None).unwrap();
        Layer { diff_id, digest, size, compression: form.compression }
    }

    /// Whatever it was before, a form's bytes are those that are written at once.
    #[test]
    fn every_form_from_every_other() {
        let forms = [
            LayerForm::from(Compression::None),
            LayerForm::from(Compression::Gzip),
            LayerForm { compression: Compression::Gzip, level: Some(9) },
            LayerForm::from(Compression::Zstd),
        ];
        let never = || false;
        for from in forms {
            for to in forms.into_iter().filter(|to| *to != from) {
                let folder = tempfile::tempdir().unwrap();
                let store = Store::open(folder.path()).unwrap();
                let layer = written(&store, from);
                assert_eq!(known_form(&store, layer.diff_id, to), None);
                let made = in_form(&store, &layer, to, &never).unwrap();
                assert_eq!(known_form(&store, layer.diff_id, to), Some(made.clone()));
                // Known, it is not made: its source may be gone.
                std::fs::remove_file(store.blob_path(&layer.digest)).unwrap();
                assert_eq!(in_form(&store, &layer, to, &never).unwrap(), made);
                std::fs::remove_file(store.blob_path(&made.digest)).unwrap();
                assert_eq!(known_form(&store, layer.diff_id, to), None, "its blob is gone");
                assert_eq!(made, written(&store, to));
            }
        }
    }

    #[test]
    fn no_other_layer_comes_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let tar = LayerForm::from(Compression::None);
        let layer = written(&store, Compression::Gzip.into());
        let other = Layer { diff_id: DiffId::of(b"other"), ..layer.clone() };
        let error = in_form(&store, &other, tar, &|| false).unwrap_err();
        assert!(matches!(error, RootfsError::DiffId { .. }), "{error}");
        assert!(in_form(&store, &layer, tar, &|| true).is_err(), "stopped");
        assert_eq!(known_form(&store, layer.diff_id, tar), None);
    }
}
