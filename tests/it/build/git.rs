//! Git repositories as sources of `ADD`, and as contexts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::bench::{Bench, Caller, callers};
use crate::support::git::{git, serve};
use crate::support::http::Server;

/// `repo`, with the submodule `lib`, and a server of both. Tags: `v1`, the annotated
/// `v2`; branches: `main`, `side`.
struct World {
    root: tempfile::TempDir,
    server: Server,
    // Dropped last: the server runs on it.
    _runtime: tokio::runtime::Runtime,
}

const HEADER: &str = "Basic eC1hY2Nlc3MtdG9rZW46aHVzaGh1c2g=";

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let root = tempfile::tempdir().unwrap();
        let server = serve(&runtime, root.path(), HEADER);
        let at = |name: &str| root.path().join(name);
        let write = |name: &str, text: &str| {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        };
        for name in ["lib", "repo"] {
            fs::create_dir(at(name)).unwrap();
            git(&at(name), "init --quiet");
        }
        write("lib/code", "lib");
        git(&at("lib"), "add .");
        git(&at("lib"), "commit --quiet -m lib");
        git(&at("lib"), "update-server-info");
        let repo = at("repo");
        write("repo/file", "one");
        write("repo/run", "#!/bin/sh\n");
        fs::set_permissions(at("repo/run"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("file", at("repo/link")).unwrap();
        std::os::unix::fs::symlink("sub", at("repo/detour")).unwrap();
        write("repo/.dockerignore", "file\n");
        write("repo/Dockerfile", "FROM scratch\nCOPY . /c/\n");
        write("repo/sub/dockerfile", "FROM scratch\nCOPY . /s/\n");
        write("repo/sub/deep/x", "x");
        git(&repo, &format!("submodule --quiet add http://{}/dumb/lib/.git lib", server.addr));
        git(&repo, "add .");
        git(&repo, "commit --quiet -m one");
        git(&repo, "tag v1");
        git(&repo, "branch side");
        write("repo/file", "two");
        git(&repo, "commit --quiet -am two");
        git(&repo, "tag -a -m two v2");
        write("repo/file", "three");
        git(&repo, "commit --quiet -am three");
        git(&repo, "update-server-info");
        Self { root, server, _runtime: runtime }
    }

    fn repo(&self) -> std::path::PathBuf {
        self.root.path().join("repo")
    }

    fn url(&self, kind: &str) -> String {
        format!("http://{}/{kind}/repo/.git", self.server.addr)
    }

    fn commit(&self, name: &str) -> String {
        git(&self.repo(), &format!("rev-parse {name}^{{commit}}"))
    }

    fn asked(&self) -> usize {
        self.server.seen().len()
    }
}

fn context(bench: &Bench, args: &str) -> crate::support::kiln::Output {
    let args = format!("build --progress=plain -t out {args}");
    bench.run(&mut bench.call(args.split_whitespace()))
}

