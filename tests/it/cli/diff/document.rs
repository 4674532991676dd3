//! Indexes, manifests, configs, and how layers are stored and lined up.

use flate2::GzBuilder;
use serde_json::{Value, json};

use super::{Blob, Image, Tar, differ, keep, one, said};
use crate::support::kiln::Kiln;

/// Sets a value at a JSON pointer whose last part may be new.
fn set(document: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[key] = value;
}

#[test]
fn fields_of_documents() {
    let layers = [Blob::plain(&one("f", "x"))];
    let oci = "application/vnd.oci.image";
    let cases: &[(&str, Value, &[&str])] = &[
        (
            "config/created",
            json!("2021-01-01T00:00:00Z"),
            &["config created: 2020-01-01T00:00:00Z 2021-01-01T00:00:00Z"],
        ),
        ("config/config/Env", json!(["PATH=/bin", "A=2"]), &["config config.Env[A]: 1 2"]),
        ("config/config/Env", json!(["PATH=/bin", "A=1", "B="]), &["config config.Env[B]: - "]),
        (
            "config/config/Env",
            json!(["A=1", "PATH=/bin"]),
            &["config config.Env: [\"PATH\",\"A\"] [\"A\",\"PATH\"] (another order)"],
        ),
        ("config/config/Cmd", json!(["sh", "-l"]), &["config config.Cmd[1]: - -l"]),
        (
            "config/config/Labels",
            json!({"a": "c", "x.y": "z"}),
            &["config config.Labels.a: b c", "config config.Labels[x.y]: - z"],
        ),
        ("config/config/User", json!("7"), &["config config.User: - 7"]),
        ("config/author", json!("me"), &["config author: - me"]),
        ("config/unheard", json!({"of": 1}), &["config unheard: - {\"of\":1}"]),
        ("config/architecture", json!("arm64"), &["config architecture: amd64 arm64"]),
        (
            "config/history/0/created",
            json!("2021-01-01T00:00:00Z"),
            &["config history[0].created: 2020-01-01T00:00:00Z 2021-01-01T00:00:00Z"],
        ),
        (
            "config/history/0/created_by",
            json!("COPY"),
            &["config history[0].created_by: RUN make COPY"],
        ),
        ("manifest/annotations", json!({"k": "v"}), &["manifest annotations: - {\"k\":\"v\"}"]),
        (
            "manifest/config/mediaType",
            json!("application/vnd.docker.container.image.v1+json"),
            &["manifest config.mediaType: application/vnd.oci.image.config.v1+json \
             application/vnd.docker.container.image.v1+json"],
        ),
        (
            "manifest/layers/0/annotations",
            json!({"k": "v"}),
            &["layer 1 1 repacked", "layer annotations: - {\"k\":\"v\"}"],
        ),
    ];
    for (place, value, expected) in cases {
        let kiln = Kiln::new();
        let image = Image::of(&kiln, &layers);
        image.keep(&kiln, "a");
        let mut other = image.clone();
        let (document, pointer) = place.split_once('/').unwrap();
        let document = if document == "config" { &mut other.config } else { &mut other.manifest };
        set(document, &format!("/{pointer}"), value.clone());
        other.keep(&kiln, "b");
        assert_eq!(said(&kiln, ""), *expected, "{place} {value}");
    }
    let kiln = Kiln::new();
    let image = Image::of(&kiln, &layers);
    image.keep(&kiln, "a");
    let spaced = serde_json::to_vec_pretty(&image.config).unwrap();
    image.keep_bytes(&kiln, "b", &spaced);
    let (short, long) = (image.config.to_string().len(), spaced.len());
    let note = "(the same values, written otherwise from byte 1 on)";
    assert_eq!(said(&kiln, ""), [format!("config encoding: {short} {long} {note}")], "{oci}");
}

/// What it is about, two images' layers, and what is said.
type Case<'c> = (&'static str, Vec<&'c Blob>, Vec<&'c Blob>, Vec<String>);

