//! Layers of two images: which correspond, and in what they differ.

use serde_json::Value;

use super::align::{AKIN, ANY, SAME, align};
use super::files::Pair;
use super::report::{Change, FieldChange, Files, LayerChange, LayerSide};
use super::spool::Spool;
use super::table::{Room, Table};
use super::told::Told;
use super::{Blobs, CompareError, Options, Work, document, packing};
use crate::image::{Image, ImageError, strict_json};
use crate::layer::Layer;

/// One image's layers with what others say of them.
struct Stack<'i> {
    layers: &'i [Layer],
    /// The history's instructions; empty if the history does not fit to the layers.
    made_by: Vec<Option<&'i str>>,
    /// Descriptors without what the bytes say.
    descriptors: Vec<Value>,
}

impl<'i> Stack<'i> {
    fn of(image: &'i Image) -> Result<Self, ImageError> {
        let layers = image.layers();
        let history = image.config().history.iter().filter(|one| !one.empty_layer);
        let mut made_by: Vec<_> = history.map(|one| one.created_by.as_deref()).collect();
        if made_by.len() != layers.len() {
            made_by = vec![None; layers.len()];
        }
        let mut manifest: Value = strict_json("manifest", &image.manifest().bytes)?;
        let mut descriptors = match manifest.get_mut("layers").map(Value::take) {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        for one in descriptors.iter_mut().filter_map(Value::as_object_mut) {
            one.retain(|key, _| key != "digest" && key != "size");
        }
        descriptors.resize(layers.len(), Value::Null);
        Ok(Self { layers, made_by, descriptors })
    }

    fn side(&self, at: usize) -> LayerSide {
        let Layer { digest, diff_id, size, .. } = self.layers[at];
        let created_by = self.made_by[at].map(str::to_owned);
        LayerSide { number: at + 1, digest, diff_id, size, created_by }
    }
}

/// What is compared, with where blobs are.
pub(super) struct Sides<'s> {
    pub(super) images: [&'s Image; 2],
    pub(super) blobs: [&'s dyn Blobs; 2],
    pub(super) work: Work<'s>,
}

impl Sides<'_> {
    /// The layers that differ, and how many do not.
    pub(super) fn layers(
        &self,
        options: &Options<'_>,
    ) -> Result<(Vec<LayerChange>, usize), CompareError> {
        let wrong = |image: &Image| {
            let digest = image.digest();
            move |source| crate::store::StoreError::Image { digest, source }
        };
        let [a, b] = self.images;
        let (a, b) = (Stack::of(a).map_err(wrong(a))?, Stack::of(b).map_err(wrong(b))?);
        let pairs = align(a.layers.len(), b.layers.len(), |i, j| {
            if a.layers[i].diff_id == b.layers[j].diff_id {
                // Of several such, the one of the same instruction.
                SAME + u64::from(a.made_by[i] == b.made_by[j])
            } else if a.made_by[i].is_some() && a.made_by[i] == b.made_by[j] {
                AKIN
            } else {
                ANY
            }
        });
        let mut changes = Vec::new();
        let mut same = 0;
        for pair in pairs {
            let mut change = LayerChange {
                change: Change::Changed,
                a: pair.0.map(|at| a.side(at)),
                b: pair.1.map(|at| b.side(at)),
                fields: Vec::new(),
                files: None,
            };
            match pair {
                (Some(i), Some(j)) => {
                    let layers = [&a.layers[i], &b.layers[j]];
                    let mut told = Told::of_document();
                    document::fields("", &a.descriptors[i], &b.descriptors[j], &mut told);
                    change.fields = told.into_fields();
                    let key = |layer: &Layer| (layer.digest, layer.diff_id);
                    if key(layers[0]) == key(layers[1]) && change.fields.is_empty() {
                        same += 1;
                        continue;
                    }
                    self.pair(layers, &mut change, options)?;
                }
                (Some(_), None) => change.change = Change::Removed,
                _ => change.change = Change::Added,
            }
            changes.push(change);
        }
        moved(&mut changes);
        Ok((changes, same))
    }

    fn pair(
        &self,
        layers: [&Layer; 2],
        change: &mut LayerChange,
        options: &Options<'_>,
    ) -> Result<(), CompareError> {
        let sides = [(self.blobs[0], layers[0]), (self.blobs[1], layers[1])];
        if layers[0].diff_id == layers[1].diff_id {
            if layers[0].digest == layers[1].digest {
                change.change = Change::Repacked;
                return Ok(());
            }
            let fields = packing::whole(sides, self.work)?;
            let is_one = fields.iter().all(|field| field.field != packing::UNPACKS_TO);
            change.fields.extend(fields);
            if is_one {
                change.change = Change::Repacked;
                return Ok(());
            }
        } else if layers[0].digest == layers[1].digest {
            let [a, b] = layers.map(|layer| layer.diff_id.to_string());
            let note = "one blob, which cannot unpack to both: a config is wrong";
            change.fields.push(FieldChange::new("diffId", a, b).note(note));
            return Ok(());
        } else {
            change.fields.extend(packing::heads(sides)?);
        }
        if options.merged {
            return Ok(());
        }
        let a = Table::of(self.blobs[0], layers[0], &mut Room::new(), self.work)?;
        let b = Table::of(self.blobs[1], layers[1], &mut Room::new(), self.work)?;
        let pair = Pair { a: &a, b: &b };
        let lists = layers.map(std::slice::from_ref);
        let files = self.files(&pair, lists, options)?;
        change.fields.extend(pair.order());
        if a.end != b.end {
            let note = "zeros after the last entry: another writer, or another block size";
            change.fields.push(FieldChange::new("tar.end", a.end, b.end).note(note));
        }
        let told = !change.fields.iter().all(|field| !field.field.starts_with("tar."))
            || files.added + files.removed + files.changed > 0;
        if !told {
            let note = "what differs is between the entries: global headers, padding";
            change.fields.push(FieldChange::new("tar.other", a.size, b.size).note(note));
        }
        change.files = Some(files);
        Ok(())
    }

    /// Files of two tables; the layers are those that their entries stand in.
    pub(super) fn files(
        &self,
        pair: &Pair<'_>,
        layers: [&[Layer]; 2],
        options: &Options<'_>,
    ) -> Result<Files, CompareError> {
        let work = self.work;
        let fill = |wanted: &[_; 2]| {
            Ok([
                Spool::fill(self.blobs[0], layers[0], &wanted[0], work)?,
                Spool::fill(self.blobs[1], layers[1], &wanted[1], work)?,
            ])
        };
        pair.files(options.most, fill, work)
    }
}

/// A layer that was taken away at one place and put in at another has moved.
fn moved(changes: &mut Vec<LayerChange>) {
    let mut at = 0;
    while at < changes.len() {
        let lone = |change: &LayerChange| match (&change.a, &change.b) {
            (Some(side), None) => Some((side.diff_id, true)),
            (None, Some(side)) => Some((side.diff_id, false)),
            _ => None,
        };
        let Some((diff_id, of_a)) = lone(&changes[at]) else {
            at += 1;
            continue;
        };
        let other =
            (at + 1..changes.len()).find(|other| lone(&changes[*other]) == Some((diff_id, !of_a)));
        if let Some(other) = other {
            let gone = changes.remove(other);
            let one = &mut changes[at];
            one.change = Change::Moved;
            one.a = one.a.take().or(gone.a);
            one.b = one.b.take().or(gone.b);
        }
        at += 1;
    }
}