#[test]
fn build_add_git() {
    let world = World::new();
    let (url, dumb) = (world.url("smart"), world.url("dumb"));
    let whole = [
        "d 755 0:0 a",
        "f 644 0:0 a/.dockerignore 5",
        "f 644 0:0 a/.gitmodules",
        "f 644 0:0 a/Dockerfile 24",
        "l 777 0:0 a/detour -> sub",
        "f 644 0:0 a/file 3",
        "d 755 0:0 a/lib",
        "f 644 0:0 a/lib/code 3",
        "l 777 0:0 a/link -> file",
        "f 755 0:0 a/run 10",
        "d 755 0:0 a/sub",
        "d 755 0:0 a/sub/deep",
        "f 644 0:0 a/sub/deep/x 1",
        "f 644 0:0 a/sub/dockerfile 24",
    ];
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let text = format!("FROM busybox\nADD {url}#v1 /a/\nADD {dumb}#v2 /b\n");
        // Whoever calls has a umask that would close the files to others.
        let args = "build --progress=plain -f Dockerfile -t out context";
        fs::write(bench.path("Dockerfile"), &text).unwrap();
        let call = bench.call(["--version"]);
        let program = call.get_program().to_owned();
        let mut words: Vec<_> = call.get_args().map(|arg| arg.to_owned()).collect();
        words.pop();
        let script = format!("umask 077; exec \"$0\" \"$@\" {args}");
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(script).arg(program).args(words);
        shell.env_clear().envs(call.get_envs().filter_map(|(k, v)| Some((k, v?))));
        shell.current_dir(bench.path(""));
        bench.run(&mut shell).success();
        let lines: Vec<String> = bench
            .layer(1)
            .into_iter()
            .map(|line| match line.contains("gitmodules") {
                true => line.rsplit_once(' ').unwrap().0.to_owned(),
                false => line,
            })
            .collect();
        assert_eq!(lines, whole, "{caller:?}");
        assert_eq!(bench.content("/b/file"), "two");
        // A commit that the store has: nobody is asked.
        let before = world.asked();
        let text = format!(
            "FROM busybox\nADD --chown=33:34 --chmod=640 --exclude=lib {url}#{}:sub /s\n\
             ADD {url}?submodules=false&ref={} /n\n",
            world.commit("v1"),
            world.commit("v1"),
        );
        let built = bench.build(&text, "").success();
        assert!(!built.stderr.contains("CACHED"), "{}", built.stderr);
        assert_eq!(
            bench.layer(1),
            [
                "d 640 33:34 s",
                "d 640 33:34 s/deep",
                "f 640 33:34 s/deep/x 1",
                "f 640 33:34 s/dockerfile 24"
            ]
        );
        assert!(bench.layer(0).iter().all(|line| !line.contains("code")), "{:?}", bench.layer(0));
        let asked = world.server.seen().split_off(before);
        let asked: Vec<_> = asked.iter().filter(|ask| ask.path.contains("/repo/")).collect();
        assert!(asked.is_empty(), "{asked:?}");
        bench.clean();
    }
}

#[test]
fn build_add_git_is_cached_by_commit() {
    let world = World::new();
    let url = world.url("smart");
    let bench = Bench::with_busybox(callers()[0]);
    let add = |what: &str| format!("FROM busybox\nADD {what} /a\n");
    bench.built(&add(&format!("{url}#v2")));
    let first = bench.image().layers().to_vec();
    for same in [
        format!("{url}#v2"),
        format!("{url}#{}", world.commit("v2")),
        format!("--checksum={} {url}#v2", world.commit("v2")),
        format!("--checksum={} {}?tag=v2", &world.commit("v2")[..7], world.url("dumb")),
        format!("--checksum={} {url}#v2", git(&world.repo(), "rev-parse v2")),
    ] {
        let built = bench.build(&add(&same), "").success();
        assert_eq!(bench.image().layers(), first, "{same}");
        assert_eq!(built.stderr.matches("CACHED").count(), 1, "{same}: {}", built.stderr);
    }
    // A branch that moved is seen.
    bench.built(&add(&format!("{url}#side")));
    assert_eq!(bench.content("/a/file"), "one");
    git(&world.repo(), "branch -f side v2");
    bench.built(&add(&format!("{url}#side")));
    assert_eq!(bench.content("/a/file"), "two");
    // A branch may be in the way of another's name.
    git(&world.repo(), "branch -m side side/more");
    bench.built(&add(&format!("{url}#side/more")));
    assert_eq!(bench.content("/a/file"), "two");
}

