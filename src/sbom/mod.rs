//! What software an image is made of: a bill of materials, from its layers alone.
//!
//! The layers are read as streams, twice: for the merged tree, so that what a later layer
//! removed or replaced is not told of, and for those files that say what is installed. There is
//! no unpacking, no mount and no program of the image is run. What counts: the databases of
//! dpkg, apk and rpm; the build information in Go's programs and what cargo-auditable puts into
//! Rust's; `Cargo.lock`; what npm and Python's installers leave beside a package.
//!
//! One file is held in memory at a time, and large ones are read in place, from a file on disk:
//! memory grows with the number of the image's entries and with what is found, never with the
//! size of a layer or file. All bytes are strangers': sizes, counts and depths have ceilings. A
//! database that cannot be read, or not to its end, is never an empty list: it is a [`Warning`]
//! that names the file, and the documents say that they are incomplete, and why.
//!
//! Documents are made of the image alone: no clock, no chance, no name of a host, a store or an
//! image. The same image gives the same bytes.

mod apk;
mod cargo;
mod component;
mod content;
mod cyclonedx;
mod deb;
mod elf;
mod error;
mod fields;
mod find;
mod go;
mod licence;
mod npm;
mod os;
mod purl;
mod python;
mod rpm;
mod spdx;
mod tree;

pub use component::{Component, Found, Kind};
pub use error::{SbomError, Warning};
pub use licence::Licence;
pub use os::Distribution;

use std::error::Error;
use std::io::Read;
use std::path::Path;

use crate::digest::BlobDigest;
use crate::epoch::Epoch;
use crate::image::Image;
use crate::platform::Platform;
use crate::store::Store;

/// Why a blob cannot be opened: the place's own error.
pub type OpenError = Box<dyn Error + Send + Sync>;

/// Opens a blob of an image, wherever it is. One that is damaged shows at its end, as an error.
pub type Open<'o> = dyn Fn(&BlobDigest) -> Result<Box<dyn Read + 'o>, OpenError> + 'o;

/// What goes along with the work.
#[derive(Clone, Copy)]
pub struct Options<'o> {
    /// A folder for large files while they are read.
    pub scratch: &'o Path,
    /// Asked again and again: true ends the work with [`SbomError::Stopped`].
    pub stop: &'o dyn Fn() -> bool,
}

/// A bill of materials of an image for one platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Sbom {
    pub image: BlobDigest,
    pub platform: Platform,
    /// When the image says that it was made.
    pub created: Epoch,
    pub distribution: Option<Distribution>,
    /// Sorted, each once.
    pub components: Vec<Component>,
    /// What could not be read: the list may lack what it had to say.
    pub warnings: Vec<Warning>,
}

/// Lists what an image is made of.
///
/// # Errors
/// If a layer is absent, damaged or no layer, or the layers do not fit together.
pub fn of(image: &Image, open: &Open<'_>, options: Options<'_>) -> Result<Sbom, SbomError> {
    let mut found = find::Findings::default();
    let tree = tree::read(image.layers(), open, options, &mut found)?;
    let (distribution, components, warnings) = found.settle(&tree);
    Ok(Sbom {
        image: image.digest(),
        platform: image.platform(),
        created: created(image.config().created.as_deref()),
        distribution,
        components,
        warnings,
    })
}

/// As [`of`], of an image whose layers the store has.
///
/// # Errors
/// As there.
pub fn of_stored(image: &Image, store: &Store, stop: &dyn Fn() -> bool) -> Result<Sbom, SbomError> {
    let scratch = store.scratch("sbom").map_err(|error| SbomError::Store(Box::new(error)))?;
    let open = |digest: &BlobDigest| -> Result<Box<dyn Read>, OpenError> {
        Ok(Box::new(store.open_blob(digest)?))
    };
    of(image, &open, Options { scratch: scratch.path(), stop })
}

/// Whole seconds of the config's time; an image that has none is of kiln's default time.
fn created(text: Option<&str>) -> Epoch {
    let time = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    time.and_then(|time| time.as_second().to_string().parse().ok()).unwrap_or_default()
}

impl Sbom {
    /// As SPDX 2.3, JSON.
    #[must_use]
    pub fn spdx(&self) -> Vec<u8> {
        spdx::document(self)
    }

    /// As CycloneDX 1.6, JSON.
    #[must_use]
    pub fn cyclonedx(&self) -> Vec<u8> {
        cyclonedx::document(self)
    }
}

/// A number in UUID's form that follows from a text (RFC 9562, version 8).
fn uuid(of: &str) -> String {
    let digest = crate::digest::Digest::of(of.as_bytes());
    let mut hex = digest.hex();
    hex.truncate(32);
    hex.replace_range(12..13, "8");
    // The variant's two bits.
    hex.replace_range(16..17, "a");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}
