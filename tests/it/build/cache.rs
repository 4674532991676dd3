//! What is made anew, and what is not.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use super::bench::{Bench, Caller, callers};
use crate::support::kiln::Output;

const THREE: &str =
    "FROM busybox\nCOPY a /a\nRUN cat /a >/from-a\nCOPY b /b\nRUN cat /b >/from-b\n";

fn three(bench: &Bench) {
    bench.file("a", "A").file("b", "B");
}

/// Which of the steps that are no base were made, and which came from the cache.
pub(super) fn made(output: &Output) -> Vec<bool> {
    let lines: Vec<&str> = output.stderr.lines().collect();
    let step = |line: &&&str| {
        (line.contains("] RUN ") || line.contains("] COPY ")) && !line.contains(" made anew: ")
    };
    let number = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let ended = |line: &&str| -> bool {
        let end = |other: &&&str| {
            number(other) == number(line)
                && ([" DONE ", " ERROR "].iter().any(|end| other.contains(end))
                    || other.ends_with(" CACHED"))
        };
        lines
            .iter()
            .find(end)
            .unwrap_or_else(|| panic!("no end of {line}: {lines:#?}"))
            .contains(" DONE ")
    };
    let mut steps: Vec<&&str> = lines.iter().filter(step).collect();
    // Independent steps may begin in any order: by place in the file.
    steps.sort_by_key(|line| line.split(['[', ']']).nth(1).map(str::to_owned));
    steps.into_iter().map(ended).collect()
}

#[test]
fn build_twice_makes_nothing() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        three(&bench);
        let first = bench.build(THREE, "").success();
        assert_eq!(made(&first), [true; 4], "{}", first.stderr);
        let again = bench.build(THREE, "").success();
        assert_eq!(made(&again), [false; 4], "{}", again.stderr);
        assert_eq!(first.text(), again.text());
        // Times, the folder's name and metadata are no content.
        for entry in walkdir::WalkDir::new(bench.context()) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
            fs::File::open(entry.unwrap().path()).unwrap().set_modified(time).unwrap();
        }
        let again = bench.build(THREE, "").success();
        assert_eq!((made(&again), again.text()), (vec![false; 4], first.text()));
        let labelled = bench.build(&format!("{THREE}LABEL x=y\nENV A=b\nCMD [\"x\"]\n"), "");
        let labelled = labelled.success();
        assert_eq!(made(&labelled), [false; 4]);
        assert_ne!(labelled.text(), first.text());
        let anew = bench.build(THREE, "--no-cache").success();
        assert_eq!((made(&anew), anew.text()), (vec![true; 4], first.text()));
        bench.clean();
    }
}

#[test]
fn build_makes_what_depends_on_a_change() {
    let bench = Bench::with_busybox(callers()[0]);
    three(&bench);
    bench.built(THREE);
    bench.file("b", "other");
    let changed = bench.build(THREE, "").success();
    assert_eq!(made(&changed), [false, false, true, true]);
    // Back again: everything is known.
    bench.file("b", "B");
    assert_eq!(made(&bench.build(THREE, "").success()), [false; 4]);
    // A file that no step copies changes nothing.
    bench.file("c", "C");
    assert_eq!(made(&bench.build(THREE, "").success()), [false; 4]);
    // A step whose result is the same ends the change there.
    bench.file("a", "A2");
    let text = THREE.replace("cat /a", "true");
    bench.build(&text, "").success();
    let changed = bench.build(&text.replace("RUN true", "RUN  true"), "").success();
    assert!(!made(&changed)[0]);
    // An argument counts from where it is declared.
    let text = "FROM busybox\nRUN true one\nARG V\nRUN echo $V >/v\n";
    bench.build(text, "--build-arg V=1").success();
    let other = bench.build(text, "--build-arg V=2").success();
    assert_eq!(made(&other), [false, true]);
    assert_eq!(bench.content("v"), "2\n");
    // The mode of a file is content.
    use std::os::unix::fs::PermissionsExt as _;
    bench.file("a", "A");
    bench.built(THREE);
    fs::set_permissions(bench.context().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(made(&bench.build(THREE, "").success())[0]);
}

#[test]
fn build_makes_again_what_was_lost() {
    let bench = Bench::with_busybox(callers()[0]);
    three(&bench);
    let digest = bench.built(THREE);
    let layers = bench.image().layers().to_vec();
    // A blob that is gone, one that is cut, a record that is rubbish, trees that are gone.
    fs::remove_file(bench.store().blob_path(&layers[2].digest)).unwrap();
    let cut = bench.store().blob_path(&layers[4].digest);
    fs::OpenOptions::new().write(true).open(cut).unwrap().set_len(10).unwrap();
    fs::remove_dir_all(bench.path("store/trees")).unwrap();
    for area in ["index", "folders"] {
        for record in fs::read_dir(bench.path("store/records").join(area)).unwrap() {
            fs::write(record.unwrap().path(), "rubbish").unwrap();
        }
    }
    let again = bench.build(THREE, "").success();
    assert_eq!(again.text().trim(), digest);
    assert_eq!(made(&again), [false, true, false, true], "{}", again.stderr);
    bench.clean();
}

#[test]
fn build_twice_at_once_makes_each_step_once() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        three(&bench);
        fs::write(bench.path("Dockerfile"), THREE.replace("cat /a", "sleep 1; cat /a")).unwrap();
        let args = "build --progress=plain -f Dockerfile context";
        let start = || {
            let mut call = bench.call(args.split(' '));
            call.stdout(Stdio::piped()).spawn().unwrap()
        };
        let children = [start(), start(), start()];
        let outputs = children.map(|child| {
            let output = child.wait_with_output().unwrap();
            Output {
                code: output.status.code(),
                stdout: output.stdout,
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
            .success()
        });
        assert!(outputs.iter().all(|output| output.stdout == outputs[0].stdout));
        let made: Vec<Vec<bool>> = outputs.iter().map(made).collect();
        for step in 0..4 {
            assert_eq!(made.iter().filter(|all| all[step]).count(), 1, "step {step}: {made:?}");
        }
        bench.clean();
    }
}

