//! Why there is no image.

use std::collections::BTreeSet;

use super::sources::Unlocked;
use super::{CacheError, StepError};
use crate::atomic::PathError;
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::digest::BlobDigest;
use crate::dockerfile;
use crate::image::{ImageError, StyleError};
use crate::platform::Platform;
use crate::registry::RegistryError;
use crate::rootfs::RootfsError;
use crate::sandbox::binfmt::Foreign;
use crate::store::StoreError;

/// Rules that a Dockerfile breaks that says `# check=error=true`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lint rules are broken, and `error=true` holds: {}", .0.iter().copied().collect::<Vec<_>>().join(", "))]
pub struct BrokenRules(pub(super) BTreeSet<&'static str>);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile or the request; drawn line by line.
    #[error("the Dockerfile cannot be built")]
    Dockerfile { source_text: Source, diagnostics: Vec<Diagnostic> },
    /// Everything that the lock does not have.
    #[error("the lock lacks {}", names(unlocked))]
    Unlocked { source_text: Source, unlocked: Vec<Unlocked> },
    #[error("{}: {source}", at.name())]
    Ignore { at: Source, source: dockerfile::IgnoreError },
    #[error("{name}: {source}")]
    Base {
        name: String,
        span: Span,
        source_text: Source,
        #[source]
        source: Box<RegistryError>,
    },
    #[error("{source}")]
    Step {
        /// As in `[build 2/4] RUN make`.
        name: String,
        span: Option<Span>,
        source_text: Source,
        #[source]
        source: Box<StepError>,
    },
    #[error("RUN for {platform} cannot run on this machine ({host}): {why}")]
    Foreign {
        why: Foreign,
        platform: Box<Platform>,
        host: Box<Platform>,
        span: Option<Span>,
        source_text: Source,
    },
    #[error("the image of the named context is not for {platform}")]
    ContextPlatform { platform: Box<Platform>, span: Span, source_text: Source },
    #[error("the image of the named context is {found}, and the lock has {locked} for {name}")]
    ContextLocked {
        name: String,
        locked: BlobDigest,
        found: BlobDigest,
        span: Span,
        source_text: Source,
    },
    #[error(transparent)]
    Rules(#[from] BrokenRules),
    /// Of a source of the cache; the build goes on without it.
    #[error("{0}")]
    Cache(#[source] Box<CacheError>),
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Registry(#[from] Box<RegistryError>),
    #[error(transparent)]
    Style(#[from] StyleError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Io(#[from] PathError),
}

impl BuildError {
    /// True if it only says that something else has ended the build.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled => true,
            Self::Step { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }
}

fn names(unlocked: &[Unlocked]) -> String {
    unlocked.iter().map(|one| one.key.to_string()).collect::<Vec<_>>().join(", ")
}