#[test]
fn layers_are_lined_up() {
    let layer = |name: &str, content: &str| Blob::plain(&one(name, content));
    let (a, b, c) = (layer("a", "1"), layer("b", "1").by("RUN b"), layer("c", "1").by("RUN c"));
    let b2 = layer("b", "2").by("RUN b");
    let x = layer("x", "1").by("RUN x");
    let b_changed: &[&str] = &[
        "~ b file",
        "  text offset 0 bytes 1",
        "    @@ -1 +1 @@",
        "    -1 (no newline)",
        "    +2 (no newline)",
    ];
    let history = |by: &str| json!({"created": "2020-01-01T00:00:00Z", "created_by": by});
    let cases: Vec<Case<'_>> = vec![
        (
            "put in",
            vec![&a, &b, &c],
            vec![&a, &x, &b, &c],
            vec![format!("config history[1]: - {}", history("RUN x")), "layer - 2 added".into()],
        ),
        (
            "taken out",
            vec![&a, &x, &b],
            vec![&a, &b],
            vec![format!("config history[1]: {} -", history("RUN x")), "layer 2 - removed".into()],
        ),
        (
            "put in before one that changed",
            vec![&a, &b, &c],
            vec![&a, &x, &b2, &c],
            vec![
                format!("config history[1]: - {}", history("RUN x")),
                "layer - 2 added".into(),
                "layer 2 3 changed".into(),
            ]
            .into_iter()
            .chain(b_changed.iter().map(|line| (*line).to_owned()))
            .collect(),
        ),
        (
            "moved",
            vec![&a, &b, &c, &x],
            vec![&b, &c, &x, &a],
            vec![
                format!("config history[0]: {} -", history("RUN make")),
                format!("config history[3]: - {}", history("RUN make")),
                "layer 1 4 moved".into(),
            ],
        ),
    ];
    for (what, one, other, expected) in cases {
        let kiln = Kiln::new();
        let of = |blobs: Vec<&Blob>| -> Vec<Blob> { blobs.into_iter().cloned().collect() };
        Image::of(&kiln, &of(one)).keep(&kiln, "a");
        Image::of(&kiln, &of(other)).keep(&kiln, "b");
        assert_eq!(said(&kiln, ""), expected, "{what}");
    }
}

#[test]
fn one_tar_in_other_bytes() {
    let text: String = (0..3000).map(|n| format!("{n} {}\n", n * n)).collect();
    let tar = one("f", text);
    let gzip = |header: GzBuilder| Blob::gzip(&tar, header, 6);
    let plain = || gzip(GzBuilder::new().operating_system(255));
    let size = |blob: &Blob| blob.bytes.len();
    let named = gzip(GzBuilder::new().operating_system(255).filename("layer.tar"));
    let best = Blob::gzip(&tar, GzBuilder::new().operating_system(255), 9);
    let fifth = Blob::gzip(&tar, GzBuilder::new().operating_system(255), 5);
    let two_members = {
        let (head, tail) = tar.split_at(1024);
        let part = |bytes| Blob::gzip(bytes, GzBuilder::new().operating_system(255), 6).bytes;
        Blob { bytes: [part(head), part(tail)].concat(), ..plain() }
    };
    let zstd = Blob::zstd(&tar, zstd::bulk::compress(&tar, 3).unwrap());
    let frames = {
        let (head, tail) = tar.split_at(1024);
        let part = |bytes| zstd::bulk::compress(bytes, 3).unwrap();
        Blob::zstd(&tar, [part(head), part(tail)].concat())
    };
    let (oci_gzip, oci_zstd) = (
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
    );
    let first =
        |a: &Blob, b: &Blob| a.bytes.iter().zip(&b.bytes).position(|(a, b)| a != b).unwrap();
    let cases: Vec<(&str, Blob, Blob, Vec<String>)> = vec![
        (
            "time",
            plain(),
            gzip(GzBuilder::new().operating_system(255).mtime(60)),
            vec![
                "layer gzip.mtime: none 1970-01-01T00:01:00Z".into(),
                "layer offset: 4 4 (the first byte that differs)".into(),
            ],
        ),
        (
            "system",
            plain(),
            gzip(GzBuilder::new().operating_system(3)),
            vec![
                "layer gzip.os: unknown Unix".into(),
                "layer offset: 9 9 (the first byte that differs)".into(),
            ],
        ),
        (
            "name",
            plain(),
            named.clone(),
            vec![
                "layer gzip.name: - layer.tar".into(),
                format!("layer size: {} {}", size(&plain()), size(&named)),
                "layer offset: 3 3 (the first byte that differs)".into(),
            ],
        ),
        (
            "level in the header",
            plain(),
            best.clone(),
            vec![
                "layer gzip.level: ordinary best".into(),
                format!("layer size: {} {}", size(&plain()), size(&best)),
                "layer offset: 8 8 (the first byte that differs)".into(),
            ],
        ),
        (
            "level",
            plain(),
            fifth.clone(),
            vec![
                format!("layer size: {} {}", size(&plain()), size(&fifth)),
                format!(
                    "layer offset: {0} {0} (the headers say the same: another compressor, or another \
                 level of it)",
                    first(&plain(), &fifth)
                ),
            ],
        ),
        (
            "members",
            plain(),
            two_members.clone(),
            vec![
                "layer gzip.members: 1 2".into(),
                format!("layer size: {} {}", size(&plain()), size(&two_members)),
                format!(
                    "layer offset: {0} {0} (the first byte that differs)",
                    first(&plain(), &two_members)
                ),
            ],
        ),
        (
            "frames",
            zstd.clone(),
            frames.clone(),
            vec![
                format!("layer size: {} {}", size(&zstd), size(&frames)),
                "layer zstd.blocks: 1 2".into(),
                "layer zstd.frames: 1 2".into(),
                format!(
                    "layer offset: {0} {0} (the first byte that differs)",
                    first(&zstd, &frames)
                ),
            ],
        ),
    ];
    for (what, one, other, mut expected) in cases {
        let kiln = Kiln::new();
        Image::of(&kiln, std::slice::from_ref(&one)).keep(&kiln, "a");
        Image::of(&kiln, std::slice::from_ref(&other)).keep(&kiln, "b");
        expected.insert(0, "layer 1 1 repacked".into());
        let equal = size(&one) == size(&other);
        expected.retain(|line| !(equal && line.starts_with("layer size")));
        assert_eq!(said(&kiln, ""), expected, "{what}");
    }
    let kiln = Kiln::new();
    Image::of(&kiln, &[plain()]).keep(&kiln, "a");
    Image::of(&kiln, &[zstd]).keep(&kiln, "b");
    let lines = said(&kiln, "");
    assert_eq!(lines[1], format!("layer mediaType: {oci_gzip} {oci_zstd}"));
    assert_eq!(lines[2], "layer compression: gzip zstd");
    assert!(!lines.iter().any(|line| line.contains("offset")), "{lines:?}");
}

