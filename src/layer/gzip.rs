//! A block as a gzip member of its own (RFC 1952, 2.2), by libdeflate, which has no flush and
//! no window to continue, but takes half of zlib's time.
//!
//! Blocks of noise are stored: trying to compress them would cost most of the time.

use std::cell::RefCell;
use std::io;

use libdeflater::{CompressionLvl, Compressor};

/// libdeflate's, which makes what zlib makes at its default of 6, from 4 % less to as much
/// more. Its 5 takes a third less time, and more than 5 % more than zlib on text.
pub(super) const DEFAULT_LEVEL: u8 = 6;
/// How many places of a block are looked at for bytes that are not all equally frequent,
/// and the bytes in each.
const PLACES: usize = 16;
const PLACE: usize = 4 << 10;
/// Bytes in the middle that are compressed if there are none, in which repetitions show.
const PROBE: usize = 32 << 10;

/// Writes the member to the beginning of `out`, and gives its length. `level` is 0 (stored)
/// to 9.
pub(super) fn member(block: &[u8], level: u8, out: &mut [u8]) -> io::Result<usize> {
    let level = if level > 0 && is_noise(block, out) { 0 } else { level };
    compress(block, level, out)
}

/// Whether a block would become no smaller, by what some places in it are like.
fn is_noise(block: &[u8], scratch: &mut [u8]) -> bool {
    if block.len() < PLACES * PLACE {
        return false;
    }
    let step = (block.len() - PLACE) / (PLACES - 1);
    let mut places = (0..PLACES).map(|place| &block[place * step..place * step + PLACE]);
    if !places.all(is_even) {
        return false;
    }
    let middle = (block.len() - PROBE) / 2;
    let piece = &block[middle..middle + PROBE];
    compress(piece, 1, scratch).is_ok_and(|pressed| pressed >= PROBE - PROBE / 200)
}

/// Whether all bytes are about equally frequent. The sum of squares of their counts is that
/// of chance then, within a tenth: that much more leaves a Huffman code some percent.
fn is_even(piece: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    for &byte in piece {
        counts[usize::from(byte)] += 1;
    }
    let squares: u64 = counts.iter().map(|count| count * count).sum();
    let length = piece.len() as u64;
    let chance = length * length / 256 + length;
    squares < chance + chance / 10
}

/// By this thread's compressor of that level, which is costly to make.
fn compress(block: &[u8], level: u8, out: &mut [u8]) -> io::Result<usize> {
    thread_local! {
        static MADE: RefCell<Vec<(u8, Compressor)>> = const { RefCell::new(Vec::new()) };
    }
    MADE.with_borrow_mut(|made| {
        let at = made.iter().position(|(of, _)| *of == level).unwrap_or_else(|| {
            let valid = CompressionLvl::new(level.into()).unwrap_or_default();
            made.push((level, Compressor::new(valid)));
            made.len() - 1
        });
        let (_, compressor) = &mut made[at];
        compressor.gzip_compress(block, out).map_err(|error| io::Error::other(error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{random, text};
    use super::*;

    fn noise(block: &[u8]) -> bool {
        is_noise(block, &mut vec![0; 64 << 10])
    }

    #[test]
    fn noise_is_told_from_the_rest() {
        const BLOCK: usize = 1 << 20;
        let even = random(BLOCK);
        assert!(noise(&even));
        assert!(!noise(&text(BLOCK)));
        // Even bytes, and each of them several times within deflate's window.
        assert!(!noise(&random(10_000).repeat(100)));
        // Text in a tenth of the block.
        let mut some = even.clone();
        some[300_000..400_000].copy_from_slice(&text(100_000));
        assert!(!noise(&some));
        assert!(!noise(&even[..1000]));
    }

    #[test]
    fn noise_is_stored() {
        let block = random(1 << 20);
        let mut out = vec![0; 2 << 20];
        let length = member(&block, 9, &mut out).unwrap();
        let mut stored = vec![0; 2 << 20];
        let expected = compress(&block, 0, &mut stored).unwrap();
        assert_eq!(out[..length], stored[..expected]);
    }
}
