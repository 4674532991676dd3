//! `save` and `load`, with skopeo and umoci on the other side.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{keep, keep_index};
use crate::support::kiln::{Kiln, tool};

fn skopeo(args: &[&str]) -> String {
    tool("skopeo", &[&["--insecure-policy"], args].concat())
}

fn text(path: std::path::PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// The digest of an image's config: what docker calls its ID.
fn config_digest(kiln: &Kiln, name: &str) -> String {
    let json = kiln.ok(&format!("inspect {name}")).json();
    json[0]["images"][0]["configDigest"].as_str().unwrap().to_owned()
}

#[test]
fn oci_archive_is_read_by_others() {
    let kiln = Kiln::new();
    let digest = keep(&kiln, "app:v1");
    kiln.ok("save -o app.tar app:v1");
    let archive = text(kiln.path("app.tar"));
    let seen = skopeo(&["inspect", &format!("oci-archive:{archive}:docker.io/library/app:v1")]);
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["Digest"], digest.as_str());
    assert_eq!(seen["Labels"]["a"], "b");
    skopeo(&["copy", &format!("oci-archive:{archive}"), &format!("dir:{}", text(kiln.path("d")))]);

    let layout = kiln.path("layout");
    fs::create_dir(&layout).unwrap();
    tool("tar", &["-xf", &archive, "-C", &text(layout.clone())]);
    let listed = tool("umoci", &["ls", "--layout", &text(layout.clone())]);
    assert_eq!(listed.trim(), "docker.io/library/app:v1");
    let mode = fs::metadata(&archive).unwrap().permissions().mode() & 0o777;
    assert_ne!(mode, 0o600, "the umask decides who may read an output");
}

#[test]
fn docker_archive_is_read_by_others() {
    let kiln = Kiln::new();
    keep(&kiln, "app:v1");
    kiln.ok("tag app:v1 quay.io/me/app:x");
    kiln.ok("save --format docker -o app.tar app:v1 quay.io/me/app:x");
    let archive = text(kiln.path("app.tar"));
    for name in ["app:v1", "quay.io/me/app:x"] {
        let seen = skopeo(&["inspect", "--config", &format!("docker-archive:{archive}:{name}")]);
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["config"]["Cmd"][0], "/three");
    }
    let folder = text(kiln.path("d"));
    skopeo(&["copy", &format!("docker-archive:{archive}"), &format!("dir:{folder}")]);
    let config = config_digest(&kiln, "app:v1");
    assert!(kiln.path("d").join(&config[7..]).is_file(), "the image keeps its ID");
}

#[test]
fn same_images_same_archive() {
    let (a, b) = (Kiln::new(), Kiln::new());
    keep(&a, "app:v1");
    keep(&b, "app:v1");
    for format in ["oci", "docker"] {
        let archives = [&a, &b].map(|kiln| {
            kiln.ok(&format!("save --format {format} -o x.tar app:v1"));
            let from_stdout = kiln.ok(&format!("save --format {format} app:v1")).stdout;
            let file = fs::read(kiln.path("x.tar")).unwrap();
            assert!(file == from_stdout, "stdout and file differ");
            file
        });
        assert!(archives[0] == archives[1], "{format} differs between stores");
    }
}

#[test]
fn what_is_saved_is_loaded() {
    let from = Kiln::new();
    let single = keep(&from, "app:v1");
    let index = keep_index(&from, "localhost/many:x");
    from.ok("tag app:v1 other");
    from.ok("save -o all.tar app:v1 localhost/many:x other");
    let archive = text(from.path("all.tar"));

    let to = Kiln::new();
    let names = "app:v1\nother:latest\nlocalhost/many:x\n";
    assert_eq!(to.ok(&format!("load -i {archive}")).text(), names);
    assert_eq!(to.ok("inspect app:v1").json()[0]["digest"], single.as_str());
    assert_eq!(to.ok("inspect localhost/many:x").json()[0]["digest"], index.as_str());
    assert_eq!(to.ok("images --digests").text(), from.ok("images --digests").text());
    to.ok("save -o again.tar app:v1 localhost/many:x other");
    assert!(fs::read(to.path("again.tar")).unwrap() == fs::read(&archive).unwrap());

    // Through a docker archive the manifest is another, the image's ID is not.
    from.ok("save --format docker -o app.tar app:v1 other");
    let to = Kiln::new();
    let archive = fs::read(from.path("app.tar")).unwrap();
    assert_eq!(to.args(["load"]).stdin(archive).run().success().text(), "app:v1\nother:latest\n");
    assert_eq!(config_digest(&to, "app:v1"), config_digest(&from, "app:v1"));
    // By digest there is no name to save.
    from.ok(&format!("save --format docker -o app.tar {}", &single[7..20]));
    let to = Kiln::new();
    let printed = to.ok(&format!("load -i {}", text(from.path("app.tar")))).text();
    assert!(printed.starts_with("localhost/loaded@sha256:"), "{printed}");
    to.ok(&format!("inspect {}", printed.trim()));
    to.fails(1, "load -i /dev/null").says("no image archive");
}

