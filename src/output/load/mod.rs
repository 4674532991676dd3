//! Archives into the store: OCI archives and docker archives, told apart by
//! what they hold.
//!
//! The archive is read twice: once for the names of its entries and where they
//! lie, then entry by entry as `index.json` or `manifest.json` asks. Names are
//! put into the store last, when everything they need is there.

mod docker;
mod oci;
mod scan;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;

use super::{OutputError, Work};
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::image::{AnyImage, ImageError, MAX_DOCUMENT};
use crate::layer::{Compression, Decompressor, Packing};
use crate::reference::Reference;
use crate::store::{Scratch, Store};
use scan::{Entries, Section};

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

/// Loads every image of an archive, and gives them their names. The file must
/// be seekable; it may be compressed.
///
/// # Errors
/// If it is no archive of images, is damaged, or the store cannot be written;
/// no name was given then.
pub fn load(file: &File, store: &Store, work: &Work<'_>) -> Result<Vec<Loaded>, OutputError> {
    named(read_images(file, store, work)?, store)
}

/// An archive whose files are found by their names.
#[derive(Debug)]
pub struct Opened {
    /// The plain tar.
    file: File,
    files: BTreeMap<String, (u64, u64)>,
    _spooled: Option<Spooled>,
}

impl Opened {
    /// Finds an archive's files. A compressed one is unpacked into the store first, from
    /// where it goes with this handle.
    ///
    /// # Errors
    /// If it is no tar or is malformed, or the store cannot be written.
    pub fn open(file: File, store: &Store, work: &Work<'_>) -> Result<Self, OutputError> {
        let spooled = match Decompressor::detect(&head(&file)?) {
            Packing::Layer(Compression::None) => None,
            packing @ (Packing::Layer(_) | Packing::Bzip2 | Packing::Xz) => {
                let size = file.metadata().map_err(OutputError::Read)?.len();
                let whole = Section::new(&file, 0, size);
                let tar = Decompressor::new(whole, packing).map_err(OutputError::Read)?;
                Some(spool(tar, store, work)?)
            }
        };
        let file = match &spooled {
            Some(spooled) => spooled.file.try_clone().map_err(OutputError::Read)?,
            None => file,
        };
        let files = scan::scan(&file, work)?.places();
        Ok(Self { file, files, _spooled: spooled })
    }

    /// Where a file lies in [`Opened::file`]: its first byte, and how many it has.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(u64, u64)> {
        self.files.get(name).copied()
    }

    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// As [`load`], and no name is given: the images with those that they should get.
///
/// # Errors
/// As [`load`].
pub fn read_images(file: &File, store: &Store, work: &Work<'_>) -> Result<Found, OutputError> {
    let head = head(file)?;
    match Decompressor::detect(&head) {
        Packing::Layer(Compression::None) => read_tar(file, store, work),
        packing @ (Packing::Layer(_) | Packing::Bzip2 | Packing::Xz) => {
            let size = file.metadata().map_err(OutputError::Read)?.len();
            let whole = Section::new(file, 0, size);
            let tar = Decompressor::new(whole, packing).map_err(OutputError::Read)?;
            let plain = spool(tar, store, work)?;
            read_tar(&plain.file, store, work)
        }
    }
}

/// The first bytes, fewer if the file is short.
fn head(file: &File) -> Result<Vec<u8>, OutputError> {
    let mut head = vec![0; 8];
    let mut filled = 0;
    while filled < head.len() {
        match file.read_at(&mut head[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
            Err(error) => return Err(OutputError::Read(error)),
        }
    }
    head.truncate(filled);
    Ok(head)
}

fn read_tar(file: &File, store: &Store, work: &Work<'_>) -> Result<Found, OutputError> {
    let entries = scan::scan(file, work)?;
    work.expect(entries.total());
    // docker writes both forms into one archive since version 25; the layout is
    // the one that keeps digests.
    if entries.has("oci-layout") && entries.has("index.json") {
        oci::load(&entries, store, work)
    } else if entries.has("manifest.json") {
        docker::load(&entries, store, work)
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
        match loaded.iter_mut().find(|one| one.digest == image.digest()) {
            Some(one) => one.names.extend(names),
            None => loaded.push(Loaded { names, digest: image.digest() }),
        }
    }
    Ok(loaded)
}

/// Images with the names they shall get.
pub type Found = Vec<(Vec<Reference>, AnyImage)>;

/// Reads a document whole.
fn document(entries: &Entries<'_>, name: &str) -> Result<Vec<u8>, OutputError> {
    let section = entries.open(name)?;
    if section.size() > MAX_DOCUMENT {
        let source = ImageError::TooLarge { what: "the document", size: section.size() };
        return Err(OutputError::Document { name: name.into(), source });
    }
    let mut bytes = Vec::new();
    let mut section = section;
    section.read_to_end(&mut bytes).map_err(OutputError::Read)?;
    Ok(bytes)
}
