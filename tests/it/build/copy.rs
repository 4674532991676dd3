//! `COPY`, `ADD`, `WORKDIR` and stages.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use super::bench::{Bench, busybox, callers, dir, file};
use kiln::layer::{Entry, Kind, Name};

fn mode(bench: &Bench, name: &str, mode: u32) {
    fs::set_permissions(bench.context().join(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// Files `a`, `d/b`, `d/sub/c`, folder `d/empty`, link `d/link`.
fn files(bench: &Bench) {
    bench.file("a", "A\n").file("d/b", "B\n").file("d/sub/c", "C\n");
    fs::create_dir(bench.context().join("d/empty")).unwrap();
    symlink("sub/c", bench.context().join("d/link")).unwrap();
    for (name, bits) in [("d", 0o755), ("d/sub", 0o750), ("d/empty", 0o700), ("d/b", 0o600)] {
        mode(bench, name, bits);
    }
}

/// Builds for every caller; compares the topmost layer.
#[track_caller]
fn layer(dockerfile: &str, expected: &[&str]) {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        files(&bench);
        bench.built(dockerfile);
        assert_eq!(bench.layer(0), expected, "{caller:?}");
        bench.clean();
    }
}

#[test]
fn build_copy_files() {
    layer("FROM scratch\nCOPY a /x/y/\n", &["d 755 0:0 x", "d 755 0:0 x/y", "f 644 0:0 x/y/a 2"]);
    layer("FROM scratch\nCOPY a /x\n", &["f 644 0:0 x 2"]);
    layer(
        "FROM scratch\nWORKDIR /w\nCOPY a d/b ./\n",
        &["d 755 0:0 w", "f 644 0:0 w/a 2", "f 600 0:0 w/b 2"],
    );
    layer("FROM scratch\nCOPY [\"a\", \"/with space\"]\n", &["f 644 0:0 with space 2"]);
    layer(
        "FROM scratch\nCOPY d/* /x/\n",
        &["d 755 0:0 x", "f 600 0:0 x/b 2", "f 644 0:0 x/c 2", "f 644 0:0 x/link 2"],
    );
}

#[test]
fn build_copy_folders() {
    let tree = [
        "d 755 0:0 x",
        "f 600 0:0 x/b 2",
        "d 700 0:0 x/empty",
        "l 777 0:0 x/link -> sub/c",
        "d 750 0:0 x/sub",
        "f 644 0:0 x/sub/c 2",
    ];
    layer("FROM scratch\nCOPY d /x\n", &tree);
    layer("FROM scratch\nCOPY d/ /x/\n", &tree);
    layer("FROM scratch\nADD d /x\n", &tree);
}

#[test]
fn build_copy_owner_and_mode() {
    layer(
        "FROM busybox\nCOPY --chown=web d /n/x\n",
        &[
            "d 755 33:34 n",
            "d 755 33:34 n/x",
            "f 600 33:34 n/x/b 2",
            "d 700 33:34 n/x/empty",
            "l 777 33:34 n/x/link -> sub/c",
            "d 750 33:34 n/x/sub",
            "f 644 33:34 n/x/sub/c 2",
        ],
    );
    layer("FROM busybox\nCOPY --chown=7:extra --chmod=4711 a /x\n", &["f 4711 7:60 x 2"]);
    layer("FROM busybox\nCOPY --chown=5 a /x\n", &["f 644 5:5 x 2"]);
    layer(
        "FROM busybox\nUSER web\nWORKDIR /v/w\nCOPY a x\n",
        &["d 755 33:34 v", "d 755 33:34 v/w", "f 644 0:0 v/w/x 2"],
    );
    layer("FROM busybox\nUSER web\nWORKDIR /v/w\n", &["d 755 33:34 v", "d 755 33:34 v/w"]);
}

#[test]
fn build_copy_into_what_is_there() {
    for caller in callers() {
        let bench = Bench::new(caller);
        let mut below = vec![dir("t", 0o700), dir("t/sub", 0o711), file("t/sub/old", 0o644, "o")];
        for (entry, _) in &mut below {
            (entry.uid, entry.gid) = (33, 34);
        }
        below.push(super::bench::symlink("to-t", "t"));
        below.push(super::bench::symlink("to-file", "/t/new"));
        below.push(super::bench::symlink("t/inner", "/etc"));
        bench.base("busybox", &[busybox(), below]);
        files(&bench);
        // A folder at the destination stays as it is; those in it take on what the
        // copied ones have, as with BuildKit.
        let expected = [
            "d 700 33:34 t",
            "f 600 0:0 t/b 2",
            "d 700 0:0 t/empty",
            "l 777 0:0 t/link -> sub/c",
            "d 750 0:0 t/sub",
            "f 644 0:0 t/sub/c 2",
        ];
        for to in ["/t", "/t/", "/to-t", "/to-t/."] {
            bench.built(&format!("FROM busybox\nCOPY d {to}\n"));
            assert_eq!(bench.layer(0), expected, "{caller:?} {to}");
        }
        let tree = bench.tree();
        assert!(tree["t"].starts_with("d 700 33:34"), "{}", tree["t"]);
        assert!(tree["t/sub/old"].starts_with("f 644 33:34"));
        bench.built("FROM busybox\nCOPY a /to-t\nCOPY a /to-t/inner/\n");
        assert_eq!(bench.layer(1), ["d 700 33:34 t", "f 644 0:0 t/a 2"]);
        assert_eq!(bench.layer(0), ["d 755 0:0 etc", "f 644 0:0 etc/a 2"]);
        bench.built("FROM busybox\nCOPY a /to-file\n");
        assert_eq!(
            bench.layer(0),
            ["d 700 33:34 t", "f 644 0:0 t/new 2"],
            "a link to a file that is not there"
        );
        bench.clean();
        for (from, to, said) in [
            ("d", "/bin/busybox", "`/bin/busybox` in the image is not a folder"),
            ("a", "/bin/busybox/x/", "not a folder"),
        ] {
            bench.build(&format!("FROM busybox\nCOPY {from} {to}\n"), "").failure(1).says(said);
            bench.clean();
        }
    }
}

#[test]
fn build_copy_between_stages_and_images() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        files(&bench);
        bench.built(
            "FROM busybox AS one\nRUN mkdir -p /o/p && echo x >/o/f && ln /o/f /o/g && \
             ln -s f /o/s && mkfifo /o/q && chown -R web /o && chmod 4750 /o/f && chmod 1777 /o/p\n\
             FROM scratch AS two\nCOPY --from=one /o /t\n\
             FROM scratch\nCOPY --from=two /t/ /r/\nCOPY --from=busybox /etc/passwd /r/users\n\
             COPY --from=0 --chown=9:9 --chmod=600 /o/f /r/last\n",
        );
        assert_eq!(
            bench.layer(2),
            [
                "d 755 0:0 r",
                "f 4750 33:0 r/f 2",
                "h 4750 33:0 r/g = r/f",
                "d 1777 33:0 r/p",
                "p 644 33:0 r/q",
                "l 777 33:0 r/s -> f",
            ],
            "{caller:?}"
        );
        assert_eq!(bench.layer(0), ["d 755 0:0 r", "f 600 9:9 r/last 2"]);
        assert!(bench.content("r/users").contains("web"));
        bench.clean();
    }
}

