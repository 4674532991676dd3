//! One process in its own namespaces; runs what it is told, decides nothing.
//!
//! Face (`SandboxSpec` in, `Exit` out) that does not show which tier is at work.

mod spec;

pub use spec::{Exit, Ids, Io, Limits, Mount, MountKind, Network, Root, SandboxSpec};
