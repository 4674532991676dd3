//! Images: documents read back, verified, and put under a name.

use std::collections::BTreeSet;

use super::{Store, StoreError};
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Descriptor, Image, ImageError, Index, Manifest, Raw};
use crate::platform::Platform;
use crate::reference::Reference;

/// Most images of one index, and most bytes of their documents: an index of a stranger may
/// list some 20,000, or one of them as often.
const MOST_IMAGES: usize = 256;
const MOST_BYTES: u64 = 256 << 20;

/// The images of an index that is read: each once, and no more than memory takes.
#[derive(Debug, Default)]
pub struct Gathered {
    images: Vec<Image>,
    /// Entries that were looked at, and whether they said that they are no platform's.
    seen: BTreeSet<(BlobDigest, bool)>,
    bytes: u64,
}

impl Gathered {
    /// False if such an entry came before.
    pub fn is_new(&mut self, entry: &Descriptor) -> bool {
        let unknown = entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        self.seen.insert((entry.digest, unknown))
    }

    /// Takes an image.
    ///
    /// # Errors
    /// If it is one too many.
    pub fn put(&mut self, image: Image) -> Result<(), ImageError> {
        let bytes = image.manifest().bytes.len() + image.config_raw().bytes.len();
        self.bytes += bytes as u64;
        let why = if self.images.len() == MOST_IMAGES {
            format!("it has more than {MOST_IMAGES} images")
        } else if self.bytes > MOST_BYTES {
            format!("its images have documents of more than {} MiB", MOST_BYTES >> 20)
        } else {
            self.images.push(image);
            return Ok(());
        };
        Err(ImageError::Malformed { what: "index", why })
    }

    /// What was taken, in the index's order.
    #[must_use]
    pub fn into_images(self) -> Vec<Image> {
        self.images
    }
}

impl Store {
    /// Keeps an image's documents and points the name at it. The layers must be
    /// in the store, unless they are known to lie in a registry.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn keep(&self, name: &Reference, image: &AnyImage) -> Result<(), StoreError> {
        self.keep_documents(image)?;
        self.tag(name, image.raw().descriptor())
    }

    /// Keeps an image's documents without a name.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn keep_documents(&self, image: &AnyImage) -> Result<(), StoreError> {
        for one in image.images() {
            self.put(&one.config_raw().bytes)?;
            self.put(&one.manifest().bytes)?;
        }
        self.put(&image.raw().bytes)?;
        Ok(())
    }

    /// Reads the image that a descriptor points to. Of an index, the images that
    /// are in the store: a pull for one platform leaves the others out.
    ///
    /// # Errors
    /// If a document is absent, damaged or malformed.
    pub fn image(&self, at: &Descriptor) -> Result<AnyImage, StoreError> {
        let wrong = |source| StoreError::Image { digest: at.digest, source };
        let bytes = self.document(&at.digest)?;
        let raw = Raw { bytes, digest: at.digest, media_type: at.media_type.clone() };
        if !at.media_type.is_index() {
            return Ok(AnyImage::Image(self.one(raw)?));
        }
        let index = Index::read(&raw.bytes).map_err(wrong)?;
        let mut images = Gathered::default();
        for entry in &index.manifests {
            if entry.media_type.is_manifest()
                && images.is_new(entry)
                && self.has_blob(&entry.digest, entry.size)
            {
                let bytes = self.document(&entry.digest)?;
                let manifest =
                    Raw { bytes, digest: entry.digest, media_type: entry.media_type.clone() };
                let parsed = Manifest::read(&manifest.bytes).map_err(wrong)?;
                // An attestation is listed like an image but has no platform of its own.
                if entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
                    continue;
                }
                if self.has_blob(&parsed.config.digest, parsed.config.size) {
                    match self.one(manifest) {
                        Ok(image) => images.put(image).map_err(wrong)?,
                        // An artifact is no platform's image.
                        Err(StoreError::Image {
                            source: ImageError::NotAnImage { .. }, ..
                        }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(AnyImage::Index { raw, images: images.into_images() })
    }

    fn one(&self, manifest: Raw) -> Result<Image, StoreError> {
        let wrong = |source| StoreError::Image { digest: manifest.digest, source };
        let config = Manifest::read(&manifest.bytes).map_err(wrong)?.config.digest;
        let digest = manifest.digest;
        Image::read(manifest, self.document(&config)?)
            .map_err(|source| StoreError::Image { digest, source })
    }

    /// The image of a name: by reference, else by the first digits of its digest.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn image_named(&self, name: &Reference) -> Result<AnyImage, StoreError> {
        let at = self.find(name)?.ok_or_else(|| StoreError::NoImage(name.clone()))?;
        self.image(&at)
    }

    /// The image of a name for one platform.
    ///
    /// # Errors
    /// If there is none for that platform.
    pub fn image_for(&self, name: &Reference, platform: &Platform) -> Result<Image, StoreError> {
        let found = self.image_named(name)?;
        let single = matches!(found, AnyImage::Image(_));
        let near = |image: &&Image| image.platform().distance(platform);
        let fitting = found.images().iter().filter(|image| near(image).is_some());
        let image = fitting.min_by_key(near).cloned();
        // A single image is what was meant, whatever it runs on; that is the caller's to judge.
        image
            .or_else(|| if single { found.images().first().cloned() } else { None })
            .ok_or_else(|| StoreError::NoImage(name.clone()))
    }
}
