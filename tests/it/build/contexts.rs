//! `--build-context`.

use std::fs;
use std::process::Command;

use super::bench::{Bench, Caller, callers};

#[test]
fn build_named_contexts_of_files() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let other = bench.path("other");
        fs::create_dir_all(other.join("d")).unwrap();
        fs::write(other.join("d/f"), "f\n").unwrap();
        fs::write(other.join("skipped"), "").unwrap();
        fs::write(other.join(".dockerignore"), "skipped\n").unwrap();
        let text = "FROM busybox\nCOPY --from=other d/f /f\nRUN --mount=from=other,target=/o cp /o/d/f /g\n\
                    COPY --from=files / /all/\nFROM busybox AS files\nRUN false\n";
        // A stage of that name is not built; nor is it one that comes too late.
        let text = text.replace("FROM busybox AS files\nRUN false\n", "");
        let text = format!("FROM nowhere.invalid/x AS files\nRUN false\n{text}");
        let more = "--build-context other=other --build-context files=other";
        bench.build(&text, more).success();
        assert_eq!(bench.layer(2), ["f 644 0:0 f 2"], "{caller:?}");
        assert_eq!(bench.layer(1), ["f 644 0:0 g 2"], "{caller:?}");
        let all = [
            "d 755 0:0 all",
            "f 644 0:0 all/.dockerignore 8",
            "d 755 0:0 all/d",
            "f 644 0:0 all/d/f 2",
        ];
        assert_eq!(bench.layer(0), all, "{caller:?}");
        bench.build("FROM other\nCOPY --from=busybox /etc/group /\n", more).success();
        assert_eq!(bench.layer(1).len(), 3, "{caller:?}");
        bench.clean();
    }
    let bench = Bench::with_busybox(Caller::Own);
    bench.build("FROM busybox\n", "--build-context x=nowhere").failure(1).says("no `nowhere`");
}

#[test]
fn build_named_contexts_of_images() {
    let bench = Bench::with_busybox(Caller::Own);
    bench.build("FROM busybox\nENV A=1\nRUN echo one >/one\n", "-t one").success();
    let text = "FROM docker.io/library/debian:latest\nCOPY --from=alpine:3 /one /two\n";
    let more =
        "--build-context debian=docker-image://one --build-context alpine:3=docker-image://one";
    bench.build(text, more).success();
    assert_eq!(bench.layer(0), ["f 644 0:0 two 4"]);
    assert!(bench.image().config().config.env.contains(&"A=1".to_owned()));
    bench.build("FROM debian\n", "--build-context debian=docker-image://scratch").success();
    assert!(bench.image().layers().is_empty());
    bench.clean();
}

#[test]
fn build_named_contexts_of_layouts() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench
            .build("FROM busybox\nENV A=1\nRUN echo one >/one\n", "-o type=oci,dest=one.tar")
            .success();
        let layout = bench.path("layout");
        fs::create_dir(&layout).unwrap();
        let archive = format!("oci-archive:{}", bench.path("one.tar").display());
        let copied = Command::new("skopeo")
            .args(["copy", "--quiet", &archive])
            .arg(format!("oci:{}:v1", layout.display()))
            .status()
            .unwrap();
        assert!(copied.success());
        let text = "FROM base\nRUN cp /one /two\n";
        for source in ["oci-layout://layout:v1", "oci-layout://layout", "one.tar"] {
            bench.build(text, &format!("--build-context base={source}")).success();
            assert_eq!(bench.layer(0), ["f 644 0:0 two 4"], "{caller:?} {source}");
            assert!(bench.image().config().config.env.contains(&"A=1".to_owned()));
        }
        bench
            .build(text, "--build-context base=oci-layout://layout:v2")
            .failure(1)
            .says("no such image");
        bench.clean();
    }
}