#[test]
fn build_add_git_keeps_the_git_dir() {
    let world = World::new();
    let mut digests = Vec::new();
    for caller in callers() {
        for warm in [false, true] {
            let bench = Bench::with_busybox(caller);
            let url = world.url("smart");
            if warm {
                bench.built(&format!("FROM busybox\nADD {url} /x\nADD {url}#v1 /y\n"));
            }
            let text = format!(
                "FROM busybox\nADD --keep-git-dir {url}#v2 /k\nADD {url}?keep-git-dir=true&commit={} /m\n\
                 ADD --keep-git-dir=true {url}#v2:sub /s\nADD --keep-git-dir=false {url} /n\n",
                world.commit("main"),
            );
            digests.push(bench.built(&text));
            assert_eq!(bench.content("/k/.git/HEAD").trim(), world.commit("v2"));
            assert_eq!(bench.content("/m/.git/HEAD").trim(), world.commit("main"));
            assert!(bench.content("/k/.git/config").contains(&url));
            let tree = bench.tree();
            for gone in ["s/.git", "n/.git", "k/.git/FETCH_HEAD", "k/.git/logs"] {
                assert!(!tree.contains_key(gone), "{gone}");
            }
            // Git itself finds it whole and unchanged.
            let out = bench.path("unpacked");
            let spec = format!("type=local,dest={}", out.display());
            bench.build(&text, &format!("-o {spec}")).success();
            let folder = out.join("k");
            assert_eq!(git(&folder, "status --short"), "");
            assert_eq!(git(&folder, "fsck --strict"), "");
            assert_eq!(git(&folder, "describe --tags"), "v2");
            assert_eq!(git(&folder.join("lib"), "status --short"), "");
            let _ = fs::remove_dir_all(out);
            bench.clean();
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "they depend on who builds, or on what the store had");
}

#[test]
fn build_add_git_refusals() {
    let world = World::new();
    let (url, auth) = (world.url("smart"), world.url("auth"));
    let bench = Bench::with_busybox(callers()[0]);
    bench.file("local", "l");
    let wrong = world.commit("v1");
    for (what, says) in [
        (format!("{url}#nothing"), "does not contain ref `nothing`"),
        (format!("{url}?branch=v1"), "does not contain ref `refs/heads/v1`"),
        (format!("{url}?ref={}", &wrong[..8]), "does not contain ref"),
        (format!("--checksum={wrong} {url}#v2"), "expected checksum to match"),
        (format!("{url}?tag=v2&commit={wrong}"), "expected checksum to match"),
        (format!("--checksum=foobar {url}#v2"), "invalid checksum `foobar`"),
        (format!("{url}#{}", "0".repeat(40)), "`git fetch` failed"),
        (format!("{url}#v1:nowhere"), "there is no `nowhere`"),
        (format!("{url}#v1:detour/deep"), "`detour` is not a folder"),
        (format!("{url}#v1:file"), "`file` is not a folder"),
        (format!("--keep-git-dir=false {url}?keep-git-dir=true"), "keep-git-dir differ"),
        (format!("{url}?depth=1"), "`depth` is not known"),
        (format!("--checksum={wrong} {url} local"), "one source alone"),
        (auth.clone(), "GIT_AUTH_TOKEN"),
        (format!("http://{}/smart/none.git", world.server.addr), "failed"),
        ("git@127.0.0.1:x/y".to_owned(), "--ssh default"),
    ] {
        let text = format!("FROM busybox\nADD {what} /d/\n");
        bench.build(&text, "").failure(1).says(says).says("2 | ADD");
    }
    bench
        .build(&format!("FROM busybox\nCOPY {url} /d\n"), "")
        .failure(1)
        .says("COPY cannot take a git");
    // Without git, it is said what to do.
    fs::write(bench.path("Dockerfile"), format!("FROM busybox\nADD {url} /d\n")).unwrap();
    let mut call = bench.call(["build", "-f", "Dockerfile", "context"]);
    call.env("PATH", "/nowhere");
    bench.run(&mut call).failure(1).says("install the package `git`");
    bench.clean();
}

#[test]
fn build_add_git_with_secrets() {
    let world = World::new();
    let bench = Bench::with_busybox(callers()[0]);
    let text = format!("FROM busybox\nADD {} /d\n", world.url("auth"));
    fs::write(bench.path("token"), "hushhush\n").unwrap();
    fs::write(bench.path("header"), HEADER).unwrap();
    fs::write(bench.path("wrong"), "wrongwrong").unwrap();
    let host = &world.server.addr;
    for secrets in [
        "--secret id=GIT_AUTH_TOKEN,src=token".to_owned(),
        "--secret id=GIT_AUTH_HEADER,src=header".to_owned(),
        format!("--secret id=GIT_AUTH_TOKEN.{host},src=token --secret id=GIT_AUTH_TOKEN,src=wrong"),
        format!(
            "--secret id=GIT_AUTH_HEADER.{host},src=header --secret id=GIT_AUTH_HEADER,src=wrong"
        ),
    ] {
        let fresh = Bench::with_busybox(callers()[0]);
        for name in ["token", "header", "wrong"] {
            fs::copy(bench.path(name), fresh.path(name)).unwrap();
        }
        let built = fresh.build(&text, &secrets).success();
        assert_eq!(fresh.content("/d/file"), "three");
        assert!(!built.stderr.contains("hush"), "{}", built.stderr);
        assert_eq!(holding(&fresh.store_path(), &["hushhush", &HEADER[6..]]), Vec::<String>::new());
    }
    let url = world.url("auth").replace("http://", "http://x-access-token:hushhush@");
    let built = bench.build(&format!("FROM busybox\nADD --keep-git-dir {url} /d\n"), "").success();
    assert!(!built.stderr.contains("hush"), "{}", built.stderr);
    assert_eq!(holding(&bench.store_path(), &["hushhush", &HEADER[6..]]), Vec::<String>::new());
    let failed = bench.build(&text, "--no-cache --secret id=GIT_AUTH_TOKEN,src=wrong").failure(1);
    assert!(!failed.stderr.contains("wrongwrong"), "{}", failed.stderr);
    bench.clean();
}

/// Files of a folder that have one of the texts.
fn holding(folder: &Path, texts: &[&str]) -> Vec<String> {
    let all = walkdir::WalkDir::new(folder).into_iter().flatten();
    let has = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        texts.iter().any(|text| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    let paths = all.filter(|entry| entry.file_type().is_file() && has(entry.path()));
    paths.map(|entry| entry.path().display().to_string()).collect()
}

#[test]
fn build_git_contexts() {
    let world = World::new();
    for caller in callers() {
        let bench = Bench::new(caller);
        let url = world.url("smart");
        context(&bench, &format!("{url}#v1")).success();
        assert_eq!(bench.content("/c/file"), "one", "no ignore file is for a repository");
        assert_eq!(bench.content("/c/lib/code"), "lib");
        assert!(!bench.tree().contains_key("c/.git"));
        context(&bench, &format!("{}#v2:sub", world.url("dumb"))).success();
        assert_eq!(bench.content("/s/deep/x"), "x");
        context(&bench, &format!("{url} -f sub/Dockerfile")).success();
        assert_eq!(bench.content("/s/file"), "three");
        let keep = "--build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1";
        context(&bench, &format!("{keep} {url}#v2")).success();
        assert_eq!(bench.content("/c/.git/HEAD").trim(), world.commit("v2"));
        bench.file("Dockerfile", "FROM scratch\nCOPY --from=r file /f\n");
        context(&bench, &format!("--build-context r={url}?tag=v1 context")).success();
        assert_eq!(bench.content("/f"), "one");
        context(&bench, &format!("{url}#none")).failure(1).says("does not contain ref `none`");
        context(&bench, &format!("{url} -f ../x")).failure(1).says("no `../x` in the context");
        bench.clean();
    }
}

#[test]
fn build_git_does_not_read_the_callers_settings() {
    let world = World::new();
    let bench = Bench::with_busybox(Caller::Own);
    let hook = bench.path("hook");
    fs::write(&hook, "#!/bin/sh\ntouch \"$HOME/hooked\"\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "[core]\n\tfsmonitor = {0}\n\tsshCommand = {0}\n\thooksPath = {1}\n[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = http://\n",
        hook.display(),
        bench.path("").display(),
    );
    fs::write(bench.path(".gitconfig"), config).unwrap();
    bench.built(&format!("FROM busybox\nADD {} /d\n", world.url("smart")));
    assert!(!bench.path("hooked").exists());
    bench.clean();
}
