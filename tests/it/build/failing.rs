//! Builds that fail: what is said, and that nothing is left.

use std::fs;

use super::bench::{Bench, Caller, callers};
use crate::support::kiln::Output;

/// Fails for every caller, says all of it, and leaves nothing.
#[track_caller]
fn fails(dockerfile: &str, more: &str, says: &[&str]) {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("a", "A").file("skipped/x", "x").file(".dockerignore", "skipped\n");
        let mut output: Output = bench.build(dockerfile, more).failure(1);
        for text in says {
            output = output.says(text);
        }
        assert_eq!(output.text(), "", "nothing on stdout");
        let names = bench.store().names().unwrap();
        assert!(names.iter().all(|(name, _)| name.familiar() != "out:latest"), "{names:?}");
        bench.clean();
    }
}

#[test]
fn build_fails_on_a_wrong_text() {
    fails("FROM busybox\nRUUN x\n", "", &["Dockerfile:2:1", "2 | RUUN x", "RUN"]);
    fails("FROM busybox\nCOPY a\n", "", &["Dockerfile:2"]);
    fails("", "", &["FROM"]);
    fails("FROM busybox\nCOPY --from=ghost /a /b\nRUN true\n", "--target nowhere", &["nowhere"]);
}

#[test]
fn build_fails_on_a_name_that_is_nearly_a_stages() {
    let says = ["did you mean the stage `build`?", "3 | COPY --from=biuld /a /b"];
    // Nothing answers there, and no image of that name is in the store.
    let bench = Bench::with_busybox(Caller::Own);
    let text = "FROM busybox AS build\nFROM busybox\nCOPY --from=biuld /a /b\n";
    let mut output = bench.build(text, "").failure(1);
    for text in says {
        output = output.says(text);
    }
}

#[test]
fn build_fails_on_a_source_that_is_not_there() {
    fails(
        "FROM busybox\nCOPY a missing /x/\n",
        "",
        &[
            "COPY source not found: missing",
            "2 | COPY a missing /x/",
            "hint: sources are looked for",
        ],
    );
    fails(
        "FROM busybox\nCOPY skipped/x /x/\n",
        "",
        &["COPY source not found: skipped/x", "excluded by line 1 of the ignore file (`skipped`)"],
    );
    fails(
        "FROM busybox\nCOPY --from=busybox /nothing /x\n",
        "",
        &["COPY source not found: nothing"],
    );
    let bench = Bench::with_busybox(callers()[0]);
    std::os::unix::fs::symlink("nowhere", bench.context().join("dangling")).unwrap();
    bench.build("FROM busybox\nCOPY dang* /\n", "").failure(1).says("source not found: dangling");
    fails(
        "FROM busybox\nCOPY --chown=ghost a /x\n",
        "",
        &["user `ghost` is not in the image's /etc/passwd"],
    );
    fails(
        "FROM busybox\nUSER ghost\nRUN true\n",
        "",
        &["user `ghost`", "3 | RUN true", "or use a number"],
    );
}

#[test]
fn build_fails_with_the_command() {
    fails(
        "FROM busybox\nRUN echo said >&2; touch /x; exit 3\n",
        "",
        &["said", "RUN failed with exit code 3", "2 | RUN echo said >&2; touch /x; exit 3"],
    );
    fails("FROM busybox\nRUN no-such-program\n", "", &["exit code 127", "hint: 127 mostly means"]);
    fails(
        "FROM busybox\nRUN [\"/no/such\"]\n",
        "",
        &["execute \"/no/such\"", "2 | RUN [\"/no/such\"]"],
    );
    fails("FROM scratch\nRUN echo x\n", "", &["execute \"/bin/sh\"", "2 | RUN echo x"]);
    // Of two steps at once, the failure of one stops the other.
    fails(
        "FROM busybox AS a\nRUN sleep 300; touch /a\nFROM busybox AS b\nRUN sleep 0.3; exit 4\n\
         FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        "",
        &["exit code 4"],
    );
}

