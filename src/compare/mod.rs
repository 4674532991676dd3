//! Why two images are not the same, from the index down to bytes of files.
//!
//! Nothing that is alike is reported: of documents the fields that differ, of layers those
//! that have no twin, of their files what differs between two that correspond. Layers
//! correspond by diff ID, else by the history's instruction, else by their place
//! (`align.rs`), so that one that was put in does not make all later ones differ.
//!
//! Layers are read as streams, twice: for their tables of contents with a digest of each file
//! (`table.rs`), and again for those files that are told of in detail, which go to a file on
//! disk (`spool.rs`) where their formats are looked into (`content/`). Memory grows with the
//! number of entries (some 300 bytes each, at most [`MOST_ENTRIES`] in a layer), never with
//! the size of a layer or a file. All bytes are strangers': what a format promises is checked
//! before it is followed, and what breaks it is told by its bytes alone.

mod align;
mod content;
mod document;
mod error;
mod files;
mod hint;
mod image;
mod layer;
mod packing;
mod report;
mod source;
mod spool;
mod table;

pub use error::CompareError;
pub use report::{
    Change, Content, FieldChange, FileChange, Files, ImageChange, LayerChange, LayerSide, Report,
    Top,
};
pub use source::{Blobs, Layout};

use std::path::Path;

use crate::image::AnyImage;
use crate::platform::Platform;

/// Most entries of one layer: their table is held in memory.
pub const MOST_ENTRIES: usize = 4_000_000;

/// One of the two images, and where its blobs are.
#[derive(Clone, Copy)]
pub struct Side<'s> {
    /// What it was called by whoever asks.
    pub name: &'s str,
    pub image: &'s AnyImage,
    pub blobs: &'s dyn Blobs,
}

/// How much is told.
#[derive(Debug, Clone)]
pub struct Options<'o> {
    /// Of an index, the image for this platform alone.
    pub platform: Option<Platform>,
    /// Files of the trees that the layers make together, in place of files layer by layer.
    pub merged: bool,
    /// Most files of a layer that are told of one by one; all are counted.
    pub most: usize,
    /// A folder for contents of files that are looked into; they go with the comparison.
    pub scratch: &'o Path,
}

/// Compares two images.
///
/// # Errors
/// If one has nothing for the platform, or a blob is absent, damaged or no layer.
pub fn compare(a: Side<'_>, b: Side<'_>, options: &Options<'_>) -> Result<Report, CompareError> {
    image::compare(a, b, options)
}
