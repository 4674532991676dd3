//! The flags of `COPY` and `ADD`, and their heredocs. What is expected was seen
//! with BuildKit.

use super::bench::{Bench, Caller, callers};

fn context(bench: &Bench) {
    bench.file("a/b/c/f", "1\n").file("a/b/g.o", "2\n").file("top", "3\n").file("x.o", "x\n");
    bench.file("y.c", "y\n");
    std::os::unix::fs::symlink("top", bench.context().join("link")).unwrap();
    std::os::unix::fs::symlink("a", bench.context().join("alink")).unwrap();
}

/// Builds one line on busybox for every caller, and compares its layer.
#[track_caller]
fn copies(line: &str, expected: &[&str]) {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        context(&bench);
        bench.built(&format!("FROM busybox\n{line}\n"));
        assert_eq!(bench.layer(0), expected, "{caller:?}: {line}");
        bench.clean();
    }
}

#[test]
fn build_copy_exclude() {
    // Patterns are relative to the folder that is copied.
    let all = &["d 755 0:0 e", "d 755 0:0 e/b", "d 755 0:0 e/b/c", "f 644 0:0 e/b/c/f 2"];
    copies("COPY --exclude=**/*.o a /e/", all);
    copies("COPY --exclude=b a /e/", &["d 755 0:0 e"]);
    copies("ADD --exclude=b/** --exclude=!b/c/f a /e/", all);
    let mut more = all.to_vec();
    more.push("f 644 0:0 e/b/g.o 2");
    copies("COPY --exclude=*.o a /e/", &more);
    // A file that is named itself is not left out.
    let files = ["d 755 0:0 e", "f 644 0:0 e/x.o 2", "f 644 0:0 e/y.c 2"];
    copies("COPY --exclude=*.o *.o *.c /e/", &files);
}

#[test]
fn build_copy_exclude_is_no_part_of_the_key() {
    let bench = Bench::with_busybox(Caller::Own);
    context(&bench);
    let text = "FROM busybox\nCOPY --exclude=**/*.o a /e/\n";
    bench.built(text);
    bench.file("a/b/g.o", "changed\n");
    assert!(bench.build(text, "").success().stderr.contains("CACHED"));
    bench.clean();
}

#[test]
fn build_copy_parents() {
    copies("COPY --parents a/b/./c/f /p/", &["d 755 0:0 p", "d 755 0:0 p/c", "f 644 0:0 p/c/f 2"]);
    copies(
        "COPY --parents a/*/c /p/",
        &[
            "d 755 0:0 p",
            "d 755 0:0 p/a",
            "d 755 0:0 p/a/b",
            "d 755 0:0 p/a/b/c",
            "f 644 0:0 p/a/b/c/f 2",
        ],
    );
    copies(
        "COPY --parents a/**/*.o top link /p/",
        &[
            "d 755 0:0 p",
            "d 755 0:0 p/a",
            "d 755 0:0 p/a/b",
            "f 644 0:0 p/a/b/g.o 2",
            "l 777 0:0 p/link -> top",
            "f 644 0:0 p/top 2",
        ],
    );
    copies("COPY --parents nomatch*/x /p/", &["d 755 0:0 p"]);
    copies(
        "COPY --parents --exclude=**/g.o ./a /p/",
        &[
            "d 755 0:0 p",
            "d 755 0:0 p/a",
            "d 755 0:0 p/a/b",
            "d 755 0:0 p/a/b/c",
            "f 644 0:0 p/a/b/c/f 2",
        ],
    );
    let bench = Bench::with_busybox(Caller::Own);
    context(&bench);
    for path in ["nomatch/x", "alink/b/g.o"] {
        let text = format!("FROM busybox\nCOPY --parents {path} /p/\n");
        bench.build(&text, "").failure(1).says(&format!("source not found: {path}"));
    }
}

