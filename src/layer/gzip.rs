//! gzip out, on all cores: what is written is cut into blocks of a fixed size, each of
//! which becomes a member of its own (RFC 1952, 2.2), compressed by libdeflate. So the bytes do not
//! depend on the number of threads, nor on how they were written.
//!
//! Blocks of noise are stored: trying to compress them would cost most of the time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc;

use libdeflater::{CompressionError, CompressionLvl, Compressor};

/// Members need no more than 40 bytes each; the window that a new one lacks costs less
/// than half a percent.
const BLOCK: usize = 1 << 20;
/// Bytes of a block that are compressed to see whether it is noise, in three places.
const PROBE: usize = 32 << 10;
/// libdeflate's, which makes what zlib makes at its default of 6, and up to 4 % less.
pub(super) const DEFAULT_LEVEL: u8 = 6;

type Member = Result<Vec<u8>, CompressionError>;

pub(super) struct Gzip<W: Write> {
    to: W,
    level: u8,
    block: Vec<u8>,
    waiting: VecDeque<mpsc::Receiver<Member>>,
    started: bool,
}

impl<W: Write> Gzip<W> {
    /// `level` is 0 (stored) to 9.
    pub(super) fn new(to: W, level: u8) -> Self {
        Self { to, level, block: Vec::new(), waiting: VecDeque::new(), started: false }
    }

    /// Hands the block to a thread.
    fn give(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let (send, receive) = mpsc::channel();
        let level = self.level;
        rayon::spawn(move || {
            // The receiver is gone only if the whole compressor is.
            let _ = send.send(member(&block, level));
        });
        self.waiting.push_back(receive);
        // One block a thread, and one being filled: memory is bounded by the cores.
        if self.waiting.len() > rayon::current_num_threads() { self.take() } else { Ok(()) }
    }

    /// Writes the oldest block's member.
    fn take(&mut self) -> io::Result<()> {
        let Some(receive) = self.waiting.pop_front() else { return Ok(()) };
        let member =
            receive.recv().map_err(|_| io::Error::other("a compressing thread ended early"))?;
        self.put(member)
    }

    fn put(&mut self, member: Member) -> io::Result<()> {
        self.started = true;
        self.to.write_all(&member.map_err(|error| io::Error::other(error.to_string()))?)
    }

    pub(super) fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = buf.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buf[..n]);
        if self.block.len() == BLOCK {
            self.give()?;
        }
        Ok(n)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        while !self.waiting.is_empty() {
            self.take()?;
        }
        // Small layers are most of all, and worth no thread. Nothing is a member too.
        if !self.block.is_empty() || !self.started {
            let last = member(&self.block, self.level);
            self.put(last)?;
        }
        Ok(self.to)
    }
}

fn member(block: &[u8], level: u8) -> Member {
    let level = if is_noise(block) { 0 } else { level };
    compressed(block, level)
}

/// Whether the beginning, the middle and the end of a block become no smaller.
fn is_noise(block: &[u8]) -> bool {
    let Some(end) = block.len().checked_sub(PROBE).filter(|end| *end >= 3 * PROBE) else {
        return false;
    };
    [0, end / 2, end].into_iter().all(|at| {
        let piece = &block[at..at + PROBE];
        compressed(piece, 1).is_ok_and(|pressed| pressed.len() >= PROBE - PROBE / 200)
    })
}

/// By this thread's compressor of that level, which is costly to make.
fn compressed(block: &[u8], level: u8) -> Member {
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
        let mut out = vec![0; compressor.gzip_compress_bound(block.len())];
        let length = compressor.gzip_compress(block, &mut out)?;
        out.truncate(length);
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Compression, Compressor, Decompressor, LayerForm};
    use super::*;

    fn random(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut step = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| step()).collect()
    }

    fn text(length: usize) -> Vec<u8> {
        random(length).into_iter().map(|byte| b"etaoin shrdlu\n"[usize::from(byte) % 14]).collect()
    }

    fn packed(bytes: &[u8], level: Option<u8>, chunk: usize) -> Vec<u8> {
        let form = LayerForm { compression: Compression::Gzip, level };
        let mut to = Compressor::new(Vec::new(), form);
        for part in bytes.chunks(chunk) {
            to.write_all(part).unwrap();
        }
        to.finish().unwrap()
    }

    #[test]
    fn threads_and_portions_do_not_show() {
        let bytes = [text(3 * BLOCK + 5), random(2 * BLOCK)].concat();
        let with = |threads, chunk| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| packed(&bytes, None, chunk))
        };
        // The caller blocks while blocks are compressed, so one more thread than it is needed.
        let two = with(2, 65536);
        assert!(two == with(5, 1 << 22) && two == with(9, 777));
    }

    /// At most 5 % more than gzip makes at its default.
    #[test]
    fn as_small_as_one_stream() {
        let source = include_bytes!("gzip.rs").repeat(50);
        for bytes in [text(2 * BLOCK + 9), source, random(BLOCK), Vec::new()] {
            let mut whole = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            whole.write_all(&bytes).unwrap();
            let whole = whole.finish().unwrap().len();
            let ours = packed(&bytes, None, 1 << 16).len();
            assert!(ours <= whole + whole / 20 + 32, "{ours} against {whole}");
        }
    }

    #[test]
    fn levels_and_noise() {
        let noise = random(2 * BLOCK);
        let stored = packed(&noise, None, 1 << 16);
        assert!(is_noise(&noise[..BLOCK]) && !is_noise(&text(BLOCK)));
        assert_eq!(stored, packed(&noise, Some(9), 1 << 16));
        let words = text(BLOCK + 1);
        let sizes: Vec<usize> =
            [0, 1, 6].map(|level| packed(&words, Some(level), 1 << 16).len()).into();
        assert!(sizes.is_sorted_by(|more, less| more > less), "{sizes:?}");
        for level in 0..=9 {
            let mut back = Vec::new();
            let packed = packed(&words, Some(level), 1 << 16);
            let mut unpacker = Decompressor::new(packed.as_slice(), Compression::Gzip).unwrap();
            io::Read::read_to_end(&mut unpacker, &mut back).unwrap();
            assert!(back == words, "{level}");
        }
    }

    /// [`LayerForm::name`] says whose bytes they are.
    #[test]
    fn names_are_those_of_the_compressors() {
        let lock = include_str!("../../Cargo.lock");
        for (part, compression) in [
            ("name = \"libdeflater\"\nversion = \"1.26.", Compression::Gzip),
            ("name = \"zstd-sys\"\nversion = \"2.1.3+zstd.1.5.7\"", Compression::Zstd),
        ] {
            assert!(lock.contains(part), "the name of {compression:?} is out of date");
        }
    }
}