#[test]
fn a_blob_that_lies_about_its_tar_is_told() {
    let kiln = Kiln::new();
    let honest = Blob::plain(&one("f", "x"));
    let mut lying = Blob::plain(&one("f", "y"));
    lying.diff_id = honest.diff_id;
    let found = kiln::digest::DiffId::of(&lying.bytes);
    Image::of(&kiln, &[honest]).keep(&kiln, "a");
    Image::of(&kiln, &[lying]).keep(&kiln, "b");
    let lines = said(&kiln, "");
    assert_eq!(
        lines[..2],
        [
            format!("layer unpacksTo: - {found}"),
            "layer offset: 512 512 (the first byte that differs)".into()
        ]
    );
    assert!(lines.contains(&"~ f file".to_owned()), "the files are told too: {lines:?}");
    let text = super::differ(&kiln, "a b").text();
    assert!(!text.contains("same files"), "{text}");
}

#[test]
fn one_blob_of_two_diff_ids_is_no_twin() {
    let kiln = Kiln::new();
    let honest = Blob::plain(&one("f", "x"));
    let lying = Blob { diff_id: kiln::digest::DiffId::of(b"y"), ..honest.clone() };
    let ids = format!("{} {}", honest.diff_id, lying.diff_id);
    Image::of(&kiln, &[honest]).keep(&kiln, "a");
    Image::of(&kiln, &[lying]).keep(&kiln, "b");
    let note = "(one blob, which cannot unpack to both: a config is wrong)";
    assert_eq!(said(&kiln, ""), [format!("layer diffId: {ids} {note}")]);
}

