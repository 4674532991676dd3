//! How the documents of an image are written where somebody chooses it: media
//! types and annotations. Config and layers stay as they are.

use super::assemble::{Annotations, Dialect, Listed, assemble_around, assemble_index};
use super::check::ImageError;
use super::manifest::{Index, Manifest};
use super::{AnyImage, Image};
use crate::platform::Platform;

/// The document or descriptor that an annotation goes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotePlace {
    /// The index of several platforms.
    Index,
    /// What points to the index, as `index.json` of a layout does.
    IndexDescriptor,
    /// The manifests, or that of one platform.
    Manifest(Option<Platform>),
    /// What points to the manifests, or to that of one platform: the entry of an
    /// index.
    ManifestDescriptor(Option<Platform>),
}

/// An annotation and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub place: NotePlace,
    pub key: String,
    pub value: String,
}

/// What somebody chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Style {
    pub dialect: Dialect,
    /// Of two with one place and key the later holds; one that names its platform
    /// comes before one that names none.
    pub notes: Vec<Note>,
}

/// Why an image cannot be written so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StyleError {
    #[error("annotation `{key}` is for an index, and an image for one platform has none")]
    NoIndex { key: String },
    #[error("annotation `{key}` is for {platform}, which is not built")]
    NoPlatform { key: String, platform: Box<Platform> },
    #[error("annotation `{key}` has no place in docker's media types")]
    NoPlace { key: String },
}

