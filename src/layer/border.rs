//! Where a stream is cut into blocks: where its own bytes say so, so that bytes which come or
//! go move only the borders beside them, and all further blocks are the same as before.
//!
//! A border is after the first byte at which the gear hash of the 64 bytes before it
//! (`h = 2 h + TABLE[byte]`, modulo 2^64: older bytes are shifted out) falls below a threshold,
//! which one place in half a million does. The first half of a MiB of a block is not looked at,
//! and no block is longer than two: the mean is one.
//!
//! Raising any number here changes the bytes of layers: [`super::LayerForm::name`] must change
//! as well.

/// A block is no shorter, but for the last, and where a [hint](super::blocks::Blocks::border)
/// ends it.
pub(super) const LEAST: usize = 512 << 10;
/// No block is longer.
pub(super) const MOST: usize = 2 << 20;
/// One hash in 2^19 is below.
const THRESHOLD: u64 = 1 << (64 - 19);
/// Bytes that a hash depends on: one for each of its bits.
const WINDOW: usize = 64;
/// Four runs of this many bytes are hashed side by side: one alone waits for itself.
const RUN: usize = 2048;

/// The outputs of splitmix64 (Steele, Lea and Flood, 2014) with the seed 0, from the first.
static TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let (mut at, mut state) = (0, 0_u64);
    while at < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
}

/// The first border in a block that is being filled: its length up to there. `tried` bytes
/// were looked at before, and have none.
pub(super) fn first(block: &[u8], tried: usize) -> Option<usize> {
    // The byte that the next border would come after.
    let mut at = tried.max(LEAST - 1);
    let mut hash = warmed(block.get(..at)?);
    while let Some(four) = block.get(at..at + 4 * RUN) {
        if is_below(four, hash, &block[..at + 4 * RUN]) {
            break;
        }
        at += 4 * RUN;
        hash = warmed(&block[..at]);
    }
    for &byte in &block[at..] {
        at += 1;
        hash = next(hash, byte);
        if hash < THRESHOLD {
            return Some(at);
        }
    }
    None
}

/// Whether there is a border in four runs; `all` are these and what is before them.
fn is_below(four: &[u8], hash: u64, all: &[u8]) -> bool {
    let begin = all.len() - four.len();
    let mut hashes = [0, 1, 2, 3].map(|run| match run {
        0 => hash,
        run => warmed(&all[..begin + run * RUN]),
    });
    let mut least = [u64::MAX; 4];
    let (ab, cd) = four.split_at(2 * RUN);
    let (a, b) = ab.split_at(RUN);
    let (c, d) = cd.split_at(RUN);
    for (((&a, &b), &c), &d) in a.iter().zip(b).zip(c).zip(d) {
        for (run, byte) in [a, b, c, d].into_iter().enumerate() {
            hashes[run] = next(hashes[run], byte);
            least[run] = least[run].min(hashes[run]);
        }
    }
    least.into_iter().any(|least| least < THRESHOLD)
}

fn next(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(TABLE[usize::from(byte)])
}

/// The hash with which the byte after these goes on.
fn warmed(before: &[u8]) -> u64 {
    let window = before.len().saturating_sub(WINDOW - 1);
    before[window..].iter().fold(0, |hash, &byte| next(hash, byte))
}

#[cfg(test)]
mod tests {
    use super::super::samples::random;
    use super::*;

    /// Borders in one pass, byte by byte.
    fn plain(bytes: &[u8]) -> Vec<usize> {
        let (mut borders, mut begin, mut hash) = (Vec::new(), 0, 0);
        for (at, &byte) in (1..).zip(bytes) {
            hash = next(hash, byte);
            let length = at - begin;
            if length == MOST || (length >= LEAST && hash < THRESHOLD) {
                borders.push(at);
                begin = at;
            }
        }
        borders
    }

    #[test]
    fn first_is_what_the_rule_says() {
        let mut bytes = random(6 << 20);
        bytes.extend(std::iter::repeat_n(7, MOST + 99));
        let expected = plain(&bytes);
        assert!(expected.len() >= 4, "{expected:?}");
        for portion in [1 << 20, 70_001, 4096 + 3] {
            let (mut borders, mut begin) = (Vec::new(), 0);
            while begin < bytes.len() {
                let (mut end, mut tried) = (begin, 0);
                let found = loop {
                    end = (end + portion).min(bytes.len()).min(begin + MOST);
                    let block = &bytes[begin..end];
                    match first(block, tried) {
                        Some(length) => break Some(length),
                        None if block.len() == MOST => break Some(MOST),
                        None if end == bytes.len() => break None,
                        None => tried = block.len(),
                    }
                };
                let Some(length) = found else { break };
                begin += length;
                borders.push(begin);
            }
            assert_eq!(borders, expected, "in portions of {portion}");
        }
    }

    /// Other numbers would be other layers.
    #[test]
    fn the_table_is_that_of_its_formula() {
        assert_eq!(TABLE[..2], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }
}
