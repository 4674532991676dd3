//! Archives into the store: OCI archives and docker archives, told apart by
//! what they hold.
//!
//! The archive is read twice: once for the names of its entries and where they
//! lie, then entry by entry as `index.json` or `manifest.json` asks. Names are
//! put into the store last, when everything they need is there.

mod docker;
mod found;
mod oci;
mod scan;
mod volume;

use std::fs::File;
use std::io::{Read, Write as _};

use super::{OutputError, Work};
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Descriptor, ImageError, Index, MAX_DOCUMENT, Raw};
use crate::layer::{Compression, Decompressor, Packing};
use crate::reference::Reference;
use crate::store::{Scratch, Store};
use scan::{Entries, Section};

pub use found::MOST_DOCUMENTS;
pub use volume::{ReadAt, Volume};

/// An image that was loaded, and the names it has got.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub names: Vec<Reference>,
    pub digest: BlobDigest,
}

/// What images without a name are called, with their digest: only a name keeps
/// them from the next clean-up.
const UNNAMED: &str = "localhost/loaded";

/// A file that can be read at any place; see [`spool`].
#[derive(Debug)]
pub struct Spooled {
    file: File,
    _folder: Scratch,
}

/// Copies a stream (a pipe, what a compressed file holds) to a file of the store
/// that goes with its handle.
///
/// # Errors
/// If the stream or the store fails.
pub fn spool(from: impl Read, store: &Store, work: &Work<'_>) -> Result<Spooled, OutputError> {
    let folder = store.scratch("load")?;
    let path = folder.path().join("archive");
    let mut file =
        File::options().create_new(true).read(true).write(true).open(&path).at("create", &path)?;
    let bad_write = |source| {
        OutputError::Path(crate::atomic::PathError { what: "write", path: path.clone(), source })
    };
    work.copy(from, &mut file, OutputError::Read, bad_write)?;
    file.flush().at("write", &path)?;
    Ok(Spooled { file, _folder: folder })
}

impl Spooled {
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Loads every image of an archive, and gives them their names. It may be compressed.
///
/// # Errors
/// If it is no archive of images, is damaged, or the store cannot be written;
/// no name was given then.
pub fn load(from: &dyn ReadAt, store: &Store, work: &Work<'_>) -> Result<Vec<Loaded>, OutputError> {
    let cargo = read(from, store, work)?;
    if !cargo.lacking.is_empty() {
        return Err(OutputError::Lacking(cargo.lacking));
    }
    for raw in &cargo.referrers {
        store.attach_document(raw)?;
    }
    named(cargo.images, store)
}

/// What an archive holds. All of it is in the store, and nothing has a name there.
#[derive(Debug, Default)]
pub struct Cargo {
    /// Each once, with all its names.
    pub images: Found,
    /// Images that builds take from ([`INPUT`](super::INPUT)): they are to get no name.
    pub inputs: Vec<AnyImage>,
    /// Manifests that are no images and refer to none.
    pub artifacts: Vec<Raw>,
    /// What refers to other manifests.
    pub referrers: Vec<Raw>,
    /// What neither the archive nor the store has.
    pub lacking: Vec<Lacking>,
    /// The digest of its `index.json`, if it has one, and those of the archives that have what
    /// it leaves out.
    pub digest: Option<BlobDigest>,
    pub since: Vec<BlobDigest>,
}

/// A blob that an archive leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    pub digest: BlobDigest,
    pub size: u64,
    /// What needs it, for people.
    pub image: String,
    /// The archives of which one has it, by the digest of their `index.json`.
    pub since: Vec<BlobDigest>,
}

/// An archive whose files are found by their names.
#[derive(Debug)]
pub struct Opened {
    /// The plain tar.
    from: Volume,
    entries: Entries,
    _spooled: Option<Spooled>,
}

impl Opened {
    /// Finds an archive's files. A compressed one is unpacked into the store first, from
    /// where it goes with this handle.
    ///
    /// # Errors
    /// If it is no tar or is malformed, or the store cannot be written.
    pub fn open(from: Volume, store: &Store, work: &Work<'_>) -> Result<Self, OutputError> {
        let spooled = plain(&from, store, work).map_err(|error| from.blame(error, work))?;
        let from = match &spooled {
            Some(spooled) => Volume::File(spooled.file.try_clone().map_err(OutputError::Read)?),
            None => from,
        };
        let entries = scan::scan(&from, work).map_err(|error| from.blame(error, work))?;
        Ok(Self { from, entries, _spooled: spooled })
    }

