//! What crane reads of what kiln pushed; it shares no code with skopeo.

use std::process::Command;

use super::*;
use crate::support::skip;

/// Runs crane, which must succeed, without credentials of whoever runs the tests.
fn crane(program: &Path, home: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .arg("--insecure")
        .env("DOCKER_CONFIG", home)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "crane {arguments:?}: {errors}");
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_images_are_valid_to_crane() {
    let Some(program) = kiln::env::path("KILN_TEST_CRANE") else {
        return skip("KILN_TEST_CRANE is not set; tests/run builds crane and sets it");
    };
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let arm = Platform::new("linux", "arm64");
    let big = noise(1 << 20);
    let images = vec![
        image(&here.store, &amd64(), &[b"one", &big]),
        image(&here.store, &arm, &[b"two", b"three"]),
    ];
    let index =
        assemble_index(images.clone(), kiln::image::Dialect::Oci, Default::default()).unwrap();
    let single = AnyImage::Image(images[0].clone());
    let read = |arguments: &[&str]| crane(&program, here.path(), arguments);
    let text = |arguments: &[&str]| String::from_utf8(read(arguments)).unwrap();

    for (what, image) in [("single", &single), ("index", &index)] {
        let to = name(format!("{}/team/{what}:v1", registry.addr));
        push(image, &to, &here.store, &at, &Progress::silent()).await.unwrap();
        let to = to.to_string();
        assert_eq!(text(&["digest", &to]).trim(), image.digest().to_string());
        assert_eq!(BlobDigest::of(&read(&["manifest", &to])), image.digest(), "{what}");
        // All blobs, their digests and sizes, and the layers' content against the config.
        read(&["validate", "--remote", &to]);
    }

    let to = format!("{}/team/index:v1", registry.addr);
    for (platform, image) in [("linux/amd64", &images[0]), ("linux/arm64", &images[1])] {
        let of = |command: &str| read(&[command, "--platform", platform, &to]);
        assert_eq!(of("manifest"), image.manifest().bytes, "{platform}");
        assert_eq!(of("config"), image.config_raw().bytes, "{platform}");
        let digest = String::from_utf8(of("digest")).unwrap();
        assert_eq!(digest.trim(), image.digest().to_string());
    }
    assert_eq!(text(&["ls", &format!("{}/team/single", registry.addr)]), "v1\n");
}