#[test]
fn build_fails_without_its_base() {
    // Nothing listens there.
    fails(
        "FROM 127.0.0.1:1/app:v1\nRUN true\n",
        "",
        &["base image 127.0.0.1:1/app:v1", "1 | FROM 127.0.0.1:1/app:v1"],
    );
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        // A base whose layer was lost cannot be fetched from anywhere.
        bench.built("FROM busybox\n");
        let layer = bench.image().layers()[0].digest;
        fs::remove_file(bench.store().blob_path(&layer)).unwrap();
        bench.base("127.0.0.1:1/lost", &[vec![super::bench::dir("x", 0o755)]]);
        let lost = bench.store().image_named(&"127.0.0.1:1/lost".parse().unwrap()).unwrap();
        fs::remove_file(bench.store().blob_path(&lost.images()[0].layers()[0].digest)).unwrap();
        bench.build("FROM 127.0.0.1:1/lost\nRUN true\n", "").failure(1).says("127.0.0.1:1");
        bench.clean();
    }
}

#[test]
fn build_fails_without_text_or_context() {
    let bench = Bench::with_busybox(callers()[0]);
    let run = |args: &str| bench.run(&mut bench.call(args.split(' ')));
    run("build context").failure(1).says("no Dockerfile at ").says("hint: name it with --file");
    run("build -f nothing context").failure(1).says("no Dockerfile at nothing");
    run("build nowhere").failure(1).says("build context `nowhere` is not a folder");
    fs::write(bench.path("file"), "").unwrap();
    run("build file").failure(1).says("build context `file` is not a folder");
    fs::write(bench.path("binary"), b"FROM \xff").unwrap();
    run("build -f binary context").failure(1).says("binary is not UTF-8 text: line 1 ");
    run("build -t app@sha256:0000000000000000000000000000000000000000000000000000000000000000 .")
        .failure(2);
    fs::create_dir(bench.path("folder")).unwrap();
    run("build -f folder context").failure(1).says("folder");
    bench.clean();
}

/// A damaged blob of a base is an error, and nothing of it becomes visible.
#[test]
fn build_fails_on_a_damaged_base() {
    let bench = Bench::with_busybox(callers()[0]);
    bench.built("FROM busybox\n");
    let layer = bench.image().layers()[0].clone();
    let path = bench.store().blob_path(&layer.digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = bench.build("FROM busybox\nRUN true\n", "").failure(1);
    output.says("layer sha256:");
    assert!(bench.clean_trees());
    bench.clean();
}

/// A full disk is one error that says so, and nothing is left.
#[test]
fn build_fails_on_a_full_disk() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::root_only("a small file system is mounted");
    }
    let bench = Bench::with_busybox(callers()[0]);
    bench.file("big", vec![7; 12 << 20]);
    // Not compressible: the layer needs its size.
    let mut state = 1u32;
    let noise: Vec<u8> = (0..12 << 20)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    bench.file("noise", noise);
    fs::write(bench.path("small.sh"), "\
mount -t tmpfs -o size=8m,mode=700 tmpfs \"$KILN_STORE.small\" && cp -a \"$KILN_STORE/.\" \"$KILN_STORE.small\" \
&& export KILN_STORE=\"$KILN_STORE.small\" && \"$@\"; code=$?; ls \"$KILN_STORE/tmp\" >&2; exit $code").unwrap();
    fs::create_dir(bench.path("store.small")).unwrap();
    fs::write(bench.context().join("Dockerfile"), "FROM scratch\nCOPY noise /x\n").unwrap();
    let tar = std::process::Command::new("tar")
        .args(["-cf", "context.tar", "-C", "context", "Dockerfile", "noise"])
        .current_dir(bench.path("."))
        .status();
    assert!(tar.unwrap().success());
    for (text, context, said) in [
        ("FROM busybox\nCOPY noise /x\n", "context", "No space left on device"),
        ("FROM busybox\nRUN dd if=/dev/urandom of=/x bs=1M count=12\n", "context", "No space left"),
        ("", "context.tar", "write "),
    ] {
        fs::write(bench.path("Dockerfile"), text).unwrap();
        let file = if text.is_empty() { "" } else { "-f Dockerfile " };
        let call = bench.call(format!("build --progress=plain {file}{context}").split(' '));
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["-m", "sh", "-e"]).arg(bench.path("small.sh")).arg(call.get_program());
        unshare.args(call.get_args()).current_dir(bench.path("."));
        unshare.env("KILN_STORE", bench.store_path()).env("HOME", bench.path("."));
        let output = bench.run(&mut unshare).failure(1).says(said);
        assert!(!output.stderr.contains("changed while"), "{}", output.stderr);
        let last = output.stderr.lines().last().unwrap_or_default();
        let left = ["run-", "blob-", "context-"].iter().any(|start| last.starts_with(start));
        assert!(!left, "left: {}", output.stderr);
    }
}

