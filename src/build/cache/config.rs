//! The form of a cache: what its config says.
//!
//! The manifest is an OCI image manifest of artifact type [`ARTIFACT`]; its layers are
//! the layers that the records name, each once, sorted by digest, with the media types
//! of image layers. Its config, of type [`CONFIG`], is
//!
//! ```json
//! {"records": [{"key": "sha256:…", "diffId": "sha256:…", "digest": "sha256:…",
//!               "size": 1234, "form": "gzip-6 libdeflate-1.26"}]}
//! ```
//!
//! sorted by key: the same build has the same cache, byte for byte. The caches of
//! `RUN --mount=type=cache` that were packed are listed as
//!
//! ```json
//! {"mounts": [{"id": "/root/.cache", "mode": 493, "uid": 0, "gid": 0,
//!              "diffId": "sha256:…", "digest": "sha256:…", "size": 1234}]}
//! ```
//!
//! with what tells one cache from another. An image has the
//! field [`INLINE`] in its config, where a layer is named by its place:
//!
//! ```json
//! "kiln.cache.v1": [{"key": "sha256:…", "layer": 1, "form": "gzip-6 libdeflate-1.26"}]
//! ```
//!
//! A record that contradicts the manifest, or two of one key, make the whole cache
//! malformed. Fields that are not known are left alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CacheError;
use crate::build::step::mounts;
use crate::digest::{BlobDigest, DiffId, Digest};
use crate::image::{Descriptor, Image, ImageConfig, Manifest, strict_json};
use crate::layer::Layer;
use crate::plan::CacheMount;

pub const ARTIFACT: &str = "application/vnd.kiln.cache.v1";
pub(super) const CONFIG: &str = "application/vnd.kiln.cache.config.v1+json";
pub(super) const INLINE: &str = "kiln.cache.v1";

/// The most bytes that a layer of a cache may have as stored: 16 TiB, beyond any.
const MAX_LAYER: u64 = 1 << 44;
/// The longest name of a form.
const MAX_FORM: usize = 100;

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) layer: Layer,
    /// [`LayerForm::name`](crate::layer::LayerForm::name) of how the layer was compressed.
    pub(super) form: String,
}

/// By the steps' keys.
pub(super) type Records = BTreeMap<Digest, Known>;

/// What tells one cache of `RUN --mount` from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct MountName {
    pub(super) id: String,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl MountName {
    pub(super) fn of(cache: &CacheMount) -> Self {
        let (uid, gid) = cache.owner;
        Self { id: cache.id.clone(), mode: cache.mode, uid, gid }
    }

    /// What the store has it under.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(mounts::name(self.mode, (self.uid, self.gid), &self.id).as_bytes())
    }
}

/// Caches of `RUN --mount`, packed.
pub(super) type Mounts = BTreeMap<MountName, Layer>;

/// All that a cache says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) records: Records,
    pub(super) mounts: Mounts,
}

