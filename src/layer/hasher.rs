//! The digest of a stream's blocks, computed beside their compression: SHA-256 takes one
//! block after the other, and would hold up the thread that reads for all others.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::buffer::Buffer;
use crate::digest::{Digest, Hashing};

type Hash = Hashing<io::Sink>;

pub(super) enum Hasher {
    /// Nothing came yet.
    New,
    /// By a thread of its own.
    Beside(SyncSender<Arc<Buffer>>, JoinHandle<Hash>),
    /// Where there can be no more threads.
    Here(Hash),
}

impl Hasher {
    /// Takes the next block. It waits if the thread is more than one behind: what is in
    /// memory stays bounded.
    pub(super) fn block(&mut self, block: Arc<Buffer>) -> io::Result<()> {
        if matches!(self, Self::New) {
            *self = Self::begin();
        }
        match self {
            Self::New => Ok(()),
            Self::Beside(send, _) => send.send(block).map_err(|_| ended()),
            Self::Here(hash) => hash.write_all(&block),
        }
    }

    fn begin() -> Self {
        let (send, receive) = sync_channel::<Arc<Buffer>>(1);
        let work = move || {
            let mut hash = Hashing::new(io::sink());
            for block in receive {
                // A sink takes everything.
                let _ = hash.write_all(&block);
            }
            hash
        };
        match Builder::new().name("hash".into()).spawn(work) {
            Ok(thread) => Self::Beside(send, thread),
            Err(_) => Self::Here(Hashing::new(io::sink())),
        }
    }

    /// The digest of all blocks and the rest.
    pub(super) fn finish(self, rest: &[u8]) -> io::Result<Digest> {
        let mut hash = match self {
            Self::New => Hashing::new(io::sink()),
            Self::Beside(send, thread) => {
                drop(send);
                thread.join().map_err(|_| ended())?
            }
            Self::Here(hash) => hash,
        };
        hash.write_all(rest)?;
        Ok(hash.finish().1)
    }
}

fn ended() -> io::Error {
    io::Error::other("the hashing thread ended early")
}
