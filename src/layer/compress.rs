//! gzip and zstd, in and out; bzip2 and xz, in only: archives of others have them,
//! layers do not.

use std::io::{self, Read, Write};

use super::blocks::{Blocks, Codec};
use super::reuse::{BlockTable, Earlier};
use super::{Compression, LayerForm, Packing};
use crate::digest::{Digest, Hashing};

/// The largest window a zstd frame may ask for, as a power of two: 128 MiB, the
/// most that the format's recommendation (RFC 8878, 3.1.1.1.2) and others take.
const ZSTD_WINDOW: u32 = 27;
/// Most memory that a block of an xz stream may ask for, in KiB: the window is as
/// above, and its tables come on top. `xz -9` needs half of that.
const XZ_MEMORY: u32 = (128 << 10) + 1024;
/// Bytes that are read at a time.
const PORTION: usize = 128 << 10;

/// Compresses what is written to it, and hashes it before that.
pub struct Compressor<W: Write>(Inner<W>);

enum Inner<W: Write> {
    None(Hashing<W>),
    Blocks(Box<Blocks<W>>),
}

impl<W: Write> Compressor<W> {
    pub fn new(to: W, form: impl Into<LayerForm>) -> Self {
        let form = form.into();
        let level = form.level();
        Self(match form.compression {
            Compression::None => Inner::None(Hashing::new(to)),
            Compression::Gzip => Inner::Blocks(Box::new(Blocks::new(to, Codec::Gzip(level)))),
            Compression::Zstd => Inner::Blocks(Box::new(Blocks::new(to, Codec::Zstd(level)))),
        })
    }

    /// Makes a table of the blocks, and takes from an earlier layer those that it has.
    pub(super) fn tabled(&mut self, earlier: Option<Earlier>) {
        if let Inner::Blocks(blocks) = &mut self.0 {
            blocks.tabled(earlier);
        }
    }

    /// Takes up to `size` bytes of a reader; says how many there were.
    pub(super) fn fill(&mut self, from: &mut dyn Read, size: u64) -> io::Result<u64> {
        match &mut self.0 {
            Inner::None(to) => {
                let length = usize::try_from(size).map_or(PORTION, |size| size.min(PORTION));
                let mut portion = vec![0; length];
                let mut left = size;
                while left > 0 {
                    let most = usize::try_from(left).map_or(length, |left| left.min(length));
                    match from.read(&mut portion[..most]) {
                        Ok(0) => break,
                        Ok(count) => {
                            to.write_all(&portion[..count])?;
                            left -= count as u64;
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(size - left)
            }
            Inner::Blocks(blocks) => blocks.fill(from, size),
        }
    }

    /// Tells that what comes is unlike what came.
    pub(super) fn border(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::None(_) => Ok(()),
            Inner::Blocks(blocks) => blocks.border(),
        }
    }

    /// Writes what is left and gives the destination back.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(self) -> io::Result<W> {
        self.finish_hashed().map(|(to, ..)| to)
    }

    /// As [`Compressor::finish`]; also gives what the uncompressed bytes hash to, and the
    /// table, which is empty if none was asked for.
    pub(super) fn finish_hashed(self) -> io::Result<(W, Digest, BlockTable)> {
        match self.0 {
            Inner::None(to) => {
                let (to, digest, _) = to.finish();
                Ok((to, digest, BlockTable::default()))
            }
            Inner::Blocks(blocks) => blocks.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::None(to) => to.write(buf),
            Inner::Blocks(blocks) => blocks.write(buf),
        }
    }
    /// Does nothing: a flush in the middle would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives back what was compressed.
pub struct Decompressor<'a>(Box<dyn Read + 'a>);

impl<'a> Decompressor<'a> {
    /// # Errors
    /// If the decoder cannot be made.
    pub fn new(from: impl Read + 'a, packing: impl Into<Packing>) -> io::Result<Self> {
        Ok(Self(match packing.into() {
            Packing::Layer(Compression::None) => {
                Box::new(io::BufReader::with_capacity(PORTION, from))
            }
            Packing::Layer(Compression::Gzip) => {
                let from = io::BufReader::with_capacity(PORTION, from);
                Box::new(flate2::bufread::MultiGzDecoder::new(from))
            }
            Packing::Layer(Compression::Zstd) => {
                let mut decoder = zstd::stream::read::Decoder::new(from)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Box::new(decoder)
            }
            Packing::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(from)),
            Packing::Xz => {
                // It reads its headers byte by byte.
                let from = io::BufReader::with_capacity(1 << 16, from);
                Box::new(lzma_rust2::XzReader::new_mem_limit(from, true, XZ_MEMORY))
            }
        }))
    }

    /// What the first bytes of a stream say it is.
    #[must_use]
    pub fn detect(first: &[u8]) -> Packing {
        match first {
            [0x1f, 0x8b, ..] => Packing::Layer(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Layer(Compression::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            [b'B', b'Z', b'h', ..] => Packing::Bzip2,
            _ => Packing::Layer(Compression::None),
        }
    }
}

impl Read for Decompressor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut step = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|at| if at % 3 == 0 { step() } else { (at / 100) as u8 }).collect()
    }

    fn compressed(bytes: &[u8], compression: Compression, chunk: usize) -> Vec<u8> {
        let mut to = Compressor::new(Vec::new(), compression);
        for part in bytes.chunks(chunk.max(1)) {
            to.write_all(part).unwrap();
        }
        to.finish().unwrap()
    }

    #[test]
    fn round_trips() {
        const BLOCK: usize = 1 << 20;
        for length in [0, 1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77] {
            let bytes = sample(length);
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let packed = compressed(&bytes, compression, 8191);
                assert_eq!(
                    packed,
                    compressed(&bytes, compression, 100_000),
                    "same bytes in other portions"
                );
                let mut back = Vec::new();
                Decompressor::new(packed.as_slice(), compression)
                    .unwrap()
                    .read_to_end(&mut back)
                    .unwrap();
                assert!(back == bytes, "{compression:?} {length}");
            }
        }
    }

    fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut back = Vec::new();
        let packing = Decompressor::detect(packed);
        Decompressor::new(packed, packing)?.read_to_end(&mut back)?;
        Ok(back)
    }

    /// `hello\n`, as xz-utils packs it.
    const XZ: &[u8] = include_bytes!("../../testdata/layer/hello.xz");
    /// The same, with a window of 512 MiB.
    const XZ_WIDE: &[u8] = include_bytes!("../../testdata/layer/hello-wide.xz");
    const BZIP2: &[u8] = include_bytes!("../../testdata/layer/hello.bz2");

    #[test]
    fn bzip2_and_xz() {
        for (packed, packing) in [(XZ, Packing::Xz), (BZIP2, Packing::Bzip2)] {
            assert_eq!(Decompressor::detect(packed), packing);
            assert_eq!(unpacked(packed).unwrap(), b"hello\n");
            // Parallel tools write several streams, one after the other.
            assert_eq!(unpacked(&packed.repeat(3)).unwrap(), b"hello\n".repeat(3));
            for cut in [packed.len() / 2, packed.len() - 1] {
                assert!(unpacked(&packed[..cut]).is_err(), "{packing:?} cut off at {cut}");
            }
            let mut damaged = packed.to_vec();
            damaged[packed.len() / 2] ^= 0x10;
            assert!(unpacked(&damaged).is_err(), "{packing:?} damaged");
        }
        let wide = unpacked(XZ_WIDE).unwrap_err();
        assert!(wide.to_string().contains("memory") || wide.kind() == io::ErrorKind::OutOfMemory);
    }
}
