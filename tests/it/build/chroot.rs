//! The tier for root that may not mount: a plain folder as the root, no namespaces.
//! It is forced here; `nested.rs` has it where it is the best.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::bench::{Bench, Caller, callers};
use super::storage;

/// Only root can have it.
fn root() -> Option<Caller> {
    rustix::process::geteuid().is_root().then(|| callers()[0])
}

#[test]
fn build_chroot_gives_the_same() {
    let Some(caller) = root() else { return };
    let built = |flags: &str| {
        let bench = storage::prepared(caller);
        let output = bench.build(&storage::dockerfile(), flags).success();
        let layers: Vec<_> = (0..bench.image().layers().len()).map(|at| bench.layer(at)).collect();
        let found = (layers, bench.content("list"), output.text().trim().to_owned());
        bench.clean();
        (found, output.stderr)
    };
    let (found, said) = built("--sandbox=chroot");
    assert_eq!(found, built("").0);
    assert_eq!(said.matches("without namespaces").count(), 1, "{said}");
}

#[test]
fn build_chroot_leaves_no_trace_of_what_was_given() {
    let Some(caller) = root() else { return };
    let bench = Bench::with_busybox(caller);
    bench.file("hosts", "mine\n");
    fs::write(bench.path("secret"), "canary-of-the-secret\n").unwrap();
    let text = "FROM busybox\nCOPY hosts /etc/hosts\n\
        RUN mkdir -p /dev /run && echo image >/dev/own && \
        mkdir /full && touch /full/x\n\
        RUN --mount=type=secret,id=s,mode=0444,uid=5 --mount=type=cache,target=/cache/deep \
        --mount=type=tmpfs,target=/full --mount=type=bind,target=/ctx,rw \
        cat /run/secrets/s /run/secrets/s | wc -l; test -p /run/secrets/s && \
        stat -c %u:%a /run/secrets/s; \
        head -c 3 /run/secrets/s; echo >/cache/deep/x; touch /ctx/y /full/y; \
        grep localhost /etc/hosts && echo hi >/dev/null && ls /full /dev\n\
        RUN test ! -e /run/secrets && ls -A /full && cat /etc/hosts\n\
        RUN echo later >/later\n";
    let flags = "--sandbox=chroot --secret id=s,src=secret";
    let output = bench.build(text, flags).success();
    for said in ["2\n", "5:444", "can"] {
        assert!(output.stderr.contains(said), "{said}: {}", output.stderr);
    }
    assert_eq!(bench.layer(2), [""; 0]);
    assert_eq!(bench.layer(1), [""; 0]);
    assert_eq!(bench.layer(0), ["f 644 0:0 later 6"]);
    assert_eq!(bench.content("etc/hosts"), "mine\n");
    let store = walkdir::WalkDir::new(bench.store_path()).into_iter().flatten();
    for entry in store.filter(|entry| entry.file_type().is_file()) {
        let bytes = fs::read(entry.path()).unwrap();
        let found = bytes.windows(20).any(|part| part == b"canary-of-the-secret");
        assert!(!found, "{}", entry.path().display());
    }
    bench.clean();
}

#[test]
fn build_chroot_has_fewer_rights_than_its_container() {
    let Some(caller) = root() else { return };
    let bench = Bench::with_busybox(caller);
    // The numbers are those of `nested.rs`'s container, without CAP_SYS_CHROOT.
    let text = "FROM busybox\nRUN busybox chroot / true 2>/dev/null && exit 1; \
                mount -t tmpfs x /tmp 2>/dev/null && exit 2; id >/id; env >/env\n";
    bench.build(text, "--sandbox=chroot").success();
    assert_eq!(bench.content("id"), "uid=0(root) gid=0(root) groups=0(root)\n");
    let output = bench.build("FROM busybox\nRUN --network=none true\n", "--sandbox=chroot");
    let output = output.failure(1);
    assert!(output.stderr.contains("network namespace"), "{}", output.stderr);
    bench.clean();
}

/// Waits for something that must come about soon.
#[track_caller]
fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whoever is killed, all of it ends: kiln, the helper, the keeper; and what a step
/// leaves behind.
#[test]
fn build_chroot_everything_dies() {
    let Some(caller) = root() else { return };
    let home = |bench: &Bench| bench.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    // kiln, the helper that the zygote forked, the keeper; and nobody.
    for depth in [Some(0), Some(2), Some(3), None] {
        let bench = Bench::with_busybox(caller);
        let text = format!(
            "FROM busybox\nENV MARK={}\nRUN --mount=type=cache,target=/cache \
             touch /cache/kept; (sleep 301 & busybox setsid sh -c 'sleep 302 & sleep 303' &) ; \
             echo begun; if {}; then sleep 300; fi\n",
            home(&bench),
            depth.is_some()
        );
        fs::write(bench.path("Dockerfile"), text).unwrap();
        let args = "build --sandbox=chroot --progress=plain -f Dockerfile context";
        let mut child = bench.call(args.split(' ')).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with(" begun")), "the step begins");
        std::thread::spawn(move || lines.for_each(drop));
        if let Some(depth) = depth {
            let runs = |what: &str| bench.processes().iter().any(|line| line.contains(what));
            soon("all of it runs", || runs("sleep 301") && runs("sleep 303") && runs("sleep 300"));
            let mut pid = child.id();
            for _ in 0..depth {
                pid = children(pid)[0];
            }
            kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
        }
        soon("it ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().success(), depth.is_none(), "{depth:?}");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) && !bench.processes().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(bench.processes(), [""; 0], "{depth:?}");
        // The next one clears what was left, and has its caches.
        bench.built("FROM busybox\nRUN --mount=type=cache,target=/cache ls /cache\n");
        bench.clean();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    found
}
