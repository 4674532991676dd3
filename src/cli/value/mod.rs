//! What flags take beyond words and numbers, as docker spells it. Each parser's
//! error says what was expected; clap names the flag.

mod amount;
mod annotation;
mod assignment;
mod attest;
mod cache;
mod call;
mod clean;
mod compression;
mod context;
mod csv;
mod given;
mod image;
mod output;
mod publish;
mod repository;
mod tier;
mod volume;

pub use amount::{Cpus, MemorySwap, PidsLimit, Processors, Quota, Size, duration};
pub use annotation::AnnotationArg;
pub use assignment::{Assignment, EnvAssignment, LabelArg};
pub use attest::{AttestArg, ProvenanceArg, SbomFormat};
pub use cache::{CacheFromArg, CachePlace, CacheTo, CacheToArg};
pub use call::{CallArg, Method};
pub use clean::{PruneFilter, StoreKind, StoreLimitArg, size};
pub use compression::{CompressionArg, form};
pub use context::{ContextArg, ContextFrom};
pub(in crate::cli) use csv::boolean;
pub use given::{AgentArg, HostArg, SecretArg, SecretFrom};
pub use image::ImagePlace;
pub use output::{FilesForm, ImageAttrs, OutputArg};
pub use publish::Publish;
pub use repository::Repository;
pub use tier::SandboxTier;
pub use volume::Volume;

/// Why a flag's value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}