/// Counted by what the step leaves behind, not by what kiln says of itself.
#[test]
fn build_twice_at_once_runs_a_step_once() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let text = "FROM --platform=$BUILDPLATFORM busybox AS NAME\n\
            RUN --mount=type=cache,target=/c echo ran >>/c/log; sleep 1; \
            cat /proc/sys/kernel/random/uuid >/id\nFROM scratch\nCOPY --from=NAME /id /id\n";
        for name in ["one", "two"] {
            fs::write(bench.path(name), text.replace("NAME", name)).unwrap();
        }
        // Three processes, stages of two names, two platforms.
        let starts =
            ["one context", "two context", "one --platform linux/amd64,linux/s390x context"];
        let mut calls = starts.map(|args| bench.call(format!("build -q -f {args}").split(' ')));
        let children = calls.each_mut().map(|call| call.spawn().unwrap());
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        bench.built("FROM busybox\nRUN --mount=type=cache,target=/c cp /c/log /log\n");
        assert_eq!(bench.content("log"), "ran\n", "{caller:?}");
        bench.clean();
    }
}

#[test]
fn build_runs_equal_steps_once() {
    let bench = Bench::with_busybox(callers()[0]);
    let output = bench
        .build(
            "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid >/id\n\
             FROM busybox AS two\nRUN cat /proc/sys/kernel/random/uuid >/id\n\
             FROM scratch\nCOPY --from=one /id /1\nCOPY --from=two /id /2\n",
            "",
        )
        .success();
    assert_eq!(bench.content("1"), bench.content("2"), "{}", output.stderr);
    // A stage that nothing needs is not made.
    let output = bench.build("FROM busybox AS unused\nRUN false\nFROM busybox\nRUN true 2\n", "");
    assert!(!output.success().stderr.contains("RUN false"));
}

/// What a step leaves is different each time; its layer is wanted in another form.
#[test]
fn build_in_another_form_runs_nothing_again() {
    const RANDOM: &str = "FROM busybox AS a\nRUN head -c 300000 /dev/urandom >/x\n\
                          FROM busybox\nCOPY --from=a /x /x\nRUN head -c 300 /dev/urandom >/y\n";
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let with = |flags: &str| {
            let output = bench.build(RANDOM, flags).success();
            let layers = bench.image().layers()[1..].to_vec();
            (made(&output), layers, output)
        };
        let (steps, gzip, first) = with("--compression gzip");
        assert_eq!(steps, [true; 3], "{}", first.stderr);
        let (steps, tar, second) = with("--compression uncompressed");
        assert_eq!(steps, [false; 3], "{}", second.stderr);
        second.says(" as tar");
        let (_, zstd, _) = with("--compression zstd");
        let diff_ids = |layers: &[kiln::layer::Layer]| -> Vec<_> {
            layers.iter().map(|layer| layer.diff_id).collect()
        };
        assert_eq!(diff_ids(&gzip), diff_ids(&tar));
        assert_eq!(diff_ids(&gzip), diff_ids(&zstd));
        use kiln::layer::Compression;
        for (layers, form) in
            [(&gzip, Compression::Gzip), (&tar, Compression::None), (&zstd, Compression::Zstd)]
        {
            assert!(layers.iter().all(|layer| layer.compression == form), "{layers:?}");
        }
        // All forms are there now.
        let (steps, again, output) = with("--compression gzip");
        assert_eq!((steps, again), (vec![false; 3], gzip));
        assert!(!output.stderr.contains(" as gzip"), "{}", output.stderr);
        bench.clean();
    }
}

