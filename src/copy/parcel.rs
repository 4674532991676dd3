//! Images put together for one archive, each blob once. Their blobs are in the store.

use std::collections::BTreeMap;

use super::source::{Chosen, Source};
use super::target::{entry, lists, stage};
use super::tree::Tree;
use super::{CopyError, Env, Place};
use crate::digest::BlobDigest;
use crate::image::{Annotations, Descriptor, Raw, referrers_tag};
use crate::output::{Contents, REF_NAME};

/// What an archive shall hold.
#[derive(Debug, Clone, Default)]
pub struct Parcel {
    entries: Vec<Descriptor>,
    documents: BTreeMap<BlobDigest, Raw>,
    blobs: BTreeMap<BlobDigest, u64>,
    referrers: BTreeMap<BlobDigest, Vec<Descriptor>>,
}

impl Parcel {
    /// Adds an image under a name, with all platforms and all that refers to it; says what
    /// it has that kiln's store could not hold.
    ///
    /// # Errors
    /// If the place does not give it, or the store cannot hold it.
    pub async fn gather(
        &mut self,
        from: &Place,
        name: &str,
        env: &Env<'_>,
    ) -> Result<Option<String>, CopyError> {
        let opened = Chosen::open(from, env)?;
        let root = opened.root().await?;
        let tree = Tree::of(&opened.source, root, true, env.progress).await?;
        let odd = tree.odd.clone();
        self.add(&opened.source, tree, Some(name), env).await?;
        Ok(odd)
    }

    pub(super) async fn add(
        &mut self,
        source: &Source<'_>,
        tree: Tree,
        tag: Option<&str>,
        env: &Env<'_>,
    ) -> Result<(), CopyError> {
        stage(source, &tree, env.store()?, env).await?;
        self.entries.push(entry(tree.root(), tag));
        self.blobs.extend(tree.blobs.values().map(|blob| (blob.digest, blob.size)));
        for (subject, all) in tree.referrers {
            let known = self.referrers.entry(subject).or_default();
            for one in all {
                if known.iter().all(|other| other.digest != one.digest) {
                    known.push(one);
                }
            }
        }
        self.documents.extend(tree.documents.into_iter().map(|raw| (raw.digest, raw)));
        Ok(())
    }

    /// Adds an entry with its documents, and blobs that are in the store.
    pub fn put(
        &mut self,
        entry: Descriptor,
        documents: impl IntoIterator<Item = Raw>,
        blobs: impl IntoIterator<Item = (BlobDigest, u64)>,
    ) {
        self.entries.push(entry);
        self.documents.extend(documents.into_iter().map(|raw| (raw.digest, raw)));
        self.blobs.extend(blobs);
    }

    /// All of it, in an order that depends on nothing else.
    ///
    /// # Errors
    /// If a list of referrers is larger than documents may be.
    pub fn contents(mut self) -> Result<Contents, CopyError> {
        for all in self.referrers.values_mut() {
            all.sort_by_key(|entry| entry.digest);
        }
        for (subject, list) in lists(&self.referrers, |_| Ok(None))? {
            self.entries.push(entry(&list, Some(&referrers_tag(subject))));
            self.documents.insert(list.digest, list);
        }
        self.entries.sort_by_key(|entry| (entry.annotations.get(REF_NAME).cloned(), entry.digest));
        self.entries.dedup();
        let documents = self.documents;
        self.blobs.retain(|digest, _| !documents.contains_key(digest));
        Ok(Contents {
            entries: self.entries,
            annotations: Annotations::new(),
            documents: documents.into_values().collect(),
            blobs: self.blobs.into_iter().collect(),
        })
    }
}
