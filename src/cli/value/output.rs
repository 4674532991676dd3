//! `-o type=oci,dest=FILE`: where a build's result goes, as docker spells it.

use std::path::PathBuf;
use std::str::FromStr;

use super::csv::{attributes, boolean, fields};
use super::{CompressionArg, ValueError, annotation};
use crate::image::{Dialect, Style};
use crate::layer::Compression;
use crate::output::{Archive, Dest};
use crate::reference::Reference;

/// Where a build's result goes. A value without `=` is a folder, as for docker:
/// `type=local,dest=VALUE`, or `-` a tar on stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputArg {
    /// The image in a file (`type=oci`, `type=docker`).
    Archive { form: Archive, dest: Dest, image: ImageAttrs },
    /// The image in an OCI layout's folder (the same with `tar=false`).
    Layout { dest: PathBuf, image: ImageAttrs },
    /// The image's files (`type=tar`, `type=local`).
    Files { form: FilesForm, split: Option<bool> },
    /// The image in the store and, if it is pushed, in a registry (`type=image`,
    /// `type=registry`, and `type=docker` without a file).
    Image { push: bool, by_digest: bool, canonical: bool, keep: bool, image: ImageAttrs },
    /// Nothing but what later builds find in the store.
    CacheOnly,
}

/// Where files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesForm {
    Tar(Dest),
    Local(PathBuf),
}

/// What an output says of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageAttrs {
    /// Its names where no `--tag` gives one, and whether each was written without a
    /// tag.
    pub names: Vec<(Reference, bool)>,
    pub style: Style,
    /// Of the layers that the build makes.
    pub compression: Option<Compression>,
    pub level: Option<u8>,
    /// Base layers must have that compression too.
    pub force: bool,
}

/// The attributes of one output, taken out one by one.
struct Attrs {
    kind: String,
    left: Vec<(String, String)>,
}

impl FromStr for OutputArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "-" {
            return Ok(Self::Files { form: FilesForm::Tar(Dest::Stdout), split: None });
        }
        if !text.is_empty() && !text.contains(['=', ',']) {
            return Ok(Self::Files { form: FilesForm::Local(text.into()), split: None });
        }
        let mut attrs = Attrs::read(text)?;
        let output = match attrs.kind.as_str() {
            "oci" => attrs.archive(Archive::Oci)?,
            "docker" => attrs.archive(Archive::Docker)?,
            "tar" => {
                let dest = attrs.dest()?.unwrap_or(Dest::Stdout);
                Self::Files { form: FilesForm::Tar(dest), split: attrs.split()? }
            }
            "local" => {
                let folder = attrs.folder()?;
                attrs.only("mode", "copy", "kiln removes nothing from a folder that is there")?;
                Self::Files { form: FilesForm::Local(folder), split: attrs.split()? }
            }
            "image" => attrs.image(false)?,
            "registry" => attrs.image(true)?,
            "cacheonly" => Self::CacheOnly,
            other => {
                return Err(ValueError::new(format!(
                    "type `{other}` is not known; oci, docker, tar, local, image, registry and \
                     cacheonly are"
                )));
            }
        };
        attrs.end()?;
        Ok(output)
    }
}

