//! `--verify` and `--normalize`: what a second build finds, and what is taken out of layers.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use kiln::layer::Name;
use kiln::rootfs::Rootfs;
use serde_json::Value;

use super::bench::{Bench, Caller, callers};
use crate::support::registry::TestRegistry;

/// Files that a RUN makes of what every build has otherwise.
const CULPRITS: &str = "FROM busybox\n\
    RUN mkdir -p /etc /var/log/apt /var/cache/ldconfig /var/cache/apt /var/cache/debconf \
    /var/lib/dbus /app/__pycache__ && \
    now=$(cat /proc/sys/kernel/random/uuid) && \
    for file in /var/log/apt/history.log /var/log/dpkg.log /var/cache/ldconfig/aux-cache \
    /var/cache/apt/pkgcache.bin /var/cache/debconf/config.dat-old /etc/passwd- /etc/machine-id \
    /var/lib/dbus/machine-id; do echo $now >$file; done && \
    echo \"me:!:$((20000 + $(date +%s) % 1000)):0:99999:7:::\" >/etc/shadow && \
    touch /app/m.py && \
    { printf '\\313\\r\\r\\n\\0\\0\\0\\0' && printf \"\\\\$(printf %o $(($(date +%s) % 256)))xyz\" && \
    printf '\\0\\0\\0\\0code'; } >/app/__pycache__/m.cpython-312.pyc\n\
    RUN echo fixed >/fixed\n";

/// All rules, as the history has them.
const RULES: &str = "apt-cache, debconf-backups, ldconfig-cache, machine-id, package-logs, \
                     pyc-times, shadow-days, user-backups";

fn metadata(bench: &Bench) -> Value {
    let text = fs::read(bench.path("metadata.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["kiln.verification"].take()
}

const VERIFY: &str = "--verify --metadata-file metadata.json";

#[test]
fn a_build_that_comes_out_the_same_is_verified() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("f", "content");
        let output =
            bench.build("FROM busybox\nRUN echo fixed >/fixed\nCOPY f /f\n", VERIFY).success();
        let found = metadata(&bench);
        assert_eq!(found["same"], true, "{found}");
        assert_eq!(found["conditions"].as_array().unwrap().len(), 5, "{found}");
        assert!(output.stderr.contains("verify: both builds are sha256:"), "{}", output.stderr);
        assert_eq!(bench.content("fixed"), "fixed\n", "it has its name");
        bench.clean();
    }
}

/// What a step writes of the time, of chance, of the host's name and of the processors.
#[test]
fn what_differs_is_told_and_no_image_is_named() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let dockerfile = "FROM busybox AS tools\n\
            RUN echo same >/same\n\
            RUN date +%s >/time; cat /proc/sys/kernel/random/uuid >/chance; busybox hostname >/host; \
            busybox cut -c1-3 /proc/uptime >/clock; grep Cpus_allowed: /proc/self/status >/cpu\n\
            FROM busybox\n\
            COPY --from=tools /time /same /\n";
        let output = bench.build(dockerfile, VERIFY).failure(1);
        for says in [
            "second build",
            "layer 2 differs",
            "~ time",
            "RUN date +%s >/time",
            "comes to another layer when it is done again",
            "Dockerfile:3:1",
        ] {
            assert!(output.stderr.contains(says), "{says}: {}", output.stderr);
        }
        let found = metadata(&bench);
        assert_eq!(found["same"], false);
        let steps = found["steps"].as_array().unwrap();
        assert_eq!((steps.len(), &steps[0]["line"]), (1, &3.into()), "{found}");
        // The result has only the file that was copied.
        let layer = &found["report"]["images"][0]["layers"][0];
        let files = layer["files"]["files"].as_array().unwrap();
        assert_eq!((files.len(), &files[0]["path"]), (1, &"time".into()), "{found}");
        let names = bench.run(&mut bench.call(["images"])).success().text();
        assert!(!names.contains("out"), "it has a name: {names}");
        bench.clean();
        // Each of the others by itself.
        let changed = |what: &str| {
            let all = found["conditions"].as_array().unwrap();
            all.iter().any(|one| one["what"] == what && one["changed"] == true)
        };
        // The second's is a million seconds ahead.
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let half: u64 = uptime.split('.').next().unwrap().parse::<u64>().unwrap() + 500_000;
        let late = format!("test $(busybox cut -d. -f1 /proc/uptime) -gt {half} && echo >/f || :");
        for (what, run) in [
            ("host name", "busybox hostname >/f"),
            ("processors", "grep Cpus_allowed: /proc/self/status >/f"),
            ("clocks since boot", late.as_str()),
        ] {
            let build = bench.build(&format!("FROM busybox\nRUN {run}\n"), VERIFY);
            assert_eq!(build.code, Some(i32::from(changed(what))), "{what}: {}", build.stderr);
        }
    }
}

