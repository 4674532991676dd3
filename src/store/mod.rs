//! The store: an OCI image layout on disk, with what kiln remembers beside it.
//!
//! ```text
//! oci-layout  index.json  blobs/sha256/HEX     an OCI image layout (spec 1.1, image-layout.md)
//! referrers/HEX                                what is attached to a manifest, by its digest
//! trees/KIND/HEX/fs                            unpacked layers, by owner mapping and diff ID
//! records/AREA/HEX                             small facts: cache entries, layer indexes
//! unsynced/BOOT.…                              blobs that may not be on disk yet
//! sessions/                                    a locked file for each process that uses entries
//! usage                                        an estimate of how much it is, for a limit
//! git/HEX                                      bare repositories that ADD took files from
//! locks/                                       lock files; they hold nothing
//! tmp/                                         work under way; each entry is locked while in use
//! ```
//! Only this module writes below that folder. A blob is there once it is whole
//! and its digest was checked; a name is there after all its blobs are on disk. Everything is
//! 0700/0600: unpacked layers hold set-user-ID files that are really so here.

mod blob;
mod cache;
mod image;
mod lease;
mod names;
mod record;
mod referrers;
mod scratch;
mod unsettled;
mod unsynced;
mod usage;

pub use blob::{BlobReader, BlobWriter, PendingBlob};
pub use image::Gathered;
pub use lease::{Clearing, Taken};
pub use record::Slot;
pub use scratch::Scratch;
pub use usage::Usage;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use self::lease::Leases;
use self::unsynced::Unsynced;
use crate::atomic::{self, AtPath as _, PathError};
use crate::digest::BlobDigest;
use crate::image::ImageError;
use crate::reference::Reference;

/// An opened store. Cheap to share by reference; safe from several threads and
/// processes at once.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// What was left in `tmp/` and cannot be removed without a sandbox.
    stale: Mutex<Vec<Scratch>>,
    unsynced: Arc<Unsynced>,
    leases: Arc<Leases>,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Io(#[from] PathError),
    #[error("{} is no kiln store: {why}", path.display())]
    NotAStore { path: PathBuf, why: String },
    #[error("blob {0} is not in the store")]
    NoBlob(BlobDigest),
    #[error("blob {expected} in the store is damaged: its bytes are {found}; remove {} and pull or build again", path.display())]
    Damaged { expected: BlobDigest, found: BlobDigest, path: PathBuf },
    #[error("{what} does not match: {expected} was expected, {found} came")]
    Mismatch { what: &'static str, expected: String, found: String },
    #[error("no image `{}` in the store", .0.familiar())]
    NoImage(Reference),
    #[error("image {digest} in the store: {source}")]
    Image { digest: BlobDigest, source: ImageError },
    #[error("the store's index.json: {0}")]
    Index(ImageError),
    #[error(
        "the store has too many names: its index.json would have {size} bytes, more than the {most} that are allowed"
    )]
    ManyNames { size: u64, most: u64 },
    #[error("{digest} has {most} manifests attached to it, which is as many as are allowed")]
    ManyAttached { digest: BlobDigest, most: usize },
}

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

impl Store {
    /// Opens the store in a folder, and makes it if the folder is absent or empty.
    ///
    /// # Errors
    /// If the folder holds something else or cannot be written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let marker = root.join("oci-layout");
        if !marker.exists() {
            let other = fs::read_dir(root).ok().and_then(|mut entries| entries.next()).is_some();
            // Another process may be making the very same store: it makes `locks` first.
            if other && !root.join("locks").exists() {
                return Err(StoreError::NotAStore {
                    path: root.into(),
                    why: "the folder has files but no `oci-layout`".into(),
                });
            }
            atomic::private_folder(&root.join("locks"))?;
            for folder in ["blobs/sha256", "trees", "records", "tmp"] {
                atomic::private_folder(&root.join(folder))?;
            }
            atomic::write(&marker, LAYOUT.as_bytes())?;
        }
        if !root.join("index.json").exists() {
            names::write_empty(root)?;
        }
        // umoci and other tools know the layout but not kiln's folders.
        for folder in ["locks", "blobs/sha256", "trees", "records", "tmp"] {
            let path = root.join(folder);
            if !path.is_dir() {
                atomic::private_folder(&path)?;
            }
        }
        let root = fs::canonicalize(root).at("open", root)?;
        let unsynced = Arc::new(Unsynced::open(&root));
        let leases = Arc::new(Leases::new(&root));
        let store = Self { root, stale: Mutex::default(), unsynced, leases };
        store.clear_stale();
        store.settle_trees();
        Ok(store)
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The same store with a session of its own: what is looked up or made through it is
    /// held until it is dropped, and not as long as this process lives. For processes that
    /// stay, which else would hold all that they ever saw.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self {
            root: self.root.clone(),
            stale: Mutex::default(),
            unsynced: Arc::clone(&self.unsynced),
            leases: Arc::new(Leases::new(&self.root)),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.add_usage();
    }
}
