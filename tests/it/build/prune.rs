//! `kiln du`, `kiln prune`, and the limit that builds keep.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::bench::{Bench, Caller, callers};
use crate::support::kiln::{Output, tool};

/// Files of several owners, a hard link, a folder closed to its owner, a cache.
const FILE: &str = "FROM busybox\nCOPY a /a\n\
    RUN mkdir /d && cat /a >/d/one && ln /d/one /d/two && chown -R 33:34 /d && chmod 500 /d && \
    chown 7:8 /a && mkdir -m 700 /closed && echo >/closed/f && chown -R 12:13 /closed\n\
    RUN --mount=type=cache,target=/cache echo x >/cache/x && wc -l /cache/x >/count\n";

fn kiln(bench: &Bench, line: &str) -> Output {
    bench.run(&mut bench.call(line.split_whitespace()))
}

fn prune(bench: &Bench, more: &str) -> Output {
    kiln(bench, &format!("prune --force {more}"))
}

fn du(bench: &Bench) -> serde_json::Value {
    kiln(bench, "du -v --format json").success().json()
}

fn kind<'a>(du: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let found = du["kinds"].as_array().unwrap().iter().find(|kind| kind["type"] == name);
    found.unwrap_or(&serde_json::Value::Null)
}

/// What `du -s` says, of whoever can look into everything.
fn measured(path: &Path, flag: &str) -> u64 {
    let path = path.to_str().unwrap();
    let said = if rustix::process::geteuid().is_root() {
        tool("du", &["-s", flag, path])
    } else {
        tool("unshare", &["--map-root-user", "--map-auto", "du", "-s", flag, path])
    };
    said.split_whitespace().next().unwrap().parse().unwrap()
}

fn count(folder: impl AsRef<Path>) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn trees(bench: &Bench) -> usize {
    let kinds = fs::read_dir(bench.path("store/trees")).unwrap().flatten();
    kinds.map(|kind| count(kind.path())).sum()
}

#[test]
fn prune_du_says_what_du_says() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("a", "A".repeat(100_000));
        bench.built(FILE);
        let found = du(&bench);
        let (store, total) = (bench.store_path(), &found["total"]);
        assert_eq!(total["bytes"].as_u64().unwrap(), measured(&store, "--block-size=1"));
        // Its own session was there while it looked.
        assert_eq!(total["inodes"].as_u64().unwrap(), measured(&store, "--inodes") + 1);
        let entries = found["entries"].as_array().unwrap();
        assert!(entries.iter().all(|entry| entry["partial"] == false), "{found:#}");
        // Two images: a manifest and a config each. All of their four layers are needed.
        assert_eq!(kind(&found, "images")["entries"], 4);
        assert_eq!(kind(&found, "layers")["entries"], 4);
        assert_eq!(kind(&found, "layers")["reclaimable"]["bytes"], 0);
        assert_eq!(kind(&found, "trees")["entries"], trees(&bench));
        let tree = &kind(&found, "trees");
        assert_eq!(tree["reclaimable"]["bytes"], tree["bytes"]);
        assert_eq!(kind(&found, "cache-mounts")["entries"], 1);
        // Looking is no use.
        let before = &entries.iter().find(|entry| entry["type"] == "layers").unwrap()["last_used"];
        let again = du(&bench);
        let entries = again["entries"].as_array().unwrap();
        assert!(entries.iter().any(|entry| entry["last_used"] == *before));
        let table = kiln(&bench, "du").success().text();
        assert!(table.starts_with("TYPE ") && table.contains("\ntotal "), "{table}");
        bench.clean();
    }
}

