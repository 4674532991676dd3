//! Builds and containers without a network, and what is said of those that need one.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use kiln::sandbox::Tier;

use super::bench::{Bench, Caller, callers};
use crate::support::git::{git, serve};
use crate::support::http::{Server, answer};
use crate::support::kiln::Output;
use crate::support::registry::TestRegistry;
use crate::support::trace::behind;

/// Servers of all that a build can take from elsewhere.
pub(crate) struct World {
    registry: TestRegistry,
    files: Server,
    repositories: Server,
    root: tempfile::TempDir,
    // Dropped last: the servers run on it.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let files = runtime.block_on(Server::start(|_| answer("200 OK", &[], b"plain")));
        let root = tempfile::tempdir().unwrap();
        let repositories = serve(&runtime, root.path(), "");
        for name in ["repo", "parent"] {
            let repo = root.path().join(name);
            fs::create_dir(&repo).unwrap();
            git(&repo, "init --quiet");
            fs::write(repo.join("file"), "one").unwrap();
            git(&repo, "add .");
            if name == "parent" {
                let lib = format!("http://{}/smart/repo/.git", repositories.addr);
                git(&repo, &format!("submodule --quiet add {lib} lib"));
            }
            git(&repo, "commit --quiet -m one");
            git(&repo, "tag v1");
        }
        let registry = TestRegistry::start(None);
        let bench = Bench::with_busybox(Caller::Own);
        let name = format!("{}/base", registry.addr);
        bench.run(&mut bench.call(["push", "busybox", &name])).success();
        Self { registry, files, repositories, root, _runtime: runtime }
    }

    /// A base, a step that runs, a file, and a repository by a tag and by its commit.
    pub(crate) fn dockerfile(&self) -> String {
        let (url, git) = (&self.files.addr, &self.repositories.addr);
        let commit = self.commit();
        format!(
            "FROM {}/base\nRUN echo made >/made\nADD http://{url}/plain /p\n\
             ADD http://{git}/smart/repo/.git#v1 /tag/\n\
             ADD http://{git}/smart/repo/.git#{commit} /commit/\n",
            self.registry.addr
        )
    }

    pub(crate) fn registry(&self) -> &str {
        &self.registry.addr
    }

    pub(super) fn files(&self) -> &str {
        &self.files.addr
    }

    pub(super) fn repositories(&self) -> &str {
        &self.repositories.addr
    }

    fn commit(&self) -> String {
        git(&self.root.path().join("repo"), "rev-parse HEAD")
    }
}

/// In a network that has nothing, not even a loopback that is up.
fn nowhere(command: &Command) -> Command {
    match rustix::process::geteuid().is_root() {
        true => behind("unshare", &["--net", "--"], command),
        false => behind("unshare", &["--map-current-user", "--net", "--"], command),
    }
}

/// Builds there.
fn build(bench: &Bench, text: &str, more: &str) -> Output {
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let args = "build --progress=plain -f Dockerfile -t out context";
    let call = bench.call(args.split(' ').chain(more.split_whitespace()));
    bench.run(&mut nowhere(&call))
}

#[test]
fn build_offline_in_an_empty_network() {
    let found = nowhere(
        Command::new("ip").args(["-o", "addr"]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    );
    let found = { found }.output().unwrap();
    assert!(found.status.success() && found.stdout.is_empty(), "{found:?}");
    let world = World::new();
    let text = world.dockerfile();
    for caller in callers() {
        let bench = Bench::new(caller);
        let online = bench.built(&text);
        let asked = (world.files.seen().len(), world.repositories.seen().len());
        let digest = |output: Output| output.text().trim().to_owned();
        let again = build(&bench, &text, "--offline").success();
        assert_eq!(again.stderr.matches("CACHED").count(), 4, "{}", again.stderr);
        assert_eq!(digest(again), online);
        let root = caller == Caller::Own && rustix::process::geteuid().is_root();
        // An ordinary user has no ranges in a namespace that unshare(1) made.
        let alone = caller == Caller::Own && !root;
        let tiers: &[Tier] = match (root, alone) {
            (true, _) => &[Tier::Root, Tier::SingleId],
            (_, true) => &[Tier::SingleId],
            _ => &[Tier::Subuid, Tier::SingleId],
        };
        for tier in tiers {
            let flags = format!("--offline --no-cache --sandbox={tier}");
            assert_eq!(digest(build(&bench, &text, &flags).success()), online, "{tier}");
        }
        // The variable is as good as the flag.
        fs::write(bench.path("Dockerfile"), &text).unwrap();
        let args = ["build", "--no-cache", "-f", "Dockerfile", "context"];
        let call = nowhere(bench.call(args).env("KILN_OFFLINE", "true"));
        assert_eq!(digest(bench.run(&mut { call }).success()), online);
        assert_eq!((world.files.seen().len(), world.repositories.seen().len()), asked);
        // Without either of them the same call needs what is not there.
        build(&bench, &text, "--no-cache --pull").failure(1).says("base image");
        bench.clean();
    }
}

/// Where no network can be cut off, what is known is taken and nothing is run.
#[test]
fn build_offline_runs_nothing_where_a_network_cannot_be_cut_off() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::root_only("the tier chroot");
    }
    let bench = Bench::with_busybox(Caller::Own);
    let text = "FROM busybox\nRUN echo made >/made\n";
    let online = bench.build(text, "--sandbox=chroot").success().text();
    assert_eq!(bench.build(text, "--sandbox=chroot --offline").success().text(), online);
    let refused = bench.build(text, "--sandbox=chroot --offline --no-cache").failure(1);
    refused.says("--offline) needs a network namespace").says("2 | RUN");
    bench.clean();
}