#[test]
fn build_copy_leaves_out_what_is_ignored() {
    for caller in callers() {
        let bench = Bench::new(caller);
        files(&bench);
        bench.file("d/skip.log", "").file("d/keep.log", "").file("big/x", "");
        bench.file(
            ".dockerignore",
            "# comment\n**/*.log\n!d/keep.log\nbig\nDockerfile\n.dockerignore\nd/sub\n",
        );
        bench.built("FROM scratch\nCOPY . /x/\n");
        let names: Vec<String> = bench.tree().into_keys().collect();
        assert_eq!(names, ["x", "x/a", "x/d", "x/d/b", "x/d/empty", "x/d/keep.log", "x/d/link"]);
        let said = bench.build("FROM scratch\nCOPY big /y\n", "").failure(1);
        let said = said.says("COPY source not found: big").says("COPY big /y");
        said.says("`big` is excluded by line 4 of the ignore file (`big`)");
        // One that is named after the Dockerfile comes first.
        bench.file("other.Dockerfile", "FROM scratch\nCOPY . /x/\n");
        bench.file("other.Dockerfile.dockerignore", "*\n!a\n");
        let args = "build -q -t out -f context/other.Dockerfile context";
        bench.run(&mut bench.call(args.split(' '))).success();
        assert_eq!(bench.tree().into_keys().collect::<Vec<_>>(), ["x", "x/a"]);
    }
}

