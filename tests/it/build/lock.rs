//! `kiln lock`, and builds that are held to one: with a real registry, HTTP and git servers.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bench::{Bench, Caller, busybox, callers, file};
use crate::support::git::{git, serve};
use crate::support::http::{Server, answer};
use crate::support::kiln::Output;
use crate::support::registry::TestRegistry;

/// A registry with `base:1`, a server of one file, and a repository.
struct World {
    registry: TestRegistry,
    files: Server,
    content: Arc<AtomicUsize>,
    repositories: tempfile::TempDir,
    git: Server,
    // Dropped last: the servers run on it.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let content = Arc::new(AtomicUsize::new(1));
        let served = Arc::clone(&content);
        let files = runtime.block_on(Server::start(move |_| {
            answer("200 OK", &[], format!("file {}", served.load(Ordering::SeqCst)).as_bytes())
        }));
        let repositories = tempfile::tempdir().unwrap();
        let repo = repositories.path().join("repo");
        fs::create_dir(&repo).unwrap();
        git(&repo, "init --quiet");
        let server = serve(&runtime, repositories.path(), "");
        let world = Self {
            registry: TestRegistry::start(None),
            files,
            content,
            repositories,
            git: server,
            _runtime: runtime,
        };
        world.moves(1);
        world
    }

    /// Has everything another content.
    fn moves(&self, number: usize) {
        self.content.store(number, Ordering::SeqCst);
        let repo = self.repositories.path().join("repo");
        fs::write(repo.join("file"), format!("commit {number}")).unwrap();
        git(&repo, "add .");
        git(&repo, &format!("commit --quiet -m {number}"));
        let bench = Bench::new(Caller::Own);
        let own = file("number", 0o644, format!("base {number}"));
        bench.base("base", &[busybox(), vec![own]]);
        let to = format!("{}/base:1", self.registry.addr);
        bench.run(&mut bench.call(["push", "base", &to])).success();
    }

    fn base(&self) -> String {
        format!("{}/base:1", self.registry.addr)
    }

    fn dockerfile(&self) -> String {
        format!(
            "ARG NAME\nFROM ${{NAME:-{base}}}\nCOPY --from={base} /number /copied\n\
             ADD http://u:hush@{files}/f?x=y /f\nADD http://{git}/smart/repo/.git#main /r\n\
             RUN --mount=from={base},target=/m cat /m/number > /mounted\n",
            base = self.base(),
            files = self.files.addr,
            git = self.git.addr,
        )
    }
}

fn kiln(bench: &Bench, line: &str) -> Output {
    bench.run(&mut bench.call(line.split_whitespace()))
}

fn lock(bench: &Bench) -> String {
    fs::read_to_string(bench.context().join("kiln.lock")).unwrap()
}

#[test]
fn a_locked_build_takes_what_was_there_and_lock_tells_what_has_moved() {
    for caller in callers() {
        let world = World::new();
        let bench = Bench::new(caller);
        bench.file("Dockerfile", world.dockerfile());
        let said = kiln(&bench, "lock context").success();
        for kind in ["base:1 for linux/", "/f?… sha256:", ".git#main "] {
            assert_eq!(said.text().matches(kind).count(), 1, "{}", said.text());
        }
        let first = lock(&bench);
        assert!(!first.contains("hush"), "{first}");
        assert!(first.contains(&format!("reference = \"{}\"", world.base())), "{first}");
        assert!(first.contains("size = 6\n") && first.contains("ref = \"main\"\n"), "{first}");
        let build = "build --progress=plain -t out --locked context";
        let digest = kiln(&bench, build).success().text();

        // Without a network things are what they were, which is said where it decides.
        kiln(&bench, "lock --offline --lock-file l context").success().says("offline, what is new");
        assert_eq!(fs::read_to_string(bench.path("l")).unwrap(), first);
        let said = kiln(&bench, "lock --offline context").success();
        assert!(!said.stderr.contains("what is new"), "{}", said.stderr);

        world.moves(2);
        let said = kiln(&bench, "lock context").success().text();
        assert!(said.contains("nothing has changed"), "{said}");
        assert_eq!(lock(&bench), first);
        // Here, and where the store has nothing: bases and commits are asked for by what they are.
        assert_eq!(kiln(&bench, &format!("{build} --no-cache")).success().text(), digest);
        assert_eq!(bench.content("number"), "base 1");
        assert_eq!(bench.content("mounted"), "base 1");
        assert_eq!(bench.content("r/file"), "commit 1");
        let other = Bench::new(caller);
        other.file("Dockerfile", world.dockerfile());
        other.file("kiln.lock", &first);
        kiln(&other, build)
            .failure(1)
            .says("and the lock has sha256:")
            .says("4 | ADD")
            .says("lock --update");
        world.content.store(1, Ordering::SeqCst);
        assert_eq!(kiln(&other, build).success().text(), digest);
        world.content.store(2, Ordering::SeqCst);

        let checked = kiln(&bench, "lock --check context").failure(1);
        assert_eq!(checked.text().matches("moved   ").count(), 3, "{}", checked.text());
        assert_eq!(lock(&bench), first, "a check writes nothing");
        let one = kiln(&bench, &format!("lock context --update {}/base", world.registry.addr));
        assert_eq!(one.success().text().matches(" → sha256:").count(), 1);
        let all = kiln(&bench, "lock context --update --format json").success();
        let all: serde_json::Value = all.json();
        let status = |at: usize| all["inputs"][at]["status"].as_str().unwrap();
        assert_eq!([status(0), status(1), status(2)], ["kept", "moved", "moved"]);
        assert!(first.contains(all["inputs"][2]["old"]["commit"].as_str().unwrap()));
        kiln(&bench, "lock --check context").success();
        assert_ne!(kiln(&bench, build).success().text(), digest);
        assert_eq!(bench.content("copied"), "base 2");
        assert_eq!(bench.content("f"), "file 2");
        bench.clean();
        other.clean();
    }
}

