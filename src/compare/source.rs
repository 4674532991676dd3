//! Where the blobs of an image are: the store, or an image layout in a folder (OCI image
//! spec 1.1, image-layout.md), which is read in place.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::CompareError;
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Descriptor, Image, ImageError, Index, MAX_DOCUMENT, Manifest, Raw};
use crate::store::{BlobReader, Gathered, Store, StoreError};

/// Gives blobs by their digests.
pub trait Blobs {
    /// Opens a blob. One that is damaged shows at its end, as an error.
    ///
    /// # Errors
    /// If it is absent.
    fn open(&self, digest: &BlobDigest) -> Result<Box<dyn Read + '_>, CompareError>;
}

impl Blobs for Store {
    fn open(&self, digest: &BlobDigest) -> Result<Box<dyn Read + '_>, CompareError> {
        Ok(Box::new(self.open_blob(digest)?))
    }
}

/// The annotations that name an image in a layout.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
/// Most bytes of a layout's index: one of names alone.
const MOST: u64 = 64 << 20;

/// An image layout in a folder.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// Reads the image of a tag, or the only one.
    ///
    /// # Errors
    /// If the folder is no layout, or it has no such image.
    pub fn image(&self, tag: Option<&str>) -> Result<AnyImage, CompareError> {
        let wrong = |why: String| CompareError::NotALayout { folder: self.folder.clone(), why };
        let path = self.folder.join("index.json");
        let file = self.file(&path)?.ok_or_else(|| wrong("it has no `index.json`".into()))?;
        let bytes = read(file, &path, MOST)?;
        let index =
            Index::read(&bytes).map_err(|error| wrong(format!("its index.json: {error}")))?;
        let names = |entry: &Descriptor| -> Vec<String> {
            NAMES.iter().filter_map(|key| entry.annotations.get(*key).cloned()).collect()
        };
        let fits = |entry: &&Descriptor| {
            tag.is_none_or(|tag| {
                names(entry).iter().any(|name| name == tag) || entry.digest.to_string() == tag
            })
        };
        let mut fitting: Vec<&Descriptor> = index.manifests.iter().filter(fits).collect();
        fitting.sort_by_key(|entry| entry.digest);
        fitting.dedup_by_key(|entry| entry.digest);
        let have = || index.manifests.iter().filter_map(|one| names(one).into_iter().next());
        let folder = self.folder.clone();
        match (fitting.as_slice(), tag) {
            ([one], _) => self.read(one),
            ([], Some(tag)) => {
                Err(CompareError::NoTag { folder, tag: tag.into(), have: have().collect() })
            }
            ([], None) => Err(wrong("it has no images".into())),
            _ => Err(CompareError::Several { folder, have: have().collect() }),
        }
    }

    fn read(&self, at: &Descriptor) -> Result<AnyImage, CompareError> {
        let raw = self.document(at)?;
        if !at.media_type.is_index() {
            return Ok(AnyImage::Image(self.one(raw)?));
        }
        let index = Index::read(&raw.bytes).map_err(|error| self.wrong(at, error))?;
        let mut images = Gathered::default();
        for entry in &index.manifests {
            let is_image = entry.media_type.is_manifest()
                && entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
            if is_image && images.is_new(entry) && self.file(&self.path(&entry.digest))?.is_some() {
                let image = self.one(self.document(entry)?)?;
                images.put(image).map_err(|error| self.wrong(at, error))?;
            }
        }
        Ok(AnyImage::Index { raw, images: images.into_images() })
    }

    fn one(&self, manifest: Raw) -> Result<Image, CompareError> {
        let at = manifest.descriptor();
        let parsed = Manifest::read(&manifest.bytes).map_err(|error| self.wrong(&at, error))?;
        let config = self.document(&parsed.config)?;
        Image::read(manifest, config.bytes).map_err(|error| self.wrong(&at, error))
    }

    fn wrong(&self, at: &Descriptor, source: ImageError) -> CompareError {
        CompareError::Document { folder: self.folder.clone(), digest: at.digest, source }
    }

    fn path(&self, digest: &BlobDigest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    fn absent(&self, digest: &BlobDigest) -> CompareError {
        CompareError::NoBlob { folder: self.folder.clone(), digest: *digest }
    }

    /// Opens a file of the layout; `None` if it is not there. Whoever made the layout may have
    /// put a link to any file there, or a pipe that never ends.
    fn file(&self, path: &Path) -> Result<Option<File>, CompareError> {
        let hostile = || {
            let name = path.strip_prefix(&self.folder).unwrap_or(path).display();
            let why = format!("its `{name}` is a link or no regular file, and is not read");
            CompareError::NotALayout { folder: self.folder.clone(), why }
        };
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match File::options().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
                return Err(hostile());
            }
            Err(error) => return Err(error).at("open", path).map_err(CompareError::from),
        };
        if !file.metadata().at("read", path)?.is_file() {
            return Err(hostile());
        }
        Ok(Some(file))
    }

    fn document(&self, at: &Descriptor) -> Result<Raw, CompareError> {
        let path = self.path(&at.digest);
        let file = self.file(&path)?.ok_or_else(|| self.absent(&at.digest))?;
        let raw = Raw::new(read(file, &path, MAX_DOCUMENT + 1)?, at.media_type.clone());
        if raw.digest != at.digest {
            let found = raw.digest;
            return Err(StoreError::Damaged { expected: at.digest, found, path }.into());
        }
        Ok(raw)
    }
}

fn read(file: File, path: &Path, most: u64) -> Result<Vec<u8>, CompareError> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).at("read", path)?;
    Ok(bytes)
}

impl Blobs for Layout {
    fn open(&self, digest: &BlobDigest) -> Result<Box<dyn Read + '_>, CompareError> {
        let path = self.path(digest);
        let file = self.file(&path)?.ok_or_else(|| self.absent(digest))?;
        Ok(Box::new(BlobReader::over(file, digest, path)?))
    }
}
