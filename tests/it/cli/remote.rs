//! Commands about registries, layouts and indexes, as a user or script meets them.

use std::fs;

use kiln::image::{AnyImage, assemble};

use super::{keep, keep_index};
use crate::support::kiln::Kiln;
use crate::support::registry::{TestRegistry, skopeo};

#[test]
fn wrong_lines_exit_2() {
    let kiln = Kiln::new();
    for (line, says) in [
        ("copy a", "<DST>"),
        ("copy dir:x oci:y", "skopeo's own form"),
        ("copy containers-storage:x oci:y", "podman"),
        ("copy oci: a", "no file or folder"),
        ("copy oci:x a --src-creds u:p", "--src-creds"),
        ("copy a oci:x --dest-tls-verify=false", "--dest-tls-verify"),
        ("copy -a --digestfile f a b", "--digestfile"),
        ("tags a:1", "without a tag or digest"),
        ("rm --manifest a", "--remote"),
        ("rm --remote --force a:1", "--force"),
        ("rm --remote 127.0.0.1:1/a", "neither a tag nor a digest"),
        ("rm --insecure x a", "--remote"),
        ("manifest", "create"),
        ("manifest create a", "<IMAGE>"),
        ("manifest inspect --artifact-type x a", "--referrers"),
        ("manifest inspect --referrers store:a", "the store has no lists"),
        ("manifest inspect oci:x", "kiln copy"),
    ] {
        kiln.fails(2, line).says(says);
    }
    assert!(!kiln.store_path().join("blobs").exists(), "a wrong command line makes nothing");
    kiln.fails(1, "copy oci:nothing oci:x").says("nothing");
    kiln.fails(1, "copy -a store:x oci:x").says("--all-tags");
}

#[test]
fn copies_by_command() {
    let registry = TestRegistry::start(Some(("me", "secret")));
    let kiln = Kiln::new();
    let digest = keep_index(&kiln, "app:1");
    let to = format!("{}/app", registry.addr);
    kiln.fails(1, &format!("copy store:app:1 {to}:1")).says("kiln login");
    let line = format!("copy store:app:1 {to}:1 --dest-creds me:secret --digestfile digest");
    assert_eq!(kiln.ok(&line).text(), format!("{to}@{digest}\n"));
    assert_eq!(fs::read_to_string(kiln.path("digest")).unwrap(), digest);
    assert_eq!(kiln.ok(&format!("tags --creds me:secret {to}")).text(), "1\n");
    let json = kiln.ok(&format!("tags --json --creds me:secret {to}")).json();
    assert_eq!((&json["name"], &json["tags"][0]), (&to.as_str().into(), &"1".into()));
    let line = format!("copy {to}:1 oci:layout:v1 --src-creds me:secret");
    assert_eq!(kiln.ok(&line).text(), format!("{digest}\n"));
    // Neither side sees what is for the other.
    kiln.fails(1, &format!("copy {to}:1 {to}:2 --src-creds me:secret")).says("login");
    kiln.ok(&format!("copy -a {to} oci:all --src-creds me:secret"));
    let all = skopeo(&["inspect", "--raw", &format!("oci:{}:1", kiln.path("all").display())]);
    assert_eq!(kiln::digest::BlobDigest::of(all.as_bytes()).to_string(), digest);
    let arm = kiln.ok("copy --platform linux/arm64 oci:layout:v1 docker-archive:d.tar:arm:1");
    assert_eq!(kiln.ok("load -i d.tar").text(), "arm:1\n");
    assert!(arm.text().starts_with("sha256:"));
    kiln.fails(1, "copy oci:layout:v1 docker-archive:d.tar").says("--platform");

    let remove = |what: &str| format!("rm --remote {to}:1 --creds me:secret{what}");
    kiln.fails(1, &remove("")).says("does not delete the tag alone").says("--manifest");
    assert_eq!(kiln.ok(&remove(" --manifest")).text(), format!("{to}:1\n"));
    assert_eq!(kiln.ok(&format!("tags --creds me:secret {to}")).text(), "");
    kiln.fails(1, &remove(" --manifest")).says("has no manifest");
}

#[test]
fn an_index_is_made_of_images() {
    let registry = TestRegistry::start(None);
    let kiln = Kiln::new();
    let amd = keep(&kiln, "amd:1");
    keep_index(&kiln, "both:1");
    let from = format!("{}/parts", registry.addr);
    kiln.ok(&format!("copy --platform linux/arm64 store:both:1 {from}:arm"));
    let arm = kiln.ok(&format!("manifest inspect {from}:arm")).stdout;
    let arm = kiln::digest::BlobDigest::of(&arm).to_string();
    // On a machine that has none of it.
    let other = Kiln::new();
    let made = other.ok(&format!("manifest create --annotation a=b app:1 {from}:arm")).text();
    let shown = other.ok("manifest inspect store:app:1");
    assert_eq!(kiln::digest::BlobDigest::of(&shown.stdout).to_string(), made.trim());
    let index = shown.json();
    assert_eq!(index["annotations"]["a"], "b");
    assert_eq!(index["manifests"][0]["digest"], arm.as_str());
    assert_eq!(index["manifests"][0]["platform"]["architecture"], "arm64");
    let layers =
        |kiln: &Kiln| fs::read_dir(kiln.store_path().join("blobs/sha256")).unwrap().count();
    assert_eq!(layers(&other), 3, "index, manifest and config: the layers stay where they are");

    kiln.ok(&format!("copy store:amd:1 {from}:amd"));
    other.fails(1, &format!("manifest create app:1 {from}:amd")).says("--amend");
    other.fails(1, &format!("manifest create --amend nothing:1 {from}:amd")).says("no image");
    other.ok(&format!("manifest create --amend app:1 {from}:amd"));
    let index = other.ok("manifest inspect store:app:1").json();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(index["manifests"][1]["digest"], amd.as_str());
    assert_eq!(index["annotations"]["a"], "b");
    // One for the same platform takes the other's place, if it was there before.
    other.ok(&format!("manifest create --amend app:1 docker://{from}:amd"));
    assert_eq!(other.ok("manifest inspect store:app:1").json(), index);
    let twice = format!("manifest create two:1 {from}:amd docker://{from}:arm store:app:1");
    let two = other.ok(&twice).text();
    assert_eq!(other.ok("images -q --digests two:1").text(), two);

    // It is pushed, with layers that were never here, and read by others.
    let to = format!("{}/app:1", registry.addr);
    other.ok(&format!("push app:1 {to}"));
    let pushed = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{to}")]);
    let pushed: serde_json::Value = serde_json::from_str(&pushed).unwrap();
    assert_eq!(pushed, index);
    other.ok("save app:1 -o whole.tar");
    assert_eq!(
        kiln.ok(&format!("load -i {}", other.path("whole.tar").display())).text(),
        "app:1\n"
    );
    let first = super::image(&kiln, "linux/amd64");
    let mut config = first.config().clone();
    config.config.labels.insert("other".into(), "one".into());
    let second = AnyImage::Image(assemble(config, first.layers()).unwrap());
    kiln.store().keep(&"other:1".parse().unwrap(), &second).unwrap();
    kiln.fails(1, "manifest create twice:1 other:1 both:1").says("both for linux/amd64");
}
