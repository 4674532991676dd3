//! `RUN`: what a step changes is what its layer says.

use super::bench::{Bench, Caller, busybox, callers, dir, entry, file, tree};
use kiln::layer::{Kind, RawBytes};

/// Builds the same for every caller, and compares the topmost layer.
#[track_caller]
fn layer(dockerfile: &str, expected: &[&str]) {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.built(dockerfile);
        assert_eq!(bench.layer(0), expected, "{caller:?}");
        bench.clean();
    }
}

#[test]
fn build_run_writes_files() {
    layer(
        "FROM busybox\nRUN mkdir -p /srv/empty && echo hello >/srv/hello && ln -s hello /srv/link \
         && mkfifo -m 640 /srv/pipe && chown 33:34 /srv/empty && chmod 4755 /srv/hello\n",
        &[
            "d 755 0:0 srv",
            "d 755 33:34 srv/empty",
            "f 4755 0:0 srv/hello 6",
            "l 777 0:0 srv/link -> hello",
            "p 640 0:0 srv/pipe",
        ],
    );
}

/// Layers of the same bytes lie one on the other, as those of steps that change nothing.
#[test]
fn build_run_on_the_same_layer_twice() {
    layer(
        "FROM busybox\nRUN true\nRUN true\nRUN echo 1 >/x\nRUN rm /x\nRUN echo 1 >/x\n\
         RUN cat /x >/y\n",
        &["f 644 0:0 y 2"],
    );
}

#[test]
fn build_run_removes_and_replaces() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.built(
            "FROM busybox\nRUN mkdir -p /a/b /a/c /a/d && touch /a/1 /a/b/2 /a/c/3 /a/d/4 /f\n\
             RUN rm /a/1 && rm -r /a/b && rm -r /a/c && mkdir /a/c && touch /a/c/5 && rm -r /a/d \
             && touch /a/d && rm /f && mkdir /f && touch /gone && rm /gone\n",
        );
        assert_eq!(
            bench.layer(0),
            [
                "d 755 0:0 a",
                "w 0 0:0 a/.wh.1",
                "w 0 0:0 a/.wh.b",
                "d 755 0:0 a/c",
                "w 0 0:0 a/c/.wh.3",
                "f 644 0:0 a/c/5 0",
                "f 644 0:0 a/d 0",
                "d 755 0:0 f",
            ],
            "{caller:?}"
        );
        let names: Vec<String> =
            bench.tree().into_keys().filter(|n| n.starts_with('a') || n.starts_with('f')).collect();
        assert_eq!(names, ["a", "a/c", "a/c/5", "a/d", "f"]);
        bench.clean();
    }
}

#[test]
fn build_run_hard_links() {
    layer(
        "FROM busybox\nRUN mkdir /l && echo x >/l/b && ln /l/b /l/a && ln /l/b /l/c && \
         ln -s b /l/s\n",
        &[
            "d 755 0:0 l",
            "f 644 0:0 l/a 2",
            "h 644 0:0 l/b = l/a",
            "h 644 0:0 l/c = l/a",
            "l 777 0:0 l/s -> b",
        ],
    );
}

#[test]
fn build_run_changes_modes_alone() {
    layer(
        "FROM busybox\nRUN mkdir -p /m/n && touch /m/n/f\nRUN chmod 1750 /m/n && chmod 700 /m/n/f\n",
        &["d 755 0:0 m", "d 1750 0:0 m/n", "f 700 0:0 m/n/f 0"],
    );
}

#[test]
fn build_run_that_changes_nothing() {
    layer("FROM busybox\nRUN touch /tmp/x && rm /tmp/x && mkdir /tmp/y && rmdir /tmp/y\n", &[]);
    layer(
        "FROM busybox\nRUN ls -lR /bin /etc /tmp >/dev/null && cat /etc/hosts /etc/resolv.conf >/dev/null\n",
        &[],
    );
}

#[test]
fn build_run_odd_names() {
    let long = "n".repeat(250);
    let path = format!("/{long}/{long}");
    layer(
        &format!(
            "FROM busybox\nRUN mkdir /{long} && touch {path} && ln -s {path} /o && \
             touch \"/$(printf 'a\\377b')\" '/with space' \"/$(printf 'new\\nline')\"\n"
        ),
        &[
            "f 644 0:0 a%FFb 0",
            "f 644 0:0 new\nline 0",
            &format!("d 755 0:0 {long}"),
            &format!("f 644 0:0 {long}/{long} 0"),
            &format!("l 777 0:0 o -> {path}"),
            "f 644 0:0 with space 0",
        ],
    );
}

