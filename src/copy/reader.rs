//! An image where it lies, to be read and not copied.

use super::source::{Chosen, Source};
use super::{CopyError, Env, Place};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Raw};
use crate::reference::Reference;
use crate::registry::{Origin, RegistryError};
use crate::store::Store;

/// The documents of an image in any place, and of what refers to it. What it gives has the
/// digest that it was asked for by; a tag is asked for once, by [`Reader::root`].
pub struct Reader<'a> {
    place: String,
    /// What it is called in the store or a registry, where other tags are beside it.
    name: Option<Reference>,
    chosen: Chosen<'a>,
    env: &'a Env<'a>,
}

impl<'a> Reader<'a> {
    /// Opens a place.
    ///
    /// # Errors
    /// If it cannot be read, or is no place of images.
    pub fn open(from: &Place, env: &'a Env<'a>) -> Result<Self, CopyError> {
        let chosen = Chosen::open(from, env)?;
        let name = match (from, &chosen.source) {
            (_, Source::Remote(origin)) => Some(origin.meaning().clone()),
            (Place::Store(name), _) => Some(name.clone()),
            _ => None,
        };
        Ok(Self { place: from.to_string(), name, chosen, env })
    }

    /// An image of the store, whether it has a name or not.
    #[must_use]
    pub fn stored(
        store: &'a Store,
        at: Descriptor,
        name: Option<Reference>,
        env: &'a Env<'a>,
    ) -> Self {
        let place = name.as_ref().map_or_else(|| at.digest.to_string(), Reference::familiar);
        Self { chosen: Chosen::stored(place.clone(), store, at), place, name, env }
    }

    /// For messages.
    #[must_use]
    pub fn place(&self) -> String {
        self.place.clone()
    }

    /// The manifest or index of the image that is meant.
    ///
    /// # Errors
    /// If the place does not give it, or what it gives is wrong.
    pub async fn root(&self) -> Result<Raw, CopyError> {
        self.chosen.root().await
    }

    /// The manifest or index that an entry describes.
    ///
    /// # Errors
    /// As [`Reader::root`].
    pub async fn document(&self, entry: &Descriptor) -> Result<Raw, CopyError> {
        self.chosen.source.document(entry).await
    }

    /// A small blob whole.
    ///
    /// # Errors
    /// As [`Reader::root`].
    pub async fn bytes(&self, at: &Descriptor) -> Result<Vec<u8>, CopyError> {
        self.chosen.source.bytes(at).await
    }

    /// What refers to a manifest.
    ///
    /// # Errors
    /// If the place does not say.
    pub async fn referrers(&self, subject: BlobDigest) -> Result<Vec<Descriptor>, CopyError> {
        match self.chosen.source.as_store() {
            Some(store) => Ok(store.referrers(&subject, None)?),
            None => self.chosen.source.referrers(subject).await,
        }
    }

    /// What another tag beside the image's means, if it is there.
    ///
    /// # Errors
    /// If the place does not say.
    pub async fn tagged(&self, tag: &str) -> Result<Option<Raw>, CopyError> {
        let beside = |name: &Reference| format!("{}:{tag}", name.name()).parse::<Reference>().ok();
        let beside = self.name.as_ref().and_then(beside);
        match (&self.chosen.source, beside) {
            (Source::Remote(_), Some(name)) => {
                let found = Origin::new(&name, self.env.from, self.env.progress)?.root().await;
                match found {
                    Ok(raw) => Ok(Some(raw)),
                    Err(RegistryError::NotFound { .. } | RegistryError::NoRepository { .. }) => {
                        Ok(None)
                    }
                    Err(error) => Err(error.into()),
                }
            }
            (Source::Local(local), beside) => match (local.as_store(), beside) {
                (None, _) => local.tagged(tag),
                (Some(_), None) => Ok(None),
                (Some(store), Some(name)) => {
                    store.find(&name)?.map(|entry| local.document(&entry)).transpose()
                }
            },
            (Source::Remote(_), None) => Ok(None),
        }
    }
}