impl Content {
    /// Takes what is not known yet.
    pub(super) fn add(&mut self, other: Self) {
        for (key, known) in other.records {
            self.records.entry(key).or_insert(known);
        }
        for (name, layer) in other.mounts {
            self.mounts.entry(name).or_insert(layer);
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    records: Vec<Record>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mount>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    #[serde(flatten)]
    name: MountName,
    diff_id: DiffId,
    digest: BlobDigest,
    size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    key: Digest,
    diff_id: DiffId,
    digest: BlobDigest,
    size: u64,
    form: String,
}

#[derive(Serialize, Deserialize)]
struct Inline {
    key: Digest,
    /// From the lowest.
    layer: usize,
    form: String,
}

/// Reads the config of a cache.
pub(super) fn read(manifest: &Manifest, config: &[u8]) -> Result<Content, CacheError> {
    let written: Written = strict_json("cache config", config)?;
    let listed: BTreeMap<BlobDigest, &Descriptor> =
        manifest.layers.iter().map(|entry| (entry.digest, entry)).collect();
    let mut content = Content::default();
    for Record { key, diff_id, digest, size, form } in written.records {
        let layer = layer(&listed, diff_id, digest, size)
            .map_err(|why| CacheError::Malformed(format!("record {key}: {why}")))?;
        add(&mut content.records, key, Known { layer, form })?;
    }
    for Mount { name, diff_id, digest, size } in written.mounts {
        let malformed = |why: &str| CacheError::Malformed(format!("cache {digest}: {why}"));
        let layer = layer(&listed, diff_id, digest, size).map_err(malformed)?;
        if content.mounts.insert(name, layer).is_some() {
            return Err(malformed("two have its name"));
        }
    }
    Ok(content)
}

/// A layer as the manifest lists it.
fn layer(
    listed: &BTreeMap<BlobDigest, &Descriptor>,
    diff_id: DiffId,
    digest: BlobDigest,
    size: u64,
) -> Result<Layer, &'static str> {
    let entry = listed.get(&digest).ok_or("its layer is not listed")?;
    if entry.size != size || size > MAX_LAYER {
        return Err("its layer's size is not the listed one");
    }
    let compression = entry.media_type.compression().ok_or("its layer is no layer")?;
    Ok(Layer { diff_id, digest, size, compression })
}

/// Reads the records that an image carries of its own layers, if it has any.
pub(super) fn inline(image: &Image) -> Result<Option<Records>, CacheError> {
    let Some(value) = image.config().other.get(INLINE) else { return Ok(None) };
    let written: Vec<Inline> = serde_json::from_value(value.clone())
        .map_err(|error| CacheError::Malformed(format!("`{INLINE}`: {error}")))?;
    let mut records = Records::new();
    for Inline { key, layer, form } in written {
        let layer = image.layers().get(layer).filter(|layer| layer.size <= MAX_LAYER);
        let layer = layer.ok_or_else(|| {
            CacheError::Malformed(format!("record {key}: the image has no such layer"))
        })?;
        add(&mut records, key, Known { layer: layer.clone(), form })?;
    }
    Ok(Some(records))
}

fn add(records: &mut Records, key: Digest, known: Known) -> Result<(), CacheError> {
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if known.form.len() > MAX_FORM || !known.form.chars().all(plain) {
        return Err(CacheError::Malformed(format!("record {key}: its form is no name")));
    }
    match records.insert(key, known) {
        None => Ok(()),
        Some(_) => Err(CacheError::Malformed(format!("two records have the key {key}"))),
    }
}

/// The config of a cache.
pub(super) fn write(content: &Content) -> Result<Vec<u8>, serde_json::Error> {
    let record = |(key, Known { layer, form }): (&Digest, &Known)| Record {
        key: *key,
        diff_id: layer.diff_id,
        digest: layer.digest,
        size: layer.size,
        form: form.clone(),
    };
    let mount = |(name, layer): (&MountName, &Layer)| Mount {
        name: name.clone(),
        diff_id: layer.diff_id,
        digest: layer.digest,
        size: layer.size,
    };
    let records = content.records.iter().map(record).collect();
    serde_json::to_vec(&Written { records, mounts: content.mounts.iter().map(mount).collect() })
}

/// Puts records of an image's own layers, by their places, into its config, in place of
/// those that a base has left there. None are an absent field.
pub(super) fn set_inline(
    config: &mut ImageConfig,
    records: BTreeMap<Digest, (usize, String)>,
) -> Result<(), serde_json::Error> {
    config.other.remove(INLINE);
    let record = |(key, (layer, form))| Inline { key, layer, form };
    let records: Vec<Inline> = records.into_iter().map(record).collect();
    if !records.is_empty() {
        config.other.insert(INLINE.to_owned(), serde_json::to_value(records)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::image::Artifact;
    use crate::layer::Compression;
    use crate::platform::Platform;

    fn layer(text: &str) -> Layer {
        Layer {
            diff_id: DiffId::of(text.as_bytes()),
            digest: BlobDigest::of(format!("packed {text}").as_bytes()),
            size: 7,
            compression: Compression::Gzip,
        }
    }

    fn content() -> Content {
        let known = |text: &str| Known { layer: layer(text), form: "gzip-6 x".into() };
        let records = ["a", "b"].map(|text| (Digest::of(text.as_bytes()), known(text)));
        let name = |id: &str| MountName { id: id.into(), mode: 0o755, uid: 0, gid: 7 };
        let mounts = [(name("/c"), layer("a")), (name("/d"), layer("b"))];
        Content { records: records.into(), mounts: mounts.into() }
    }

    fn artifact(config: Vec<u8>) -> (Manifest, Vec<u8>) {
        let layers = [layer("a"), layer("b")];
        let artifact = Artifact::new(ARTIFACT, CONFIG, config, &layers).unwrap();
        (Manifest::read(&artifact.manifest.bytes).unwrap(), artifact.config.bytes)
    }

    #[test]
    fn what_is_written_is_read() {
        let (manifest, config) = artifact(write(&content()).unwrap());
        assert_eq!(read(&manifest, &config).unwrap(), content());
        assert_eq!(manifest.config.media_type.as_str(), CONFIG);
    }

    /// Whatever a stranger writes: it is refused whole.
    #[test]
    fn what_contradicts_itself_is_refused() {
        let good: Value = serde_json::from_slice(&write(&content()).unwrap()).unwrap();
        let digest = |text: &str| json!(Digest::of(text.as_bytes()));
        for (name, value, says) in [
            ("digest", digest("elsewhere"), "not listed"),
            ("digest", json!("sha256:../../etc/passwd"), "digest"),
            ("diffId", json!("sha512:00"), "digest"),
            ("key", json!("../x"), "digest"),
            ("key", good["records"][1]["key"].clone(), "two records"),
            ("size", json!(8), "size"),
            ("size", json!(-1), "invalid value"),
            ("form", json!("a\nb"), "form"),
            ("form", json!("x".repeat(101)), "form"),
            ("form", Value::Null, "invalid type"),
        ] {
            let mut bad = good.clone();
            bad["records"][0][name] = value;
            let (manifest, config) = artifact(serde_json::to_vec(&bad).unwrap());
            let said = read(&manifest, &config).unwrap_err().to_string();
            assert!(said.contains(says), "{name}: {said}");
        }
        for (name, value, says) in [
            ("digest", digest("elsewhere"), "not listed"),
            ("size", json!(8), "size"),
            ("id", json!("/d"), "two have its name"),
            ("id", json!(1), "invalid type"),
            ("mode", json!(-1), "invalid value"),
        ] {
            let mut bad = good.clone();
            bad["mounts"][0][name] = value;
            let (manifest, config) = artifact(serde_json::to_vec(&bad).unwrap());
            let said = read(&manifest, &config).unwrap_err().to_string();
            assert!(said.contains(says), "{name}: {said}");
        }
        let (mut manifest, config) = artifact(write(&content()).unwrap());
        for media_type in ["text/plain", "application/vnd.oci.image.config.v1+json"] {
            manifest.layers[0].media_type = media_type.to_owned().into();
            assert!(read(&manifest, &config).is_err(), "{media_type}");
        }
        for bad in ["", "[]", "{}", "{\"records\":[{}]}", "{\"records\":[],\"records\":[]}"] {
            assert!(read(&manifest, bad.as_bytes()).is_err(), "{bad}");
        }
        let huge = vec![b' '; 5 << 20];
        assert!(read(&manifest, &huge).unwrap_err().to_string().contains("allowed"));
    }

    #[test]
    fn records_within_an_image() {
        let image = |records: Value| {
            let mut config = ImageConfig::scratch(&Platform::new("linux", "amd64"));
            config.other.insert(INLINE.into(), records);
            crate::image::assemble(config, &[layer("a"), layer("b")]).unwrap()
        };
        let key = Digest::of(b"a");
        let mut config = ImageConfig::scratch(&Platform::new("linux", "amd64"));
        let one = BTreeMap::from([(key, (1, "f".to_owned()))]);
        set_inline(&mut config, one).unwrap();
        let written = config.other[INLINE].clone();
        let read = inline(&image(written.clone())).unwrap().unwrap();
        assert_eq!(read[&key], Known { layer: layer("b"), form: "f".into() });
        // What a base has left is no record of this image.
        set_inline(&mut config, BTreeMap::new()).unwrap();
        assert_eq!(config.other.get(INLINE), None);
        for bad in [
            json!([{"key": key, "layer": 2, "form": "f"}]),
            json!([{"key": key, "layer": -1, "form": "f"}]),
            json!([written[0], written[0]]),
            json!({"key": key}),
            json!("base64"),
        ] {
            assert!(inline(&image(bad.clone())).is_err(), "{bad}");
        }
    }
}
