//! A file system change as bytes: tar with whiteouts (OCI image spec, layer.md).
//!
//! Writing is deterministic: the same changes give the same tar, whoever packs
//! them, when, where, on how many cores. Reading takes bytes of strangers:
//! everything has a ceiling, and what two readers could read differently is
//! refused.

mod blocks;
mod border;
mod buffer;
mod compress;
mod entry;
mod gzip;
mod hasher;
mod index;
mod packed;

mod pax;
mod read;
mod reuse;
#[cfg(test)]
mod samples;
mod sparse;
mod view;

#[cfg(test)]
mod tests;
mod whiteout;
mod write;
mod zstd;

pub use compress::{Compressor, Decompressor};
pub use entry::{Entry, Kind, Name, RawBytes};
pub use index::{IndexError, LayerIndex};

pub use read::{RawHeader, ReadError, Reader};
pub use view::{Located, Node, View, ViewError, resolve};

pub use reuse::{BlockTable, Earlier, WORTH_A_TABLE};
pub use whiteout::{Whiteout, whiteout_of};
pub use write::{LayerForm, LayerWriter, Written};

use serde::{Deserialize, Serialize};

use crate::digest::{BlobDigest, DiffId};

/// How a layer's tar is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    #[default]
    Gzip,
    Zstd,
}

/// How an archive is compressed that somebody else made: as a layer, or in a way in
/// which layers never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Layer(Compression),
    Bzip2,
    Xz,
}

impl From<Compression> for Packing {
    fn from(compression: Compression) -> Self {
        Self::Layer(compression)
    }
}

/// A layer's facts; the bytes are in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub diff_id: DiffId,
    pub digest: BlobDigest,
    /// Bytes as stored.
    pub size: u64,
    pub compression: Compression,
}
