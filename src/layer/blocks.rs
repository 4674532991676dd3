//! A compressed stream, made on all cores: what is written is cut into [blocks](border), each
//! of which is compressed for itself, to a gzip member or a zstd frame. So the bytes depend
//! neither on the number of threads, nor on how they were written, nor on an earlier layer
//! from which equal blocks are taken.
//!
//! The caller's thread reads, finds borders and writes, another hashes what was read, and those
//! of rayon compress. As many blocks are under way as there are threads, and two more: memory is bounded by the cores.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use super::buffer::{Buffer, Pool};
use super::hasher::Hasher;
use super::reuse::{self, Block, BlockTable, Earlier};
use super::{border, gzip};
use crate::digest::Digest;

/// What compresses a block, with its level.
#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    Gzip(u8),
    Zstd(u8),
}

impl Codec {
    fn compress(self, block: &[u8], out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(level) => gzip::member(block, level, out),
            Self::Zstd(level) => super::zstd::frame(block, level, out),
        }
    }
}

/// Bytes that are read, or looked at for a border, at a time.
const PORTION: usize = 128 << 10;
/// The shortest block that a hint ends: shorter ones would compress worse.
const LEAST_HINTED: usize = 64 << 10;

/// What became of a block.
struct Packed {
    out: Buffer,
    /// If a table is wanted.
    block: Option<Block>,
    reused: bool,
}

type Answer = io::Result<Packed>;

pub(super) struct Blocks<W: Write> {
    to: W,
    codec: Codec,
    /// Of the bytes before they are compressed.
    hash: Hasher,
    pool: Pool,
    block: Buffer,
    /// Bytes of the block in which no border is.
    tried: usize,
    waiting: VecDeque<mpsc::Receiver<Answer>>,
    started: bool,
    /// A table is made.
    tabled: bool,
    table: BlockTable,
    earlier: Option<Arc<Earlier>>,
    /// From the first block that is given away.
    counted: Option<Counted>,
}

/// Streams under way in this process: they share the threads, and so the memory.
static STREAMS: AtomicUsize = AtomicUsize::new(0);

struct Counted;