impl Style {
    /// True if documents keep the form in which they are built.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.dialect == Dialect::Oci && self.notes.is_empty()
    }

    /// Finds out whether images for these platforms can be written so.
    ///
    /// # Errors
    /// The first annotation that has no place.
    pub fn check(&self, platforms: &[Platform]) -> Result<(), StyleError> {
        for note in &self.notes {
            let key = || note.key.clone();
            if self.dialect == Dialect::Docker {
                return Err(StyleError::NoPlace { key: key() });
            }
            match &note.place {
                NotePlace::Index | NotePlace::IndexDescriptor if platforms.len() < 2 => {
                    return Err(StyleError::NoIndex { key: key() });
                }
                NotePlace::Manifest(Some(platform))
                | NotePlace::ManifestDescriptor(Some(platform))
                    if !platforms.contains(platform) =>
                {
                    let platform = Box::new(platform.clone());
                    return Err(StyleError::NoPlatform { key: key(), platform });
                }
                NotePlace::Index
                | NotePlace::IndexDescriptor
                | NotePlace::Manifest(_)
                | NotePlace::ManifestDescriptor(_) => (),
            }
        }
        Ok(())
    }

    /// The image in this style, with the annotations that it has already. An index
    /// must list its images and nothing else, as one that was just built does.
    ///
    /// # Errors
    /// If docker has no media type for a layer, or the index lists other things.
    pub fn apply(&self, image: &AnyImage) -> Result<AnyImage, ImageError> {
        if self.is_plain() {
            return Ok(image.clone());
        }
        match image {
            AnyImage::Image(one) => self.image(one, &one.platform()).map(AnyImage::Image),
            AnyImage::Index { raw, images } => {
                let index = Index::read(&raw.bytes)?;
                if !index.manifests.iter().map(|e| e.digest).eq(images.iter().map(Image::digest)) {
                    let why = "it lists more than the images that were built".into();
                    return Err(ImageError::Malformed { what: "index", why });
                }
                let mut listed = Vec::with_capacity(images.len());
                for (entry, one) in index.manifests.iter().zip(images) {
                    let platform = entry.platform.clone().unwrap_or_else(|| one.platform());
                    let mut annotations = entry.annotations.clone();
                    annotations.extend(self.of_descriptor(&platform));
                    let image = self.image(one, &platform)?;
                    listed.push(Listed { image, platform, annotations });
                }
                let mut annotations = index.annotations;
                annotations.extend(self.chosen(|place| matches!(place, NotePlace::Index)));
                assemble_index(listed, self.dialect, annotations)
            }
        }
    }

    /// What the descriptor carries that points to the image as a whole.
    #[must_use]
    pub fn of_root(&self, image: &AnyImage) -> Annotations {
        match image {
            AnyImage::Image(one) => self.of_descriptor(&one.platform()),
            AnyImage::Index { .. } => {
                self.chosen(|place| matches!(place, NotePlace::IndexDescriptor))
            }
        }
    }

    fn image(&self, image: &Image, platform: &Platform) -> Result<Image, ImageError> {
        let mut annotations = Manifest::read(&image.manifest().bytes)?.annotations;
        annotations.extend(self.chosen(|place| *place == NotePlace::Manifest(None)));
        let own = NotePlace::Manifest(Some(platform.clone()));
        annotations.extend(self.chosen(|place| *place == own));
        let config = image.config_raw().bytes.clone();
        assemble_around(config, image.layers(), self.dialect, annotations)
    }

    fn of_descriptor(&self, platform: &Platform) -> Annotations {
        let mut all = self.chosen(|place| *place == NotePlace::ManifestDescriptor(None));
        let own = NotePlace::ManifestDescriptor(Some(platform.clone()));
        all.extend(self.chosen(|place| *place == own));
        all
    }

    fn chosen(&self, at: impl Fn(&NotePlace) -> bool) -> Annotations {
        let notes = self.notes.iter().filter(|note| at(&note.place));
        notes.map(|note| (note.key.clone(), note.value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{BlobDigest, DiffId};
    use crate::image::{ImageConfig, MediaType, assemble};
    use crate::layer::{Compression, Layer};

    fn image(platform: &str, compression: Compression) -> Image {
        let layer =
            Layer { diff_id: DiffId::of(b"x"), digest: BlobDigest::of(b"y"), size: 1, compression };
        let config = ImageConfig::scratch(&platform.parse().unwrap());
        assemble(config, std::slice::from_ref(&layer)).unwrap()
    }

    fn note(place: NotePlace, value: &str) -> Note {
        Note { place, key: "k".into(), value: value.into() }
    }

    #[test]
    fn annotations_find_their_places() {
        let (one, two) = ("linux/amd64", "linux/arm/v7");
        let images = vec![image(one, Compression::Gzip), image(two, Compression::Gzip)];
        let index = assemble_index(images, Dialect::Oci, Annotations::new()).unwrap();
        let arm: Platform = two.parse().unwrap();
        let style = Style {
            dialect: Dialect::Oci,
            notes: vec![
                note(NotePlace::Index, "i"),
                note(NotePlace::IndexDescriptor, "id"),
                note(NotePlace::Manifest(Some(arm.clone())), "arm"),
                note(NotePlace::Manifest(None), "all"),
                note(NotePlace::ManifestDescriptor(Some(arm)), "d"),
            ],
        };
        let styled = style.apply(&index).unwrap();
        assert_eq!(style.of_root(&styled)["k"], "id");
        let read = Index::read(&styled.raw().bytes).unwrap();
        assert_eq!(read.annotations["k"], "i");
        assert_eq!(read.manifests[0].annotations.get("k"), None);
        assert_eq!(read.manifests[1].annotations["k"], "d");
        let of = |at: usize| {
            let bytes = &styled.images()[at].manifest().bytes;
            Manifest::read(bytes).unwrap().annotations["k"].clone()
        };
        assert_eq!((of(0).as_str(), of(1).as_str()), ("all", "arm"));
        // A second style adds to the first.
        let more = Style { notes: vec![note(NotePlace::Manifest(None), "more")], ..style.clone() };
        let bytes = &more.apply(&styled).unwrap();
        assert_eq!(Index::read(&bytes.raw().bytes).unwrap().annotations["k"], "i");
        assert_eq!(Style::default().apply(&index).unwrap().digest(), index.digest());
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let platforms: Vec<Platform> = vec!["linux/amd64".parse().unwrap()];
        let with = |dialect, place| Style { dialect, notes: vec![note(place, "v")] };
        let arm = Some("linux/arm64".parse::<Platform>().unwrap());
        for (style, says) in [
            (with(Dialect::Oci, NotePlace::Index), "one platform has none"),
            (with(Dialect::Oci, NotePlace::IndexDescriptor), "one platform has none"),
            (with(Dialect::Oci, NotePlace::Manifest(arm.clone())), "linux/arm64"),
            (with(Dialect::Oci, NotePlace::ManifestDescriptor(arm)), "linux/arm64"),
            (with(Dialect::Docker, NotePlace::Manifest(None)), "docker's media types"),
        ] {
            let said = style.check(&platforms).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        with(Dialect::Oci, NotePlace::Manifest(None)).check(&platforms).unwrap();
    }

    #[test]
    fn media_types_of_docker() {
        let docker = Style { dialect: Dialect::Docker, notes: Vec::new() };
        let before = image("linux/amd64", Compression::Gzip);
        let AnyImage::Image(after) = docker.apply(&AnyImage::Image(before.clone())).unwrap() else {
            panic!("an image stays one");
        };
        assert_eq!(after.config_raw().digest, before.config_raw().digest);
        let manifest = Manifest::read(&after.manifest().bytes).unwrap();
        assert_eq!(manifest.media_type, Some(MediaType::DockerManifest));
        assert_eq!(manifest.layers[0].media_type, MediaType::DockerLayerGzip);
        let zstd = AnyImage::Image(image("linux/amd64", Compression::Zstd));
        assert!(docker.apply(&zstd).is_err());
    }
}
