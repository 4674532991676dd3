//! Real processes in real namespaces, as whoever runs the tests: root has the
//! root tier and a user namespace with one ID, an ordinary user both kinds of
//! user namespace. A tier that the machine refuses fails the tests with the
//! machine's reason.

mod files;
mod fixture;
#[cfg(target_arch = "x86_64")]
mod i386;
mod limits;
mod processes;
mod surroundings;
