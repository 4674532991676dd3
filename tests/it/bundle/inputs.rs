//! Inputs: from a machine with a network to one without.

use std::fs;
use std::path::Path;

use kiln::digest::BlobDigest;
use kiln::lock::Lock;

use super::text;
use crate::support::git::{git, serve};
use crate::support::http::{Server, answer};
use crate::support::kiln::{Kiln, program};
use crate::support::registry::TestRegistry;

/// A registry with a base for two platforms, a server of a file, one of a repository, and a
/// Dockerfile that takes of all three.
struct World {
    registry: TestRegistry,
    files: Server,
    repositories: Server,
    root: tempfile::TempDir,
    // Dropped last: the servers run on it.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let root = tempfile::tempdir().unwrap();
        let repo = root.path().join("repo");
        fs::create_dir(&repo).unwrap();
        git(&repo, "init --quiet");
        for (file, text) in [("one", "1"), ("two", "22")] {
            fs::write(repo.join(file), text).unwrap();
            git(&repo, "add .");
            git(&repo, &format!("commit --quiet -m {file}"));
        }
        git(&repo, "tag -a -m tagged v1");
        let world = Self {
            registry: TestRegistry::start(None),
            files: runtime.block_on(Server::start(|_| answer("200 OK", &[], b"hello\n"))),
            repositories: serve(&runtime, root.path(), ""),
            root,
            _runtime: runtime,
        };
        let kiln = Kiln::new();
        fs::create_dir(kiln.path("c")).unwrap();
        fs::write(kiln.path("c/Dockerfile"), "FROM scratch\nCOPY Dockerfile /base\n").unwrap();
        kiln.ok(&format!(
            "build --push --platform linux/amd64,linux/arm64 -t {}/base:1 c",
            world.registry.addr
        ));
        world
    }

    /// Puts the context there, and a lock if kiln makes one.
    fn context(&self, kiln: &Kiln) {
        let context = kiln.path("context");
        fs::create_dir_all(&context).unwrap();
        let dockerfile = format!(
            "FROM {}/base:1\nADD http://{}/file /file\nADD http://{}/smart/repo/.git#v1 /repo\n\
             COPY own /\n",
            self.registry.addr, self.files.addr, self.repositories.addr
        );
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        fs::write(context.join("own"), "own").unwrap();
    }

    fn asked(&self) -> usize {
        self.files.seen().len() + self.repositories.seen().len()
    }

    fn repo(&self) -> std::path::PathBuf {
        self.root.path().join("repo")
    }
}

/// kiln where there is no network at all, not even the loopback's.
fn apart(kiln: &Kiln, line: &str) -> crate::support::kiln::Output {
    let mut call = kiln.program("unshare");
    call.command.arg("--net");
    if !rustix::process::geteuid().is_root() {
        call.command.arg("--map-root-user");
    }
    call.command.arg(program()).args(line.split_whitespace());
    call.run()
}

/// Keeps the lock that a bundle has as that of the context.
fn locked(kiln: &Kiln) {
    kiln.ok("bundle -o lock.tar context");
    let listing = kiln.ok("bundle --list lock.tar --format json").json();
    let digest: BlobDigest = listing["inputs"][0]["digest"].as_str().unwrap().parse().unwrap();
    fs::copy(kiln.store().blob_path(&digest), kiln.path("context/kiln.lock")).unwrap();
    fs::remove_file(kiln.path("lock.tar")).unwrap();
}

fn copied(from: &Path, to: &Kiln, name: &str) {
    fs::copy(from, to.path(name)).unwrap();
}

