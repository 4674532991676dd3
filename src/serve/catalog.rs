//! What the store's names lead to, and which of them a path means.
//!
//! A path is first the repository that it is on kiln's command line. What that has not is
//! looked for in repositories of the same path in other registries: a tag there only if
//! exactly one digest has it. Manifests and blobs are found by following documents from
//! names, so that nothing leaves the store that no image with a name refers to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::answer::Refusal;
use super::path::{Named, path_of};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Linked, MediaType};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

type Names = Vec<(Reference, Descriptor)>;
type State = Option<(u64, SystemTime, u64)>;

/// Most links that are kept in memory; each takes some 60 bytes.
const KEPT: usize = 50_000;

/// What is remembered of names and documents. Documents never change, names are read again
/// when their file has changed.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    names: Mutex<Option<(State, Arc<Names>)>>,
    links: Mutex<(HashMap<BlobDigest, Arc<Links>>, usize)>,
    /// One document is parsed at a time: they may be large.
    parsing: Mutex<()>,
}

/// Where a document leads.
#[derive(Debug)]
pub(super) struct Links {
    /// Manifests, if it is an index.
    pub(super) manifests: Vec<Descriptor>,
    /// Digest and size of config and layers.
    pub(super) blobs: Vec<(BlobDigest, u64)>,
    pub(super) subject: Option<BlobDigest>,
}