impl Counted {
    fn new() -> Self {
        STREAMS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<W: Write> Blocks<W> {
    pub(super) fn new(to: W, codec: Codec) -> Self {
        let pool = Pool::default();
        Self {
            to,
            codec,
            hash: Hasher::New,
            block: pool.take(),
            pool,
            tried: 0,
            waiting: VecDeque::new(),
            started: false,
            tabled: false,
            table: BlockTable::default(),
            earlier: None,
            counted: None,
        }
    }

    /// Makes a table of the blocks, and takes those from an earlier layer that it has.
    pub(super) fn tabled(&mut self, earlier: Option<Earlier>) {
        self.tabled = true;
        self.earlier = earlier.map(Arc::new);
    }

    pub(super) fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let rest = self.block.rest();
        let count = buf.len().min(rest.len()).min(PORTION);
        rest[..count].copy_from_slice(&buf[..count]);
        self.filled(count)?;
        Ok(count)
    }

    /// Takes up to `size` bytes of a reader, without a copy in between; says how many.
    pub(super) fn fill(&mut self, from: &mut dyn Read, size: u64) -> io::Result<u64> {
        let mut left = size;
        while left > 0 {
            let rest = self.block.rest();
            let most = rest.len().min(PORTION);
            let most = usize::try_from(left).map_or(most, |left| left.min(most));
            match from.read(&mut rest[..most]) {
                Ok(0) => break,
                Ok(count) => {
                    left -= count as u64;
                    self.filled(count)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(size - left)
    }

    fn filled(&mut self, count: usize) -> io::Result<()> {
        self.block.filled(count);
        if self.block.len() - self.tried < PORTION && self.block.len() < border::MOST {
            return Ok(());
        }
        self.cut()
    }

    /// Gives away the blocks that are complete. What remains has no border.
    fn cut(&mut self) -> io::Result<()> {
        loop {
            match border::first(&self.block, self.tried) {
                Some(length) => self.give(length)?,
                None if self.block.len() == border::MOST => self.give(border::MOST)?,
                None => {
                    self.tried = self.block.len();
                    return Ok(());
                }
            }
        }
    }

    /// Ends the block, if it is not too short: what comes is unlike what came.
    pub(super) fn border(&mut self) -> io::Result<()> {
        self.cut()?;
        if self.block.len() < LEAST_HINTED {
            return Ok(());
        }
        self.give(self.block.len())
    }

    /// Hands the beginning of the block to a thread; the rest of it begins the next.
    fn give(&mut self, length: usize) -> io::Result<()> {
        // One block a thread, one that waits for it, and one being filled.
        self.counted.get_or_insert_with(Counted::new);
        let (threads, streams) = (rayon::current_num_threads(), STREAMS.load(Ordering::Relaxed));
        while self.waiting.len() > (2 * threads / streams.max(1)).clamp(1, threads) {
            self.take()?;
        }
        let mut next = self.pool.take();
        let rest = &self.block[length..];
        next.rest()[..rest.len()].copy_from_slice(rest);
        next.filled(rest.len());
        let mut block = std::mem::replace(&mut self.block, next);
        block.keep(length);
        self.tried = 0;

        let block = Arc::new(block);
        let (send, receive) = mpsc::channel();
        let job = self.job();
        rayon::spawn({
            let block = Arc::clone(&block);
            move || {
                let answer = job.run(&block);
                drop(block);
                // The receiver is gone only if the whole stream is.
                let _ = send.send(answer);
            }
        });
        self.waiting.push_back(receive);
        self.hash.block(block)
    }

    fn job(&self) -> Job {
        Job {
            codec: self.codec,
            pool: self.pool.clone(),
            tabled: self.tabled,
            earlier: self.earlier.clone(),
        }
    }

    /// Writes what the oldest block became.
    fn take(&mut self) -> io::Result<()> {
        let Some(receive) = self.waiting.pop_front() else { return Ok(()) };
        let answer =
            wait(&receive).ok_or_else(|| io::Error::other("a compressing thread ended early"))?;
        self.put(answer)
    }

    fn put(&mut self, answer: Answer) -> io::Result<()> {
        let Packed { out, block, reused } = answer?;
        self.started = true;
        self.table.blocks.extend(block);
        self.table.reused += usize::from(reused);
        self.to.write_all(&out)
    }

    /// Gives back the destination, what was written hashes to, and the table.
    pub(super) fn finish(mut self) -> io::Result<(W, Digest, BlockTable)> {
        self.cut()?;
        // What is left is small, as most layers are, and worth no thread. Nothing is a
        // block too, if it is all.
        let none = !self.started && self.waiting.is_empty();
        let last = (none || !self.block.is_empty()).then(|| self.job().run(&self.block));
        while !self.waiting.is_empty() {
            self.take()?;
        }
        if let Some(last) = last {
            self.put(last)?;
        }
        let digest = self.hash.finish(&self.block)?;
        Ok((self.to, digest, self.table))
    }
}

/// What a thread needs to work on a block.
struct Job {
    codec: Codec,
    pool: Pool,
    tabled: bool,
    earlier: Option<Arc<Earlier>>,
}

impl Job {
    fn run(&self, block: &[u8]) -> Answer {
        let mut out = self.pool.take();
        let raw = self.tabled.then(|| reuse::hash(block));
        if let Some((earlier, raw)) = self.earlier.as_ref().zip(raw.as_ref())
            && let Some(block) = earlier.find(raw, out.whole())
        {
            out.keep(block.length as usize);
            return Ok(Packed { out, block: Some(block), reused: true });
        }
        let length = self.codec.compress(block, out.whole())?;
        out.keep(length);
        let block = match raw {
            Some(raw) => {
                let length = u32::try_from(length).map_err(io::Error::other)?;
                Some(Block { raw, packed: reuse::hash(&out), length })
            }
            None => None,
        };
        Ok(Packed { out, block, reused: false })
    }
}

/// Waits for an answer. A thread of the pool, which may be its only one, works meanwhile.
fn wait<T>(receive: &mpsc::Receiver<T>) -> Option<T> {
    if rayon::current_thread_index().is_none() {
        return receive.recv().ok();
    }
    loop {
        match receive.try_recv() {
            Ok(answer) => return Some(answer),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            continue;
        }
        match receive.recv_timeout(Duration::from_millis(1)) {
            Ok(answer) => return Some(answer),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{random, text};
    use super::super::{Compression, Compressor, Decompressor, LayerForm};
    use super::*;
    use crate::digest::BlobDigest;

    const BOTH: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

    fn form(compression: Compression, level: Option<u8>) -> LayerForm {
        LayerForm { compression, level }
    }

    fn packed(bytes: &[u8], form: LayerForm, portion: usize) -> Vec<u8> {
        let mut to = Compressor::new(Vec::new(), form);
        for part in bytes.chunks(portion) {
            to.write_all(part).unwrap();
        }
        to.finish().unwrap()
    }

    fn tabled(bytes: &[u8], form: LayerForm, earlier: Option<Earlier>) -> (Vec<u8>, BlockTable) {
        let mut to = Compressor::new(Vec::new(), form);
        to.tabled(earlier);
        to.fill(&mut &*bytes, bytes.len() as u64).unwrap();
        let (packed, _, table) = to.finish_hashed().unwrap();
        (packed, table)
    }

    fn unpacked(packed: &[u8], compression: Compression) -> Vec<u8> {
        let mut back = Vec::new();
        Decompressor::new(packed, compression).unwrap().read_to_end(&mut back).unwrap();
        back
    }

    #[test]
    fn threads_and_portions_do_not_show() {
        let bytes = [text(3_500_000), random(2_500_000), vec![0; 2_100_000]].concat();
        for form in BOTH.map(|compression| form(compression, None)) {
            let with = |threads, portion| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| packed(&bytes, form, portion))
            };
            let one = with(1, 65536);
            assert!(one == with(2, 1 << 22) && one == with(8, 777) && one == with(8, 3 << 20));
            // By a thread that is none of the pool's, and from a reader.
            let (filled, table) = tabled(&bytes, form, None);
            assert!(one == filled);
            assert!((4..=17).contains(&table.count()), "{}", table.count());
            assert!(unpacked(&one, form.compression) == bytes);
        }
    }

    /// At most 5 % more than gzip makes at its default.
    #[test]
    fn as_small_as_one_stream() {
        let source = include_bytes!("write.rs").repeat(200);
        for bytes in [text(2_000_009), source, random(1 << 20), Vec::new(), vec![9; 3 << 20]] {
            let mut whole = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            whole.write_all(&bytes).unwrap();
            let whole = whole.finish().unwrap().len();
            for compression in BOTH {
                let ours = packed(&bytes, form(compression, None), 1 << 16).len();
                assert!(ours <= whole + whole / 20 + 32, "{compression:?}: {ours} against {whole}");
            }
        }
    }

    #[test]
    fn levels() {
        let words = text(1_200_000);
        let source = include_bytes!("write.rs");
        let zstd: &[u8] = &[0, 1, 3, 19, 22];
        for (compression, levels) in
            [(Compression::Gzip, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9][..]), (Compression::Zstd, zstd)]
        {
            for &level in levels {
                let packed = packed(&words, form(compression, Some(level)), 1 << 16);
                assert!(unpacked(&packed, compression) == words, "{compression:?} {level}");
            }
            let sizes =
                [1, 9].map(|level| packed(source, form(compression, Some(level)), 999).len());
            assert!(sizes[0] > sizes[1], "{sizes:?}");
        }
        assert!(packed(&words, form(Compression::Gzip, Some(0)), 999).len() > words.len());
    }

    /// Text in which no part is like another, with bytes put into the middle.
    fn before_and_after() -> (Vec<u8>, Vec<u8>) {
        let before = text(12 << 20);
        let mut after = before.clone();
        after.splice(6_000_000..6_000_000, *b"something new");
        (before, after)
    }

    /// A file with what an earlier layer became, and its table.
    fn stored(packed: &[u8], table: &BlockTable, form: LayerForm) -> (std::fs::File, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(packed).unwrap();
        (file, table.to_bytes(form, &BlobDigest::of(packed)))
    }

    #[test]
    fn what_did_not_change_is_not_compressed() {
        let (before, after) = before_and_after();
        for form in BOTH.map(|compression| form(compression, None)) {
            let (first, table) = tabled(&before, form, None);
            assert_eq!(table.reused(), 0);
            let (file, bytes) = stored(&first, &table, form);
            let earlier = || {
                let earlier = Earlier::read(&bytes, form).unwrap();
                assert_eq!(*earlier.blob(), BlobDigest::of(&first));
                earlier.from(file.try_clone().unwrap())
            };
            let (again, table) = tabled(&before, form, Some(earlier()));
            assert!(again == first);
            assert_eq!(table.reused(), table.count());

            let alone = packed(&after, form, 1 << 20);
            let (changed, table) = tabled(&after, form, Some(earlier()));
            assert!(changed == alone);
            let anew = table.count() - table.reused();
            assert!((1..=3).contains(&anew), "{anew} of {} blocks were compressed", table.count());
            // The table of a layer that took blocks serves as well.
            let (file, bytes) = stored(&changed, &table, form);
            let earlier = Earlier::read(&bytes, form).unwrap().from(file);
            assert_eq!(tabled(&after, form, Some(earlier)).1.reused(), table.count());
        }
    }

    #[test]
    fn damage_does_not_spread() {
        let (before, after) = before_and_after();
        let form = form(Compression::Gzip, None);
        let alone = packed(&after, form, 1 << 20);
        let (first, table) = tabled(&before, form, None);
        let (_, bytes) = stored(&first, &table, form);
        let using = |blob: &[u8], bytes: &[u8]| {
            let earlier = Earlier::read(bytes, form).unwrap();
            let (file, _) = stored(blob, &table, form);
            let (packed, table) = tabled(&after, form, Some(earlier.from(file)));
            assert!(packed == alone);
            table.reused()
        };
        let whole = using(&first, &bytes);
        let mut damaged = first.clone();
        damaged[100] ^= 1;
        assert_eq!(using(&damaged, &bytes), whole - 1);
        assert!(using(&first[..first.len() / 2], &bytes) < whole);
        assert_eq!(using(b"", &bytes), 0);
        // Without its blob, a table gives nothing.
        let earlier = Earlier::read(&bytes, form);
        assert_eq!(tabled(&after, form, earlier).1.reused(), 0);
        // A table that is damaged, cut off or of other compressors is none.
        for at in [3, 20, bytes.len() / 2, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(Earlier::read(&bytes, form).is_none(), "{at}");
            assert!(Earlier::read(&bytes[..at], form).is_none(), "{at}");
        }
        for other in [LayerForm { level: Some(5), ..form }, Compression::Zstd.into()] {
            assert!(Earlier::read(&bytes, other).is_none());
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
