//! What a step's layer has from the one that the same instruction made before: the blocks
//! that did not change keep their compressed bytes ([`BlockTable`]).
//!
//! The records' area `blocks` has the table of the last layer of each instruction and context.
//! A table is found by names alone, not by contents: a wrong one costs a look, and cannot
//! change the layer.

use std::fs::File;

use super::super::context::Context;
use super::Bench;
use crate::digest::{BlobDigest, Digest};
use crate::layer::{BlockTable, Earlier, LayerForm, Name, WORTH_A_TABLE};
use crate::plan::Step;
use crate::progress::Progress;
use crate::store::{Store, StoreError};

/// The records' area: tables of blocks, by what is built.
const AREA: &str = "blocks";

/// How a step's layer is written, and which earlier one is likely to have its blocks.
pub(super) struct Lineage<'a> {
    pub(super) form: LayerForm,
    /// None if nothing is kept.
    last: Option<Last<'a>>,
}

/// Where the last layer's table is, and who is told what came of it.
struct Last<'a> {
    key: Digest,
    step: &'a str,
    progress: &'a Progress,
}

impl<'a> Lineage<'a> {
    /// Of a step that takes its files from a context, or from other layers.
    pub(super) fn of(step: &'a Step, context: Option<&Context>, bench: &Bench<'a>) -> Self {
        let Bench { form, progress, .. } = *bench;
        // Its number and stage may change without the files.
        let instruction = step.name.split_once("] ").map_or(&*step.name, |(_, rest)| rest);
        let folder = context.map(|context| context.path(&Name::root()));
        let key = format!("{}\n{folder:?}\n{instruction}", form.name());
        let key = Digest::of(key.as_bytes());
        Self { form, last: Some(Last { key, step: &step.name, progress }) }
    }

    /// Of a layer that stands for itself.
    pub(super) fn none(form: LayerForm) -> Self {
        Self { form, last: None }
    }

    /// The blocks of the last layer, if they are still there.
    pub(super) fn earlier(&self, store: &Store) -> Option<Earlier> {
        let table = std::fs::read(store.record_path(AREA, &self.last.as_ref()?.key)).ok()?;
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
        let count = blocks.count();
        let Some(last) = self.last.as_ref().filter(|_| count >= WORTH_A_TABLE) else {
            return Ok(());
        };
        let (step, anew) = (last.step, count - blocks.reused());
        last.progress.detail(format!("{step}: {anew} of {count} blocks were compressed"));
        store.set_record_bytes(AREA, &last.key, &blocks.to_bytes(self.form, blob))
    }
}