#[test]
fn prune_takes_what_no_name_needs() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("a", "first");
        let first = bench.built(FILE);
        bench.file("a", "second");
        let second = bench.built(FILE);
        let (layers, before) = (count(bench.path("store/blobs/sha256")), trees(&bench));
        // Nobody agreed.
        kiln(&bench, "prune").failure(2).says("--force");
        let said = prune(&bench, "-v").success().text();
        // The name went to the second: what the first alone has goes, and its documents.
        assert_eq!(count(bench.path("store/blobs/sha256")), layers - 4, "{said}");
        assert_eq!(trees(&bench), before - 2, "{said}");
        assert!(said.contains("\nfreed ") && said.contains("removed trees "), "{said}");
        let known = bench.build(FILE, "").success();
        assert_eq!(known.stderr.matches(" CACHED").count(), 3, "{}", known.stderr);
        assert_eq!(known.text().trim(), second);
        // Now all that can be made again: the image is whole, and is made again the same.
        let said = prune(&bench, "--all").success().text();
        assert_eq!(trees(&bench), 0, "{said}");
        assert_eq!(count(bench.path("store/records/steps")), 0, "{said}");
        assert_eq!(kind(&du(&bench), "cache-mounts")["entries"], serde_json::Value::Null);
        kiln(&bench, "save out -o out.tar").success();
        tool("skopeo", &["inspect", &format!("oci-archive:{}", bench.path("out.tar").display())]);
        assert_eq!(bench.built(FILE), second);
        bench.file("a", "first");
        assert_eq!(bench.built(FILE), first);
        // Without a name nothing of it is needed.
        kiln(&bench, "rmi out busybox").success();
        prune(&bench, "--all").success();
        assert_eq!(count(bench.path("store/blobs/sha256")), 0);
        bench.clean();
    }
}

