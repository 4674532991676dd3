//! What is said of an image by a document of its own: in-toto statements, and the provenance
//! of a build.
//!
//! Documents are made from plain data: nothing here asks for a time, a name of the machine or
//! of a user, or where files lie. The same build has the same document, byte for byte. A
//! statement is unsigned: it says what it says, and who believes it is another matter.

mod provenance;
mod purl;
mod statement;

pub use provenance::{BUILD_TYPE, BUILDER, ConfigSource, Mode, PROVENANCE, Provenance, Request};
pub use statement::{CYCLONEDX, IN_TOTO, PREDICATE_NOTE, Resource, SPDX, Statement};