#[test]
fn all_that_the_lock_lacks_is_told_at_once() {
    let world = World::new();
    let bench = Bench::new(callers()[0]);
    let (base, files) = (world.base(), &world.files.addr);
    bench.file("Dockerfile", world.dockerfile());
    let build = "build --progress=plain --locked context";
    kiln(&bench, build).failure(1).says("there is no lock at").says("kiln lock");
    bench.file("kiln.lock", "version = 1\n<<<<<<< HEAD\n");
    kiln(&bench, build).failure(1).says("left a conflict").says("2 | <<<<<<< HEAD");
    bench.file("kiln.lock", "version = 1\n");
    let asked = world.files.seen().len() + world.git.seen().len();
    let named = format!("{build} --build-context named=http://{files}/context");
    let said = kiln(&bench, &named).failure(1);
    for says in [
        format!("{base} for linux/"),
        format!("http://{files}/f?… is not in the lock"),
        format!("{}/smart/repo/.git#main is not in the lock", world.git.addr),
        format!("http://{files}/context is not in the lock"),
    ] {
        assert!(said.stderr.contains(&says), "{says}: {}", said.stderr);
    }
    said.says("2 | FROM").says("4 | ADD").says("5 | ADD").says("`kiln lock` adds it");
    assert_eq!(world.files.seen().len() + world.git.seen().len(), asked, "nobody is asked");
    // A context that cannot be opened has no Dockerfile: the others are told with it.
    let whole = format!("build --locked --lock-file context/kiln.lock http://{files}/main");
    let said = kiln(&bench, &format!("{whole} --build-context n=http://{files}/c")).failure(1);
    said.says("/main is not in the lock").says("/c is not in the lock");

    kiln(&bench, "lock context").success();
    kiln(&bench, &format!("{build} --platform linux/s390x"))
        .failure(1)
        .says("linux/s390x is not in the lock, only for linux/");
    // What a Dockerfile takes no more goes; scratch and stages are nothing from outside.
    bench.file("Dockerfile", "FROM scratch AS a\nCOPY Dockerfile /\nFROM a\n");
    let said = kiln(&bench, "lock context").success();
    assert_eq!(said.text().matches("removed ").count(), 3, "{}", said.text());
    assert!(!lock(&bench).contains("[["), "{}", lock(&bench));
    kiln(&bench, build).success();
    bench.clean();
}

