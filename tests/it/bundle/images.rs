//! Results: with all platforms and all that refers to them, from store to store.

use std::fs;

use kiln::image::AnyImage;

use super::{attach, large, signed, text};
use crate::cli::{image, keep, keep_index};
use crate::support::kiln::{Kiln, tool};
use crate::support::registry::TestRegistry;

#[test]
fn results_travel_with_what_refers_to_them() {
    let from = Kiln::new();
    let (index, [signature, sbom, upon]) = signed(&from);
    let printed = from.ok("bundle -o r.tar --image app:1").text();
    let archive = from.path("r.tar");

    let listing = from.ok("bundle --list r.tar --format json").json();
    assert_eq!(listing["digest"], printed.trim());
    let listed = &listing["images"][0];
    assert_eq!(listed["digest"], index.to_string());
    assert_eq!(listed["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    let kinds: Vec<&str> = listed["referrers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["artifactType"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["x/sbom", "x/signature", "x/signature"]);
    let shown = from.ok("bundle --list r.tar").text();
    assert!(shown.contains("image app:1") && shown.contains("x/sbom"), "{shown}");

    let to = Kiln::new();
    assert_eq!(to.ok(&format!("load -i {}", text(&archive))).text(), "app:1\n");
    let store = to.store();
    let attached = |subject| -> Vec<_> {
        let all = store.referrers(&subject, None).unwrap();
        all.into_iter().map(|entry| entry.digest).collect()
    };
    let one = store.image_named(&"app:1".parse().unwrap()).unwrap().images()[0].digest();
    assert_eq!(attached(index), [signature]);
    assert_eq!(attached(one), [sbom]);
    assert_eq!(attached(sbom), [upon]);
    // And on from there, byte for byte.
    assert_eq!(to.ok("bundle -o again.tar --image app:1").text(), printed);
    assert!(fs::read(to.path("again.tar")).unwrap() == fs::read(&archive).unwrap());
    // From there to a registry there, with all of it.
    let second = TestRegistry::start(None);
    let place = format!("{}/app:1", second.addr);
    to.ok(&format!("tag app:1 {place}"));
    assert!(to.ok(&format!("push {place}")).text().trim().ends_with(&format!("@{index}")));
    let third = Kiln::new();
    third.ok(&format!("bundle -o t.tar --image docker://{place}"));
    let there = third.ok("bundle --list t.tar --format json").json();
    assert_eq!(there["images"][0]["digest"], listed["digest"]);
    assert_eq!(there["images"][0]["referrers"], listed["referrers"]);
    // A registry is as good a source as the store.
    let registry = TestRegistry::start(None);
    let place = format!("{}/app:1", registry.addr);
    from.ok(&format!("copy --referrers oci-archive:r.tar:docker.io/library/app:1 {place}"));
    let far = Kiln::new();
    far.ok(&format!("bundle -o f.tar --image {place}"));
    let listing = far.ok("bundle --list f.tar --format json").json();
    assert_eq!(listing["images"][0]["digest"], listed["digest"]);
    assert_eq!(listing["images"][0]["referrers"], listed["referrers"]);
    assert_eq!(listing["images"][0]["name"], place.as_str());
}

#[test]
fn other_tools_read_bundles() {
    let kiln = Kiln::new();
    let digest = keep(&kiln, "one:1");
    keep_index(&kiln, "quay.io/me/two:2");
    kiln.ok("bundle -o b.tar --image one:1 --image quay.io/me/two:2");
    let place = format!("oci-archive:{}:docker.io/library/one:1", text(kiln.path("b.tar")));
    let seen = tool("skopeo", &["--insecure-policy", "inspect", &place]);
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["Digest"], digest.as_str());
    let to = format!("oci:{}:x", text(kiln.path("layout")));
    kiln.ok(&format!("copy {place} {to}"));
    let theirs = kiln.path("theirs");
    fs::create_dir(&theirs).unwrap();
    tool("tar", &["-xf", &text(kiln.path("b.tar")), "-C", &text(&theirs)]);
    let listed = tool("umoci", &["ls", "--layout", &text(&theirs)]);
    assert_eq!(listed, "docker.io/library/one:1\nquay.io/me/two:2\n");
}

/// Nothing but the content counts: not the store, not the order, not what is there already.
#[test]
fn the_same_content_is_the_same_archive() {
    let (a, b) = (Kiln::new(), Kiln::new());
    for kiln in [&a, &b] {
        keep(kiln, "one:1");
        signed(kiln);
    }
    let index = b.store().find(&"app:1".parse().unwrap()).unwrap().unwrap();
    let more = attach(&b, &index, "y/more", "of another day");
    a.ok("bundle -o x.tar --image one:1 --image app:1 --image one:1");
    let other = |name: &str| b.ok(&format!("bundle -o {name} --image app:1 --image one:1")).text();
    let with_more = other("more.tar");
    assert!(b.store().detach(&index.digest, &more.digest).unwrap());
    assert_ne!(other("x.tar"), with_more);
    let bytes = fs::read(a.path("x.tar")).unwrap();
    assert!(bytes == fs::read(b.path("x.tar")).unwrap());
    // A blob is there once, however many images have it.
    let name = format!("blobs/sha256/{}", large(&a).hex());
    let listed = tool("tar", &["-tf", &text(a.path("x.tar"))]);
    assert_eq!(listed.lines().filter(|line| **line == name).count(), 1);
}

#[test]
fn what_others_have_is_left_out() {
    let from = Kiln::new();
    keep(&from, "app:1");
    let first = from.ok("bundle -o one.tar --image app:1").text();
    keep_index(&from, "many");
    let made = from.ok("bundle -o two.tar --since one.tar --image many");
    assert!(made.stderr.contains("left out 3 blobs"), "{}", made.stderr);
    let listing = from.ok("bundle --list two.tar --format json").json();
    assert_eq!(listing["since"], serde_json::json!([first.trim()]));
    assert_eq!(listing["images"][0]["leftOut"].as_array().unwrap().len(), 3);
    let two = text(from.path("two.tar"));
    let to = Kiln::new();
    let lacking = large(&from).to_string();
    to.fails(1, &format!("load -i {two}")).says(&lacking).says("`many:latest`").says(first.trim());
    assert_eq!(to.ok("images -q").text(), "", "nothing has got a name");
    to.ok(&format!("load -i {}", text(from.path("one.tar"))));
    to.ok(&format!("load -i {two}"));
    // All of it is known, and all there: the third has documents only.
    from.ok("bundle -o three.tar --since two.tar --since one.tar --image many");
    let listing = from.ok("bundle --list three.tar --format json").json();
    assert_eq!(listing["since"].as_array().unwrap().len(), 2);
    assert_eq!(listing["blobs"], 5, "an index, two manifests, two configs");
    to.ok(&format!("load -i {}", text(from.path("three.tar"))));
    // What has nothing to give is not needed.
    from.ok("bundle -o other.tar --since three.tar --image app:1");
    assert!(from.ok("bundle --list other.tar --format json").json().get("since").is_none());
}

#[test]
fn what_cannot_be_bundled_is_said() {
    let kiln = Kiln::new();
    keep(&kiln, "app:1");
    kiln.fails(1, "bundle -o x.tar").says("Dockerfile");
    kiln.fails(2, "bundle --image app:1").says("--output");
    kiln.fails(2, "bundle -o - --image app:1").says("stdout");
    kiln.fails(2, "bundle -o x.tar --image oci:x").says("kiln load");
    kiln.fails(2, "bundle -o x.tar --split 0 --image app:1").says("--split");
    kiln.fails(1, "bundle -o x.tar --since absent.tar --image app:1").says("absent.tar");
    kiln.ok("bundle -o own.tar --image app:1");
    kiln.fails(1, "bundle -o ./own.tar --since own.tar --image app:1").says("written over");
    kiln.ok("bundle --list own.tar");
    kiln.fails(1, "bundle --list /dev/null").says("no image archive");
    kiln.fails(1, "bundle -o x.tar --image store:absent").says("no image `absent:latest`");
    // Only a part of it is here.
    let AnyImage::Image(image) = AnyImage::Image(image(&kiln, "linux/amd64")) else { return };
    fs::remove_file(kiln.store().blob_path(&image.layers()[1].digest)).unwrap();
    kiln.fails(1, "bundle -o x.tar --image app:1").says("docker://NAME");
    assert!(!kiln.path("x.tar").exists());
}
