//! Images from place to place: registries, layouts, archives, the store.
//!
//! What is copied keeps its bytes, and so its digests: a manifest is moved as it is, whatever
//! it describes, and an index with all that it lists. Everything is compared with its digest
//! on its way, by kiln or by the registry that takes it. The name at the other end comes last.
//!
//! A blob goes by the shortest way: mounted between repositories of one registry, left alone
//! where it is there already, and otherwise in a few pieces at a time from the one to the
//! other. Between registries and layouts none of it touches kiln's store; archives need it.

mod attached;
mod error;
mod folder;
mod local;
mod parcel;
mod place;
mod reader;
mod source;
mod target;
mod tree;

pub use attached::{pull_referrers, push_referrers};
pub use error::CopyError;
pub use parcel::Parcel;
pub use place::{Place, PlaceError};
pub use reader::Reader;

use std::collections::BTreeSet;

use source::{Chosen, Source};
use tree::Tree;

use crate::digest::BlobDigest;
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::{Pinned, is_tag};
use crate::registry::{Registries, Target};
use crate::store::Store;

/// Blobs that are moved at once.
const AT_ONCE: usize = 4;

/// What a copy works with.
pub struct Env<'a> {
    /// Needed where [`Place::needs_store`] says so of one of the places.
    pub store: Option<&'a Store>,
    /// The way to registries that are copied from, and to those that are copied to: who asks
    /// may be another.
    pub from: &'a Registries,
    pub to: &'a Registries,
    pub progress: &'a Progress,
    /// Asked again and again: true ends the work.
    pub stop: &'a (dyn Fn() -> bool + Send + Sync),
}

impl<'a> Env<'a> {
    fn store(&self) -> Result<&'a Store, CopyError> {
        self.store.ok_or_else(|| CopyError::Holds {
            place: "this copy".into(),
            what: "an archive: it was given no store".into(),
            instead: "give it one",
        })
    }
}

/// What of an image is copied.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only what is for these; all if there are none.
    pub platforms: Vec<Platform>,
    /// What refers to it, too.
    pub referrers: bool,
}

/// What was copied.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Of what the new name means.
    pub digest: BlobDigest,
    /// What names exactly it, in a registry.
    pub pinned: Option<Pinned>,
}

/// Copies an image.
///
/// # Errors
/// If a place does not give or take it, or a document or blob is not what its digest says.
/// The name at the other end is as it was then.
pub async fn copy(
    from: &Place,
    to: &Place,
    wanted: &Wanted,
    env: &Env<'_>,
) -> Result<Copied, CopyError> {
    if wanted.referrers {
        refuse_referrers(from, "give")?;
        refuse_referrers(to, "hold")?;
    }
    let opened = Chosen::open(from, env)?;
    let source = &opened.source;
    let root = opened.root().await?;
    let root = tree::chosen(source, root, &wanted.platforms, env.progress).await?;
    let digest = root.digest;
    let named = from.registry().and_then(crate::reference::Reference::digest);
    if let Some(asked) = named.filter(|asked| wanted.platforms.is_empty() && *asked != digest) {
        return Err(CopyError::OtherDigest {
            place: from.to_string(),
            wanted: asked,
            found: digest,
        });
    }
    let target = match to {
        Place::Registry { name, .. } => {
            if let Some(asked) = name.digest().filter(|asked| *asked != digest) {
                let place = to.to_string();
                return Err(CopyError::OtherDigest { place, wanted: asked, found: digest });
            }
            let target = Target::open(name, env.to).await?;
            if target.has(&root).await? {
                let pinned = Some(target.pinned(&root));
                env.progress.task(format!("copy {from}")).cached();
                if wanted.referrers {
                    let subjects = Tree::of(source, root, false, env.progress).await?.documents;
                    let tree = Tree::about(source, subjects, env.progress).await?;
                    target::referrers_to_registry(source, &tree, &target, env).await?;
                }
                return Ok(Copied { digest, pinned });
            }
            Some(target)
        }
        _ => None,
    };
    let tree = Tree::of(source, root, wanted.referrers, env.progress).await?;
    let mut pinned = None;
    match (to, target) {
        (_, Some(target)) => {
            pinned = Some(target::to_registry(source, &tree, &target, env).await?);
        }
        (Place::Layout { folder, tag }, _) => {
            target::to_layout(source, &tree, folder, tag.as_deref(), env).await?;
        }
        (Place::OciArchive { file, tag }, _) => {
            target::to_oci_archive(source, tree, file, tag.as_deref(), env).await?;
        }
        (Place::DockerArchive { file, name }, _) => {
            target::to_docker_archive(source, &tree, file, name.as_ref(), env).await?;
        }
        (Place::Store(name) | Place::Registry { name, .. }, None) => {
            target::to_store(source, &tree, name, &to.to_string(), env).await?;
        }
    }
    Ok(Copied { digest, pinned })
}

fn refuse_referrers(place: &Place, does: &str) -> Result<(), CopyError> {
    match place {
        Place::Registry { .. }
        | Place::Store(_)
        | Place::Layout { .. }
        | Place::OciArchive { .. } => Ok(()),
        Place::DockerArchive { .. } => Err(CopyError::Holds {
            place: place.to_string(),
            what: format!("what refers to an image: such a place does not {does} it"),
            instead: "registries, oci:DIR, oci-archive:FILE and store:NAME do; or leave out \
                      --referrers",
        }),
    }
}

/// Each tag of a repository or layout, as a pair of places: where it is, and where it is to
/// be.
///
/// # Errors
/// If a place names one image already, is of a kind that has no tags, or does not list them.
pub async fn all_tags(
    from: &Place,
    to: &Place,
    env: &Env<'_>,
) -> Result<Vec<(Place, Place)>, CopyError> {
    let wrong = |place: &Place| CopyError::Holds {
        place: place.to_string(),
        what: "all tags".into(),
        instead: "--all-tags is for repositories without a tag, and for oci:DIR",
    };
    let one = |place: &Place, tag: &str| match place {
        Place::Registry { name, bare: true, .. } => {
            let name = format!("{}:{tag}", name.name()).parse().map_err(|_| wrong(place))?;
            Ok(Place::Registry { name, bare: false, explicit: true })
        }
        Place::Layout { folder, tag: None } => {
            Ok(Place::Layout { folder: folder.clone(), tag: Some(tag.to_owned()) })
        }
        _ => Err(wrong(place)),
    };
    one(from, "x")?;
    one(to, "x")?;
    let tags: BTreeSet<String> = match (from, Chosen::open(from, env)?.source) {
        (Place::Registry { name, .. }, _) => {
            let tags = crate::registry::tags(name, env.from, env.progress).await?;
            tags.into_iter().collect()
        }
        (_, Source::Local(local)) => {
            let (tags, others): (BTreeSet<&str>, BTreeSet<&str>) =
                local.all_names().partition(|name| is_tag(name));
            for other in others {
                let shown = crate::net::escaped(other, 200);
                env.progress.note(format!("left out `{shown}`, which is no tag"));
            }
            tags.into_iter().map(str::to_owned).collect()
        }
        (_, Source::Remote(_)) => return Err(wrong(from)),
    };
    if tags.is_empty() {
        let (place, wanted) = (from.to_string(), "with a tag".to_owned());
        return Err(CopyError::NoEntry { place, wanted, have: Vec::new() });
    }
    tags.iter().map(|tag| Ok((one(from, tag)?, one(to, tag)?))).collect()
}

/// Waits for the disk without keeping a worker's other tasks from running.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // One thread has nowhere to move them.
        _ => work(),
    }
}
