//! Images that are compared where they are: layouts in folders and archives.

use super::document::{entry, index};
use super::{Blob, Image, differ, lines, one, said};
use crate::support::kiln::{Kiln, tool};

#[test]
fn layouts_and_archives() {
    let kiln = Kiln::new();
    Image::of(&kiln, &[Blob::plain(&one("f", "1\n"))]).keep(&kiln, "a:v1");
    Image::of(&kiln, &[Blob::plain(&one("f", "2\n"))]).keep(&kiln, "b:v2");
    let path = |name: &str| kiln.path(name).to_str().unwrap().to_owned();
    let store = kiln.store_path();
    let from = |name: &str| format!("oci:{}:docker.io/library/{name}", store.display());
    let copy = |from: &str, to: &str| tool("skopeo", &["copy", "-q", from, to]);
    copy(&from("a:v1"), &format!("oci:{}:one", path("layout")));
    copy(&from("a:v1"), &format!("oci:{}:only", path("lone")));
    copy(&from("b:v2"), &format!("oci:{}:two", path("layout")));
    copy(&from("b:v2"), &format!("oci-archive:{}:two", path("two.tar")));
    let (layout, lone, archive) = (path("layout"), path("lone"), path("two.tar"));
    let expected = ["~ f file", "  text offset 0 bytes 1", "    @@ -1 +1 @@", "    -1", "    +2"];
    for (a, b) in [
        ("a:v1".to_owned(), "b:v2".to_owned()),
        (format!("oci:{layout}:one"), format!("oci:{layout}:two")),
        (format!("oci:{lone}"), "b:v2".to_owned()),
        ("a:v1".to_owned(), format!("oci-archive:{archive}")),
        (format!("oci:{lone}:only"), format!("oci-archive:{archive}:two")),
    ] {
        let json = differ(&kiln, &format!("--format json {a} {b}")).json();
        let mut found = lines(&json);
        // skopeo compresses what it copies.
        found.retain(|line| !line.starts_with("layer "));
        assert_eq!(found, expected, "{a} {b}");
    }
    kiln.ok(&format!("diff oci:{layout}:one oci:{lone}"));
    // Names with colons, as kiln's own store has them, and the words of `kiln copy`.
    kiln.ok(&format!("diff {} store:a:v1", from("a:v1")));
    let docker = path("docker.tar");
    kiln.ok(&format!("save -o {docker} --format docker a:v1"));
    let named = format!("docker-archive:{docker}:docker.io/library/a:v1");
    let output = kiln.args(["diff", &named, "a:v1"]).run();
    assert!(matches!(output.code, Some(0 | 1)), "{}", output.stderr);
    let refused = |code: i32, args: &str, says: &str| {
        kiln.fails(code, &format!("diff {args}")).says(says);
    };
    refused(2, &format!("oci:{layout} a:v1"), "name one of one, two after a colon");
    refused(2, &format!("oci:{layout}:three a:v1"), "has no image `three`");
    refused(2, &format!("oci:{} a:v1", path("nowhere")), "it has no `index.json`");
    refused(2, &format!("oci-archive:{} a:v1", path("nowhere")), "nowhere");
    refused(2, "docker://r/a a:v1", "`kiln pull r/a`");
    refused(2, &format!("oci:{} a:v1", store.display()), "docker.io/library/b:v2 after a colon");
    refused(2, &format!("oci-archive:{layout} a:v1"), "is no file");
    refused(2, &format!("oci-archive:{archive}:one a:v1"), "has no image `one`");
    let names = kiln.ok("images").text();
    assert_eq!(names.lines().count(), 3, "nothing was kept: {names}");
    // A blob that is not what its name says.
    let blobs = kiln.path("lone/blobs/sha256");
    for entry in std::fs::read_dir(blobs).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if !bytes.starts_with(b"{") {
            let mut damaged = bytes.clone();
            *damaged.last_mut().unwrap() ^= 1;
            std::fs::write(&path, damaged).unwrap();
        }
    }
    refused(2, &format!("oci:{lone} b:v2"), "blob");
}

/// What a layout's files must be: a blob may not be any other file, nor one without end.
#[test]
fn links_and_pipes_in_a_layout_are_not_read() {
    let kiln = Kiln::new();
    let layer = one("f", "1");
    Image::of(&kiln, &[Blob::plain(&layer)]).keep(&kiln, "a");
    Image::of(&kiln, &[Blob::plain(&one("f", "2"))]).keep(&kiln, "b");
    let folder = kiln.path("layout");
    let layout = folder.to_str().unwrap();
    let from = format!("oci:{}:docker.io/library/a:latest", kiln.store_path().display());
    // skopeo would compress the layer.
    tool("skopeo", &["copy", "-q", "--preserve-digests", &from, &format!("oci:{layout}:a")]);
    let blob = folder.join("blobs/sha256").join(kiln::digest::BlobDigest::of(&layer).hex());
    differ(&kiln, &format!("oci:{layout} b"));
    let refused = || {
        let says = "is a link or no regular file, and is not read";
        kiln.fails(2, &format!("diff oci:{layout} b")).says(says);
    };
    std::fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &blob).unwrap();
    refused();
    std::fs::remove_file(&blob).unwrap();
    tool("mkfifo", &[blob.to_str().unwrap()]);
    refused();
    std::fs::remove_file(folder.join("index.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("index.json")).unwrap();
    refused();
}

#[test]
fn an_index_of_another_tool() {
    let kiln = Kiln::new();
    let entries = ["amd64", "arm64"].map(|architecture| entry(&kiln, architecture, "x"));
    index(&kiln, "many:v1", &entries, serde_json::json!({}));
    let folder = kiln.path("many");
    let from = format!("oci:{}:docker.io/library/many:v1", kiln.store_path().display());
    let to = format!("oci:{}:v1", folder.display());
    tool("skopeo", &["copy", "-q", "--all", "--preserve-digests", &from, &to]);
    kiln.ok(&format!("diff many:v1 oci:{}", folder.display()));
    Image::of(&kiln, &[Blob::plain(&one("f", "x"))]).keep(&kiln, "a");
    kiln.ok("tag many:v1 b");
    let lines = said(&kiln, "");
    assert_eq!(lines[0], "index kind: image index");
    assert!(lines.contains(&"linux/arm64 added".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with('~')), "the same file: {lines:?}");
}
