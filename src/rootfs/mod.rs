//! A stack of layers as something to read, to stand on, and to take back.
//!
//! Reading needs no privilege: [`Rootfs`] answers from the layers' archives.
//! Running something needs the layers as folders ([`unpacked`]) under the owner
//! mapping of a [`Sandbox`]; what it changed comes back as a layer ([`pack`]).
//! The folders of a mapping can be made and removed only inside of it, so that
//! work is done by jobs in the sandbox's helper ([`JOBS`]).

mod account;
mod content;
mod copy;
mod form;
mod ground;
mod mark;
mod measure;
mod merge;
mod own;
mod pack;
mod place;
mod recent;
mod remove;
mod snapshot;
mod special;
mod standing;
mod unpack;
mod xattr;

pub use account::{Account, AccountError};
pub use content::{Rootfs, Supply, is_read, prove, remember};
pub use form::{in_form, known_form};
pub use ground::{Ground, Kept, settle, stacked, trees_of};
pub use measure::{Linked, Measured, measure};
pub use own::make_folder;
pub use pack::{Packed, Packing, pack, pack_folder};
pub use remove::{Work, remove};
pub use standing::standing;
pub use unpack::{unpack_into, unpack_unread, unpacked};

use std::io;

use crate::atomic::PathError;
use crate::digest::DiffId;
use crate::layer::{ReadError, ViewError};
use crate::sandbox::{Job, SandboxError};
use crate::store::StoreError;

/// What this module has the sandbox's helper do.
pub const JOBS: &[(&str, Job)] = &[
    ("unpack", unpack::job),
    ("merge", merge::job),
    ("changes", snapshot::changes),
    ("keep", snapshot::keep),
    ("pack", pack::job),
    ("remove", remove::job),
    ("own", own::job),
    ("measure", measure::job),
];

/// What can go wrong with a stack of layers.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Io(#[from] PathError),
    #[error("layer {layer}: {source}")]
    Archive { layer: DiffId, source: ReadError },
    #[error("layer {layer}: its uncompressed bytes are {found}")]
    DiffId { layer: DiffId, found: DiffId },
    #[error("layer {layer}: cannot decompress it: {source}")]
    Decompress { layer: DiffId, source: io::Error },
    #[error("the image's layers do not fit together: {0}")]
    View(#[from] ViewError),
    /// What brings layers could not.
    #[error("{0}")]
    Supply(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(
        "`{path}` in the image is larger than the {limit} bytes that kiln reads of such a file"
    )]
    TooLarge { path: String, limit: u64 },
}