#[test]
fn build_offline_gives_a_step_loopback_alone() {
    // Sockets without a file belong to a network, too.
    let name = format!("kiln-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let text = "FROM busybox\nRUN cat /proc/net/dev /proc/net/unix\n";
        let online = bench.build(text, "").success();
        assert!(online.stderr.contains(&name), "{}", online.stderr);
        for (kind, text) in [("", text), ("none", &text.replace("RUN", "RUN --network=none"))] {
            let offline = bench.build(text, "--offline --no-cache").success();
            assert!(!offline.stderr.contains(&name), "{kind}: {}", offline.stderr);
            let devices: Vec<&str> = offline
                .stderr
                .lines()
                .filter(|line| line.contains(": ") && line.ends_with(" 0"))
                .collect();
            assert!(devices.len() == 1 && devices[0].contains(" lo: "), "{devices:?}");
        }
        let run = |line: &str| bench.run(&mut bench.call(line.split(' ')));
        for line in ["run --rm --offline busybox", "run --rm --offline --network private busybox"] {
            let seen = run(&format!("{line} cat /proc/net/dev")).success().text();
            assert_eq!(seen.lines().count(), 3, "{seen}");
            assert!(seen.contains(" lo: ") || seen.contains("\nlo:"), "{seen}");
        }
        bench.clean();
    }
}

#[test]
fn build_offline_names_all_that_is_lacking() {
    let world = World::new();
    let (url, git) = (&world.files.addr, &world.repositories.addr);
    let bench = Bench::with_busybox(Caller::Own);
    let zero = "0".repeat(64);
    bench.built(&format!(
        "FROM busybox\nADD http://{url}/plain /p\nADD http://{git}/smart/parent/.git#v1 /g/\n"
    ));
    let text = format!(
        "FROM --platform=linux/arm64 nowhere.example/a:1 AS a\nRUN --network=host touch /x\n\
         ADD http://u:hush@{url}/other?q=hush http://{url}/third /\n\
         ADD --checksum=sha256:{zero} http://{url}/plain /p\n\
         ADD http://{git}/smart/repo/.git#v1 /g\n\
         ADD http://{git}/smart/repo/.git#{} /h\n\
         ADD http://{git}/smart/parent/.git#v1 /i\n\
         RUN --mount=from=nowhere.example/b,target=/b touch /y\n\
         FROM busybox AS main\nCOPY --from=a / /a\nCOPY --from=nowhere.example/c@sha256:{zero} / /c\n\
         FROM nowhere.example/unused AS unused\n\
         FROM main\nADD http://user.invalid/late /late\n",
        "1".repeat(40),
    );
    let before = (world.files.seen().len(), world.repositories.seen().len());
    let records = || {
        let walk = walkdir::WalkDir::new(bench.path("store/records/steps")).into_iter();
        walk.count() + walkdir::WalkDir::new(bench.path("store/blobs")).into_iter().count()
    };
    let stored = records();
    let expected = [
        ("base image nowhere.example/a:1 for linux/arm64 is not here", 1),
        ("offline, no RUN gets the host's network", 2),
        ("/other is not here", 3),
        ("/third is not here", 3),
        ("/plain is not here with the digest sha256:0000", 4),
        ("repo/.git is not here: it is not known which commit `v1` is", 5),
        ("repo/.git is not here: commit 1111", 6),
        ("parent/.git is not here: its submodules are kept nowhere", 7),
        ("base image nowhere.example/b:latest for linux/amd64 is not here", 8),
        ("base image nowhere.example/c@sha256:0000", 11),
        ("http://user.invalid/late is not here", 14),
    ];
    let output = bench.build(&text, "--offline").failure(1);
    let errors: Vec<&str> =
        output.stderr.split("\nerror: ").map(|one| one.trim_start_matches("error: ")).collect();
    for (said, (text, line)) in errors.iter().zip(expected) {
        assert!(said.contains(text) && said.contains(&format!("Dockerfile:{line}:")), "{said}");
        assert!(said.contains("\nhint: "), "{said}");
        // The line is the user's own, the message is kiln's.
        assert!(!said.lines().next().unwrap().contains("hush"), "{said}");
    }
    assert_eq!(errors.len(), expected.len(), "{}", output.stderr);
    // What flags ask for is said with it.
    let flags = "--offline --push -t r.example/x --pull --network=host \
                 --cache-to type=registry,ref=r.example/to --cache-from r.example/from";
    let output = bench.build(&text, flags).failure(1);
    for flag in [
        "nothing is pushed to r.example/x:latest",
        "no cache is given to r.example/to:latest",
        "no cache is taken from r.example/from:latest",
        "no registry is asked for newer bases",
        "no RUN gets the host's network",
    ] {
        assert!(output.stderr.contains(&format!("error: offline, {flag}")), "{}", output.stderr);
    }
    // Once for the flag, and of no line.
    assert_eq!(output.stderr.matches("\nerror: ").count(), 4 + 1 + expected.len() - 1);
    let args = "build --offline --progress rawjson -f Dockerfile context";
    let json = bench.run(&mut bench.call(args.split(' '))).failure(1);
    let objects: Vec<serde_json::Value> =
        json.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> = objects.iter().filter_map(|one| one["error"]["line"].as_u64()).collect();
    assert_eq!(lines, expected.map(|(_, line)| line));
    assert_eq!((world.files.seen().len(), world.repositories.seen().len()), before);
    assert_eq!(records(), stored, "nothing was made");
    // A base that is here in part.
    let image = bench.store().image_named(&"busybox".parse().unwrap()).unwrap();
    let layer = image.images()[0].layers()[0].clone();
    fs::remove_file(bench.store().blob_path(&layer.digest)).unwrap();
    let output = bench.build("FROM busybox\nRUN true\n", "--offline").failure(1);
    output.says(&format!("is here without 1 of its 1 layers: {}", layer.digest)).says("1 | FROM");
    // Without the program nothing can be found out of a repository.
    bench.base("busybox", &[super::bench::busybox()]);
    let text = format!("FROM busybox\nADD http://{git}/smart/repo/.git#v1 /g\n");
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let empty = bench.path("empty");
    fs::create_dir(&empty).unwrap();
    let args = ["build", "--offline", "-f", "Dockerfile", "context"];
    let output = bench.run(bench.call(args).env("PATH", &empty)).failure(1);
    output.says("2 | ADD").says("it is not known which commit `v1` is");
    bench.clean();
}

