//! `kiln diff`: images that differ in one known thing, and what is said of them: that thing by
//! its path or field, and nothing else. Kinds of seeded differences, each a case of a table:
//!
//! | table | kinds |
//! |---|---|
//! | `file::each_difference_is_named_and_nothing_else` | 30: presence, attributes, links, devices, whiteouts, order and form of the tar |
//! | `content::formats_say_what_differs` | 19: programs, archives, compiled Python, compressed files, JSON, text, data |
//! | `document::fields_of_documents` | 15: fields of config, history and manifest |
//! | `document::layers_are_lined_up` | 4: layers put in, taken out, changed, moved |
//! | `document::one_tar_in_other_bytes` | 7: headers, levels and members of gzip, frames of zstd |
//! | `document::indexes_platform_by_platform` | 6: entries, order and annotations of an index |

mod content;
mod document;
mod file;
mod hostile;
mod limits;
mod place;
mod shown;

use flate2::GzBuilder;
use kiln::digest::{BlobDigest, DiffId};
use kiln::image::{Descriptor, MediaType};
use serde_json::{Value, json};
use std::io::Write as _;

use crate::support::kiln::{Kiln, Output};

/// A layer's blob, and what its tar hashes to.
#[derive(Clone)]
struct Blob {
    bytes: Vec<u8>,
    diff_id: DiffId,
    media_type: &'static str,
    created_by: &'static str,
}

impl Blob {
    fn plain(tar: &[u8]) -> Self {
        Self {
            bytes: tar.to_vec(),
            diff_id: DiffId::of(tar),
            media_type: "application/vnd.oci.image.layer.v1.tar",
            created_by: "RUN make",
        }
    }

    fn gzip(tar: &[u8], header: GzBuilder, level: u32) -> Self {
        let mut to = header.write(Vec::new(), flate2::Compression::new(level));
        to.write_all(tar).unwrap();
        let bytes = to.finish().unwrap();
        Self {
            bytes,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
            ..Self::plain(tar)
        }
    }

    fn zstd(tar: &[u8], bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            media_type: "application/vnd.oci.image.layer.v1.tar+zstd",
            ..Self::plain(tar)
        }
    }

    fn by(self, created_by: &'static str) -> Self {
        Self { created_by, ..self }
    }
}

/// An image's documents before they are stored.
#[derive(Clone)]
struct Image {
    config: Value,
    manifest: Value,
}

impl Image {
    fn of(kiln: &Kiln, layers: &[Blob]) -> Self {
        let store = kiln.store();
        let mut listed = Vec::new();
        for layer in layers {
            let digest = store.put(&layer.bytes).unwrap();
            listed.push(json!({
                "mediaType": layer.media_type, "digest": digest, "size": layer.bytes.len(),
            }));
        }
        let diff_ids: Vec<String> = layers.iter().map(|one| one.diff_id.to_string()).collect();
        let history: Vec<Value> = layers
            .iter()
            .map(|one| json!({"created": "2020-01-01T00:00:00Z", "created_by": one.created_by}))
            .collect();
        Self {
            config: json!({
                "created": "2020-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
                "config": {"Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "Labels": {"a": "b"}},
                "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
            }),
            manifest: json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json"},
                "layers": listed,
            }),
        }
    }

    fn keep_bytes(&self, kiln: &Kiln, name: &str, config: &[u8]) -> Descriptor {
        let mut manifest = self.manifest.clone();
        manifest["config"]["digest"] = kiln.store().put(config).unwrap().to_string().into();
        manifest["config"]["size"] = config.len().into();
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        keep(kiln, name, manifest.to_string().as_bytes(), &media_type)
    }

    fn keep(&self, kiln: &Kiln, name: &str) -> Descriptor {
        self.keep_bytes(kiln, name, self.config.to_string().as_bytes())
    }
}

/// Stores a document and gives it a name.
fn keep(kiln: &Kiln, name: &str, bytes: &[u8], media_type: &str) -> Descriptor {
    let digest: BlobDigest = kiln.store().put(bytes).unwrap();
    let kind = MediaType::from(media_type.to_owned());
    let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
    kiln.store().tag(&name.parse().unwrap(), descriptor.clone()).unwrap();
    descriptor
}

