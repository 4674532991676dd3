//! How layers are compressed: `gzip`, `zstd`, `uncompressed`, and a level.

use std::str::FromStr;

use super::ValueError;
use crate::layer::{Compression, LayerForm};

/// The name of a compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionArg(pub Compression);

impl FromStr for CompressionArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "gzip" => Ok(Self(Compression::Gzip)),
            "zstd" => Ok(Self(Compression::Zstd)),
            "uncompressed" => Ok(Self(Compression::None)),
            "estargz" => Err(ValueError::new(
                "compression=estargz cannot be had: gzip, zstd and uncompressed can",
            )),
            other => Err(ValueError::new(format!(
                "compression={other} is not known: gzip, zstd and uncompressed are"
            ))),
        }
    }
}

/// A compression with a level that it has.
///
/// # Errors
/// If it has no such level.
pub fn form(compression: Compression, level: Option<u8>) -> Result<LayerForm, ValueError> {
    let said =
        |level: u8, why: &str| Err(ValueError::new(format!("compression-level={level}: {why}")));
    match (compression, level) {
        (Compression::None, Some(level)) => said(level, "compression=uncompressed has no levels"),
        (Compression::Gzip, Some(level @ 10..)) => said(level, "those of gzip are 0 to 9"),
        (Compression::Zstd, Some(level @ 23..)) => said(level, "those of zstd are 0 to 22"),
        _ => Ok(LayerForm { compression, level }),
    }
}