/// Platforms whose names have marks, and many of one name, keep their own lines.
#[test]
fn platforms_that_are_called_alike_are_told_apart() {
    let kiln = Kiln::new();
    let entries: Vec<Value> = ["x", "y", "z"].iter().map(|of| entry(&kiln, "amd64", of)).collect();
    let changed = entry(&kiln, "amd64", "new");
    index(&kiln, "a", &entries, json!({}));
    index(&kiln, "b", &[entries[0].clone(), changed, entries[2].clone()], json!({}));
    let lines = said(&kiln, "");
    assert_eq!(lines[0], "~ f file", "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with('~')).count(), 1, "{lines:?}");
}

pub(super) fn index(kiln: &Kiln, name: &str, entries: &[Value], more: Value) {
    let mut document = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let media_type = "application/vnd.oci.image.index.v1+json";
    keep(kiln, name, document.to_string().as_bytes(), media_type);
}

/// An entry of an index: an image for an architecture whose one file says `content`.
pub(super) fn entry(kiln: &Kiln, architecture: &str, content: &str) -> Value {
    let mut image = Image::of(kiln, &[Blob::plain(&one("f", content))]);
    image.config["architecture"] = architecture.into();
    let at = image.keep(kiln, "part");
    kiln.store().untag(&"part".parse().unwrap()).unwrap();
    let mut entry = serde_json::to_value(at).unwrap();
    entry["platform"] = json!({"os": "linux", "architecture": architecture});
    entry
}

#[test]
fn indexes_platform_by_platform() {
    let kiln = Kiln::new();
    let [amd, arm] = ["amd64", "arm64"].map(|of| entry(&kiln, of, "x"));
    let other_arm = entry(&kiln, "arm64", "y");
    let changed: &[&str] = &[
        "~ f file",
        "  text offset 0 bytes 1",
        "    @@ -1 +1 @@",
        "    -x (no newline)",
        "    +y (no newline)",
    ];
    let mut annotated = arm.clone();
    annotated["annotations"] = json!({"k": "v"});
    let mut attestation = entry(&kiln, "unknown", "z");
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let attests = json!({"mediaType": attestation["mediaType"], "digest": attestation["digest"],
        "size": attestation["size"]});
    let cases: Vec<(&str, Vec<&Value>, Value, Vec<String>)> = vec![
        (
            "one platform's files",
            vec![&amd, &other_arm],
            json!({}),
            changed.iter().map(|line| (*line).to_owned()).collect(),
        ),
        (
            "order",
            vec![&arm, &amd],
            json!({}),
            vec![
            "index manifests: [\"linux/amd64\",\"linux/arm64\"] [\"linux/arm64\",\"linux/amd64\"] \
             (another order)".into(),
        ],
        ),
        (
            "annotations",
            vec![&amd, &arm],
            json!({"annotations": {"a": "b"}}),
            vec!["index annotations: - {\"a\":\"b\"}".into()],
        ),
        (
            "an entry's annotations",
            vec![&amd, &annotated],
            json!({}),
            vec!["index manifests[linux/arm64].annotations: - {\"k\":\"v\"}".into()],
        ),
        (
            "a platform less",
            vec![&amd],
            json!({}),
            vec![
                format!(
                    "index manifests[linux/arm64]: {} -",
                    json!({"mediaType": arm["mediaType"]})
                ),
                "linux/arm64 removed".into(),
            ],
        ),
        (
            "an attestation",
            vec![&amd, &arm, &attestation],
            json!({}),
            vec![format!("index manifests[attestation]: - {attests}")],
        ),
    ];
    index(&kiln, "a", &[amd.clone(), arm.clone()], json!({}));
    for (what, entries, more, expected) in cases {
        let entries: Vec<Value> = entries.into_iter().cloned().collect();
        index(&kiln, "b", &entries, more);
        assert_eq!(said(&kiln, ""), expected, "{what}");
    }
    index(&kiln, "b", &[amd.clone(), other_arm], json!({}));
    assert_eq!(kiln.ok("diff --platform linux/amd64 a b").text(), "a and b are the same\n");
    assert_eq!(said(&kiln, "--platform linux/arm64"), changed);
    let refused = kiln.fails(2, "diff --platform linux/s390x a b");
    refused.says("has no image for linux/s390x, only for linux/amd64, linux/arm64");
    // An image is compared with the one of its platform.
    keep(
        &kiln,
        "b",
        &kiln.store().document(&amd["digest"].as_str().unwrap().parse().unwrap()).unwrap(),
        amd["mediaType"].as_str().unwrap(),
    );
    assert_eq!(said(&kiln, ""), ["index kind: index image", "linux/arm64 removed"]);
}

#[test]
fn merged_trees_are_compared_whatever_the_layers() {
    let kiln = Kiln::new();
    let lower = Tar::new().file("etc/one", "1").file("etc/gone", "g").file("same", "s").done();
    let upper = Tar::new().file("etc/.wh.gone", "").file("etc/two", "2").done();
    let squashed = Tar::new().file("etc/one", "1").file("etc/two", "3").file("same", "s").done();
    Image::of(&kiln, &[Blob::plain(&lower), Blob::plain(&upper).by("RUN two")]).keep(&kiln, "a");
    Image::of(&kiln, &[Blob::plain(&squashed)]).keep(&kiln, "b");
    let lines = said(&kiln, "--merged");
    let files: Vec<&String> = lines.iter().skip_while(|line| !line.starts_with('~')).collect();
    assert_eq!(
        files,
        [
            "~ etc/two file",
            "  text offset 0 bytes 1",
            "    @@ -1 +1 @@",
            "    -2 (no newline)",
            "    +3 (no newline)",
        ]
    );
    assert!(
        differ(&kiln, "--merged a b").text().contains("all layers together: 1 file: 1 changed")
    );
}
