//! What is copied from, whatever its kind.

use std::fs::File;

use super::folder::Folder;
use super::local::Local;
use super::{CopyError, Env, Place, blocking};
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Descriptor, Raw};
use crate::output::{self, Opened, Volume, Work};
use crate::reference::Reference;
use crate::registry::Origin;
use crate::store::{Store, StoreError};

pub(super) enum Source<'a> {
    Remote(Origin<'a>),
    Local(Local<'a>),
}

/// A source, and which of its images is meant.
pub(super) struct Chosen<'a> {
    pub(super) source: Source<'a>,
    name: Option<String>,
}

impl<'a> Chosen<'a> {
    pub(super) fn open(from: &Place, env: &Env<'a>) -> Result<Self, CopyError> {
        let shown = from.to_string();
        let local = |local: Local<'a>, name: &Option<String>| Self {
            source: Source::Local(local),
            name: name.clone(),
        };
        Ok(match from {
            Place::Registry { name, .. } => {
                let origin = Origin::new(name, env.from, env.progress)?;
                Self { source: Source::Remote(origin), name: None }
            }
            Place::Store(name) => {
                let store = env.store()?;
                let at = store.find(name)?.ok_or_else(|| StoreError::NoImage(name.clone()))?;
                local(Local::store(shown, store, at), &None)
            }
            Place::Layout { folder, tag } => {
                let shown = format!("oci:{}", folder.display());
                local(Local::folder(shown, Folder::open(folder)?)?, tag)
            }
            Place::OciArchive { file, tag } => {
                let shown = format!("oci-archive:{}", file.display());
                let opened = with_work(&format!("read {shown}"), env, |work| {
                    let volume = Volume::open(file, work)?;
                    Ok(Opened::open(volume, env.store()?, work)?)
                })?;
                local(Local::archive(shown, opened)?, tag)
            }
            Place::DockerArchive { file, name } => {
                let shown = format!("docker-archive:{}", file.display());
                let store = env.store()?;
                let found = with_work(&format!("read {shown}"), env, |work| {
                    let file = File::open(file).at("open", file)?;
                    Ok(output::read_images(&file, store, work)?)
                })?;
                let image = only(found, name.as_ref(), &shown)?;
                store.keep_documents(&image)?;
                local(Local::store(shown, store, image.raw().descriptor()), &None)
            }
        })
    }

    /// What a descriptor of the store's describes.
    pub(super) fn stored(shown: String, store: &'a Store, at: Descriptor) -> Self {
        Self { source: Source::Local(Local::store(shown, store, at)), name: None }
    }

    /// The document of the image that is meant.
    pub(super) async fn root(&self) -> Result<Raw, CopyError> {
        match &self.source {
            Source::Remote(origin) => Ok(origin.root().await?),
            Source::Local(local) => local.document(local.entry(self.name.as_deref())?),
        }
    }
}

/// Does what reads or writes a file whole, and can be stopped.
pub(super) fn with_work<T>(
    what: &str,
    env: &Env<'_>,
    deed: impl FnOnce(&Work<'_>) -> Result<T, CopyError>,
) -> Result<T, CopyError> {
    let task = env.progress.task(what);
    let done = blocking(|| deed(&Work::new(&task, env.stop)))?;
    task.done();
    Ok(done)
}

/// Of an archive's images the one of a name, or else the only one.
fn only(
    found: output::Found,
    name: Option<&Reference>,
    place: &str,
) -> Result<AnyImage, CopyError> {
    let have: Vec<String> =
        found.iter().flat_map(|(names, _)| names).map(Reference::familiar).collect();
    let fits = |names: &[Reference]| name.is_none_or(|name| names.contains(name));
    let mut fitting: Vec<AnyImage> =
        found.into_iter().filter(|(names, _)| fits(names)).map(|(_, image)| image).collect();
    match (fitting.pop(), fitting.is_empty()) {
        (Some(image), true) => Ok(image),
        (Some(_), false) => Err(CopyError::Several { place: place.into(), have }),
        (None, _) => {
            let wanted = name.map_or_else(|| "of any name".into(), Reference::familiar);
            Err(CopyError::NoEntry { place: place.into(), wanted, have })
        }
    }
}

impl<'a> Source<'a> {
    /// For messages.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Remote(origin) => origin.name(),
            Self::Local(local) => local.place.clone(),
        }
    }

    /// The manifest or index that an entry describes.
    pub(super) async fn document(&self, entry: &Descriptor) -> Result<Raw, CopyError> {
        match self {
            Self::Remote(origin) => Ok(origin.document(entry).await?),
            Self::Local(local) => local.document(entry),
        }
    }

    /// A small blob whole.
    pub(super) async fn bytes(&self, at: &Descriptor) -> Result<Vec<u8>, CopyError> {
        match self {
            Self::Remote(origin) => Ok(origin.bytes(at).await?),
            Self::Local(local) => local.bytes(at),
        }
    }

    /// What refers to a manifest.
    pub(super) async fn referrers(
        &self,
        subject: BlobDigest,
    ) -> Result<Vec<Descriptor>, CopyError> {
        match self {
            Self::Remote(origin) => Ok(origin.referrers(subject, None).await?),
            Self::Local(local) => local.referrers(subject),
        }
    }

    /// The store, if that is what is copied from.
    pub(super) fn as_store(&self) -> Option<&'a Store> {
        match self {
            Self::Remote(_) => None,
            Self::Local(local) => local.as_store(),
        }
    }
}