#[test]
fn build_run_keeps_what_a_base_has() {
    for caller in callers() {
        let bench = Bench::new(caller);
        // cap_net_bind_service+ep, revision 2 (capabilities(7)).
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut top = vec![
            dir("d", 0o755),
            entry("d/null", Kind::Char { major: 1, minor: 3 }, 0o666, Vec::new()),
            entry("d/disk", Kind::Block { major: 8, minor: 1 }, 0o660, Vec::new()),
            entry("d/pipe", Kind::Fifo, 0o600, Vec::new()),
            file("d/server", 0o755, "#!/bin/sh\n"),
            file("d/su", 0o4755, "x"),
            file("d/mine", 0o640, "x"),
        ];
        top[4].0.xattrs.insert("security.capability".into(), RawBytes(capability.to_vec()));
        top[4].0.xattrs.insert("user.note".into(), RawBytes(b"kept\xff".to_vec()));
        (top[6].0.uid, top[6].0.gid) = (33, 34);
        bench.base("busybox", &[busybox(), top]);
        // What the base had is there unchanged, and a step that touches it keeps it.
        let before = {
            bench.built("FROM busybox\n");
            bench.tree()
        };
        bench.built("FROM busybox\nRUN chmod 775 /d && touch /d/new\n");
        assert_eq!(bench.layer(0), ["d 775 0:0 d", "f 644 0:0 d/new 0"], "{caller:?}");
        let mut after = bench.tree();
        after.remove("d/new");
        after.insert("d".into(), before["d"].clone());
        assert_eq!(after, before);
        bench.built(
            "FROM busybox\nRUN chmod 664 /d/mine && chmod 666 /d/disk /d/pipe && mv /d/su /d/su2\n",
        );
        assert_eq!(
            bench.layer(0),
            [
                "d 755 0:0 d",
                "w 0 0:0 d/.wh.su",
                "b 666 0:0 d/disk 8,1",
                "f 664 33:34 d/mine 1",
                "p 666 0:0 d/pipe",
                "f 4755 0:0 d/su2 1"
            ],
            "{caller:?}"
        );
        bench.clean();
    }
}

#[test]
fn build_run_as_a_user() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.built(
            "FROM busybox\nRUN mkdir /w && chmod 777 /w\nUSER web\nWORKDIR /w\n\
             RUN id >id && echo \"$HOME\" >home && pwd >pwd && touch of-web\n\
             USER 1234\nRUN id >id2 && echo $HOME >home2\nUSER 0:extra\nRUN id -g >id3\n\
             USER root\nRUN echo $HOME >home3; cat id home pwd id2 home2 id3 home3 >all\n",
        );
        assert_eq!(
            bench.content("w/all"),
            "uid=33(web) gid=34(www) groups=34(www),60(extra)\n/var/www\n/w\n\
             uid=1234 gid=0(root) groups=0(root)\n/\n60\n/root\n",
            "{caller:?}"
        );
        assert!(bench.tree()["w/of-web"].starts_with("f 644 33:34"));
    }
}

#[test]
fn build_run_environment_is_the_images_alone() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.built(
            "FROM busybox\nARG GIVEN=arg\nENV A=1 B='two words'\nENV C=$A-$B\n\
             RUN env | grep -v '^HTTP' | sort >/env; ls /proc/self/fd | wc -l >/fds; hostname >/host || cat /proc/sys/kernel/hostname >/host\n",
        );
        assert_eq!(
            bench.content("env"),
            "A=1\nB=two words\nC=1-two words\nGIVEN=arg\nHOME=/root\nPATH=/bin\nPWD=/\nSHLVL=1\n"
        );
        assert_eq!(bench.content("host"), "kiln\n");
    }
}

#[test]
fn build_run_forms() {
    let bench = Bench::with_busybox(callers()[0]);
    bench.built(
        "FROM busybox\nRUN [\"busybox\", \"touch\", \"/a b\"]\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n\
         RUN echo one >/doc && \\\n  echo two >>/doc\n",
    );
    assert!(bench.tree().contains_key("a b"));
    assert_eq!(bench.content("doc"), "one\ntwo\n");
}

#[test]
fn build_run_directory_times() {
    use kiln::layer::Name;
    // A folder's time changes with what is put into it, and only then; none is
    // later than the epoch.
    let bench = Bench::with_busybox(callers()[0]);
    bench.built("FROM busybox\nRUN touch /etc/new && touch /tmp/x && rm /tmp/x\n");
    let store = bench.store();
    let rootfs = kiln::rootfs::Rootfs::open(&store, bench.image().layers()).unwrap();
    let time =
        |name: &str| rootfs.view().get(&Name::clean(name.as_bytes()).unwrap()).unwrap().entry.mtime;
    let epoch = kiln::epoch::Epoch::default().seconds();
    assert_eq!((time("etc/new"), time("etc")), (epoch.min(time("etc/new")), epoch));
    assert_eq!((time("tmp"), time("bin")), (1_000_000, 1_000_000), "nothing in them changed");
}

/// Layers with the same content share one tree, whatever they were made on.
#[test]
fn build_run_leaves_nothing_in_a_shared_tree() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let mut small = busybox();
        small.retain(|(entry, _)| entry.name.as_bytes() != b"tmp");
        bench.base("small", &[small]);
        // Both first layers are empty; one was made by a step that left its mark on
        // folders of its base.
        bench.built(
            "FROM busybox\nRUN touch /tmp/x && rm /tmp/x; chmod 700 /tmp; chmod 1777 /tmp\n",
        );
        assert_eq!(bench.layer(0), [""; 0]);
        bench.built("FROM small\nRUN true\nRUN ls -a / >/seen\n");
        assert_eq!(bench.layer(1), [""; 0]);
        assert!(!bench.content("seen").contains("tmp"), "{}", bench.content("seen"));
    }
}