#[test]
fn names_mean_in_a_lock_what_they_mean_for_a_pull() {
    let world = World::new();
    let bench = Bench::new(callers()[0]);
    let (base, addr) = (world.base(), &world.registry.addr);
    let conf = bench.path("registries.conf");
    fs::write(&conf, format!("[aliases]\n\"short\" = \"{addr}/base\"\n")).unwrap();
    let run = |line: &str| {
        let mut call = bench.call(line.split_whitespace());
        bench.run(call.env("CONTAINERS_REGISTRIES_CONF", &conf))
    };
    // An alias, and a trigger that names a base itself.
    bench.file("Dockerfile", format!("FROM {base}\nONBUILD COPY --from={base} /number /t\n"));
    run(&format!("build -t {addr}/trigger:1 --push context")).success();
    bench.file("Dockerfile", "FROM short:1 AS one\nFROM trigger\nCOPY --from=one /number /\n");
    bench.file("Second", format!("FROM {base}\n"));
    let named = format!("--build-context trigger=docker-image://{addr}/trigger:1");
    run(&format!("lock {named} -f context/Dockerfile -f context/Second context")).success();
    let text = lock(&bench);
    assert_eq!(text.matches("[[base]]").count(), 2, "{text}");
    assert!(text.contains(&format!("{base}\"")) && !text.contains("short"), "{text}");
    run(&format!("build --locked {named} context")).success();
    run("build --locked -f context/Second context").success();
    // The digest in a FROM is the name's; what the lock has must be that.
    let digest = text.split("digest = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let name = format!("{addr}/base@{digest}");
    bench.file("Dockerfile", format!("FROM {name}\n"));
    run("build --locked context").failure(1).says("is not in the lock");
    run("lock context").success();
    assert_eq!(lock(&bench).matches(&digest).count(), 2, "{}", lock(&bench));
    run("build --locked context").success();
    // An image that is nowhere but here is locked as it is.
    bench.base("localhost:1/only", &[busybox()]);
    bench.file("Dockerfile", "FROM localhost:1/only\n");
    run("lock context").success().says("it is locked as the store has it");
    run("build --locked context").success();
    bench.clean();
}

#[test]
fn several_contexts_share_a_lock_and_a_repository_is_one() {
    let world = World::new();
    let bench = Bench::new(callers()[0]);
    let repo = world.repositories.path().join("repo");
    fs::write(repo.join("Dockerfile"), "FROM scratch\nCOPY file /\n").unwrap();
    world.moves(3);
    let url = format!("http://{}/smart/repo/.git", world.git.addr);
    bench.file("Dockerfile", format!("FROM {}\n", world.base()));
    kiln(&bench, &format!("lock context {url}")).failure(2).says("--lock-file");
    kiln(&bench, &format!("lock --lock-file l context {url}")).success();
    let text = fs::read_to_string(bench.path("l")).unwrap();
    assert_eq!((text.matches("[[base]]").count(), text.matches("[[git]]").count()), (1, 1));
    world.moves(4);
    let build = format!("build --locked --lock-file l -t out {url}");
    kiln(&bench, &build).success();
    assert_eq!(bench.content("file"), "commit 3");
    bench.clean();
}

/// An image that is in no registry stands for a base: it is an input like others.
#[test]
fn an_image_of_a_layout_is_locked_under_the_name_that_it_stands_for() {
    let world = World::new();
    let bench = Bench::new(callers()[0]);
    let base = world.base();
    bench.file("Dockerfile", format!("FROM {base}\n"));
    kiln(&bench, "lock context").success();
    let registry = lock(&bench);
    bench.base("own", &[busybox()]);
    kiln(&bench, "copy store:own oci:layout:own").success();
    let layout = "oci-layout://layout";
    let named = format!("--build-context {base}={layout}");
    // It is not what the lock has, so it does not take its place.
    let build = format!("build --locked -t out context {named}");
    let said = kiln(&bench, &build).failure(1).says("1 | FROM").says("and the lock has sha256:");
    assert!(said.stderr.contains("hint: leave --build-context out"), "{}", said.stderr);
    let moved = kiln(&bench, &format!("lock context {named}")).success().text();
    assert!(moved.contains("moved "), "{moved}");
    assert_ne!(lock(&bench), registry);
    let digest = kiln(&bench, &build).success().text();
    // It is here by its digest, and carried by that.
    assert_eq!(kiln(&bench, "build --locked -t out context").success().text(), digest);
    kiln(&bench, "--offline bundle -o in.tar context").success();
    // A name that the lock lacks is the caller's own.
    bench.file("Dockerfile", "FROM other\n");
    kiln(&bench, &format!("build --locked context --build-context other={layout}")).success();
    kiln(&bench, "build --locked context").failure(1).says("is not in the lock");
    bench.clean();
}