#[test]
fn what_others_write_is_loaded() {
    let kiln = Kiln::new();
    keep(&kiln, "app:v1");
    let config = config_digest(&kiln, "app:v1");
    // skopeo puts no zstd layer into docker's form, so that has a source of its own.
    kiln.ok("save --format docker -o ours.tar app:v1");
    let docker = format!("docker-archive:{}", text(kiln.path("ours.tar")));
    let oci = format!("oci:{}:docker.io/library/app:v1", text(kiln.store_path()));
    for (form, name) in [
        ("docker-archive:X:theirs:v1", "theirs:v1"),
        ("oci-archive:X:theirs:v1", "theirs:v1"),
        ("oci-archive:X:quay.io/me/theirs:v1", "quay.io/me/theirs:v1"),
        ("oci-archive:X", "localhost/loaded"),
    ] {
        let archive = text(kiln.path("theirs.tar"));
        let _ = fs::remove_file(&archive);
        let source = if form.starts_with("docker") { &docker } else { &oci };
        skopeo(&["copy", source, &form.replace('X', &archive)]);
        let bytes = fs::read(&archive).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &bytes).unwrap();
        let zstd = zstd::encode_all(bytes.as_slice(), 1).unwrap();
        for bytes in [bytes, gzip.finish().unwrap(), zstd] {
            let to = Kiln::new();
            let printed = to.args(["load", "--input", "-"]).stdin(bytes.clone()).run().success();
            assert!(printed.text().starts_with(name), "{form}: {}", printed.text());
            assert_eq!(config_digest(&to, printed.text().trim()), config, "{form}");
            fs::write(to.path("x.tar"), bytes).unwrap();
            assert_eq!(to.ok("load -i x.tar").text(), printed.text());
            // What was loaded can leave again.
            to.ok(&format!("save --format docker -o y.tar {}", printed.text().trim()));
        }
    }
}

#[test]
fn a_docker_archive_has_room_for_one_platform() {
    let kiln = Kiln::new();
    keep_index(&kiln, "many");
    kiln.ok("save --format docker --platform linux/arm64 -o a.tar many");
    let archive = text(kiln.path("a.tar"));
    let seen = skopeo(&["inspect", "--config", &format!("docker-archive:{archive}")]);
    assert!(seen.contains("arm64"), "{seen}");
    kiln.fails(1, "save --format docker --platform linux/riscv64 -o b.tar many")
        .says("linux/riscv64, only for linux/amd64, linux/arm64");
    assert!(!kiln.path("b.tar").exists());
}

#[test]
fn an_index_in_part_is_saved_as_what_is_there() {
    let kiln = Kiln::new();
    keep_index(&kiln, "many");
    let json = kiln.ok("inspect many").json();
    let arm = json[0]["images"][1]["digest"].as_str().unwrap().to_owned();
    let amd = json[0]["images"][0]["digest"].as_str().unwrap().to_owned();
    fs::remove_file(kiln.store_path().join("blobs/sha256").join(&arm[7..])).unwrap();
    kiln.ok("save -o part.tar many");
    let to = Kiln::new();
    to.ok(&format!("load -i {}", text(kiln.path("part.tar"))));
    assert_eq!(to.ok("inspect many").json()[0]["digest"], amd.as_str());
}

#[test]
fn a_failed_save_leaves_the_file_that_was_there() {
    for (format, says) in [("oci", "is damaged"), ("docker", "is damaged")] {
        let kiln = Kiln::new();
        keep(&kiln, "app");
        let json = kiln.ok("inspect app").json();
        let layer = &json[0]["images"][0]["layers"][2];
        let path =
            kiln.store_path().join("blobs/sha256").join(&layer["digest"].as_str().unwrap()[7..]);
        let mut bytes = fs::read(&path).unwrap();
        bytes[600] ^= 1;
        fs::write(&path, bytes).unwrap();
        fs::write(kiln.path("x.tar"), "before").unwrap();
        kiln.fails(1, &format!("save --format {format} -o x.tar app")).says(says);
        assert_eq!(fs::read(kiln.path("x.tar")).unwrap(), b"before");
        fs::remove_file(&path).unwrap();
        kiln.fails(1, &format!("save --format {format} -o x.tar app")).says("kiln pull app:latest");
        let left: Vec<_> =
            fs::read_dir(kiln.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "only the store and the file: {left:?}");
    }
    let kiln = Kiln::new();
    keep(&kiln, "app");
    kiln.fails(1, "save -o . app").says("directory");
    kiln.fails(1, "save -o absent/x.tar app").says("absent");
}

