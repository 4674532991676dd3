//! The invariants of documents that came from elsewhere, or that kiln made.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::config::ImageConfig;
use super::descriptor::MediaType;
use super::manifest::Manifest;
use super::{MAX_DOCUMENT, Raw};
use crate::digest::BlobDigest;
use crate::layer::Layer;

/// Why a document is not what it claims to be.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{what} is malformed: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("{what} has {size} bytes, more than the {MAX_DOCUMENT} that are allowed")]
    TooLarge { what: &'static str, size: u64 },
    #[error("manifest schema version 1 is obsolete; push the image again with a current tool")]
    Schema1,
    #[error("config is {found}, the manifest says {expected}")]
    ConfigDigest { expected: BlobDigest, found: BlobDigest },
    #[error("manifest lists {layers} layers, its config {diff_ids} diff IDs")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("layer {digest} has media type `{media_type}`, which kiln cannot open")]
    LayerType { digest: BlobDigest, media_type: MediaType },
    #[error("layer {digest} is compressed with zstd, which docker's media types do not know")]
    NoDockerType { digest: BlobDigest },
    #[error("`{media_type}` is no image config: this is an artifact, not an image")]
    NotAnImage { media_type: MediaType },
}

/// Parses JSON that came from elsewhere: bounded size and depth, and no key
/// twice in one object (two readers could take different ones).
///
/// # Errors
/// If the document breaks one of these rules or is no `T`.
pub fn strict_json<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, ImageError> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(ImageError::TooLarge { what, size: bytes.len() as u64 });
    }
    let malformed =
        |error: serde_json::Error| ImageError::Malformed { what, why: error.to_string() };
    // serde_json bounds the depth itself (128).
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Unique.deserialize(&mut reader).and_then(|()| reader.end()).map_err(malformed)?;
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Visits a whole document and refuses objects that name a key twice.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Unique)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(Unique)?;
            if let Some(twice) = seen.replace(key) {
                return Err(de::Error::custom(format!("key `{twice}` occurs twice in one object")));
            }
        }
        Ok(())
    }
}

/// A manifest or index must be exactly one of them: version, media type and
/// fields agree.
pub(super) fn kind(
    what: &'static str,
    bytes: &[u8],
    version: u32,
    media_type: Option<&MediaType>,
    foreign: &'static str,
    is: fn(&MediaType) -> bool,
) -> Result<(), ImageError> {
    #[derive(Deserialize)]
    struct Fields {
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let malformed = |why: String| ImageError::Malformed { what, why };
    let fields: Fields = strict_json(what, bytes)?;
    let both = if foreign == "manifests" { fields.manifests } else { fields.layers };
    match version {
        1 => return Err(ImageError::Schema1),
        2 => (),
        other => return Err(malformed(format!("schemaVersion is {other}, not 2"))),
    }
    if both.is_some() {
        return Err(malformed(format!(
            "it also has the field `{foreign}`, so it could be read two ways"
        )));
    }
    match media_type {
        Some(named) if !is(named) => Err(malformed(format!("its mediaType says `{named}`"))),
        _ => Ok(()),
    }
}

/// The config is of a type that images have.
pub(super) fn is_image(manifest: &Manifest) -> Result<(), ImageError> {
    match &manifest.config.media_type {
        MediaType::OciConfig | MediaType::DockerConfig => Ok(()),
        other => Err(ImageError::NotAnImage { media_type: other.clone() }),
    }
}

/// Manifest, config bytes and config agree; gives the layers, lowest first.
pub(super) fn image(
    manifest: &Manifest,
    config: &Raw,
    parsed: &ImageConfig,
) -> Result<Vec<Layer>, ImageError> {
    if manifest.config.digest != config.digest {
        return Err(ImageError::ConfigDigest {
            expected: manifest.config.digest,
            found: config.digest,
        });
    }
    let diff_ids = &parsed.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        return Err(ImageError::LayerCount {
            layers: manifest.layers.len(),
            diff_ids: diff_ids.len(),
        });
    }
    let filled = parsed.history.iter().filter(|entry| !entry.empty_layer).count();
    // Some tools leave history out altogether; a partial one is a contradiction
    // only if it speaks of more layers than there are.
    if filled > diff_ids.len() {
        return Err(ImageError::LayerCount { layers: filled, diff_ids: diff_ids.len() });
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (entry, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let compression = entry.media_type.compression().ok_or_else(|| ImageError::LayerType {
            digest: entry.digest,
            media_type: entry.media_type.clone(),
        })?;
        layers.push(Layer {
            diff_id: *diff_id,
            digest: entry.digest,
            size: entry.size,
            compression,
        });
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Image, Index};

    #[test]
    fn one_document_one_meaning() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let config = format!(
            r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}"#
        );
        let good = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert!(Manifest::read(good.as_bytes()).is_ok());
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        assert!(Manifest::read(both.as_bytes()).is_err());
        assert!(Index::read(both.as_bytes()).is_err());
        let twice =
            format!(r#"{{"schemaVersion":2,"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert!(Manifest::read(twice.as_bytes()).unwrap_err().to_string().contains("twice"));
        let wrong = good.replace(
            "{\"schemaVersion\"",
            "{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"schemaVersion\"",
        );
        assert!(Manifest::read(wrong.as_bytes()).is_err());
        assert!(matches!(
            Manifest::read(b"{\"schemaVersion\":1}"),
            Err(ImageError::Malformed { .. })
        ));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(strict_json::<serde_json::Value>("test", deep.as_bytes()).is_err());
        let raw = Raw::new(good.into_bytes(), MediaType::OciManifest);
        assert!(matches!(Image::read(raw, br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec()), Err(ImageError::ConfigDigest { .. })));
    }
}
