//! What a `RUN` may use: by control groups where the caller may make them, else as
//! far as single processes can be limited, and in words.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use super::bench::{Bench, Caller, callers, ordinary};
use crate::support::kiln::Output;

/// Builds anew, with flags.
fn build(bench: &Bench, run: &str, flags: &str) -> Output {
    bench.build(&format!("FROM busybox\nRUN {run}\n"), &format!("--no-cache {flags}"))
}

/// Whether the caller may make groups: then nothing is lacking.
fn grouped(output: &Output) -> bool {
    !output.stderr.contains("warning: --")
}

#[test]
fn build_limits_each_process() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let script = "ulimit -Sn >/n; ulimit -Hn >>/n; ulimit -c >>/n; \
                      grep -c ' /dev/shm .*size=2048k' /proc/mounts >>/n; \
                      grep Cpus_allowed_list /proc/self/status >>/n";
        let flags = "--ulimit nofile=100:200 --ulimit core=0 --shm-size 2m --cpuset-cpus 0";
        let output = build(&bench, script, flags).success();
        let said = "100\n200\n0\n1\nCpus_allowed_list:\t0\n";
        assert_eq!(bench.content("n"), said, "{caller:?}");
        assert!(grouped(&output), "nothing of it needs a group: {}", output.stderr);
        // They are no part of the key.
        let file = format!("FROM busybox\nRUN {script}\n");
        assert_eq!(bench.build(&file, "--ulimit nofile=7:7").success().text(), output.text());
        assert_eq!(bench.content("n"), said);
        bench.clean();
    }
}

/// The right to raise hard limits, which also root may lack, in a container.
fn may_raise() -> bool {
    let held = rustix::thread::capabilities(None).unwrap().effective;
    held.contains(rustix::thread::CapabilitySet::SYS_RESOURCE)
}

#[test]
fn build_limits_that_are_the_callers_to_raise() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        fs::write(bench.path("Dockerfile"), "FROM busybox\nRUN ulimit -Hn\n").unwrap();
        let args = "build --progress=plain --no-cache -f Dockerfile --ulimit nofile=900 context";
        let call = bench.call(args.split(' '));
        // With a hard limit below what is asked for.
        let mut low = std::process::Command::new("sh");
        low.args(["-c", "ulimit -n 800 && exec \"$@\"", "sh"]).arg(call.get_program());
        low.args(call.get_args()).current_dir(bench.path(".")).env_clear();
        low.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = bench.run(&mut low);
        if caller == Caller::Own && may_raise() {
            output.success().says(" 900\n");
            let sandbox = build(&bench, "true", "--ulimit nofile=999999999999 --sandbox=single-id");
            sandbox.failure(1).says("only real root with CAP_SYS_RESOURCE");
        } else {
            output
                .failure(1)
                .says("the hard limit of whoever calls kiln is 800")
                .says("LimitNOFILE=");
        }
        let refused = build(&bench, "true", "--cpuset-cpus 8000").failure(1);
        refused.says("processor 8000 is not there");
        bench.clean();
    }
}

#[test]
fn build_limits_memory() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        // A string that is doubled until it is 64 MiB.
        let fill = "x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 \
                    21 22; do x=$x$x; done; echo fil''led";
        build(&bench, fill, "--memory 1g").success().says(" filled\n");
        let output = build(&bench, fill, "--memory 32m").failure(1);
        if grouped(&output) {
            let output = output.says("RUN was killed: it used more than --memory 33554432");
            output.says("hint: give it more with --memory");
            // A process that the step does without.
            let output = build(&bench, &format!("(sh -c '{fill}') || true"), "--memory 32m");
            output.success().says("a process was killed that used more than --memory 33554432");
        } else {
            output.says("warning: --memory: each process is limited for itself (RLIMIT_DATA)");
        }
        bench.clean();
    }
}