/// A stage that only gives files to others is compressed when it is the result itself.
#[test]
fn build_compresses_only_what_leaves() {
    let bench = Bench::with_busybox(callers()[0]);
    let text = "FROM busybox AS a\nRUN head -c 300000 /dev/urandom >/x\n\
                FROM scratch\nCOPY --from=a /x /y\n";
    let compressed = || {
        let blobs = fs::read_dir(bench.store().root().join("blobs/sha256")).unwrap();
        let heads = blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap());
        heads.filter(|bytes| bytes.starts_with(b"\x1f\x8b")).count()
    };
    let base = compressed();
    bench.build(text, "").success();
    assert_eq!(compressed(), base + 1);
    let output = bench.build(text, "--target a").success();
    assert_eq!(made(&output), [false], "{}", output.stderr);
    output.says(" as gzip");
    assert_eq!(compressed(), base + 2);
    bench.clean();
}

/// Blocks that were compressed, and all, of the one layer that has several.
fn blocks(output: &Output) -> (usize, usize) {
    let text = output.stderr.split_once(" blocks were compressed").expect(&output.stderr).0;
    let words: Vec<&str> = text.rsplit(' ').take(3).collect();
    let [all, "of", anew] = words[..] else { panic!("{text}") };
    (anew.parse().unwrap(), all.parse().unwrap())
}

/// Files of 300 KB in which nothing repeats.
fn words(bench: &Bench, name: usize, seed: u64) {
    let mut state = seed;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        b"etaoin shrdlu\n"[(state >> 59) as usize % 14]
    };
    let text: Vec<u8> = (0..300_000).map(|_| letter()).collect();
    bench.file(format!("d/{name:02}"), text);
}

#[test]
fn build_compresses_only_the_blocks_that_changed() {
    const COPY: &str = "FROM scratch\nCOPY d /d\n";
    for (caller, more) in callers()
        .into_iter()
        .zip(["-v", "-v --output=type=image,compression=zstd"].into_iter().cycle())
    {
        let bench = Bench::new(caller);
        (0..40).for_each(|file| words(&bench, file, file as u64));
        let build = |bench: &Bench| bench.build(COPY, more).success();
        let first = build(&bench);
        let (anew, all) = blocks(&first);
        assert!(anew == all && all > 6, "{anew} of {all}");

        words(&bench, 20, 99);
        let changed = build(&bench);
        let (anew, all) = blocks(&changed);
        assert!((1..4).contains(&anew), "{anew} of {all} blocks");
        assert_ne!(changed.text(), first.text());

        // What is copied is what would have been made; and damage stays where it is.
        let fresh = Bench::new(caller);
        (0..40).for_each(|file| words(&fresh, file, if file == 20 { 99 } else { file as u64 }));
        assert_eq!(build(&fresh).text(), changed.text());
        let layer = bench.store().blob_path(&bench.image().layers()[0].digest);
        let mut bytes = fs::read(&layer).unwrap();
        bytes.iter_mut().step_by(100_000).for_each(|byte| *byte ^= 1);
        fs::write(&layer, bytes).unwrap();
        words(&bench, 0, 77);
        words(&fresh, 0, 77);
        let damaged = build(&bench);
        let (anew, all) = blocks(&damaged);
        assert_eq!(anew, all);
        assert_eq!(damaged.text(), build(&fresh).text());
    }
}

/// A step that has to be made reads what the cache of elsewhere has lost: the cache is given
/// up, the build is not.
#[test]
fn build_goes_on_without_a_cache_that_a_step_cannot_read() {
    let text = |last: &str| {
        let one = "FROM busybox AS one\nRUN echo 1 >/one\n";
        format!("{one}FROM busybox\nRUN echo 2 >/two\nCOPY --from=one /one /one\n{last}\n")
    };
    let theirs = Bench::with_busybox(Caller::Own);
    let to = "--cache-to type=local,dest=c,mode=max";
    theirs.build(&text("RUN true"), to).success();
    let lost = theirs.path("c/blobs/sha256");
    for blob in fs::read_dir(&lost).unwrap().flatten() {
        // The documents stay.
        if !fs::read(blob.path()).unwrap().starts_with(b"{") {
            fs::remove_file(blob.path()).unwrap();
        }
    }
    let from = format!("--cache-from type=local,src={}", theirs.path("c").display());
    for last in ["RUN cat /one /two >/three", "COPY --from=one /one /three"] {
        let plain = Bench::with_busybox(Caller::Own);
        let image = plain.build(&text(last), "").success().text();
        let two = Bench::with_busybox(Caller::Own);
        let output = two.build(&text(last), &from).success();
        assert_eq!(output.text(), image, "{last}");
        for says in [" CACHED", "No such file", "it is not used"] {
            assert!(output.stderr.contains(says), "{last}: {}", output.stderr);
        }
        two.clean();
    }
}
