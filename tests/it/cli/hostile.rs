//! Archives that are not what they claim to be: each is refused with a reason,
//! and nothing gets a name.

use std::fs;
use std::io::Write as _;

use kiln::digest::Digest;
use serde_json::json;

use super::{keep, layer_tar};
use crate::support::kiln::Kiln;

/// An entry with a header of one's own making.
fn entry(name: &[u8], kind: u8, content: &[u8], edit: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[156] = kind;
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    edit(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name.as_bytes(), b'0', content, |_| ())
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// A docker archive of one layer, as the base of what is changed in the tests.
fn docker(tags: &str, layers: &str, layer: &[u8], diff_id: &str) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let list = format!(r#"[{{"Config":"c.json","RepoTags":{tags},"Layers":{layers}}}]"#);
    archive(&[
        file("manifest.json", list.as_bytes()),
        file("c.json", config.to_string().as_bytes()),
        file("l.tar", layer),
    ])
}

/// An OCI archive of one image whose parts can be falsified.
fn oci(falsify: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let layer = layer_tar(&[("x", b"y")]);
    let descriptor = |kind: &str, bytes: &[u8]| {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": Digest::of(bytes).to_string(),
            "size": bytes.len(),
        })
    };
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar", &layer)],
    })
    .to_string()
    .into_bytes();
    let index = json!({
        "schemaVersion": 2,
        "manifests": [descriptor("manifest.v1+json", &manifest)],
    });
    let mut entries = vec![
        file("oci-layout", &falsify("layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())),
        file("index.json", &falsify("index", index.to_string().into_bytes())),
    ];
    for (what, bytes) in [("manifest", manifest), ("config", config), ("layer", layer)] {
        let name = format!("blobs/sha256/{}", Digest::of(&bytes).hex());
        entries.push(file(&name, &falsify(what, bytes)));
    }
    archive(&entries)
}

/// Checks that an archive is refused, by file and by pipe, and leaves nothing.
#[track_caller]
fn refused(bytes: Vec<u8>, says: &str) {
    refused_case("", bytes, says);
}

/// As [`refused`], for a case of a table.
#[track_caller]
fn refused_case(case: &str, bytes: Vec<u8>, says: &str) {
    let kiln = Kiln::new();
    fs::write(kiln.path("x.tar"), &bytes).unwrap();
    let by_file = kiln.args(["load", "-i", "x.tar"]).run();
    let by_pipe = kiln.args(["load"]).stdin(bytes).run();
    for output in [by_file, by_pipe] {
        assert_eq!(output.code, Some(1), "{case}: {}", output.stderr);
        assert!(output.stderr.contains(says), "{case}: {}", output.stderr);
        assert!(!output.stderr.contains('\u{1b}'), "{case}: {:?}", output.stderr);
    }
    assert_eq!(kiln.ok("images --json").text(), "[]\n", "{case}");
    let tmp = fs::read_dir(kiln.store_path().join("tmp")).unwrap().count();
    assert_eq!(tmp, 0, "{case}: nothing stays behind");
}

#[test]
fn honest_twins_are_loaded() {
    let layer = layer_tar(&[("x", b"y")]);
    let diff_id = Digest::of(&layer).to_string();
    let kiln = Kiln::new();
    fs::write(kiln.path("d.tar"), docker(r#"["a:1"]"#, r#"["l.tar"]"#, &layer, &diff_id)).unwrap();
    assert_eq!(kiln.ok("load -i d.tar").text(), "a:1\n");
    fs::write(kiln.path("o.tar"), oci(|_, bytes| bytes)).unwrap();
    assert!(kiln.ok("load -i o.tar").text().starts_with("localhost/loaded@"));
}

#[test]
fn hostile_tars() {
    let list = || file("manifest.json", b"[]");
    let pax = |text: &str| entry(b"x", b'x', text.as_bytes(), |_| ());
    let link =
        |name: &str, to: &str| entry(name.as_bytes(), b'2', b"", |h| h.set_link_name(to).unwrap());
    for (what, bytes, says) in [
        ("below a link", archive(&[link("blobs", "x"), file("blobs/y", b"")]), "no folder"),
        ("below a file", archive(&[file("a", b""), file("a/b", b"")]), "no folder"),
        ("no name", archive(&[list(), file("./", b"")]), "no name"),
        ("empty", Vec::new(), "no image archive"),
        ("text", vec![b'a'; 2000], "no image archive"),
        ("zeros", vec![0; 1024], "neither `oci-layout`"),
        ("xz", b"\xfd7zXZ\0\0\0rest".to_vec(), "cannot read the archive"),
        ("cut gzip", b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), "cannot read the archive"),
        ("no end", list(), "ends early"),
        ("cut content", list()[..700].to_vec(), "ends early"),
        ("something after", [archive(&[list()]), vec![1; 512]].concat(), "follows its end"),
        ("twice", archive(&[list(), list()]), "occurs twice"),
        ("other spelling", archive(&[list(), file("./manifest.json", b"[]")]), "occurs twice"),
        ("absolute", archive(&[list(), file("/etc/x", b"")]), "absolute"),
        ("outside", archive(&[list(), file("a/../../x", b"")]), "leads out"),
        (
            "link outside",
            archive(&[
                list(),
                entry(b"l", b'2', b"", |h| {
                    h.set_link_name("../../etc/passwd").unwrap();
                }),
            ]),
            "leads out",
        ),
        ("hard link", archive(&[list(), entry(b"l", b'1', b"", |_| ())]), "type 0x31"),
        ("device", archive(&[list(), entry(b"l", b'3', b"", |_| ())]), "type 0x33"),
        ("sparse", archive(&[list(), entry(b"l", b'S', b"", |_| ())]), "type 0x53"),
        ("pax sparse", archive(&[list(), pax("22 GNU.sparse.major=1\n")]), "sparse"),
        ("pax length", archive(&[list(), pax("99 path=a\n")]), "pax record"),
        ("pax text", archive(&[list(), pax("rubbish")]), "pax record"),
        ("pax twice", archive(&[list(), pax("9 path=a\n9 path=b\n")]), "something twice"),
        ("pax alone", archive(&[list(), pax("9 path=a\n")]), "no entry"),
        (
            "pax size",
            archive(&[list(), pax("28 size=9223372036854775807\n"), file("a", b"")]),
            "larger than the archive",
        ),
        ("global path", archive(&[list(), entry(b"g", b'g', b"9 path=a\n", |_| ())]), "global"),
        ("not UTF-8", archive(&[list(), entry(b"\xff", b'0', b"", |_| ())]), "UTF-8"),
        (
            "huge size",
            archive(&[list(), entry(b"a", b'0', b"", |h| h.set_size(u64::MAX >> 1))]),
            "larger than the archive",
        ),
        (
            "size of letters",
            archive(&[
                list(),
                entry(b"a", b'0', b"", |h| {
                    h.as_mut_bytes()[124..136].copy_from_slice(b"zzzzzzzzzzz\0");
                }),
            ]),
            "number",
        ),
        (
            "huge record",
            archive(&[list(), entry(b"x", b'x', &vec![b'1'; 1 << 17], |_| ())]),
            "extension record",
        ),
        ("folder with content", archive(&[list(), entry(b"d/", b'5', b"x", |_| ())]), "folder"),
    ] {
        refused_case(what, bytes, says);
    }
    let mut sum = archive(&[list(), file("a", b"")]);
    sum[1024] = b'b';
    refused(sum, "check sum");
}

#[test]
fn hostile_docker_archives() {
    let layer = layer_tar(&[("x", b"y")]);
    let diff_id = Digest::of(&layer).to_string();
    let good = |tags, layers| docker(tags, layers, &layer, &diff_id);
    refused(good(r#"["A B"]"#, r#"["l.tar"]"#), "not an image reference");
    refused(good("null", "[]"), "lists 0 layers, its config 1 diff IDs");
    refused(good("null", r#"["l.tar","l.tar"]"#), "lists 2 layers");
    refused(good("null", r#"["../l.tar"]"#), "has no ../l.tar");
    refused(good("null", r#"["/etc/passwd"]"#), "has no /etc/passwd");
    refused(good("null", "[\"\u{1b}[2J\"]"), "malformed");
    refused(good("null", r#"["\u001b[2J"]"#), "has no");
    refused(docker("null", r#"["l.tar"]"#, b"other", &diff_id), "unpacks to");
    refused(docker("null", r#"["l.tar"]"#, b"\x1f\x8b\x08 broken", &diff_id), "cannot read");
    refused(docker("null", r#"["l.tar"]"#, &layer, "sha256:../../x"), "not a digest");
    refused(archive(&[file("manifest.json", b"[]")]), "no image");
    refused(
        archive(&[file("manifest.json", br#"[{"Config":"x","Config":"y","Layers":[]}]"#)]),
        "twice",
    );
    refused(archive(&[file("manifest.json", &vec![b' '; 5 << 20])]), "more than");
    // Whatever follows the compressed layer is in no diff ID.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).unwrap();
    let mut bytes = gzip.finish().unwrap();
    bytes.extend_from_slice(b"more");
    refused(docker("null", r#"["l.tar"]"#, &bytes, &diff_id), "cannot read");
    // Links that go in a circle end somewhere.
    let link = |name: &[u8], to: &str| entry(name, b'2', b"", |h| h.set_link_name(to).unwrap());
    refused(archive(&[link(b"manifest.json", "b"), link(b"b", "manifest.json")]), "neither");
}

#[test]
fn hostile_oci_archives() {
    for what in ["manifest", "config", "layer"] {
        let falsify = |part: &str, mut bytes: Vec<u8>| {
            if part == what {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
            bytes
        };
        refused(oci(falsify), "does not match");
        let longer = |part: &str, mut bytes: Vec<u8>| {
            if part == what {
                bytes.push(b' ');
            }
            bytes
        };
        refused(oci(longer), "does not match");
    }
    let replace = |part: &'static str, text: &'static str| {
        oci(move |what, bytes| if what == part { text.into() } else { bytes })
    };
    refused(replace("layout", r#"{"imageLayoutVersion":"9\u001b"}"#), "version");
    refused(replace("index", r#"{"schemaVersion":2,"manifests":[]}"#), "no image");
    refused(replace("index", r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#), "two ways");
    let absent = r#"{"schemaVersion":2,"manifests":[{"mediaType":
        "application/vnd.oci.image.manifest.v1+json","digest":
        "sha256:0000000000000000000000000000000000000000000000000000000000000000","size":2}]}"#;
    refused(replace("index", absent), "has no blobs/sha256/0000");
    let artifact = absent.replace("image.manifest.v1+json", "something");
    refused(
        oci(move |what, bytes| if what == "index" { artifact.clone().into() } else { bytes }),
        "has no blobs/sha256/0000",
    );
}

/// An archive that fails half-way leaves the names as they were.
#[test]
fn a_failed_load_names_nothing() {
    let from = Kiln::new();
    keep(&from, "app:v1");
    from.ok("save -o x.tar app:v1");
    let mut bytes = fs::read(from.path("x.tar")).unwrap();
    let middle = bytes.len() - 2048;
    bytes[middle] ^= 1;
    refused(bytes, "");
}