#[test]
fn inputs_build_the_same_without_a_network() {
    let world = World::new();
    let here = Kiln::new();
    world.context(&here);
    let made = here.ok("bundle -o inputs.tar context").text();
    let listing = here.ok("bundle --list inputs.tar --format json").json();
    assert_eq!(listing["digest"], made.trim());
    assert_eq!(listing["images"][0]["platforms"], serde_json::json!(["linux/amd64"]));
    let kinds: Vec<&str> = listing["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| input["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["lock", "file", "commit"]);
    let built = here.ok("build -q -t app context").text();

    let there = Kiln::new();
    world.context(&there);
    copied(&here.path("inputs.tar"), &there, "inputs.tar");
    let asked = world.asked();
    let line = "build -q --offline --bundle inputs.tar -t app context";
    assert_eq!(apart(&there, line).success().text(), built);
    // A second build has what the first has taken.
    let line = "build -q --offline --verify --bundle inputs.tar -t app context";
    assert_eq!(apart(&there, line).success().text(), built);
    assert_eq!(world.asked(), asked);
    // What the base is called is not changed by that, nor by a load.
    there.fails(1, "load -i inputs.tar").says("inputs of a build").says("build --bundle");
    let names = there.ok("images").text();
    assert!(names.contains("app") && !names.contains("base"), "{names}");
    // Again from nothing but the store, and with a bundle that it needs no more.
    assert_eq!(apart(&there, line).success().text(), built);
    // A bundle can be made from there.
    assert_eq!(there.ok("bundle -o again.tar context").text(), made);
    assert!(
        fs::read(there.path("again.tar")).unwrap() == fs::read(here.path("inputs.tar")).unwrap()
    );
}

/// What moves after the lock was made is not in the bundle.
#[test]
fn a_lock_decides_what_is_carried() {
    let world = World::new();
    let here = Kiln::new();
    world.context(&here);
    locked(&here);
    let locked = fs::read_to_string(here.path("context/kiln.lock")).unwrap();
    let before = here.ok("bundle -o one.tar context").text();
    fs::write(world.repo().join("two"), "333").unwrap();
    git(&world.repo(), "commit --quiet -am three");
    git(&world.repo(), "tag -f -a -m moved v1");
    let other = Kiln::new();
    world.context(&other);
    fs::write(other.path("context/kiln.lock"), &locked).unwrap();
    assert_eq!(other.ok("bundle -o one.tar context").text(), before, "another store");
    assert!(fs::read(here.path("one.tar")).unwrap() == fs::read(other.path("one.tar")).unwrap());
    fs::remove_file(other.path("context/kiln.lock")).unwrap();
    let third = Kiln::new();
    world.context(&third);
    assert_ne!(third.ok("bundle -o two.tar context").text(), before);
    // The two contradict each other.
    copied(&here.path("one.tar"), &third, "one.tar");
    third
        .fails(1, "build --bundle one.tar --bundle two.tar context")
        .says("in one bundle and")
        .says("#v1");
    assert!(Lock::parse(&locked).is_ok());
}

#[test]
fn inputs_come_in_parts_and_increments() {
    let world = World::new();
    let here = Kiln::new();
    world.context(&here);
    locked(&here);
    here.ok("bundle -o old.tar context");
    fs::write(here.path("context/second.Dockerfile"), "FROM scratch\nCOPY own /\n").unwrap();
    here.ok("bundle -o new.tar --split 2k --since old.tar context");
    let listing = here.ok("bundle --list new.tar.001 --format json").json();
    assert_eq!(listing["since"].as_array().unwrap().len(), 1);
    let there = Kiln::new();
    world.context(&there);
    copied(&here.path("old.tar"), &there, "old.tar");
    for entry in fs::read_dir(here.path("")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("new.tar.") {
            copied(&entry.path(), &there, &name);
        }
    }
    let alone = apart(&there, "build -q --offline --bundle new.tar.001 context").failure(1);
    alone.says("leaves out").says(listing["since"][0].as_str().unwrap());
    let both = "build -q --offline --bundle new.tar.001 --bundle old.tar context";
    let built = here.ok("build -q context").text();
    assert_eq!(apart(&there, both).success().text(), built);
}

/// A bundle that was made since another stands where they differ.
#[test]
fn a_later_bundle_stands() {
    let world = World::new();
    let here = Kiln::new();
    world.context(&here);
    locked(&here);
    let old = fs::read_to_string(here.path("context/kiln.lock")).unwrap();
    let before = here.ok("build -q --locked context").text();
    here.ok("bundle -o old.tar context");
    fs::write(world.repo().join("two"), "333").unwrap();
    git(&world.repo(), "commit --quiet -am three");
    git(&world.repo(), "tag -f -a -m moved v1");
    here.ok("lock --update -- context");
    here.ok("bundle -o new.tar --since old.tar context");
    let after = here.ok("build -q --locked context").text();
    assert_ne!(before, after);
    for order in ["--bundle old.tar --bundle new.tar", "--bundle new.tar --bundle old.tar"] {
        let there = Kiln::new();
        world.context(&there);
        copied(&here.path("old.tar"), &there, "old.tar");
        copied(&here.path("new.tar"), &there, "new.tar");
        let line = format!("build -q --offline {order} context");
        assert_eq!(apart(&there, &line).success().text(), after);
        // A lock says which of the two is meant.
        fs::write(there.path("context/kiln.lock"), &old).unwrap();
        let line = format!("build -q --offline --locked {order} context");
        assert_eq!(apart(&there, &line).success().text(), before);
    }
}

