//! Layers and archives as the tar they are.

use std::io::{self, Read};

use crate::layer::Compression;

/// The largest window that a zstd frame may ask for, as a power of two: what
/// decompressors take without being told otherwise (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW: u32 = 27;

/// Reads what a compressed stream holds; of several members or frames, all.
pub(super) fn reader<'a>(
    from: impl Read + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(from),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(from)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(from)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    })
}

/// What the first bytes say; `Err` names a compression that kiln does not open.
pub(super) fn sniff(head: &[u8]) -> Result<Compression, &'static str> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("xz"),
        [b'B', b'Z', b'h', ..] => Err("bzip2"),
        _ => Ok(Compression::None),
    }
}