/// A tar that is written entry by entry.
struct Tar(tar::Builder<Vec<u8>>);

type Records<'r> = &'r [(&'r str, &'r [u8])];

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// An entry of that type; `edit` changes what its header says otherwise.
    fn entry(
        mut self,
        name: &[u8],
        kind: u8,
        content: &[u8],
        records: Records<'_>,
        edit: impl Fn(&mut tar::Header),
    ) -> Self {
        if !records.is_empty() {
            self.0.append_pax_extensions(records.iter().copied()).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        edit(&mut header);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(name.as_bytes(), b'0', content.as_ref(), &[], |_| ())
    }

    fn link(self, name: &str, kind: u8, target: &str) -> Self {
        self.entry(name.as_bytes(), kind, b"", &[], |header| {
            header.set_link_name_literal(target).unwrap();
        })
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A tar of one file.
fn one(name: &str, content: impl AsRef<[u8]>) -> Vec<u8> {
    Tar::new().file(name, content).done()
}

/// Two images `a` and `b` of a plain layer each.
fn two(kiln: &Kiln, a: &[u8], b: &[u8]) {
    Image::of(kiln, &[Blob::plain(a)]).keep(kiln, "a");
    Image::of(kiln, &[Blob::plain(b)]).keep(kiln, "b");
}

/// What `kiln diff` says of `a` and `b` as lines, each with all there is to it: a field's
/// path, its values, its note.
fn said(kiln: &Kiln, more: &str) -> Vec<String> {
    lines(&differ(kiln, &format!("--format json {more} a b")).json())
}

/// A call for images that differ.
fn differ(kiln: &Kiln, args: &str) -> Output {
    kiln.fails(1, &format!("diff {args}"))
}

fn lines(report: &Value) -> Vec<String> {
    assert_eq!(report["same"], false);
    let mut out = Vec::new();
    fields("index ", &report["index"], &mut out);
    for image in list(&report["images"]) {
        if image["change"] != "changed" {
            out.push(format!("{} {}", text(&image["platform"]), text(&image["change"])));
        }
        fields("manifest ", &image["manifest"], &mut out);
        fields("config ", &image["config"], &mut out);
        for layer in list(&image["layers"]) {
            let number = |side: &str| match &layer[side]["number"] {
                Value::Null => "-".to_owned(),
                number => number.to_string(),
            };
            let change = text(&layer["change"]);
            // That the one layer has changed goes without saying.
            if (change.as_str(), number("a"), number("b")) != ("changed", "1".into(), "1".into()) {
                out.push(format!("layer {} {} {change}", number("a"), number("b")));
            }
            fields("layer ", &layer["fields"], &mut out);
            files(&layer["files"], &mut out);
        }
        files(&image["tree"], &mut out);
    }
    out
}

fn files(all: &Value, out: &mut Vec<String>) {
    for file in list(&all["files"]) {
        let mark = match file["change"].as_str().unwrap() {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        out.push(format!("{mark} {} {}", text(&file["path"]), text(&file["type"])));
        fields("  ", &file["fields"], out);
        content("  ", &file["content"], out);
    }
    if let Some(omitted @ 1..) = all["omitted"].as_u64() {
        out.push(format!("{omitted} omitted"));
    }
}

fn content(indent: &str, content: &Value, out: &mut Vec<String>) {
    if content.is_null() {
        return;
    }
    let mut line = format!("{indent}{}", text(&content["format"]));
    for key in ["offset", "bytes", "more"] {
        if !content[key].is_null() {
            line.push_str(&format!(" {key} {}", content[key]));
        }
    }
    out.push(line);
    fields(&format!("{indent}  "), &content["fields"], out);
    for line in list(&content["diff"]) {
        out.push(format!("{indent}  {}", text(line)));
    }
    self::content(&format!("{indent}  "), &content["inside"], out);
}

fn fields(indent: &str, fields: &Value, out: &mut Vec<String>) {
    for field in list(fields) {
        let (a, b) = (text(&field["a"]), text(&field["b"]));
        let mut line = format!("{indent}{}: {a} {b}", text(&field["field"]));
        if let Some(note) = field["note"].as_str() {
            line.push_str(&format!(" ({note})"));
        }
        out.push(line);
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