#[test]
fn prune_filters_and_limits() {
    let bench = Bench::with_busybox(callers()[0]);
    for version in ["one", "two", "three"] {
        bench.file("a", version.repeat(100_000));
        bench.built(FILE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let entries = |more: &str| -> u64 {
        let said = prune(&bench, &format!("--format json {more}")).success().json();
        said["removed"].as_array().unwrap().len() as u64
    };
    assert_eq!(entries("--filter until=1h"), 0);
    assert_eq!(entries("--max-used-space 1g"), 0);
    assert_eq!(entries("--reserved-space 1g"), 0);
    assert_eq!(entries("--min-free-space 1k"), 0);
    assert_eq!(entries("--filter type=downloads --all"), 0);
    let now = bench.path("Dockerfile").metadata().unwrap().modified().unwrap();
    let old = now - Duration::from_secs(7200);
    for entry in walkdir::WalkDir::new(bench.path("store/caches")).into_iter().flatten() {
        fs::File::open(entry.path()).unwrap().set_modified(old).unwrap();
    }
    assert_eq!(entries("--all --filter until=1h --filter type=cache-mounts"), 1);
    // A little less than there is: the oldest goes, and not more.
    let total = du(&bench)["total"]["bytes"].as_u64().unwrap();
    let said = prune(&bench, &format!("--format json --keep-storage {}", total - 1)).success();
    let removed = said.json()["removed"].as_array().unwrap().len();
    assert_eq!(removed, 1);
    assert!(said.json()["left"]["bytes"].as_u64().unwrap() < total);
    kiln(&bench, "prune --filter unused=1").failure(2).says("until=AGE");
    assert!(entries("") > 3);
    bench.clean();
}

#[test]
fn prune_leaves_containers_alone() {
    for caller in callers() {
        // Also where whoever cleans up does not know of their folder.
        for state in [None, Some("elsewhere")] {
            let bench = Bench::with_busybox(caller);
            bench.file("a", "content of a");
            bench.built(FILE);
            let at_state = |args: &[&str]| {
                let mut call = bench.call(args.iter().copied());
                if let Some(state) = state {
                    call.env("KILN_STATE", bench.path(state));
                }
                bench.run(&mut call)
            };
            let folder = bench.path("go");
            fs::create_dir(&folder).unwrap();
            let script = "while ! test -e /go.d/go; do sleep 0.1; done; cat /a; find /bin | wc -l";
            let volume = format!("{}:/go.d", folder.display());
            at_state(&["run", "-d", "--name", "it", "-v", &volume, "out", "sh", "-c", script])
                .success();
            kiln(&bench, "rmi out busybox").success();
            prune(&bench, "--all").success();
            assert!(trees(&bench) > 0);
            fs::write(folder.join("go"), "").unwrap();
            let end = std::time::Instant::now() + Duration::from_secs(20);
            while !at_state(&["ps", "-a", "--json"]).text().contains("\"exited\"") {
                assert!(std::time::Instant::now() < end, "{}", at_state(&["logs", "it"]).text());
                std::thread::sleep(Duration::from_millis(50));
            }
            let said = at_state(&["logs", "it"]).success().text();
            assert!(said.starts_with("content of a") && !said.contains("a0\n"), "{said}");
            at_state(&["rm", "it"]).success();
            prune(&bench, "--all").success();
            assert_eq!(trees(&bench), 0);
            assert_eq!(count(bench.path("store/blobs/sha256")), 0);
            bench.clean();
        }
    }
}

fn call(bench: &Bench, line: &str) -> Command {
    let mut call = bench.call(line.split_whitespace());
    call.stdout(Stdio::piped()).stderr(Stdio::piped());
    call
}

fn spawn(bench: &Bench, line: &str) -> Child {
    call(bench, line).spawn().unwrap()
}

fn ended(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Builds of several processes lose nothing to clean-ups that go on all the time.
#[test]
fn prune_while_builds_run() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("a", "A");
        let more = "FROM busybox AS one\nCOPY a /a\nRUN cat /a >/b && sleep 0.1\n\
             RUN cat /b >/c && chown 3:4 /c\nFROM busybox\nCOPY --from=one /c /d\nRUN cat /d >/e\n";
        fs::write(bench.path("Dockerfile"), more).unwrap();
        let builds = ["", "-t named"].map(|more| format!("build -q {more} -f Dockerfile context"));
        let expected = kiln(&bench, &builds[0]).success().text();
        let stop = std::sync::atomic::AtomicBool::new(false);
        // Nothing is given to the caller while kiln works.
        let mut prune = call(&bench, "prune --all --force --format json");
        let calls = builds.each_ref().map(|line| call(&bench, line));
        let pruned = std::thread::scope(|scope| {
            let pruner = scope.spawn(|| {
                let mut pruned = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let said = ended(prune.spawn().unwrap());
                    pruned += said.success().json()["removed"].as_array().unwrap().len();
                }
                pruned
            });
            let ends = calls.map(|mut call| {
                let expected = &expected;
                scope.spawn(move || {
                    for round in 0..12 {
                        let output = ended(call.spawn().unwrap());
                        if output.code != Some(0) || output.text() != *expected {
                            return Err(format!("round {round}: {output:?}"));
                        }
                    }
                    Ok(())
                })
            });
            let ends = ends.map(|end| end.join().unwrap());
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            for end in ends {
                end.unwrap();
            }
            pruner.join().unwrap()
        });
        assert!(pruned > 20, "{pruned}");
        // The image with a name is whole.
        kiln(&bench, "save named -o named.tar").success();
        bench.clean();
    }
}

/// What a build has looked up is there when it comes to use it, though no name needs it.
#[test]
fn prune_leaves_what_a_build_has_found() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("a", "A");
        let text = "FROM busybox AS one\nCOPY a /a\nRUN cat /a >/b\nFROM busybox\n\
             RUN sleep 3 && echo x >/x\nCOPY --from=one /b /b\nRUN cat /b >/c\n";
        fs::write(bench.path("Dockerfile"), text).unwrap();
        let args = "build --progress=plain -f Dockerfile context";
        kiln(&bench, &format!("{args} --target one")).success();
        let [mut build, mut prune] = [args, "prune --all --force"].map(|line| call(&bench, line));
        let build = build.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        let said = ended(prune.spawn().unwrap()).success().text();
        let output = ended(build).success();
        assert_eq!(output.stderr.matches(" CACHED").count(), 2, "{said}: {}", output.stderr);
        bench.clean();
    }
}

