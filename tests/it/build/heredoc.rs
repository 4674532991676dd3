//! Heredocs of `RUN`, and `ONBUILD`.

use super::bench::{Bench, callers};

/// Builds for every caller; gives the topmost layer and what a file in it says.
#[track_caller]
fn builds(dockerfile: &str, layer: &[&str]) {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.built(dockerfile);
        assert_eq!(bench.layer(0), layer, "{caller:?}");
        bench.clean();
    }
}

#[test]
fn build_heredoc_is_the_shells_script() {
    builds(
        "FROM busybox\nRUN <<EOF\nmkdir /h\nprintf '%s' \"$PATH\" | wc -c >/h/$(echo n)\nEOF\n",
        &["d 755 0:0 h", "f 644 0:0 h/n 2"],
    );
}

#[test]
fn build_heredoc_with_an_interpreter() {
    // `$0` is the file's path, which is gone afterwards.
    builds("FROM busybox\nRUN <<EOF\n#!/bin/sh -e\necho $0 >/out\nEOF\n", &["f 644 0:0 out 15"]);
}

#[test]
fn build_heredocs_among_words() {
    builds(
        "FROM busybox\nRUN X=1; cat <<A >/a && cat <<-'B' >/b\nx$X\nA\n\ty$X\n\tB\n",
        &["f 644 0:0 a 3", "f 644 0:0 b 4"],
    );
}

#[test]
fn build_heredoc_that_fails_names_its_line() {
    let bench = Bench::with_busybox(super::bench::Caller::Own);
    let output = bench.build("FROM busybox\n\nRUN <<EOF\ntrue\nexit 7\nEOF\n", "");
    assert_ne!(output.code, Some(0));
    assert!(output.stderr.contains("Dockerfile:3"), "{}", output.stderr);
    bench.clean();
}

#[test]
fn build_onbuild_of_a_base_image() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("f", "f");
        let text = "FROM busybox\nONBUILD COPY f /f1\nONBUILD RUN <<E\ncp /f1 /f2\nE\n";
        bench.build(text, "-t parent").success();
        let triggers = bench.image().config().config.clone().on_build.unwrap_or_default();
        assert_eq!(triggers, ["COPY f /f1", "RUN <<E\ncp /f1 /f2\nE"]);
        bench.built("FROM parent\nRUN cp /f2 /f3\n");
        assert_eq!(bench.layer(2), ["f 644 0:0 f1 1"], "{caller:?}");
        assert_eq!(bench.layer(1), ["f 644 0:0 f2 1"], "{caller:?}");
        assert_eq!(bench.layer(0), ["f 644 0:0 f3 1"], "{caller:?}");
        assert_eq!(bench.image().config().config.on_build, None);
        bench.clean();
    }
}