#[test]
fn build_copy_chmod() {
    // A number goes for folders that are made on the way, letters do not.
    copies(
        "COPY --chmod=750 top /p/q/top",
        &["d 750 0:0 p", "d 750 0:0 p/q", "f 750 0:0 p/q/top 2"],
    );
    copies(
        "COPY --chmod=u=rwX,go= a/b /p/",
        &["d 755 0:0 p", "d 700 0:0 p/c", "f 600 0:0 p/c/f 2", "f 600 0:0 p/g.o 2"],
    );
    copies("COPY --chmod=u+x,g=u-w,+t top /t", &["f 1754 0:0 t 2"]);
    let bench = Bench::with_busybox(Caller::Own);
    context(&bench);
    bench
        .build("FROM busybox\nCOPY --chmod=u+q top /t\n", "")
        .failure(1)
        .says("2 | COPY --chmod=u+q top /t");
}

#[test]
fn build_copy_link_knows_nothing_below() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        context(&bench);
        let base = "RUN mkdir -p /real /keep && chmod 1777 /keep && ln -s /real /lnk\n";
        let link = "COPY --link --chown=7:8 top /lnk/top\nCOPY --link top /keep/top\n";
        bench.built(&format!("FROM busybox\n{base}{link}"));
        let lnk = ["d 755 7:8 lnk", "f 644 7:8 lnk/top 2"];
        assert_eq!(bench.layer(1), lnk, "{caller:?}");
        assert_eq!(bench.layer(0), ["d 755 0:0 keep", "f 644 0:0 keep/top 2"], "{caller:?}");
        // The same layers whatever is below, and none is made anew.
        let other = bench.build(&format!("FROM scratch\n{link}"), "").success();
        assert_eq!(other.stderr.matches("CACHED").count(), 2, "{}", other.stderr);
        assert_eq!(bench.layer(1), lnk, "{caller:?}");
        bench.clean();
    }
    let bench = Bench::with_busybox(Caller::Own);
    context(&bench);
    bench
        .build("FROM busybox\nCOPY --link --chown=web top /t\n", "")
        .failure(1)
        .says("--link cannot look up names");
    bench.build("FROM busybox\nCOPY --link --chown=root top /t\n", "").success();
    // A change of modes looks at what is there.
    bench.built("FROM busybox\nRUN mkdir /r && ln -s r /l\nCOPY --link --chmod=600 top /l/t\n");
    assert_eq!(bench.layer(0), ["d 755 0:0 r", "f 600 0:0 r/t 2"]);
}

#[test]
fn build_copy_heredocs() {
    copies(
        "ARG X=1\nCOPY <<E <<\"F\" top /h/\nx$X \"q\"\nE\ny$X\nF",
        &["d 755 0:0 h", "f 644 0:0 h/E 7", "f 644 0:0 h/F 4", "f 644 0:0 h/top 2"],
    );
    copies("COPY <<-E /h\n\tz\n\t\ty\nE", &["f 644 0:0 h 4"]);
    copies("ADD <<E /h\nE", &["f 644 0:0 h 0"]);
    copies(
        "COPY --chown=5:6 --chmod=640 <<E /k/h/\nz\nE",
        &["d 640 5:6 k", "d 640 5:6 k/h", "f 640 5:6 k/h/E 2"],
    );
}

#[test]
fn build_copy_patterns_that_match_nothing() {
    let bench = Bench::with_busybox(Caller::Own);
    context(&bench);
    let text = "FROM busybox\nCOPY *.nothing /n/\nCOPY alink/*/g* *.nothing /m/\n";
    bench.build(text, "").success().stderr.contains("no file matches `*.nothing`");
    assert_eq!(bench.layer(1), [] as [&str; 0]);
    assert_eq!(bench.layer(0), ["d 755 0:0 m", "f 644 0:0 m/g.o 2"]);
    // Several files for one place: the last stays.
    bench.built("FROM busybox\nCOPY top x.o y.c /one\n");
    assert_eq!(bench.content("/one"), "y\n");
}