/// The second build may be elsewhere: a tmpfs lists folders as they were filled.
#[test]
fn the_order_of_folders_is_changed_on_a_tmpfs() {
    let bench = Bench::with_busybox(Caller::Own);
    let dockerfile = "FROM busybox\n\
        RUN mkdir /d; for n in a b c d e f g h; do touch /d/$n; done\n\
        RUN find /d >/order\n";
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let verify = format!("--verify={}", shm.path().display());
    // A process that was killed left this; the other one's is at work.
    for name in ["kiln-verify-left", "kiln-verify-used"] {
        fs::create_dir_all(shm.path().join(name).join("store")).unwrap();
        fs::write(shm.path().join(name).join("lock"), "").unwrap();
    }
    let used = fs::File::open(shm.path().join("kiln-verify-used/lock")).unwrap();
    used.lock().unwrap();
    let output = bench.build(dockerfile, &verify).failure(1);
    assert!(output.stderr.contains("~ order"), "{}", output.stderr);
    assert!(output.stderr.contains("verify: order of folders was changed"), "{}", output.stderr);
    let left = fs::read_dir(shm.path()).unwrap().map(|one| one.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["kiln-verify-used"]);
    // Said before anything is done.
    bench.build("FROM busybox\nRUN false\n", "--verify=absent").failure(1).says("absent");
}

/// What ends kiln in the second build leaves nothing of either.
#[test]
fn a_second_build_is_interrupted() {
    let bench = Bench::with_busybox(Caller::Own);
    let folder = bench.path("second");
    fs::create_dir(&folder).unwrap();
    let text = "FROM busybox\nRUN test $(busybox hostname) = kiln || sleep 1000\n";
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let args = "build --verify=second --progress plain -f Dockerfile -t out context";
    let mut call = bench.call(args.split(' '));
    let mut child = call.stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("is built a second time")));
    assert!(lines.any(|line| line.contains("RUN test")));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let names = bench.run(&mut bench.call(["images"])).success().text();
    assert!(!names.contains("out"), "it has a name: {names}");
    bench.clean();
}

/// Nothing leaves before both agree.
#[test]
fn what_differs_is_not_pushed() {
    let registry = TestRegistry::start(None);
    let bench = Bench::with_busybox(Caller::Own);
    let push = |line: &str| {
        let text = format!("FROM busybox\nRUN {line} >/f\n");
        fs::write(bench.path("Dockerfile"), text).unwrap();
        let args =
            format!("build --verify --push -t {}/app:1 -f Dockerfile context", registry.addr);
        bench.run(&mut bench.call(args.split(' ')))
    };
    let tags = || bench.run(&mut bench.call(["tags", &format!("{}/app", registry.addr)]));
    push("busybox hostname").failure(1);
    tags().failure(1);
    push("echo same").success();
    assert_eq!(tags().success().text(), "1\n");
    bench.clean();
}

#[test]
fn programs_get_the_report_as_json() {
    let bench = Bench::with_busybox(Caller::Own);
    fs::write(bench.path("Dockerfile"), "FROM busybox\nRUN busybox hostname >/f\n").unwrap();
    let args = "build --verify --progress rawjson -f Dockerfile -t out context";
    let output = bench.run(&mut bench.call(args.split(' '))).failure(1);
    let objects = output.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let objects: Vec<Value> = objects.collect();
    let found = objects.iter().find_map(|one| one.get("verification")).unwrap();
    assert_eq!(found["report"]["images"][0]["layers"][0]["files"]["files"][0]["path"], "f");
    assert!(objects.last().unwrap().get("error").is_some());
}

#[test]
fn harmless_files_are_normalized() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let output = bench.build(CULPRITS, VERIFY).failure(1);
        for path in ["var/log/dpkg.log", "etc/machine-id", "etc/shadow", "m.cpython-312.pyc"] {
            assert!(output.stderr.contains(path), "{path}: {}", output.stderr);
        }
        bench.build(CULPRITS, "--normalize --verify").success();
        let comments = || -> Vec<Option<String>> {
            let image = bench.image();
            let history = image.config().history.iter().filter(|one| !one.empty_layer);
            history.map(|one| one.comment.clone()).collect()
        };
        let told = Some(format!("kiln.dockerfile.v0; normalized: {RULES}"));
        let first = comments();
        assert!(first.contains(&told), "{first:?}");
        assert_eq!(first.last().unwrap().as_deref(), Some("kiln.dockerfile.v0"));
        let tree = bench.tree();
        for gone in ["var/log/dpkg.log", "var/cache/ldconfig/aux-cache", "etc/passwd-"] {
            assert!(!tree.contains_key(gone), "{gone}");
        }
        assert_eq!(bench.content("etc/machine-id"), "");
        assert_eq!(bench.content("etc/shadow"), "me:!:3652:0:99999:7:::\n");
        // Known from the cache, it says the same.
        let digest = bench.image().digest();
        bench.build(CULPRITS, "--normalize").success().says("CACHED");
        assert_eq!((bench.image().digest(), comments()), (digest, first));
        bench.clean();
    }
}

