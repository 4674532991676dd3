//! Who needs what: the names of images, and containers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::PruneError;
use crate::container;
use crate::digest::BlobDigest;
use crate::image::{Descriptor, ImageConfig, Index, Manifest};
use crate::rootfs::{self, RootfsError};
use crate::store::{Store, StoreError};

/// What names and containers need, by hex digits.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Manifests, indexes and configs of what has a name, or is attached to that.
    pub(super) documents: HashSet<String>,
    /// Their layers' blobs, and whatever else they list.
    pub(super) layers: HashSet<String>,
    /// Their layers' diff IDs: the trees and tables of contents of these are used soon.
    pub(super) diff_ids: HashSet<String>,
    /// Blobs of containers' layers.
    pub(super) container_layers: HashSet<String>,
    /// Trees that containers stand on, and the diff IDs of their layers.
    pub(super) container_trees: HashSet<String>,
}

impl Needs {
    pub(super) fn of(store: &Store) -> Result<Self, PruneError> {
        let mut needs = Self::default();
        let named = store.names()?.into_iter().map(|(_, at)| at);
        for at in named.chain(store.unnamed()?) {
            needs.named(store, &at)?;
        }
        let mut stacks = BTreeMap::new();
        for layers in container::stacks(store)? {
            let ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
            stacks.insert(ids, layers);
        }
        for layers in stacks.values() {
            for layer in layers {
                needs.container_layers.insert(layer.digest.hex());
                needs.container_trees.insert(layer.diff_id.hex());
            }
            // What is not known of its layers any more cannot have become a tree of its own.
            match rootfs::trees_of(store, layers) {
                Ok(trees) => {
                    needs.container_trees.extend(trees.iter().map(crate::digest::DiffId::hex));
                }
                Err(RootfsError::Store(StoreError::NoBlob(_))) => {}
                // What could not be read now may be needed.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(needs)
    }

    /// Follows what a name points to. Documents that are absent or damaged lead nowhere;
    /// whoever uses the name is told.
    fn named(&mut self, store: &Store, at: &Descriptor) -> Result<(), PruneError> {
        let mut waiting = vec![at.clone()];
        let mut seen: BTreeSet<BlobDigest> = BTreeSet::new();
        while let Some(at) = waiting.pop() {
            if !seen.insert(at.digest) {
                continue;
            }
            self.documents.insert(at.digest.hex());
            // What is attached lives as long as what it is about.
            waiting.extend(store.attached(&at.digest)?);
            let Some(bytes) = document(store, &at.digest)? else { continue };
            if at.media_type.is_index() {
                waiting
                    .extend(Index::read(&bytes).map(|index| index.manifests).unwrap_or_default());
            } else if let Ok(manifest) = Manifest::read(&bytes) {
                self.documents.insert(manifest.config.digest.hex());
                self.layers.extend(manifest.layers.iter().map(|layer| layer.digest.hex()));
                if let Some(config) = document(store, &manifest.config.digest)?
                    && let Ok(config) = ImageConfig::read(&config)
                {
                    self.diff_ids.extend(config.rootfs.diff_ids.iter().map(|id| id.hex()));
                }
            }
        }
        Ok(())
    }
}

fn document(store: &Store, digest: &BlobDigest) -> Result<Option<Vec<u8>>, PruneError> {
    match store.peek(digest) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NoBlob(_) | StoreError::Damaged { .. }) => Ok(None),
        // What could not be read now may be needed: nothing is known then.
        Err(error) => Err(error.into()),
    }
}
