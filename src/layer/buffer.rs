//! Buffers of a block's size that are used again and again: memory that is taken anew costs
//! more than copying into it.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use super::border;

/// Bytes of a buffer: for the longest block, and for what the compressors add to one that
/// does not shrink (libdeflate 5 in 5,000, zstd 1 in 256).
const SIZE: usize = border::MOST + border::MOST / 128;

/// Buffers that are not in use. There are never more than were in use at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    pub(super) fn take(&self) -> Buffer {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // Zeros that nobody touches are no memory yet.
        let bytes = known.unwrap_or_else(|| vec![0; SIZE]);
        Buffer { bytes, used: 0, home: self.clone() }
    }
}

/// The first bytes of a buffer, which goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    used: usize,
    home: Pool,
}

impl Buffer {
    /// All of it, whatever is in it.
    pub(super) fn whole(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// What is free for a block.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..border::MOST]
    }

    /// Counts bytes that were put into the [rest](Buffer::rest).
    pub(super) fn filled(&mut self, count: usize) {
        self.used += count;
    }

    pub(super) fn keep(&mut self, length: usize) {
        self.used = length;
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}