/// Every command that is nothing without a network, or not with these arguments.
#[test]
fn offline_refuses_at_once_what_needs_a_network() {
    let bench = Bench::with_busybox(Caller::Own);
    fs::write(bench.path("Dockerfile"), "FROM scratch\n").unwrap();
    let run = |args: &str| bench.run(&mut bench.call(args.split(' ')));
    for (line, code, says) in [
        ("copy r.example/a store:a", 2, "`r.example/a`, in a registry, needs"),
        ("copy oci:a docker://r.example/a", 2, "in a registry, needs the network"),
        ("deploy --image a", 2, "a rollout needs the network"),
        ("lock --check context", 2, "lock --check needs the network"),
        ("lock context --update", 2, "lock --update needs the network"),
        ("login r.example -u a -p b", 2, "a login needs the network"),
        ("manifest create a docker://r.example/a", 2, "in a registry, needs the network"),
        ("manifest create a r.example/a", 1, "r.example would have to be asked"),
        ("manifest inspect r.example/a", 2, "in a registry, needs the network"),
        ("pull busybox", 2, "a pull needs the network"),
        ("push busybox r.example/b", 2, "a push needs the network"),
        ("rm --remote r.example/a:1", 2, "rm --remote needs the network"),
        ("run -p 8080 busybox true", 125, "publishing port 0:8080/tcp needs the network"),
        ("run --network host busybox true", 125, "--network host needs the network"),
        ("run r.example/a true", 125, "r.example would have to be asked"),
        ("serve --addr 127.0.0.1:0", 2, "a server needs the network"),
        ("tags r.example/a", 2, "a registry's list of tags needs the network"),
        ("up -t a context", 2, "a rollout needs the network"),
        ("build https://r.example/a.git#v1", 1, "what `v1` is was not asked before"),
        ("build http://r.example/a.tar", 1, "http://r.example/a.tar: fetching it needs"),
        (
            "build -f Dockerfile --build-context b=http://r.example/b context",
            1,
            "fetching it needs",
        ),
        (
            "build --push -t r.example/a -f Dockerfile context",
            1,
            "nothing is pushed to r.example/a",
        ),
    ] {
        let output = run(&format!("--offline {line}")).failure(code).says(says).says("hint: ");
        assert_eq!(output.text(), "", "{line}");
        let variable = bench.run(bench.call(line.split(' ')).env("KILN_OFFLINE", "1"));
        assert!(variable.failure(code).stderr.contains(says), "{line}");
    }
    // What is the program's own is no flag of kiln's.
    run("run --rm busybox echo --offline").success();
    // A word that is none is not passed over.
    for (value, code) in [("yes", 2), ("0", 0), ("false", 0), ("", 0), ("1", 0)] {
        bench.run(bench.call(["images"]).env("KILN_OFFLINE", value)).failure(code);
    }
}
