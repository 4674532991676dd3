//! A layer in another form: the same tar, compressed otherwise or not at all.
//!
//! What a layer is made of is its diff ID; its form is a matter of where it goes. So a
//! step is not run again because its layer is wanted in another form: the tar is
//! written anew from the one that is there, proven by the diff ID on the way, and the
//! result is what would have been written at once. Each form is remembered.

use std::io::{self, Write as _};

use super::RootfsError;
use super::content::decompressed;
use crate::atomic::AtPath as _;
use crate::digest::{DiffId, Digest, Hashing};
use crate::layer::{Compressor, Layer, LayerForm};
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
/// If the layer is absent or damaged, or the store cannot be written.
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
    let mut from = decompressed(store, layer)?;
    let mut to = Hashing::new(Compressor::new(store.writer()?, form));
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = if stop() {
            Err(io::Error::other("stopped"))
        } else {
            io::Read::read(&mut from, &mut buffer)
        };
        let read =
            read.map_err(|source| RootfsError::Decompress { layer: layer.diff_id, source })?;
        if read == 0 {
            break;
        }
        to.write_all(&buffer[..read]).at("write", store.root())?;
    }
    let (compressor, found, _) = to.finish();
    if DiffId(found) != layer.diff_id {
        return Err(RootfsError::DiffId { layer: layer.diff_id, found: DiffId(found) });
    }
    let blob = compressor.finish().at("write", store.root())?;
    let (digest, size) = blob.commit(None)?;
    let written = Layer { diff_id: layer.diff_id, digest, size, compression: form.compression };
    slot.write(&written)?;
    Ok(written)
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
        let content = b"etaoin shrdlu\n".repeat(200_000);
        let kind = Kind::File { size: content.len() as u64 };
        let entry = Entry { kind, mode: 0o644, ..Entry::dir(Name::clean(b"a").unwrap(), 0) };
        writer.entry(&entry, &mut content.as_slice()).unwrap();
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