/// In every tier, on overlays and without, it is the same; what the base has stays.
#[test]
fn normalized_layers_are_the_same_in_every_tier() {
    let bench = Bench::new(Caller::Own);
    let mut base = super::bench::busybox();
    base.extend([
        super::bench::dir("var", 0o755),
        super::bench::dir("var/log", 0o755),
        super::bench::file("var/log/alternatives.log", 0o644, "of the base\n"),
        super::bench::file("var/log/dpkg.log", 0o644, "of the base\n"),
    ]);
    bench.base("busybox", &[base]);
    let dockerfile = "FROM busybox\n\
        RUN date >>/var/log/dpkg.log; mkdir -p /etc; echo 1 >/etc/machine-id\n";
    let mut digests = Vec::new();
    for tier in ["root", "subuid", "single-id"] {
        let output = bench.build(dockerfile, &format!("--normalize --no-cache --sandbox {tier}"));
        // Which tiers there are is for other tests to say.
        let refused = output.code != Some(0);
        assert!(!refused || output.stderr.contains("sandbox"), "{}", output.stderr);
        if !refused {
            digests.push(bench.image().digest());
            let tree = bench.tree();
            assert!(!tree.contains_key("var/log/dpkg.log"), "it was changed");
            assert!(tree.contains_key("var/log/alternatives.log"), "it was not");
        }
    }
    if digests.len() < 2 {
        crate::support::skip("this machine grants one tier alone");
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

/// A file that is listed again for its mode alone gets the time of the layer's, and so what was
/// compiled of it has to know that.
#[test]
fn compiled_files_follow_sources_that_only_change_mode() {
    let header = |time: u32| [&b"\xcb\r\r\n\0\0\0\0"[..], &time.to_le_bytes(), b"code"].concat();
    for caller in callers() {
        let bench = Bench::new(caller);
        let mut base = super::bench::busybox();
        base.extend([
            super::bench::dir("app", 0o755),
            super::bench::file("app/m.py", 0o644, "m"),
            super::bench::file("app/n.py", 0o644, "n"),
            super::bench::dir("app/__pycache__", 0o755),
        ]);
        let compiled = header(1_600_000_000);
        for name in ["m", "n"] {
            let path = format!("app/__pycache__/{name}.cpython-312.pyc");
            base.push(super::bench::file(&path, 0o644, compiled.clone()));
        }
        base.iter_mut().for_each(|(entry, _)| entry.mtime = 1_600_000_000);
        bench.base("busybox", &[base]);
        let text = "FROM busybox\nRUN chmod 600 /app/m.py /app/__pycache__/*.pyc\n";
        bench.build(text, "--normalize").success();
        let (store, image) = (bench.store(), bench.image());
        let rootfs = Rootfs::open(&store, image.layers()).unwrap();
        let source = rootfs.view().below(&Name::root());
        let mut source = source.filter(|node| String::from(node.entry.name.clone()) == "app/m.py");
        let time = |name: &str| {
            let bytes = bench.bytes(&format!("app/__pycache__/{name}.cpython-312.pyc"));
            u32::from_le_bytes(bytes[8..12].try_into().unwrap())
        };
        assert_eq!(i64::from(time("m")), source.next().unwrap().entry.mtime);
        assert_ne!(time("m"), 1_600_000_000);
        assert_eq!(time("n"), 1_600_000_000);
        bench.clean();
    }
}

/// A package manager and Python, from the packages of the tests.
#[test]
fn packages_are_reproducible_once_normalized() {
    let (Some(images), Some(debs)) =
        (kiln::env::path("KILN_TEST_IMAGES"), kiln::env::path("KILN_TEST_DEBS"))
    else {
        crate::support::skip("no packages can be installed; see tests/run");
        return;
    };
    let bench = Bench::new(Caller::Own);
    let more = format!(
        "--build-context=debian=oci-layout://{}/debian:latest --build-context=debs={}",
        images.display(),
        debs.display()
    );
    let dockerfile = "FROM debian\n\
        RUN --mount=type=bind,from=debs,target=/debs \
        echo 'deb [trusted=yes] file:/debs ./' >/etc/apt/sources.list && \
        rm -f /etc/apt/sources.list.d/* && apt-get update && \
        apt-get install --yes --no-install-recommends python3-minimal && \
        useradd --system me && rm -rf /var/lib/apt/lists/*\n";
    let output = bench.build(dockerfile, &format!("{more} --verify")).failure(1);
    for path in ["var/log/dpkg.log", "var/log/apt/history.log", "package managers log with times"] {
        assert!(output.stderr.contains(path), "{path}: {}", output.stderr);
    }
    bench.build(dockerfile, &format!("{more} --normalize --verify")).success();
}
