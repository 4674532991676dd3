//! Why two images are not the same, from the index down to bytes of files.
//!
//! Nothing that is alike is reported: of documents the fields that differ, of layers those
//! that have no twin, of their files what differs between two that correspond. Layers
//! correspond by diff ID, else by the history's instruction, else by their place
//! (`align.rs`), so that one that was put in does not make all later ones differ.
//!
//! Layers whose tars differ are read as streams, twice: for their tables of contents with a
//! digest of each file (`table.rs`), and again for those files that are told of in detail,
//! which go to a file on disk (`spool.rs`) where their formats are looked into (`content/`).
//! Those of one tar in other bytes are read up to three times: for how they are packed, for
//! their diff ID, for the first byte that differs (`packing.rs`).
//!
//! Memory grows with the number of entries (some 300 bytes each, at most [`MOST_ENTRIES`] in a
//! layer), with their names, targets and extended attributes (at most [`MOST_TEXT`] bytes in a
//! layer), and with what is told; never with the size of a layer or a file. For trees that
//! layers make together both ceilings are those of all layers of both sides. Documents tell of
//! fields up to a ceiling (`told.rs`). All bytes are strangers': what a format promises is
//! checked before it is followed, and what breaks it is told by its bytes alone. Whoever
//! compares can stop at any time, also between bytes that nobody wrote.

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
mod told;

pub use error::{CompareError, TooMuch};
pub use report::{
    Change, Content, FieldChange, FileChange, Files, ImageChange, LayerChange, LayerSide, Report,
    Top,
};
pub use source::{Blobs, Layout};

use std::io::{self, Read, Write};
use std::path::Path;

use crate::image::AnyImage;
use crate::platform::Platform;

/// Most entries of one layer: their table is held in memory.
pub const MOST_ENTRIES: usize = 4_000_000;

/// Most bytes of names, links' targets and extended attributes of one layer's entries.
pub const MOST_TEXT: u64 = 1 << 30;

/// One of the two images, and where its blobs are.
#[derive(Clone, Copy)]
pub struct Side<'s> {
    /// What it was called by whoever asks.
    pub name: &'s str,
    pub image: &'s AnyImage,
    pub blobs: &'s dyn Blobs,
}

/// How much is told.
#[derive(Clone)]
pub struct Options<'o> {
    /// Of an index, the image for this platform alone.
    pub platform: Option<Platform>,
    /// Files of the trees that the layers make together, in place of files layer by layer.
    pub merged: bool,
    /// Most files of a layer that are told of one by one; all are counted.
    pub most: usize,
    /// A folder for contents of files that are looked into; they go with the comparison.
    pub scratch: &'o Path,
    /// Asked again and again: true ends the comparison with [`CompareError::Stopped`].
    pub stop: &'o dyn Fn() -> bool,
}

/// What goes along with all work.
#[derive(Clone, Copy)]
struct Work<'w> {
    scratch: &'w Path,
    stop: &'w dyn Fn() -> bool,
}

impl Work<'_> {
    fn stopped(&self) -> Result<(), CompareError> {
        if (self.stop)() { Err(CompareError::Stopped) } else { Ok(()) }
    }

    /// As `stopped`, among those that know nothing but input and output.
    fn go_on(&self) -> io::Result<()> {
        if (self.stop)() { Err(io::Error::other("the work was stopped")) } else { Ok(()) }
    }

    /// As `io::copy`, but it can be stopped: holes come without end and without reading.
    fn copy(&self, mut from: impl Read, mut to: impl Write) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            self.go_on()?;
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..count])?;
        }
    }

    /// What an error means that came while contents were looked into.
    fn wrong(&self, error: io::Error) -> CompareError {
        if (self.stop)() { CompareError::Stopped } else { CompareError::Scratch(error) }
    }
}

/// Compares two images.
///
/// # Errors
/// If one has nothing for the platform, or a blob is absent, damaged or no layer.
pub fn compare(a: Side<'_>, b: Side<'_>, options: &Options<'_>) -> Result<Report, CompareError> {
    let work = Work { scratch: options.scratch, stop: options.stop };
    image::compare(a, b, options, work)
}
