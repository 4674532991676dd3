//! What a step's layer has from the one that the same instruction made before: the blocks
//! that did not change keep their compressed bytes ([`BlockTable`]).
//!
//! The records' area `blocks` has the table of the last layer of each instruction and context.
//! A table is found by names alone, not by contents: a wrong one costs a look, and cannot
//! change the layer.

use std::fs::File;

use super::super::context::Context;
use crate::digest::{BlobDigest, Digest};
use crate::layer::{BlockTable, Earlier, LayerForm, Name, WORTH_A_TABLE};
use crate::plan::Step;
use crate::store::{Store, StoreError};

/// The records' area: tables of blocks, by what is built.
const AREA: &str = "blocks";

/// How a step's layer is written, and which earlier one is likely to have its blocks.
pub(super) struct Lineage {
    pub(super) form: LayerForm,
    /// None if nothing is kept.
    key: Option<Digest>,
}

impl Lineage {
    /// Of a step that takes its files from a context, or from other layers.
    pub(super) fn of(step: &Step, context: Option<&Context>, form: LayerForm) -> Self {
        // Its number and stage may change without the files.
        let instruction = step.name.split_once("] ").map_or(&*step.name, |(_, rest)| rest);
        let folder = context.map(|context| context.path(&Name::root()));
        let key = format!("{}\n{folder:?}\n{instruction}", form.name());
        Self { form, key: Some(Digest::of(key.as_bytes())) }
    }

    /// Of a layer that stands for itself.
    pub(super) fn none(form: LayerForm) -> Self {
        Self { form, key: None }
    }

    /// The blocks of the last layer, if they are still there.
    pub(super) fn earlier(&self, store: &Store) -> Option<Earlier> {
        let table = std::fs::read(store.record_path(AREA, self.key.as_ref()?)).ok()?;
        let earlier = Earlier::read(&table, self.form)?;
        let blob = File::open(store.blob_path(earlier.blob())).ok()?;
        Some(earlier.from(blob))
    }

    /// Keeps the blocks of a layer for the next one.
    pub(super) fn keep(
        &self,
        store: &Store,
        blocks: &BlockTable,
        blob: &BlobDigest,
    ) -> Result<(), StoreError> {
        let Some(key) = self.key.filter(|_| blocks.count() >= WORTH_A_TABLE) else { return Ok(()) };
        store.set_record_bytes(AREA, &key, &blocks.to_bytes(self.form, blob))
    }
}