/// The sandbox has the capabilities that BuildKit's has; without it, all of the
/// tier's, for any user, and mounts are the process's to make.
#[test]
fn build_run_insecure() {
    const TEXT: &str = r#"FROM busybox
RUN [ "$(grep CapBnd /proc/self/status)" = "CapBnd:	00000000a80425fb" ] && mkdir /m && ! mount -t tmpfs none /m
RUN --security=insecure mount -t tmpfs none /m && touch /m/x && unshare -U true && test -w /proc/sys/kernel/domainname
USER 1000
RUN --security=insecure cap() { grep $1: /proc/self/status | cut -f 2; }; [ "$(cap CapEff)" = "$(cap CapBnd)" ] && [ "$(cap CapEff)" != 00000000a80425fb ]
"#;
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let refused = bench.build(TEXT, "").failure(1).stderr;
        assert!(refused.contains("--allow security.insecure"), "{refused}");
        assert!(refused.contains("Dockerfile:3:16"), "{refused}");
        bench.build(TEXT, "--allow security.insecure").success();
        let names: Vec<String> = tree(&bench.store(), bench.image().layers()).into_keys().collect();
        assert!(names.contains(&"m".to_owned()) && !names.contains(&"m/x".to_owned()));
    }
}

/// BuildKit's own arguments: the host name, a space of its own for caches, the time
/// that an `ARG` of the file says, an index whatever the number of platforms.
#[test]
fn build_settings_by_argument() {
    const TEXT: &str = "ARG SOURCE_DATE_EPOCH=1600000000\nFROM busybox\nARG SOURCE_DATE_EPOCH\n\
        RUN --mount=type=cache,target=/c [ \"$(hostname)\" = box ] && grep -w box /etc/hosts && \
        [ \"$SOURCE_DATE_EPOCH\" = 1600000000 ] && touch /c/x && ls /c > /seen\n";
    let bench = Bench::with_busybox(Caller::Own);
    let named = "--build-arg BUILDKIT_SANDBOX_HOSTNAME=box";
    bench.build(TEXT, named).success();
    assert_eq!(bench.image().config().created.as_deref(), Some("2020-09-13T12:26:40Z"));
    bench.build(&TEXT.replace("touch /c/x &&", "[ -e /c/x ] &&"), named).success();
    let space = format!("{named} --build-arg BUILDKIT_CACHE_MOUNT_NS=other");
    bench.build(&TEXT.replace("touch /c/x &&", "[ ! -e /c/x ] &&"), &space).success();
    bench.build(TEXT, &format!("{named} --build-arg BUILDKIT_MULTI_PLATFORM=1")).success();
    let image = bench.store().image_named(&"out".parse().unwrap()).unwrap();
    assert!(matches!(image, kiln::image::AnyImage::Index { .. }));
}

/// A layer says how two states differ, not how one became the other.
#[test]
fn build_run_changes_and_changes_back() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.built(
            "FROM busybox\nRUN mkdir -p /a/b/c && echo x >/a/b/c/x && echo y >/a/y && ln -s y /s\n\
             RUN : >>/a/y; chmod 600 /a/y; chmod 644 /a/y; mv /s /l; mv /l /s; \
             cp -a /a /z && rm -r /a && mv /z /a\n",
        );
        assert_eq!(bench.layer(0), [""; 0], "{caller:?}");
        bench.built(
            "FROM busybox\nRUN mkdir -p /a/b/c && echo x >/a/b/c/x && echo y >/a/b/y\n\
             RUN rm -r /a && mkdir -p /a/b/c && echo z >/a/b/c/z\nRUN find /a >/found\n",
        );
        let expected = [
            "d 755 0:0 a",
            "d 755 0:0 a/b",
            "w 0 0:0 a/b/.wh.y",
            "d 755 0:0 a/b/c",
            "w 0 0:0 a/b/c/.wh.x",
            "f 644 0:0 a/b/c/z 2",
        ];
        assert_eq!(bench.layer(1), expected, "{caller:?}");
        assert_eq!(bench.content("found"), "/a\n/a/b\n/a/b/c\n/a/b/c/z\n");
        bench.clean();
    }
}

/// Whether a step ran or its layer was unpacked, the next sees the same times.
#[test]
fn build_run_folders_times_in_the_next_step() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let text = "FROM busybox\nRUN touch /tmp/new\nRUN stat -c %Y /tmp /tmp/new >/times\n";
        bench.built(text);
        let epoch = kiln::epoch::Epoch::default().seconds();
        assert_eq!(bench.content("times"), format!("{epoch}\n{epoch}\n"), "{caller:?}");
        bench.clean();
    }
}
