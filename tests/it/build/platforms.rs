//! Several platforms in one build.

use kiln::image::AnyImage;
use kiln::platform::Platform;

use super::bench::{Bench, callers};

/// The image that was built last, for all its platforms.
fn built(bench: &Bench) -> AnyImage {
    bench.store().image_named(&"out".parse().unwrap()).unwrap()
}

/// The host's platform, and two others.
fn three() -> [String; 3] {
    let host = Platform::host().to_string();
    let other = if host == "linux/arm64" { "linux/amd64" } else { "linux/arm64" };
    ["linux/arm/v7".into(), host, other.into()]
}

#[test]
fn an_index_in_the_order_asked_with_shared_stages_run_once() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let file = "FROM --platform=$BUILDPLATFORM busybox AS tools\n\
            RUN echo shared >/shared && echo ran-tools\n\
            FROM tools AS cross\n\
            ARG TARGETPLATFORM TARGETVARIANT\n\
            RUN echo \"$TARGETPLATFORM\" >/built\n\
            FROM scratch\n\
            ARG TARGETARCH\n\
            ENV ARCH=$TARGETARCH\n\
            WORKDIR /w\n\
            COPY --from=cross /built /shared ./\n";
        let platforms = three();
        let asked = platforms.join(",");
        let twice = format!("--platform {asked} --platform {}", platforms[0]);
        let output = bench.build(file, &twice).success();
        let count = |text: &str| output.stderr.lines().filter(|line| line.contains(text)).count();
        let said = output.stderr.lines().filter(|line| line.ends_with(" ran-tools"));
        let said = said.filter(|line| !line.contains("RUN")).count();
        assert_eq!(said, 1, "{}", output.stderr);
        assert_eq!(count(" tools 2/2] RUN echo shared"), 1, "{}", output.stderr);
        assert_eq!(count(" cross 1/1] RUN echo"), 3, "{}", output.stderr);
        let name = format!("[{}->arm/v7 cross 1/1] RUN", Platform::host());
        assert_eq!(count(&name), 1, "{}", output.stderr);
        assert_eq!(count("[linux/arm/v7 stage-2 2/2] COPY"), 1, "{}", output.stderr);

        let image = built(&bench);
        let index = kiln::image::Index::read(&image.raw().bytes).unwrap();
        let listed: Vec<String> = index
            .manifests
            .iter()
            .map(|entry| entry.platform.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(listed, platforms);
        for (one, platform) in image.images().iter().zip(&platforms) {
            let config = one.config();
            assert_eq!(config.platform().to_string(), *platform);
            let arch = format!("ARCH={}", config.architecture);
            assert!(config.config.env.contains(&arch), "{:?}", config.config.env);
            let store = bench.store();
            let rootfs = kiln::rootfs::Rootfs::open(&store, one.layers()).unwrap();
            let text = rootfs.read(&store, "/w/built", 100).unwrap().unwrap();
            assert_eq!(String::from_utf8(text).unwrap().trim(), platform);
        }
        let again = bench.build(file, &format!("--platform {asked}")).success();
        assert_eq!(again.text(), output.text());
        bench.clean();
    }
}

#[test]
fn a_foreign_run_is_refused_before_anything_starts() {
    let bench = Bench::with_busybox(callers()[0]);
    let file = "FROM --platform=$BUILDPLATFORM busybox AS tools\n\
        RUN echo tools-ran >/x\n\
        FROM scratch\n\
        COPY --from=tools /x /\n\
        RUN [\"/x\"]\n";
    let platforms = format!("--platform {},linux/mips64", Platform::host());
    let refused = bench.build(file, &platforms);
    assert_eq!(refused.code, Some(1));
    for said in [
        "RUN for linux/mips64",
        "Dockerfile:5:",
        "qemu-mips64",
        "binfmt_misc",
        "FROM --platform=$BUILDPLATFORM",
    ] {
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("tools-ran >/x\n"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("DONE"), "{}", refused.stderr);
    // A stage that the target does not need may have one.
    let unneeded = file.replace("RUN [\"/x\"]\n", "FROM scratch\nCOPY --from=2 /x /\n");
    let unneeded = unneeded.replace(
        "FROM scratch\nCOPY --from=tools /x /\n",
        "FROM scratch AS never\nRUN [\"/x\"]\nFROM scratch\nCOPY --from=tools /x /\n",
    );
    bench.build(&unneeded, &platforms).success();
}

#[test]
fn the_platform_that_was_asked_for_is_in_the_config() {
    let bench = Bench::with_busybox(callers()[0]);
    let config = |flags: &str| {
        bench.build("FROM --platform=$BUILDPLATFORM busybox\nCOPY . /x\n", flags).success();
        built(&bench).images()[0].config().platform().to_string()
    };
    assert_eq!(config(""), Platform::host().to_string());
    assert_eq!(config("--platform linux/arm/v6"), "linux/arm/v6");
    assert_eq!(config("--platform linux/arm64/v8"), "linux/arm64");
    assert!(matches!(built(&bench), AnyImage::Image(_)), "one platform is no index");
}

#[test]
fn a_stage_is_made_anew_by_name() {
    let bench = Bench::with_busybox(callers()[0]);
    let file = "FROM busybox AS One\nRUN echo 1 >/1\nFROM busybox AS two\nRUN echo 2 >/2\n\
        FROM scratch\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n";
    let first = bench.build(file, "").success();
    let again = bench.build(file, "--no-cache-filter one,other").success();
    assert_eq!(again.text(), first.text());
    let end = |step: &str| {
        let line = again.stderr.lines().find(|line| line.contains(step)).unwrap();
        let number = line.split(' ').next().unwrap();
        let ends = |line: &&str| {
            line.starts_with(number) && (line.contains("DONE") || line.contains("CACHED"))
        };
        let end = again.stderr.lines().find(ends).unwrap();
        end.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(end("one 2/2] RUN"), "DONE", "{}", again.stderr);
    assert_eq!(end("two 2/2] RUN"), "CACHED");
    assert_eq!(end("COPY --from=one"), "CACHED");
    assert!(again.stderr.contains("warning: --no-cache-filter"), "{}", again.stderr);
}