#[test]
fn build_add_archives() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        files(&bench);
        let tar = |options: &[&str]| {
            let done = Command::new("tar")
                .current_dir(bench.context().join("d"))
                .args(["--owner=33", "--group=34", "--sort=name", "--mtime=@1000"])
                .args(options)
                .args(["b", "link", "sub"])
                .status();
            assert!(done.unwrap().success());
        };
        tar(&["-cf", "../plain.tar"]);
        tar(&["-czf", "../gzip.tgz"]);
        tar(&["-c", "--zstd", "-f", "../zstd"]);
        fs::copy(bench.context().join("gzip.tgz"), bench.context().join("again")).unwrap();
        for name in ["plain.tar", "gzip.tgz", "zstd", "again"] {
            bench.built(&format!("FROM busybox\nADD {name} /x/y\n"));
            assert_eq!(
                bench.layer(0),
                [
                    "d 755 0:0 x",
                    "d 755 0:0 x/y",
                    "f 600 33:34 x/y/b 2",
                    "l 777 33:34 x/y/link -> sub/c",
                    "d 750 33:34 x/y/sub",
                    "f 644 33:34 x/y/sub/c 2",
                ],
                "{caller:?} {name}"
            );
        }
        bench.built("FROM busybox\nADD a /x/\nCOPY gzip.tgz /y/\n");
        assert_eq!(bench.layer(1)[1], "f 644 0:0 x/a 2");
        assert!(bench.layer(0)[1].starts_with("f 644 0:0 y/gzip.tgz "));
        bench.clean();
    }
}

/// An archive is unpacked over what is there: its folders follow links that the
/// image has above them, and what it lists replaces what is there.
#[test]
fn build_add_archive_over_what_is_there() {
    let bench = Bench::new(callers()[0]);
    let below = vec![
        dir("usr", 0o755),
        dir("usr/lib", 0o700),
        super::bench::symlink("lib", "usr/lib"),
        dir("was-dir", 0o755),
        file("was-dir/x", 0o644, "x"),
        file("was-file", 0o644, "x"),
    ];
    bench.base("busybox", &[busybox(), below]);
    let context = bench.context();
    for (name, text) in
        [("lib/l.so", "lib"), ("was-file/y", "y"), ("was-dir", "f"), ("usr/lib/z", "z")]
    {
        bench.file(name, text);
    }
    mode(&bench, "usr/lib", 0o755);
    let done = Command::new("tar")
        .current_dir(&context)
        .args(["--owner=0", "--group=0", "--no-recursion", "-cf", "all.tar"])
        .args(["lib/l.so", "was-file", "was-file/y", "was-dir", "usr/lib", "usr/lib/z"])
        .status();
    assert!(done.unwrap().success());
    bench.built("FROM busybox\nADD all.tar /\nRUN test -L /lib && cat /lib/l.so && test -f /was-dir && cat /was-file/y\n");
    assert_eq!(
        bench.layer(1),
        [
            "d 755 0:0 usr",
            "d 755 0:0 usr/lib",
            "f 644 0:0 usr/lib/l.so 3",
            "f 644 0:0 usr/lib/z 1",
            "f 644 0:0 was-dir 1",
            "d 755 0:0 was-file",
            "f 644 0:0 was-file/y 1",
        ]
    );
    let tree = bench.tree();
    assert!(tree["lib"].starts_with("l "));
    assert!(!tree.contains_key("was-dir/x"));
}