/// An owner that cannot be recorded is an error of the call, and no other owner.
#[test]
fn build_fails_when_no_owner_can_be_recorded() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::root_only("a small file system is mounted");
    }
    // The file system has room for names and attributes: each inode takes 1 KiB of that,
    // and an owner what is left of it.
    let fill = "mkdir -m 777 /d && cd /d || exit 9; i=0; while true 2>/dev/null >$i; do i=$((i+1)); done; \
        [ $i -gt 50 ] || exit 8; ";
    // With one inode's room, a file is made and its owner finds none.
    let fill_all =
        format!("{fill} for f in [0-9]*; do chown 33:34 $f 2>/dev/null || break; done; rm $f; ");
    let chowned = format!(
        "{fill} for f in [0-9]*; do chown 33:34 $f || {{ stat -c 'left %u:%g' $f; exit 7; }}; done"
    );
    let made = format!(
        "{fill_all} busybox su web -s /bin/sh -c ': >made' || \
         {{ ls /d/made; exit 7; }}"
    );
    let listed = "mkdir /d && cd /d && dd if=/dev/zero of=fill bs=64k 2>/dev/null; i=0; \
        while [ $i -lt 2000 ]; do mkfifo p && chown 5:6 p || { stat -c 'left %u:%g' p; exit 7; }; \
        rm p; i=$((i+1)); done";
    for (step, says) in [
        (chowned.as_str(), &["chown: ", "No space left on device", "left 0:0"][..]),
        (&made, &["No space left on device", "/d/made: No such file"]),
        (listed, &["chown: p: No space left on device", "left 0:0"]),
    ] {
        let bench = Bench::with_busybox(callers()[0]);
        fs::write(bench.path("small.sh"), "\
mount -t tmpfs -o size=16m,nr_inodes=900,mode=700 tmpfs \"$KILN_STORE.small\" && cp -a \"$KILN_STORE/.\" \"$KILN_STORE.small\" \
&& export KILN_STORE=\"$KILN_STORE.small\" && exec \"$@\"").unwrap();
        fs::create_dir(bench.path("store.small")).unwrap();
        fs::write(bench.path("Dockerfile"), format!("FROM busybox\nRUN {step}\n")).unwrap();
        let args = "build -v --sandbox=single-id --progress=plain -f Dockerfile context";
        let call = bench.call(args.split(' '));
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["-m", "sh", "-e"]).arg(bench.path("small.sh")).arg(call.get_program());
        unshare.args(call.get_args()).current_dir(bench.path("."));
        unshare.env("KILN_STORE", bench.store_path()).env("HOME", bench.path("."));
        let mut output = bench.run(&mut unshare).failure(1).says("exit code 7");
        for text in says {
            output = output.says(text);
        }
    }
}