/// The names that a path may mean.
#[derive(Debug)]
pub(super) struct Meant {
    /// Of the repository that the path is on the command line.
    exact: Names,
    /// Of others with the same path.
    others: Names,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalog {
    /// All names, as they are now.
    pub(super) fn names(&self, store: &Store) -> Result<Arc<Names>, StoreError> {
        // Before the names: what changes meanwhile is seen the next time.
        let state = store.names_state();
        if let Some((known, names)) = &*lock(&self.names)
            && *known == state
            && state.is_some()
        {
            return Ok(Arc::clone(names));
        }
        let names = Arc::new(store.names()?);
        *lock(&self.names) = Some((state, Arc::clone(&names)));
        Ok(names)
    }

    /// To be called when this process has changed names.
    pub(super) fn changed(&self) {
        *lock(&self.names) = None;
    }

    /// Where a document leads; none if it is absent or none.
    pub(super) fn links(
        &self,
        store: &Store,
        at: &Descriptor,
    ) -> Result<Option<Arc<Links>>, StoreError> {
        let known = || lock(&self.links).0.get(&at.digest).map(Arc::clone);
        if let Some(links) = known() {
            return Ok(Some(links));
        }
        let _one = lock(&self.parsing);
        if let Some(links) = known() {
            return Ok(Some(links));
        }
        let Some(read) = read(store, &at.digest, &at.media_type)? else { return Ok(None) };
        let bare = |one: Descriptor| Descriptor::new(one.media_type, one.digest, one.size);
        let links = Arc::new(Links {
            manifests: read.manifests.into_iter().map(bare).collect(),
            blobs: read.blobs.iter().map(|blob| (blob.digest, blob.size)).collect(),
            subject: read.subject.map(|subject| subject.digest),
        });
        let cost = 1 + links.manifests.len() + links.blobs.len();
        let (all, sum) = &mut *lock(&self.links);
        if *sum + cost > KEPT {
            all.clear();
            *sum = 0;
        }
        if cost <= KEPT && all.insert(at.digest, Arc::clone(&links)).is_none() {
            *sum += cost;
        }
        Ok(Some(links))
    }

    /// Reads a document for what is not remembered of it. One at a time.
    pub(super) fn read(
        &self,
        store: &Store,
        at: &Descriptor,
    ) -> Result<Option<Linked>, StoreError> {
        let _one = lock(&self.parsing);
        read(store, &at.digest, &at.media_type)
    }

    /// The names that a path may mean.
    pub(super) fn meant(&self, store: &Store, named: &Named) -> Result<Meant, StoreError> {
        let names = self.names(store)?;
        let some = |fits: &dyn Fn(&Reference) -> bool| -> Names {
            names.iter().filter(|(name, _)| fits(name)).cloned().collect()
        };
        Ok(Meant {
            exact: some(&|name| named.is(name)),
            others: some(&|name| named.may_mean(name)),
        })
    }

    /// Follows documents from names, each once, until something is found.
    fn walk<T>(
        &self,
        store: &Store,
        names: &Names,
        mut visit: impl FnMut(&Reference, &Descriptor, Option<&Links>) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let mut seen = HashSet::new();
        for (name, at) in names {
            let mut waiting = vec![at.clone()];
            while let Some(at) = waiting.pop() {
                if !seen.insert(at.digest) {
                    continue;
                }
                let links = self.links(store, &at)?;
                if let Some(found) = visit(name, &at, links.as_deref()) {
                    return Ok(Some(found));
                }
                let manifests = links.iter().flat_map(|links| links.manifests.iter().rev());
                waiting.extend(manifests.cloned());
            }
        }
        Ok(None)
    }

    /// The manifest or index with a digest, if a meant name leads to it, and that name.
    pub(super) fn manifest(
        &self,
        store: &Store,
        meant: &Meant,
        digest: &BlobDigest,
    ) -> Result<Option<(Reference, Descriptor)>, StoreError> {
        for names in [&meant.exact, &meant.others] {
            if let Some(found) = names.iter().find(|(_, at)| at.digest == *digest) {
                return Ok(Some(found.clone()));
            }
        }
        for names in [&meant.exact, &meant.others] {
            let found = self.walk(store, names, |name, at, _| {
                (at.digest == *digest).then(|| (name.clone(), at.clone()))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The size of a blob that a meant name leads to, and that name.
    pub(super) fn blob(
        &self,
        store: &Store,
        meant: &Meant,
        digest: &BlobDigest,
    ) -> Result<Option<(Reference, u64)>, StoreError> {
        for names in [&meant.exact, &meant.others] {
            let found = self.walk(store, names, |name, _, links| {
                let (_, size) = links?.blobs.iter().find(|(blob, _)| blob == digest)?;
                Some((name.clone(), *size))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The same for a blob of any image, whatever its name.
    pub(super) fn any_blob(
        &self,
        store: &Store,
        digest: &BlobDigest,
    ) -> Result<Option<u64>, StoreError> {
        let exact = self.names(store)?.as_ref().clone();
        let meant = Meant { exact, others: Vec::new() };
        Ok(self.blob(store, &meant, digest)?.map(|(_, size)| size))
    }

    /// Manifests that are about another one, by digest.
    pub(super) fn referrers(
        &self,
        store: &Store,
        meant: &Meant,
        subject: &BlobDigest,
    ) -> Result<BTreeMap<BlobDigest, Descriptor>, StoreError> {
        let mut found = BTreeMap::new();
        for names in [&meant.exact, &meant.others] {
            self.walk(store, names, |_, at, links| {
                if links.is_some_and(|links| links.subject == Some(*subject)) {
                    found.insert(at.digest, at.clone());
                }
                None::<()>
            })?;
        }
        Ok(found)
    }

    /// The paths of all repositories, sorted.
    pub(super) fn repositories(&self, store: &Store) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.names(store)?.iter().map(|(name, _)| path_of(name)).collect())
    }
}

/// What is no document leads nowhere, as one that is damaged.
fn read(
    store: &Store,
    digest: &BlobDigest,
    media_type: &MediaType,
) -> Result<Option<Linked>, StoreError> {
    match store.peek(digest) {
        Ok(bytes) => Ok(Linked::read(&bytes, media_type).ok()),
        Err(StoreError::NoBlob(_) | StoreError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Meant {
    /// Whether there is any such repository.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.others.is_empty()
    }

    /// What a tag points to.
    pub(super) fn tag(&self, tag: &str) -> Result<Option<(Reference, Descriptor)>, Refusal> {
        let of = |names: &Names| -> Names {
            names.iter().filter(|(name, _)| name.tag() == Some(tag)).cloned().collect()
        };
        if let Some(found) = of(&self.exact).pop() {
            return Ok(Some(found));
        }
        let mut found = of(&self.others);
        let digests: BTreeSet<BlobDigest> = found.iter().map(|(_, at)| at.digest).collect();
        if digests.len() > 1 {
            let names: Vec<String> = found.iter().map(|(name, _)| name.familiar()).collect();
            return Err(Refusal::absent(
                "MANIFEST_UNKNOWN",
                format!(
                    "{} are different images; ask for one by its whole name, or with ?ns=HOST",
                    names.join(" and ")
                ),
            ));
        }
        Ok(found.pop())
    }

    /// The tags by which something is found, sorted.
    pub(super) fn tags(&self) -> BTreeSet<String> {
        let all = self.exact.iter().chain(&self.others);
        let tags: BTreeSet<&str> = all.filter_map(|(name, _)| name.tag()).collect();
        let found = tags.into_iter().filter(|tag| matches!(self.tag(tag), Ok(Some(_))));
        found.map(str::to_owned).collect()
    }
}
