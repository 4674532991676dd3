//! A block as a zstd frame of its own (RFC 8878, 3.1), with its size and without a checksum:
//! layers have digests.

use std::cell::RefCell;
use std::io;

use zstd::bulk::Compressor;

/// zstd's own default.
pub(super) const DEFAULT_LEVEL: u8 = 3;

/// Writes the frame to the beginning of `out`, and gives its length. `level` is 0 (zstd's
/// default) to 22.
pub(super) fn frame(block: &[u8], level: u8, out: &mut [u8]) -> io::Result<usize> {
    // One a thread, as it is costly to make.
    thread_local! {
        static MADE: RefCell<Option<(u8, Compressor<'static>)>> = const { RefCell::new(None) };
    }
    MADE.with_borrow_mut(|made| {
        let (_, compressor) = match made.take_if(|(of, _)| *of == level) {
            Some(fitting) => made.insert(fitting),
            None => made.insert((level, Compressor::new(level.into())?)),
        };
        compressor.compress_to_buffer(block, out)
    })
}
