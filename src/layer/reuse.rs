//! What an earlier layer's blocks were compressed to, so that equal blocks of a new layer need
//! not be compressed again.
//!
//! A [`BlockTable`] lists the blocks of one blob in order. In bytes:
//!
//! ```text
//! "kiln blocks 1\n" FORM "\n" DIGEST "\n"     LayerForm::name, the blob's digest
//! RAW[32] PACKED[32] LENGTH[4]                for each block: BLAKE3 of its bytes, and of what
//!                                             they became; bytes of that, little-endian
//! CHECK[32]                                   BLAKE3 of all before it
//! ```
//! It is a memory and no truth: what is damaged, of another form or gone is not used, and
//! compressed bytes are, after their hash was compared, the very bytes that compressing would
//! give. So a layer does not depend on whether there was a table.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::{LayerForm, border};
use crate::digest::BlobDigest;

const MAGIC: &[u8] = b"kiln blocks 1\n";
const HASH: usize = 32;
const ENTRY: usize = HASH + HASH + 4;

type Hash = [u8; HASH];

/// A block: what it is, and what it became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) raw: Hash,
    pub(super) packed: Hash,
    pub(super) length: u32,
}

/// The blocks of a layer's blob, which is nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockTable {
    pub(super) blocks: Vec<Block>,
    /// Those of them that were taken from an earlier layer.
    pub(super) reused: usize,
}

pub(super) fn hash(bytes: &[u8]) -> Hash {
    blake3::hash(bytes).into()
}

impl BlockTable {
    /// Blocks in all.
    #[must_use]
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that were not compressed, since an earlier layer had them.
    #[must_use]
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// The table as bytes; see the module.
    #[must_use]
    pub fn to_bytes(&self, form: LayerForm, blob: &BlobDigest) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(format!("{}\n{blob}\n", form.name()).as_bytes());
        for block in &self.blocks {
            bytes.extend_from_slice(&block.raw);
            bytes.extend_from_slice(&block.packed);
            bytes.extend_from_slice(&block.length.to_le_bytes());
        }
        let check = hash(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }
}

/// A table that was read, and where the blocks are.
#[derive(Debug)]
pub struct Earlier {
    blob: BlobDigest,
    places: HashMap<Hash, (u64, Block)>,
    from: Option<File>,
}

impl Earlier {
    /// Reads a table; none if it is damaged or of a layer that was written in another form.
    #[must_use]
    pub fn read(bytes: &[u8], form: LayerForm) -> Option<Self> {
        let (bytes, check) = bytes.split_last_chunk::<HASH>()?;
        if hash(bytes) != *check {
            return None;
        }
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(form.name().as_bytes())?;
        let rest = rest.strip_prefix(b"\n")?;
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let blob = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        let entries = rest[end + 1..].chunks_exact(ENTRY);
        if !entries.remainder().is_empty() {
            return None;
        }
        let (mut places, mut at) = (HashMap::new(), 0);
        for entry in entries {
            let (raw, entry) = entry.split_first_chunk()?;
            let (packed, entry) = entry.split_first_chunk()?;
            let length = u32::from_le_bytes(*entry.first_chunk()?);
            places.insert(*raw, (at, Block { raw: *raw, packed: *packed, length }));
            at += u64::from(length);
        }
        Some(Self { blob, places, from: None })
    }

    /// The blob that the blocks are in.
    #[must_use]
    pub fn blob(&self) -> &BlobDigest {
        &self.blob
    }

    /// Says where that blob is to be read. Without it nothing is found.
    #[must_use]
    pub fn from(self, blob: File) -> Self {
        Self { from: Some(blob), ..self }
    }

    /// Puts what a block became to the beginning of `out`, if that is known and still there.
    pub(super) fn find(&self, raw: &Hash, out: &mut [u8]) -> Option<Block> {
        let (at, block) = self.places.get(raw)?;
        let out = out.get_mut(..usize::try_from(block.length).ok()?)?;
        self.from.as_ref()?.read_exact_at(out, *at).ok()?;
        (hash(out) == block.packed).then_some(*block)
    }
}

/// Layers with fewer blocks are as quickly compressed as looked up.
pub const WORTH_A_TABLE: usize = 3;

const _: () = assert!(border::MOST < u32::MAX as usize / 2);