#[test]
fn build_limits_processes_and_their_time() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        // More than twelve cannot be; with as many as are allowed it ends well.
        let fork = |count: u32| {
            let all: Vec<String> = (0..count).map(|_| "sleep 1 &".to_owned()).collect();
            format!("{} wait; echo for''ked", all.join(" "))
        };
        for flags in ["", "--sandbox=single-id"] {
            let flags = format!("--pids-limit 12 {flags}");
            build(&bench, &fork(8), &flags).success().says(" forked\n");
        }
        let fine = build(&bench, &fork(8), "--pids-limit 12").success();
        let refused = build(&bench, &fork(40), "--pids-limit 12");
        // Real root's processes are not counted without a group.
        let counted = grouped(&fine) || fine.stderr.contains("RLIMIT_NPROC");
        if counted {
            assert!(!refused.stderr.contains(" forked\n"), "{caller:?}: {}", refused.stderr);
            refused.says("fork");
        } else {
            refused.says("processes are not limited");
        }
        bench.clean();
    }
}

/// The groups of steps, as far as they can be seen.
fn groups() -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().filter_map(Result::ok);
    let ours = all.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"kiln-run-"));
    ours.map(walkdir::DirEntry::into_path).collect()
}

/// A step's group goes with it, also if kiln is killed: then with the next build.
#[test]
fn build_limits_time_in_a_group_that_goes() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::root_only("groups are looked at");
    }
    let bench = Bench::with_busybox(Caller::Own);
    fs::write(bench.path("Dockerfile"), "FROM busybox\nRUN echo begun; sleep 300\n").unwrap();
    let begun = || {
        let args = "build --progress=plain --cpus 0.5 -f Dockerfile context";
        let mut child = bench.call(args.split(' ')).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with(" begun")), "the step begins");
        std::thread::spawn(move || lines.for_each(drop));
        child
    };
    let limited = |group: &PathBuf| {
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
        read("cpu.cfs_quota_us").trim() == "50000" || read("cpu.max").starts_with("50000 ")
    };
    // Other tests have groups as well, and none with such a limit.
    let mine = |before: &[PathBuf]| -> Vec<PathBuf> {
        let new = groups().into_iter().filter(|group| !before.contains(group));
        let (own, rest): (Vec<_>, Vec<_>) = new.partition(limited);
        let name = |group: &PathBuf| group.file_name().map(ToOwned::to_owned);
        let names: Vec<_> = own.iter().map(name).collect();
        own.into_iter()
            .chain(rest.into_iter().filter(|group| names.contains(&name(group))))
            .collect()
    };
    let before = groups();
    let mut child = begun();
    let during = mine(&before);
    assert!(during.iter().any(limited), "{during:?}");
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(during.iter().all(|group| !group.exists()), "{during:?}");

    let mut child = begun();
    let during = mine(&before);
    child.kill().unwrap();
    child.wait().unwrap();
    // As if it had been longer ago.
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    for group in &during {
        fs::File::open(group).unwrap().set_modified(old).unwrap();
    }
    let start = std::time::Instant::now();
    while during.iter().any(|group| group.exists()) {
        assert!(start.elapsed().as_secs() < 30, "{during:?}");
        build(&bench, "true", "--cpus 0.5").success();
    }
}

/// A user who may make no groups is told so, once, whatever the number of steps.
#[test]
fn build_says_what_is_not_limited() {
    let Some(caller) = ordinary() else { return };
    let bench = Bench::with_busybox(caller);
    let file = "FROM busybox\nRUN ulimit -d >/a\nRUN grep 'Max processes' /proc/self/limits | tr -s ' ' | cut -d' ' -f3 >/b\nRUN cat /a /b >/c\n";
    let output = bench.build(file, "--memory 64m --cpus 1 --pids-limit 50 --no-cache").success();
    let warned: Vec<&str> =
        output.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    if warned.is_empty() {
        return crate::support::root_only("there are groups here; their lack is seen by a user");
    }
    for (line, says) in warned.iter().zip(["--memory: each", "--cpus: ", "--pids-limit: the"]) {
        assert!(line.contains(says) && line.contains("may not be written"), "{line}");
    }
    assert_eq!(warned.len(), 3, "{warned:?}");
    assert_eq!(bench.content("c"), "65536\n55\n");
    bench.clean();
}
