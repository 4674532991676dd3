//! Where an image to look into is: the store, an image layout in a folder, an archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::AtPath as _;
use crate::cli::interrupt::Interrupt;
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::compare::{Blobs, CompareError, Layout, Side};
use crate::digest::BlobDigest;
use crate::image::AnyImage;
use crate::net::escaped;
use crate::output::{self, Found, Work};
use crate::reference::Reference;
use crate::store::{Scratch, Store};

/// As it is written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Store(String),
    /// A folder, or one and a tag.
    Layout(String),
    Archive(String),
    /// One that is not here.
    Registry(String),
}

/// An image with its blobs.
pub(super) struct Opened {
    image: AnyImage,
    from: From,
    interrupt: Interrupt,
}

enum From {
    Store(Arc<Store>),
    Layout(Layout),
    /// A store of its own, which goes with the work.
    Archive(Store, #[expect(dead_code, reason = "its drop removes it")] Scratch),
}

/// Words of `kiln copy` for archives, which are told apart by what they hold.
const ARCHIVES: [&str; 2] = ["oci-archive:", "docker-archive:"];

impl Place {
    pub(super) fn of(text: &str) -> Self {
        if let Some(rest) = text.strip_prefix("oci:") {
            Self::Layout(rest.to_owned())
        } else if let Some(rest) = ARCHIVES.iter().find_map(|word| text.strip_prefix(word)) {
            Self::Archive(rest.to_owned())
        } else if let Some(rest) = text.strip_prefix("docker://") {
            Self::Registry(rest.to_owned())
        } else {
            Self::Store(text.strip_prefix("store:").unwrap_or(text).to_owned())
        }
    }

    pub(super) fn open(self, invocation: &Invocation) -> Result<Opened, CliError> {
        let (image, from) = self.found(invocation)?;
        Ok(Opened { image, from, interrupt: invocation.interrupt()?.clone() })
    }

    fn found(self, invocation: &Invocation) -> Result<(AnyImage, From), CliError> {
        match self {
            Self::Store(name) => {
                let (_, at) = invocation.find(&name)?;
                let store = Arc::clone(invocation.store()?);
                Ok((store.image(&at)?, From::Store(store)))
            }
            Self::Layout(text) => {
                let (folder, tag) = split(&text);
                let layout = Layout::new(&folder);
                Ok((layout.image(tag)?, From::Layout(layout)))
            }
            Self::Archive(text) => {
                let (path, tag) = split(&text);
                archive(&path, tag, invocation)
            }
            Self::Registry(name) => {
                let name = escaped(&name, 300);
                Err(CliError::plain(format!("`docker://{name}` is in a registry, not here"))
                    .hint(format!("`kiln pull {name}`, then name `{name}`")))
            }
        }
    }
}

/// A path and a tag. Both may have colons: the path is the longest one that is there, or, if
/// there is none, what stands before the first.
fn split(text: &str) -> (PathBuf, Option<&str>) {
    let parts = text.rmatch_indices(':').map(|(at, _)| (&text[..at], Some(&text[at + 1..])));
    let is_there = |(path, _): &(&str, _)| !path.is_empty() && Path::new(path).exists();
    let found = std::iter::once((text, None)).chain(parts).find(is_there);
    let first = || text.split_once(':').map(|(path, tag)| (path, Some(tag)));
    let (path, tag) = found.or_else(first).unwrap_or((text, None));
    (path.into(), tag)
}

/// Reads an archive into a store that lasts as long as what is opened.
fn archive(
    path: &Path,
    tag: Option<&str>,
    invocation: &Invocation,
) -> Result<(AnyImage, From), CliError> {
    let file = File::open(path).at("open", path)?;
    if !file.metadata().at("read", path)?.is_file() {
        return Err(CliError::plain(format!("{} is no file", path.display()))
            .hint("a layout in a folder is named as oci:DIR"));
    }
    let scratch = invocation.store()?.scratch("place")?;
    let store = Store::open(&scratch.path().join("store"))?;
    let progress = invocation.progress(None)?;
    let task = progress.task(format!("read {}", path.display()));
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let images = output::read_images(&file, &store, &Work::new(&task, &stop))?;
    task.done();
    let image = chosen(images, path, tag)?;
    Ok((image, From::Archive(store, scratch)))
}

fn chosen(images: Found, path: &Path, tag: Option<&str>) -> Result<AnyImage, CliError> {
    let wanted = tag.and_then(|tag| tag.parse::<Reference>().ok());
    // A tag alone is read as a name when an archive is loaded.
    let fits = |name: &Reference| match tag {
        Some(tag) => name.tag() == Some(tag) || Some(name) == wanted.as_ref(),
        None => true,
    };
    let names: Vec<String> =
        images.iter().flat_map(|(names, _)| names.iter().map(Reference::familiar)).collect();
    let mut fitting: Vec<AnyImage> = images
        .into_iter()
        .filter(|(names, _)| tag.is_none() || names.iter().any(fits))
        .map(|(_, image)| image)
        .collect();
    fitting.sort_by_key(|image| image.digest());
    fitting.dedup_by_key(|image| image.digest());
    let what = match (fitting.len(), tag) {
        (1, _) => return fitting.pop().ok_or_else(|| CliError::plain("no image")),
        (0, Some(tag)) => format!("{} has no image `{tag}`", path.display()),
        _ => format!("{} has several images", path.display()),
    };
    Err(CliError::plain(what).hint(format!("name one of {} after a colon", names.join(", "))))
}

impl Opened {
    pub(super) fn image(&self) -> &AnyImage {
        &self.image
    }

