//! The store as a registry: the OCI distribution API 1.1 over HTTP/1.1, to read, and to
//! write if that is wanted.
//!
//! What it promises:
//! - Nothing leaves the store that no image with a name refers to, or that was not pushed
//!   here: no blobs of build caches. A blob is looked for in the repository that is asked.
//!   A server of one name ([`Options::only`]) has no other.
//! - A path means what it means on kiln's command line (`catalog.rs`).
//! - An answer is a whole document or blob of the store as it is at that moment, whatever
//!   other processes do to it. What a client was told of stays for a quarter of an hour at
//!   least, also if its name goes and a clean-up runs: sessions of the store
//!   ([`Store::renewed`]) hold it.
//! - What is pushed has a name only when all is there that it refers to, and is then as
//!   durable as what was built. A server that is killed leaves files in the store's `tmp/`,
//!   which the next command removes.
//! - Memory is bounded, whatever is moved and however many ask: bodies pass in pieces
//!   (`piece.rs`), documents are read one at a time, connections are counted.
//! - Whoever does not get on is left (`stall.rs`), and every wait ends.

mod answer;
mod auth;
mod catalog;
mod connection;
mod log;
mod path;
mod piece;
mod read;
mod shared;
mod stall;
mod upload;
mod write;

pub use auth::{Passwords, PasswordsError};
pub use connection::{ServeError, Server};
pub use log::{Access, Logger};
pub use read::lacking;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::progress::Progress;
use crate::reference::Reference;

/// What a server does.
pub struct Options {
    /// Where it listens; port 0 is any that is free.
    pub addr: SocketAddr,
    /// Whether clients may push and delete.
    pub writable: bool,
    /// The one name whose image is given out; none for all of the store's.
    pub only: Option<Reference>,
    /// PEM files of a chain of certificates, the server's own first, and of its key.
    /// Without them it speaks plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Without them anybody may ask.
    pub passwords: Option<Passwords>,
    /// Takes each request when it is over.
    pub logger: Logger,
    /// Takes what goes wrong in the server itself.
    pub progress: Progress,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { addr, writable, only, tls, passwords, .. } = self;
        let mut all = f.debug_struct("Options");
        all.field("addr", addr).field("writable", writable).field("only", only);
        all.field("tls", tls).field("passwords", passwords).finish_non_exhaustive()
    }
}