/// Whatever of a clean-up was done, what is left works.
#[test]
fn prune_killed_in_the_middle() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("a", "A");
        let expected = bench.built(FILE);
        let (mut round, mut cut) = (0, 0);
        // A busy machine may wake the killer too late: as many rounds as it takes.
        while round < 15 || cut < 5 {
            let mut child = spawn(&bench, "prune --all --force");
            std::thread::sleep(Duration::from_millis(3 * (round % 15)));
            child.kill().unwrap();
            cut += usize::from(ended(child).code != Some(0));
            assert_eq!(bench.built(FILE), expected, "round {round}");
            round += 1;
            assert!(round < 100, "{cut} were cut off");
        }
        kiln(&bench, "rmi out busybox").success();
        prune(&bench, "--all").success();
        assert_eq!((trees(&bench), count(bench.path("store/blobs/sha256"))), (0, 0));
        let locks = fs::read_dir(bench.path("store/locks")).unwrap().flatten();
        let left = locks.filter(|lock| lock.file_name().len() > 64).count();
        // A cache's own lock.
        assert_eq!((left, count(bench.path("store/sessions"))), (1, 0));
        bench.clean();
    }
}

#[test]
fn prune_keeps_the_limit_of_builds() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let noise = |seed: u64| -> Vec<u8> {
            let mut state = seed + 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            };
            std::iter::repeat_with(&mut next).take(1 << 18).flatten().collect()
        };
        // Two megabytes each as a blob, and as a tree.
        let dockerfile = "FROM busybox\nCOPY a /a\nRUN true\n";
        let base = measured(&bench.store_path(), "--block-size=1");
        let limit = base + base + (12 << 20);
        let mut removed = 0;
        for seed in 0..8 {
            bench.file("a", noise(seed));
            let output = bench.build(dockerfile, &format!("--store-limit {limit}")).success();
            removed += usize::from(output.stderr.contains("the store is limited"));
            assert!(measured(&bench.store_path(), "--block-size=1") <= limit, "{}", output.stderr);
        }
        assert!((1..8).contains(&removed), "{removed}");
        // Below it nobody looks: the time of the last look stays.
        let looked = || bench.path("store/locks/usage-looked").metadata().unwrap().modified();
        let before = looked().unwrap();
        bench.build(dockerfile, &format!("--store-limit {limit}")).success();
        assert_eq!(looked().unwrap(), before);
        // Inodes, by the environment; more than is needed cannot go.
        let mut call = bench.call(["build", "-t", "out", "-f", "Dockerfile", "context"]);
        let output = bench.run(call.env("KILN_STORE_LIMIT", "inodes=10")).success();
        assert!(output.stderr.contains("need them"), "{}", output.stderr);
        let mut call = bench.call(["build", "-t", "out", "-f", "Dockerfile", "context"]);
        bench.run(call.env("KILN_STORE_LIMIT", "much")).failure(2).says("KILN_STORE_LIMIT");
        bench.clean();
    }
}

/// A process that was killed has not said what it made.
#[test]
fn prune_looks_after_a_killed_build() {
    let bench = Bench::with_busybox(Caller::Own);
    bench.file("a", "A");
    let looked = || bench.path("store/locks/usage-looked").metadata().ok()?.modified().ok();
    let dockerfile = "FROM busybox\nCOPY a /a\n";
    bench.build(dockerfile, "--store-limit 1g").success();
    let first = looked().unwrap();
    fs::write(bench.path("Slow"), "FROM busybox\nCOPY a /b\nRUN sleep 60\n").unwrap();
    let mut child = spawn(&bench, "build --store-limit 1g -f Slow context");
    std::thread::sleep(Duration::from_secs(2));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(looked(), Some(first));
    bench.build(dockerfile, "--store-limit 1g").success();
    assert!(looked() > Some(first));
}