/// The pack of a commit may be anything: git finds what is in it.
#[test]
fn a_pack_is_not_believed() {
    let world = World::new();
    let here = Kiln::new();
    world.context(&here);
    locked(&here);
    here.ok("bundle -o good.tar context");
    let commit = git(&world.repo(), "rev-parse HEAD");
    let tag = git(&world.repo(), "rev-parse v1");
    let parent = git(&world.repo(), "rev-parse HEAD^");
    let bytes = fs::read(here.path("good.tar")).unwrap();
    let there = Kiln::new();
    world.context(&there);
    let lock = fs::read_to_string(here.path("context/kiln.lock")).unwrap();
    assert!(lock.contains(&commit) && lock.contains(&tag));
    // Bundles whose digests are right, with a lock that has another commit or tag.
    for (old, new, says) in [(&commit, &parent, "is commit"), (&tag, &parent, "git rev-parse")] {
        let forged = crate::bundle::hostile::forged(&bytes, &[(old.clone(), new.clone())]);
        fs::write(there.path("bad.tar"), forged).unwrap();
        let failed = apart(&there, "build -q --offline --bundle bad.tar context").failure(1);
        failed.says("/repo/.git").says(says);
    }
    copied(&here.path("good.tar"), &there, "good.tar");
    apart(&there, "build -q --offline --bundle good.tar context").success();
    // It is here by now, and the lie is found all the same.
    let forged = crate::bundle::hostile::forged(&bytes, &[(commit, parent)]);
    fs::write(there.path("bad.tar"), forged).unwrap();
    apart(&there, "build -q --offline --bundle bad.tar context").failure(1).says("is commit");
    let results = "bundle -o r.tar --image app";
    here.ok("build -q -t app context");
    here.ok(results);
    // Of both, a load gives names to results alone.
    here.ok("bundle -o both.tar --image app context");
    let there = Kiln::new();
    let both = format!("load -i {}", text(here.path("both.tar")));
    assert_eq!(there.ok(&both).text(), "app:latest\n");
    // What names a lock for nothing is told.
    here.fails(2, "build --bundle both.tar --lock-file x context").says("--locked");
    here.fails(2, "build --bundle both.tar --check context").says("--bundle");
    here.fails(1, "build --bundle r.tar context").says("no inputs").says("kiln load");
}

/// The layers of all steps, so that none is run there.
#[test]
fn a_cache_is_carried() {
    let world = World::new();
    let here = Kiln::new();
    world.context(&here);
    here.ok("bundle -o inputs.tar --cache context");
    let built = here.ok("build -q context").text();
    let there = Kiln::new();
    world.context(&there);
    copied(&here.path("inputs.tar"), &there, "inputs.tar");
    let line = "build --progress plain --offline --bundle inputs.tar context";
    let done = apart(&there, line).success();
    assert_eq!(done.text(), built);
    assert_eq!(done.stderr.matches("CACHED").count(), 3, "{}", done.stderr);
}

#[test]
fn a_bundle_that_nobody_can_make() {
    let world = World::new();
    let here = Kiln::new();
    world.context(&here);
    locked(&here);
    let lock = fs::read_to_string(here.path("context/kiln.lock")).unwrap();
    let url = format!("http://{}/file", world.files.addr);
    let digest = kiln::digest::Digest::of(b"hello\n").to_string();
    let other = kiln::digest::Digest::of(b"other").to_string();
    fs::write(here.path("context/kiln.lock"), lock.replace(&digest, &other)).unwrap();
    here.fails(1, "bundle -o x.tar context").says(&url).says(&other);
    assert!(!here.path("x.tar").exists());
    here.fails(1, &format!("bundle -o x.tar --lock-file {} context", text(here.path("absent"))))
        .says("absent");
    fs::write(here.path("context/kiln.lock"), "version = 1\n[[base]]\n").unwrap();
    here.fails(1, "bundle -o x.tar context").says("kiln.lock");
}