#[test]
fn build_copy_odd_names_and_kinds() {
    for caller in callers() {
        let bench = Bench::new(caller);
        let odd = std::ffi::OsStr::from_bytes(b"o\xff%");
        bench.file(std::path::Path::new("d").join(odd), "x");
        bench.file(format!("d/{0}/{0}", "n".repeat(200)), "y");
        bench.file("d/[x]", "z");
        let done = Command::new("mkfifo").arg(bench.context().join("d/pipe")).status().unwrap();
        assert!(done.success());
        symlink("/etc/passwd", bench.context().join("d/out")).unwrap();
        symlink("nowhere", bench.context().join("d/dangling")).unwrap();
        bench.built("FROM scratch\nCOPY d /\n");
        let tree = bench.tree();
        assert!(tree["o%FF%25"].starts_with("f "));
        assert!(tree["pipe"].starts_with("p "));
        assert!(tree["out"].starts_with("l 777 0:0 out -> /etc/passwd"));
        assert!(tree.contains_key("dangling") && tree.contains_key("[x]"));
        assert!(tree.contains_key(&format!("{0}/{0}", "n".repeat(200))));
        // A link never leads to a file of the host.
        bench.build("FROM scratch\nCOPY d/out /x\n", "").failure(1).says("source not found");
        let socket = std::os::unix::net::UnixListener::bind(bench.context().join("d/socket"));
        bench.built("FROM scratch\nCOPY d /\n");
        assert!(bench.tree()["socket"].starts_with("f "), "no image holds a socket");
        drop(socket);
        bench.clean();
    }
}

#[test]
fn build_copy_times() {
    let bench = Bench::with_busybox(callers()[0]);
    files(&bench);
    bench.built("FROM busybox\nCOPY d /x\nWORKDIR /y\nCOPY --from=busybox /etc/passwd /z\n");
    let store = bench.store();
    let rootfs = kiln::rootfs::Rootfs::open(&store, bench.image().layers()).unwrap();
    let entry = |name: &str| -> Entry {
        rootfs.view().get(&Name::clean(name.as_bytes()).unwrap()).unwrap().entry.clone()
    };
    let epoch = kiln::epoch::Epoch::default().seconds();
    for name in ["x", "x/b", "x/sub/c", "y"] {
        assert_eq!(entry(name).mtime, epoch, "{name}");
    }
    assert_eq!(entry("z").mtime, 1_000_000, "files of an image keep their time");
    assert_eq!(entry("x").kind, Kind::Dir);
}

/// What a step sees of folders that a layer puts something into, or that a
/// layer of somebody else names only as part of a path.
#[test]
fn build_folders_keep_their_mode_for_later_steps() {
    for caller in callers() {
        let bench = Bench::new(caller);
        let mut own = dir("own", 0o1770);
        (own.0.uid, own.0.gid) = (33, 34);
        let mut root = dir("", 0o751);
        root.0.mtime = 77;
        bench.base("busybox", &[busybox(), vec![root, own, dir("own/sub", 0o711)]]);
        bench.base(
            "implied",
            &[
                busybox(),
                vec![dir("", 0o751), dir("own", 0o1770), dir("own/sub", 0o711)],
                vec![file("own/sub/x", 0o644, "x"), file("own/new/y", 0o644, "y")],
            ],
        );
        bench.file("a", "A");
        let see = "RUN stat -c '%a %u:%g %n' / /tmp /own /own/sub >/seen\n";
        bench
            .built(&format!("FROM busybox\nCOPY a /tmp/\nCOPY a /own/sub/\nWORKDIR /own/w\n{see}"));
        assert_eq!(
            bench.content("seen"),
            "751 0:0 /\n1777 0:0 /tmp\n1770 33:34 /own\n711 0:0 /own/sub\n",
            "{caller:?}"
        );
        assert_eq!(bench.layer(0).len(), 1, "{:?}", bench.layer(0));
        bench.built(&format!("FROM implied\n{see}RUN touch /own/sub/z /own/new/z\n"));
        assert_eq!(
            bench.content("seen"),
            "751 0:0 /\n1777 0:0 /tmp\n1770 0:0 /own\n711 0:0 /own/sub\n",
            "{caller:?}"
        );
        assert_eq!(
            bench.layer(0),
            [
                "d 1770 0:0 own",
                "d 755 0:0 own/new",
                "f 644 0:0 own/new/z 0",
                "d 711 0:0 own/sub",
                "f 644 0:0 own/sub/z 0"
            ]
        );
        bench.clean();
    }
}