    /// True if it is one of the store, whose base's layers may be in a registry alone.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.from, From::Store(_))
    }

    pub(super) fn side<'s>(&'s self, name: &'s str) -> Side<'s> {
        Side { name, image: &self.image, blobs: self }
    }
}

/// A signal ends the reading of a blob.
impl Blobs for Opened {
    fn open(&self, digest: &BlobDigest) -> Result<Box<dyn Read + '_>, CompareError> {
        let from = match &self.from {
            From::Store(store) => store.as_ref().open(digest),
            From::Layout(layout) => layout.open(digest),
            From::Archive(store, _) => store.open(digest),
        };
        Ok(Box::new(Stoppable { from: from?, interrupt: &self.interrupt }))
    }
}

struct Stoppable<'o> {
    from: Box<dyn Read + 'o>,
    interrupt: &'o Interrupt,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.signal().is_some() {
            return Err(io::Error::other("the work was stopped"));
        }
        self.from.read(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, expected) in [
            ("app:1", Place::Store("app:1".into())),
            ("oci:dir:tag", Place::Layout("dir:tag".into())),
            ("oci-archive:a.tar", Place::Archive("a.tar".into())),
            ("docker-archive:a.tar", Place::Archive("a.tar".into())),
            ("store:app", Place::Store("app".into())),
            ("docker://r/app", Place::Registry("r/app".into())),
            ("ocicrypt/app", Place::Store("ocicrypt/app".into())),
        ] {
            assert_eq!(Place::of(text), expected, "{text}");
        }
        assert_eq!(split("no/such:tag"), ("no/such".into(), Some("tag")));
        assert_eq!(split("no/such"), ("no/such".into(), None));
        assert_eq!(split("no/such:r:5000/a:v"), ("no/such".into(), Some("r:5000/a:v")));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a:b");
        std::fs::create_dir(&path).unwrap();
        let text = path.to_str().unwrap();
        assert_eq!(split(text), (path.clone(), None));
        assert_eq!(split(&format!("{text}:v")), (path.clone(), Some("v")));
        assert_eq!(split(&format!("{text}:r:5000/a:v")), (path.clone(), Some("r:5000/a:v")));
    }
}