impl Attrs {
    fn read(text: &str) -> Result<Self, ValueError> {
        let spelt = |name: &str| match name {
            // An annotation's key counts its case.
            name if name.starts_with("annotation") => name.to_owned(),
            name if name.eq_ignore_ascii_case("destination") => "dest".to_owned(),
            name => name.to_ascii_lowercase(),
        };
        let (kind, left) = attributes(&fields(text)?, spelt)?;
        let kind = kind.ok_or_else(|| {
            ValueError::new("it has no type=oci|docker|tar|local|image|registry|cacheonly")
        })?;
        Ok(Self { kind, left })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.left.iter().position(|(other, _)| other == name)?;
        Some(self.left.remove(at).1)
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, ValueError> {
        self.take(name).map(|value| boolean(name, &value)).transpose()
    }

    /// An attribute that may say only what is so anyway.
    fn only(&mut self, name: &str, so: &str, why: &str) -> Result<(), ValueError> {
        match self.take(name) {
            Some(value) if value != so => {
                Err(ValueError::new(format!("{name}={value} cannot be had: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// As [`Attrs::only`], true or false.
    fn fixed(&mut self, name: &str, so: bool, why: &str) -> Result<(), ValueError> {
        match self.flag(name)? {
            Some(value) if value != so => {
                Err(ValueError::new(format!("{name}={value} cannot be had: {why}")))
            }
            _ => Ok(()),
        }
    }

    fn end(mut self) -> Result<(), ValueError> {
        match self.left.pop() {
            None => Ok(()),
            Some((name, _)) => {
                Err(ValueError::new(format!("type={} has no attribute `{name}`", self.kind)))
            }
        }
    }

    fn dest(&mut self) -> Result<Option<Dest>, ValueError> {
        match self.take("dest").as_deref() {
            None => Ok(None),
            Some("") => Err(ValueError::new("dest= is empty")),
            Some("-") => Ok(Some(Dest::Stdout)),
            Some(path) => Ok(Some(Dest::Path(path.into()))),
        }
    }

    fn folder(&mut self) -> Result<PathBuf, ValueError> {
        match self.dest()? {
            Some(Dest::Path(path)) => Ok(path),
            Some(Dest::Stdout) => Err(ValueError::new("a folder is needed, not `-`")),
            None => Err(ValueError::new("it has no dest=FOLDER")),
        }
    }

    fn split(&mut self) -> Result<Option<bool>, ValueError> {
        self.flag("platform-split")
    }

    fn archive(&mut self, form: Archive) -> Result<OutputArg, ValueError> {
        let mut image = self.attrs()?;
        if self.flag("tar")? == Some(false) {
            return Ok(OutputArg::Layout { dest: self.folder()?, image });
        }
        let dest = match (self.dest()?, form) {
            (Some(dest), _) => dest,
            (None, Archive::Oci) => Dest::Stdout,
            // Docker has it loaded by its daemon; the store is what kiln has instead.
            (None, Archive::Docker) => {
                return Ok(OutputArg::Image {
                    push: false,
                    by_digest: false,
                    canonical: false,
                    keep: true,
                    image,
                });
            }
        };
        if form == Archive::Docker {
            let pressed = image.compression.filter(|kind| *kind != Compression::None);
            if pressed.is_some() || image.level.is_some() || image.force {
                return Err(ValueError::new(
                    "compression cannot be had: the layers of a docker archive are not compressed; \
                     type=oci or tar=false keeps them as they are",
                ));
            }
            if image.style.dialect == Dialect::Docker || !image.style.notes.is_empty() {
                let what = if image.style.notes.is_empty() {
                    "oci-mediatypes=false"
                } else {
                    "annotation"
                };
                return Err(ValueError::new(format!(
                    "{what} has no place in a docker archive, which holds no manifest; type=oci or tar=false does"
                )));
            }
        }
        if form == Archive::Docker {
            image.compression = None;
            image.level = None;
        }
        Ok(OutputArg::Archive { form, dest, image })
    }

    fn image(&mut self, push: bool) -> Result<OutputArg, ValueError> {
        let image = self.attrs()?;
        let push = self.flag("push")?.unwrap_or(push);
        let by_digest = self.flag("push-by-digest")?.unwrap_or(false);
        let canonical = self.flag("name-canonical")?.unwrap_or(false);
        let keep = self.flag("store")?.unwrap_or(true);
        self.fixed("unpack", false, "kiln unpacks a layer when something runs on it")?;
        self.fixed("registry.insecure", false, "name the registry with --insecure HOST")?;
        if by_digest && let Some((name, _)) = image.names.iter().find(|(_, bare)| !bare) {
            return Err(ValueError::new(format!(
                "push-by-digest=true gives no tag, and name=`{}` has one",
                name.familiar()
            )));
        }
        Ok(OutputArg::Image { push, by_digest, canonical, keep, image })
    }

    fn attrs(&mut self) -> Result<ImageAttrs, ValueError> {
        let mut image = ImageAttrs::default();
        for text in self.take("name").iter().flat_map(|names| names.split(',')) {
            let name: Reference =
                text.trim().parse().map_err(|error| ValueError::new(format!("{error}")))?;
            if name.digest().is_some() {
                return Err(ValueError::new(format!("name=`{text}` has a digest")));
            }
            let bare = text.rsplit('/').next().is_none_or(|last| !last.contains(':'));
            image.names.push((name, bare));
        }
        if self.flag("oci-mediatypes")? == Some(false) {
            image.style.dialect = Dialect::Docker;
        }
        if let Some(text) = self.take("compression") {
            image.compression = Some(text.parse::<CompressionArg>()?.0);
        }
        if let Some(level) = self.take("compression-level") {
            let number = level.parse();
            image.level =
                Some(number.map_err(|_| {
                    ValueError::new(format!("compression-level={level} is no number"))
                })?);
        }
        image.force = self.flag("force-compression")?.unwrap_or(false);
        self.fixed(
            "rewrite-timestamp",
            true,
            "what a build makes always has one time, SOURCE_DATE_EPOCH if it is set",
        )?;
        for name in ["attestation-inline", "oci-artifact"] {
            self.fixed(name, false, "kiln makes no attestations")?;
        }
        self.fixed("prefer-nondist-layers", false, "kiln makes ordinary layers")?;
        let (notes, left) = std::mem::take(&mut self.left)
            .into_iter()
            .map(|(name, value)| (annotation::attribute(&name, &value), (name, value)))
            .partition::<Vec<_>, _>(|(note, _)| note.is_some());
        self.left = left.into_iter().map(|(_, attr)| attr).collect();
        image.style.notes =
            notes.into_iter().filter_map(|(note, _)| note).collect::<Result<_, _>>()?;
        if image.style.dialect == Dialect::Docker {
            if image.compression == Some(Compression::Zstd) {
                return Err(ValueError::new(
                    "compression=zstd and oci-mediatypes=false contradict each other: docker has no \
                     media type for it",
                ));
            }
            if !image.style.notes.is_empty() {
                return Err(ValueError::new(
                    "annotation and oci-mediatypes=false contradict each other: docker's media types \
                     have no place for it",
                ));
            }
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests;
