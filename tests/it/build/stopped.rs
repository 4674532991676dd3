//! Builds that are stopped from outside.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::bench::{Bench, callers};

const SLEEPS: &str = "FROM busybox\nENV MARK=@\nRUN mkdir -m 700 /made && touch /made/x && chown -R 33 /made\n\
RUN sleep 301 & mkdir -m 700 /more; chown 33 /more; echo begun; sleep 300\n";

/// Starts a build and waits until its last step runs.
fn begun(bench: &Bench) -> Child {
    let text = SLEEPS.replace('@', bench.path("").to_str().unwrap().trim_end_matches('/'));
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let args = "build --progress=plain -t out -f Dockerfile context";
    let mut child = bench.call(args.split(' ')).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(" begun")), "the step begins");
    // Whatever else is said must not block it.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for something that must come about soon; a wait without end fails.
#[track_caller]
fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn build_interrupted_stops_and_cleans_up() {
    for caller in callers() {
        for (number, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
            let bench = Bench::with_busybox(caller);
            let mut child = begun(&bench);
            signal(&child, number);
            soon("it ends", || child.try_wait().unwrap().is_some());
            assert_eq!(child.wait().unwrap().code(), Some(code), "{caller:?}");
            assert_eq!(bench.store().names().unwrap().len(), 1, "only the base has a name");
            bench.clean();
        }
    }
}

#[test]
fn build_interrupted_says_so_and_no_more() {
    let bench = Bench::with_busybox(callers()[0]);
    let text = SLEEPS.replace('@', bench.path("").to_str().unwrap().trim_end_matches('/'));
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let child =
        bench.call("build --progress=plain -f Dockerfile context".split(' ')).spawn().unwrap();
    soon("the step runs", || bench.processes().iter().any(|line| line.contains("sleep 300")));
    signal(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors, ["error: interrupted by SIGINT"], "{said}");
}

#[test]
fn build_killed_takes_its_children_along_and_the_next_one_cleans_up() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let mut child = begun(&bench);
        let before = bench.processes();
        assert!(before.iter().any(|line| line.contains("sleep 301")), "{before:?}");
        signal(&child, Signal::KILL);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        soon("its processes end", || bench.processes().is_empty());
        let left = || fs::read_dir(bench.path("store/tmp")).unwrap().count();
        assert!(left() > 0, "it could not clean up");
        // The next build is not disturbed, and clears what was left, mapped owners and all.
        bench.built("FROM busybox\nRUN mkdir -m 700 /made && touch /made/x && chown -R 33 /made\n");
        bench.clean();
    }
}

/// What a living process works with is not taken from it.
#[test]
fn build_leaves_alone_what_another_works_with() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let mut child = begun(&bench);
        let names = || {
            let all = fs::read_dir(bench.path("store/tmp")).unwrap().flatten();
            all.map(|entry| entry.file_name()).collect::<Vec<_>>()
        };
        let before = names();
        assert!(!before.is_empty());
        bench.built("FROM busybox\nRUN echo other >/other\n");
        assert_eq!(names(), before);
        signal(&child, Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(143));
        bench.clean();
    }
}

/// A download that does not move is given up at once when asked.
#[test]
fn build_interrupted_while_a_registry_is_silent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let bench = Bench::with_busybox(callers()[0]);
    fs::write(bench.path("Dockerfile"), format!("FROM {addr}/app\nRUN true\n")).unwrap();
    let mut child = bench.call("build -f Dockerfile context".split(' ')).spawn().unwrap();
    let _connection = listener.accept().unwrap();
    signal(&child, Signal::INT);
    soon("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    bench.clean();
}

/// A long copy is given up too.
#[test]
fn build_interrupted_while_it_copies() {
    let bench = Bench::with_busybox(callers()[0]);
    // Sparse: it costs no disk, and takes seconds to hash and to compress.
    bench.file("big", "");
    let big = fs::OpenOptions::new().write(true).open(bench.context().join("big")).unwrap();
    big.set_len(64 << 30).unwrap();
    for text in [
        "FROM busybox\nCOPY big /big\n",
        "FROM busybox\nCOPY --from=busybox /bin/sh /sh\nADD . /x/\n",
    ] {
        fs::write(bench.path("Dockerfile"), text).unwrap();
        let args = "build --progress=plain -f Dockerfile context";
        let mut child = bench.call(args.split(' ')).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("] ")), "the step begins");
        std::thread::spawn(move || lines.for_each(drop));
        signal(&child, Signal::INT);
        soon("it ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        bench.clean();
    }
}