    /// Where a file lies in [`Opened::file`]: its first byte, and how many it has.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(u64, u64)> {
        self.entries.find(name)
    }

    /// The one file that it is; none if it comes in parts.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        match &self.from {
            Volume::File(file) => Some(file),
            Volume::Parts(_) => None,
        }
    }

    /// How many bytes it has of a blob; none if it has it not.
    #[must_use]
    pub fn blob(&self, digest: &BlobDigest) -> Option<u64> {
        self.find(&oci::path(digest)).map(|(_, size)| size)
    }

    /// The blobs that it has by their names, with their sizes.
    pub fn blobs(&self) -> impl Iterator<Item = (BlobDigest, u64)> {
        self.entries.files().filter_map(|(name, size)| {
            let hex = name.strip_prefix("blobs/sha256/")?;
            Some((format!("sha256:{hex}").parse().ok()?, size))
        })
    }

    fn tar(&self) -> Tar<'_> {
        Tar { from: &self.from, entries: &self.entries }
    }

    /// `index.json`, of an archive that is a layout.
    ///
    /// # Errors
    /// If it is none.
    pub fn index(&self, work: &Work<'_>) -> Result<(BlobDigest, Index), OutputError> {
        oci::index(&self.tar()).map_err(|error| self.from.blame(error, work))
    }

    /// A document among the blobs, verified.
    ///
    /// # Errors
    /// If it is absent, damaged or larger than documents may be.
    pub fn document(&self, at: &Descriptor, work: &Work<'_>) -> Result<Raw, OutputError> {
        oci::document(&self.tar(), at).map_err(|error| self.from.blame(error, work))
    }

    /// Puts all that it holds into the store.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read(&self, store: &Store, work: &Work<'_>) -> Result<Cargo, OutputError> {
        read_tar(&self.tar(), store, work).map_err(|error| self.from.blame(error, work))
    }
}

/// As [`load`], and no name is given: the images with those that they should get.
///
/// # Errors
/// As [`load`].
pub fn read_images(
    from: &dyn ReadAt,
    store: &Store,
    work: &Work<'_>,
) -> Result<Found, OutputError> {
    let cargo = read(from, store, work)?;
    if cargo.lacking.is_empty() {
        Ok(cargo.images)
    } else {
        Err(OutputError::Lacking(cargo.lacking))
    }
}

fn read(from: &dyn ReadAt, store: &Store, work: &Work<'_>) -> Result<Cargo, OutputError> {
    let read = || {
        let spooled = plain(from, store, work)?;
        let from = spooled.as_ref().map_or(from, |spooled| &spooled.file);
        let entries = scan::scan(from, work)?;
        read_tar(&Tar { from, entries: &entries }, store, work)
    };
    let cargo = read().map_err(|error| from.blame(error, work))?;
    match (cargo.images.is_empty(), cargo.inputs.is_empty() && cargo.artifacts.is_empty()) {
        (false, _) => Ok(cargo),
        (true, false) => Err(OutputError::InputsOnly),
        (true, true) => Err(OutputError::Absent("image".into())),
    }
}

/// The plain tar of an archive that is compressed; none if it is plain already.
fn plain(
    from: &dyn ReadAt,
    store: &Store,
    work: &Work<'_>,
) -> Result<Option<Spooled>, OutputError> {
    let mut head = Vec::new();
    let size = from.size().map_err(OutputError::Read)?;
    Section::new(from, 0, size.min(8)).read_to_end(&mut head).map_err(OutputError::Read)?;
    match Decompressor::detect(&head) {
        Packing::Layer(Compression::None) => Ok(None),
        packing @ (Packing::Layer(_) | Packing::Bzip2 | Packing::Xz) => {
            let whole = Section::new(from, 0, size);
            let tar = Decompressor::new(whole, packing).map_err(OutputError::Read)?;
            spool(tar, store, work).map(Some)
        }
    }
}

/// The files of a plain tar, to be read.
#[derive(Debug)]
struct Tar<'a> {
    from: &'a dyn ReadAt,
    entries: &'a Entries,
}

impl<'a> Tar<'a> {
    fn open(&self, name: &str) -> Result<Section<'a>, OutputError> {
        let (at, size) = self.entries.find(name).ok_or_else(|| OutputError::Absent(name.into()))?;
        Ok(Section::new(self.from, at, size))
    }

    fn has(&self, name: &str) -> bool {
        self.entries.find(name).is_some()
    }

    /// Reads a document whole.
    fn document(&self, name: &str) -> Result<Vec<u8>, OutputError> {
        let mut section = self.open(name)?;
        if section.size() > MAX_DOCUMENT {
            let source = ImageError::TooLarge { what: "the document", size: section.size() };
            return Err(OutputError::Document { name: name.into(), source });
        }
        let mut bytes = Vec::new();
        section.read_to_end(&mut bytes).map_err(OutputError::Read)?;
        Ok(bytes)
    }
}

fn read_tar(tar: &Tar<'_>, store: &Store, work: &Work<'_>) -> Result<Cargo, OutputError> {
    work.expect(tar.entries.total());
    // docker writes both forms into one archive since version 25; the layout is
    // the one that keeps digests.
    if tar.has("oci-layout") && tar.has("index.json") {
        oci::load(tar, store, work)
    } else if tar.has("manifest.json") {
        docker::load(tar, store, work)
    } else {
        Err(OutputError::NotAnArchive(
            "it has neither `oci-layout` and `index.json` nor `manifest.json`".into(),
        ))
    }
}

fn named(images: Found, store: &Store) -> Result<Vec<Loaded>, OutputError> {
    let mut loaded: Vec<Loaded> = Vec::new();
    for (mut names, image) in images {
        if names.is_empty() {
            names.extend(format!("{UNNAMED}@{}", image.digest()).parse::<Reference>());
        }
        for name in &names {
            store.keep(name, &image)?;
        }
        loaded.push(Loaded { names, digest: image.digest() });
    }
    Ok(loaded)
}

/// Images with the names they shall get.
pub type Found = Vec<(Vec<Reference>, AnyImage)>;