/// `/dev/stdout` and pipes are written to, other links are replaced.
#[test]
fn outputs_that_are_no_files() {
    let kiln = Kiln::new();
    keep(&kiln, "app");
    let expected = kiln.ok("save app").stdout;
    assert!(kiln.ok("save -o /dev/stdout app").stdout == expected);
    let mut call = kiln.args(["save", "-o", "/dev/stdout", "app"]);
    call.command.stdout(fs::File::create(kiln.path("by-shell.tar")).unwrap());
    call.run().success();
    assert!(fs::read(kiln.path("by-shell.tar")).unwrap() == expected);
    assert!(fs::symlink_metadata("/dev/stdout").unwrap().is_symlink());

    fs::write(kiln.path("target"), "kept").unwrap();
    std::os::unix::fs::symlink("target", kiln.path("link.tar")).unwrap();
    kiln.ok("save -o link.tar app");
    assert_eq!(fs::read(kiln.path("target")).unwrap(), b"kept");
    assert!(fs::read(kiln.path("link.tar")).unwrap() == expected);
}

/// What builders attach to an index (provenance, SBOM) is listed like an image
/// of no platform; it leaves and comes back with it.
#[test]
fn attestations_travel_along() {
    use kiln::image::{AnyImage, Raw};
    let from = Kiln::new();
    keep_index(&from, "many");
    let store = from.store();
    let statement = br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#;
    let config =
        br#"{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let descriptor = |kind: &str, bytes: &[u8]| {
        let digest = store.put(bytes).unwrap();
        serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.in-toto+json", statement)],
    });
    let mut entry =
        descriptor("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    entry["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    let AnyImage::Index { raw, images } = store.image_named(&"many".parse().unwrap()).unwrap()
    else {
        panic!("it was kept as an index");
    };
    let mut index: serde_json::Value = serde_json::from_slice(&raw.bytes).unwrap();
    index["manifests"].as_array_mut().unwrap().push(entry);
    let raw = Raw::new(index.to_string().into_bytes(), raw.media_type);
    let digest = raw.digest.to_string();
    store.keep(&"attested".parse().unwrap(), &AnyImage::Index { raw, images }).unwrap();

    from.ok("save -o x.tar attested");
    let to = Kiln::new();
    to.ok(&format!("load -i {}", text(from.path("x.tar"))));
    assert_eq!(to.ok("inspect attested").json()[0]["digest"], digest.as_str());
    let blob = kiln::digest::BlobDigest::of(statement);
    assert_eq!(fs::read(to.store().blob_path(&blob)).unwrap(), statement);
    assert_eq!(to.ok("inspect attested").json()[0]["images"].as_array().unwrap().len(), 2);
    to.ok("save -o x.tar attested");
    assert!(fs::read(to.path("x.tar")).unwrap() == fs::read(from.path("x.tar")).unwrap());
    // Without its attestation it is one of those that are here in part.
    fs::remove_file(to.store().blob_path(&blob)).unwrap();
    to.ok("save -o y.tar attested");
    let again = Kiln::new();
    again.ok(&format!("load -i {}", text(to.path("y.tar"))));
    assert_ne!(again.ok("inspect attested").json()[0]["digest"], digest.as_str());
}

/// What was asked to stop leaves nothing.
#[test]
fn stopped_work_leaves_nothing() {
    use kiln::output::{Archive, Named, OutputError, Work, load, to_file, write_archive};
    use std::cell::Cell;
    let kiln = Kiln::new();
    keep(&kiln, "app");
    let store = kiln.store();
    let image = store.image_named(&"app".parse().unwrap()).unwrap();
    let annotations = kiln::image::Annotations::new();
    let images = [Named {
        names: vec!["app".parse().unwrap()],
        image,
        annotations,
        referrers: kiln::output::Referrers::None,
    }];
    let task = kiln::progress::Progress::silent().task("test");
    let platform = kiln::platform::Platform::host();
    for form in [Archive::Oci, Archive::Docker] {
        let path = kiln.path("x.tar");
        // However far it has come, until it comes to its end.
        for allowed in 0_u32.. {
            let left = Cell::new(allowed);
            let stop = || left.replace(left.get().saturating_sub(1)) == 0;
            let work = Work::new(&task, &stop);
            let done =
                to_file(&path, |to| write_archive(form, &images, &platform, &store, to, &work));
            if done.is_ok() {
                break;
            }
            assert!(matches!(done, Err(OutputError::Stopped)), "{done:?}");
            assert!(fs::read_dir(kiln.path("")).unwrap().count() == 1, "the store is there alone");
        }
        let archive = fs::File::open(&path).unwrap();
        let to = Kiln::new();
        for allowed in 0_u32.. {
            let left = Cell::new(allowed);
            let stop = || left.replace(left.get().saturating_sub(1)) == 0;
            if load(&archive, &to.store(), &Work::new(&task, &stop)).is_ok() {
                break;
            }
            assert_eq!(to.store().names().unwrap(), []);
            assert_eq!(fs::read_dir(to.store_path().join("tmp")).unwrap().count(), 0);
        }
        assert!(to.ok("images").text().contains("app"));
        fs::remove_file(path).unwrap();
    }
    task.done();
}
