//! What a build did with the files of its contexts, for whoever wants to know what a cache
//! was worth. Numbers of no effect: nothing depends on them.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(super) struct Counters {
    files_hashed: AtomicU64,
    bytes_hashed: AtomicU64,
    files_packed: AtomicU64,
}

impl Counters {
    /// A file was read to the end to know what it hashes to.
    pub(super) fn hashed(&self, bytes: u64) {
        self.files_hashed.fetch_add(1, Ordering::Relaxed);
        self.bytes_hashed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file's content was written into a layer.
    pub(super) fn packed(&self) {
        self.files_packed.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them, by name.
    pub(super) fn totals(&self) -> Vec<(&'static str, u64)> {
        let Self { files_hashed, bytes_hashed, files_packed } = self;
        [
            ("files_hashed", files_hashed),
            ("bytes_hashed", bytes_hashed),
            ("files_packed", files_packed),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
        .into()
    }
}
