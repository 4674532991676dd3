//! Builds that push, against a real registry, with skopeo as reader.

use std::fs;

use serde_json::Value;

use super::bench::{Bench, Caller, callers};
use crate::support::kiln::Output;
use crate::support::registry::{TestRegistry, skopeo};

const TEXT: &str = "FROM scratch\nCOPY a /a\n";

fn bench(caller: Caller) -> Bench {
    let bench = Bench::with_busybox(caller);
    bench.file("a", "A");
    fs::write(bench.path("Dockerfile"), TEXT).unwrap();
    bench
}

fn build(bench: &Bench, more: &str) -> Output {
    let args = "build --progress=plain -f Dockerfile context";
    bench.run(&mut bench.call(args.split(' ').chain(more.split_whitespace())))
}

fn inspect(name: &str) -> Value {
    let seen = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&seen).unwrap()
}

fn raw(name: &str) -> Value {
    let seen = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&seen).unwrap()
}

#[test]
fn build_pushes_under_every_name() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    for caller in callers() {
        let bench = bench(caller);
        for more in
            ["--push", "-o type=registry", "-o type=image,push=true", "-o type=image --push"]
        {
            let flags = format!("-t {at}/one:1 -t {at}/two {more} --metadata-file meta");
            let pushed = build(&bench, &flags).success().text();
            let lines: Vec<&str> = pushed.lines().collect();
            let digest = inspect(&format!("{at}/one:1"))["Digest"].as_str().unwrap().to_owned();
            assert_eq!(
                lines,
                [format!("{at}/one@{digest}"), format!("{at}/two@{digest}")],
                "{more}"
            );
            assert_eq!(inspect(&format!("{at}/two:latest"))["Digest"], digest.as_str());
            let meta: Value =
                serde_json::from_slice(&fs::read(bench.path("meta")).unwrap()).unwrap();
            assert_eq!(meta["kiln.pushed"][1], lines[1]);
            assert_eq!(meta["image.name"], format!("{at}/one:1,{at}/two:latest"));
            assert!(bench.store().find(&format!("{at}/one:1").parse().unwrap()).unwrap().is_some());
        }
        bench.clean();
    }
}

#[test]
fn build_pushes_by_digest() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    let bench = bench(Caller::Own);
    let more = format!(
        "-o type=image,name={at}/app,push-by-digest=true,name-canonical=true,push=true --platform linux/arm64"
    );
    let pushed = build(&bench, &more).success().text();
    let (name, digest) = pushed.trim().split_once('@').unwrap();
    assert_eq!(name, format!("{at}/app"));
    let seen =
        skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}@{digest}")]);
    assert_eq!(kiln::digest::Digest::of(seen.as_bytes()).to_string(), digest);
    let tags = std::process::Command::new("skopeo")
        .args(["list-tags", "--tls-verify=false", &format!("docker://{name}")])
        .output()
        .unwrap();
    let tags = String::from_utf8_lossy(&tags.stdout).into_owned();
    assert!(!tags.contains("latest"), "{tags}");
    let names = bench.store().names().unwrap();
    assert!(names.iter().all(|(name, _)| name.tag() != Some("latest") || name.repository() == "library/busybox"));
    assert!(bench.store().find(&pushed.trim().parse().unwrap()).unwrap().is_some());
    bench.clean();
}

#[test]
fn build_pushes_media_types_and_annotations() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    let bench = bench(Caller::Own);
    build(&bench, &format!("-t {at}/d -o type=registry,oci-mediatypes=false")).success();
    assert_eq!(
        raw(&format!("{at}/d"))["mediaType"],
        "application/vnd.docker.distribution.manifest.v2+json"
    );
    // The store's image is the one that was pushed.
    let stored = bench.store().image_named(&format!("{at}/d").parse().unwrap()).unwrap();
    assert_eq!(
        stored.digest().to_string(),
        inspect(&format!("{at}/d"))["Digest"].as_str().unwrap()
    );
    let two = "--platform linux/amd64,linux/arm64 --annotation index:a=1 --annotation b=2 --push";
    build(&bench, &format!("-t {at}/i {two}")).success();
    let index = raw(&format!("{at}/i"));
    assert_eq!(index["annotations"]["a"], "1");
    let first = index["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(raw(&format!("{at}/i@{first}"))["annotations"]["b"], "2");
    bench.clean();
}

#[test]
fn build_refuses_what_cannot_be_pushed() {
    let bench = bench(Caller::Own);
    for (more, says) in [
        ("--push", "pushed under a name"),
        ("-o type=registry", "pushed under a name"),
        (
            "-o type=image,name=a:1,push=true,push-by-digest=true",
            "push-by-digest=true gives no tag",
        ),
        ("-t a:1 -o type=image,push=true,push-by-digest=true", "push-by-digest=true gives no tag"),
    ] {
        let refused = build(&bench, more).failure(2).says(says);
        assert!(!refused.stderr.contains("COPY"), "before anything is built: {}", refused.stderr);
    }
}
