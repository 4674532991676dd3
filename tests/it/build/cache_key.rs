//! The table of ARCHITECTURE.md, "The cache key", row by row: what is in it makes a step
//! again, what is not does not.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kiln::image::AnyImage;

use super::bench::{Bench, Caller, busybox, file};
use crate::support::http::{Request, Server, answer};
use crate::support::kiln::Output;

const TEXT: &str = "# a comment\nFROM busybox AS other\nRUN echo other >/other\n\
    FROM busybox AS main\nARG USED=1\nCOPY c d /copied/\nADD e /added\nWORKDIR /work\n\
    RUN --mount=type=secret,id=s --mount=source=m,target=/m echo $USED >/tmp/run\n\
    COPY --from=other /other /from\n";

/// Its steps, in the order in which [`made`] tells them.
const STEPS: &str = "CAWRFO";

/// What is changed for one build.
enum Change {
    /// A part of the Dockerfile.
    Text(&'static str, &'static str),
    /// A part of the Dockerfile, and flags.
    Both(&'static str, &'static str, &'static str),
    Flags(&'static str),
    World(fn(&Bench)),
}
use Change::{Both, Flags, Text, World};

/// Row, change, and the steps that are made again. One that gives what it gave before
/// ends the change there.
const CASES: &[(&str, Change, &str)] = &[
    ("the layers below it, by their diff IDs", World(another_base), "CAWRFO"),
    ("the time of what it makes", Flags("--build-arg SOURCE_DATE_EPOCH=1000000000"), "CAWRFO"),
    ("content of the chosen files", World(|b| write(b, "c", "C2")), "CAWRF"),
    ("content of the chosen files", World(|b| write(b, "e", "E2")), "AWRF"),
    ("their names, modes and links", World(|b| renamed(b, "d/f", "d/g")), "CAWRF"),
    ("their names, modes and links", World(|b| mode(b, "d/f", 0o600)), "CAWRF"),
    ("their names, modes and links", World(|b| link(b, "elsewhere")), "CAWRF"),
    ("the destination and the flags", Text("/copied/", "/copied2/"), "CAWRF"),
    ("the destination and the flags", Text("COPY c", "COPY --chown=33 c"), "CAWRF"),
    ("the destination and the flags", Text("COPY c", "COPY --chmod=700 c"), "CAWRF"),
    ("the destination and the flags", Text("COPY c", "COPY --exclude=none c"), "C"),
    ("the destination and the flags", Text("ADD e", "COPY e"), "A"),
    ("what the source holds, by diff IDs", Text("echo other", "echo more"), "FO"),
    ("the folder and its owner", Text("WORKDIR /work", "WORKDIR /work2"), "WRF"),
    ("the folder and its owner", Text("WORKDIR /work", "USER 33\nWORKDIR /work"), "WRF"),
    ("the command", Text("echo $USED", "true; echo $USED"), "R"),
    (
        "the command",
        Text("RUN echo other >/other", "RUN <<E\n#!/bin/sh\necho other >/other\nE"),
        "O",
    ),
    (
        "the command",
        Text("RUN echo other >/other", "RUN <<E\n#!/bin/sh -e\necho other >/other\nE"),
        "O",
    ),
    ("the environment: ENV and declared arguments", Flags("--build-arg USED=2"), "RF"),
    (
        "the environment: ENV and declared arguments",
        Text("RUN --mount", "ENV NEW=1\nRUN --mount"),
        "R",
    ),
    (
        "the environment: ENV and declared arguments",
        Text("FROM busybox AS main", "FROM env AS main"),
        "R",
    ),
    ("user, working folder and shell", Text("RUN --mount", "USER 33\nRUN --mount"), "RF"),
    ("user, working folder and shell", Text("WORKDIR /work", "WORKDIR /work3"), "WRF"),
    (
        "user, working folder and shell",
        Text("RUN --mount", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN --mount"),
        "R",
    ),
    ("kind, place and settings of each mount", Text("target=/m", "target=/n"), "R"),
    (
        "kind, place and settings of each mount",
        Text("RUN --mount=type", "RUN --mount=type=cache,target=/k --mount=type"),
        "R",
    ),
    (
        "kind, place and settings of each mount",
        Text("RUN --mount=type", "RUN --mount=type=tmpfs,target=/k --mount=type"),
        "R",
    ),
    (
        "kind, place and settings of each mount",
        Both("id=s", "id=t", "--secret id=t,src=secret"),
        "R",
    ),
    ("the files that a mount takes", World(|b| write(b, "m/f", "M2")), "R"),
    (
        "network, --security, names of hosts, host name",
        Text("RUN --mount", "RUN --network=none --mount"),
        "R",
    ),
    (
        "network, --security, names of hosts, host name",
        Both("RUN --mount", "RUN --security=insecure --mount", "--allow security.insecure"),
        "R",
    ),
    ("--normalize", Flags("--normalize"), "RO"),
    ("network, --security, names of hosts, host name", Flags("--add-host x:192.0.2.1"), "RO"),
    (
        "network, --security, names of hosts, host name",
        Flags("--build-arg BUILDKIT_SANDBOX_HOSTNAME=h"),
        "RO",
    ),
    // What is left out.
    (
        "name, digest and metadata of the base",
        Text("FROM busybox AS main", "FROM same AS main"),
        "",
    ),
    ("how an input came about", Text("echo other", "printf 'other\\n'"), "O"),
    (
        "comments, names and places in the file",
        Text("# a comment", "# another\n\n# and more\n"),
        "",
    ),
    ("comments, names and places in the file", Text("AS main", "AS mail"), ""),
    (
        "comments, names and places in the file",
        Text("# a comment", "FROM scratch AS nobody\nCOPY e /\n"),
        "",
    ),
    (
        "LABEL, CMD and other metadata, in any order",
        Text("ARG USED", "LABEL b=1 a=2\nCMD x\nEXPOSE 1\nARG USED"),
        "",
    ),
    (
        "LABEL, CMD and other metadata, in any order",
        Text("ARG USED", "EXPOSE 1\nLABEL a=2\nLABEL b=1\nCMD x\nARG USED"),
        "",
    ),
    (
        "LABEL, CMD and other metadata, in any order",
        Flags("--label z=1 --label a=2 --annotation x=y"),
        "",
    ),
    ("times, owners and inodes of the context's files", World(touched), ""),
    ("files that nothing takes, where the context lies", World(moved), ""),
    ("arguments that are not declared, proxies", Flags("--build-arg NOBODY=1"), ""),
    ("arguments that are not declared, proxies", Flags("--build-arg HTTP_PROXY=http://u:p@h"), ""),
    (
        "a secret's value, what a cache holds, its sharing",
        World(|b| fs::write(b.path("secret"), "2").unwrap()),
        "",
    ),
    (
        "a secret's value, what a cache holds, its sharing",
        Text("RUN --mount=type", "RUN --mount=type=cache,target=/k,sharing=locked --mount=type"),
        "",
    ),
    ("whether the machine has a network", Flags("--offline"), ""),
    ("limits", Flags("--ulimit nofile=1000 --shm-size 1m"), ""),
    (
        "names, outputs and display",
        Flags("-t more:1 -o type=cacheonly --iidfile iid --metadata-file meta"),
        "",
    ),
    ("the form of the layers", Flags("--compression zstd"), ""),
    ("the form of the layers", Flags("--compression-level 9"), ""),
];

/// Rows that other tests prove, by the file where and the test's name.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("the number of the key's format", "src/plan/tests.rs", "keys_stay"),
    ("the platform", "src/plan/tests.rs", "what_changes_a_key"),
    ("of a URL, the file", "tests/it/build/cache_key.rs", "build_add_url_is_cached_by_the_file"),
    ("of a repository, the commit", "tests/it/build/git.rs", "build_add_git_is_cached_by_commit"),
    (
        "the layers below a COPY --link",
        "tests/it/build/copy_flags.rs",
        "build_copy_link_knows_nothing_below",
    ),
    (
        "time, host, user, processors of the machine",
        "tests/it/build/matrix.rs",
        "build_gives_the_same_everywhere_of_the_corpus",
    ),
];

fn another_base(bench: &Bench) {
    bench.base("busybox", &[busybox(), vec![file("more", 0o644, "more")]]);
}

fn write(bench: &Bench, name: &str, text: &str) {
    bench.file(name, text);
}

fn renamed(bench: &Bench, from: &str, to: &str) {
    fs::rename(bench.context().join(from), bench.context().join(to)).unwrap();
}

fn mode(bench: &Bench, name: &str, mode: u32) {
    fs::set_permissions(bench.context().join(name), fs::Permissions::from_mode(mode)).unwrap();
}

fn link(bench: &Bench, to: &str) {
    let path = bench.context().join("d/link");
    let _ = fs::remove_file(&path);
    symlink(to, path).unwrap();
}

/// The same files: other ones, of another time and another owner.
fn touched(bench: &Bench) {
    for name in ["c", "d/f", "e", "m/f"] {
        let (path, new) = (bench.context().join(name), bench.path("new"));
        fs::copy(&path, &new).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        fs::File::open(&new).unwrap().set_modified(time).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&new, Some(1234), Some(5678)).unwrap();
        }
        fs::rename(new, path).unwrap();
    }
}

fn moved(bench: &Bench) {
    bench.file("unused", "2").file("ignored", "2").file("new", "");
    fs::rename(bench.context(), bench.path("elsewhere")).unwrap();
    symlink("elsewhere", bench.context()).unwrap();
}

/// The context, and the bases, as they are for every case.
fn prepare(bench: &Bench) {
    let _ = fs::remove_file(bench.context());
    for folder in ["context", "elsewhere"] {
        let _ = fs::remove_dir_all(bench.path(folder));
    }
    fs::create_dir(bench.context()).unwrap();
    bench.file("c", "C").file("d/f", "D").file("e", "E").file("m/f", "M");
    bench.file(".dockerignore", "ignored\n").file("ignored", "1").file("unused", "1");
    link(bench, "f");
    fs::write(bench.path("secret"), "1").unwrap();
    bench.base("busybox", &[busybox()]);
    let store = bench.store();
    let base = store.image_named(&"busybox".parse().unwrap()).unwrap();
    let (config, layers) = (base.images()[0].config(), base.images()[0].layers());
    let keep = |name: &str, config| {
        let image = kiln::image::assemble(config, layers).unwrap();
        store.keep(&name.parse().unwrap(), &AnyImage::Image(image)).unwrap();
    };
    let mut same = config.clone();
    same.config.labels.insert("another".into(), "image".into());
    same.config.cmd = Some(vec!["other".into()]);
    keep("same", same);
    let mut env = config.clone();
    env.config.env.push("OF_THE_BASE=1".into());
    keep("env", env);
}

/// The steps that were made, by their letters.
fn made(output: &Output) -> String {
    let lines: Vec<&str> = output.stderr.lines().collect();
    let mut steps: Vec<(&str, bool)> = Vec::new();
    for line in &lines {
        let Some((number, rest)) = line.split_once(" [") else { continue };
        if !number.starts_with('#') {
            continue;
        }
        let Some((place, text)) = rest.split_once("] ") else { continue };
        if text.starts_with("FROM") {
            continue;
        }
        let end = |other: &&&str| {
            let rest = other.strip_prefix(number).unwrap_or_default();
            rest.starts_with(" DONE") || rest == " CACHED"
        };
        let end = lines.iter().find(end).unwrap_or_else(|| panic!("no end of {line}: {lines:#?}"));
        steps.push((place, !end.ends_with("CACHED")));
    }
    steps.sort_unstable();
    assert_eq!(steps.len(), STEPS.len(), "{lines:#?}");
    STEPS.chars().zip(steps).filter(|(_, (_, made))| *made).map(|(letter, _)| letter).collect()
}

#[test]
fn build_makes_again_what_the_table_says() {
    let bench = Bench::new(Caller::Own);
    prepare(&bench);
    let build = |text: &str, flags: &str| {
        let flags = format!("--secret id=s,src=secret {flags}");
        made(&bench.build(text, &flags).success())
    };
    assert_eq!(build(TEXT, ""), STEPS);
    assert_eq!(build(TEXT, ""), "");
    let mut wrong = Vec::new();
    for (row, change, expected) in CASES {
        let swapped = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            TEXT.replacen(from, to, 1)
        };
        let (what, found) = match change {
            Text(from, to) => (*to, build(&swapped(from, to), "")),
            Both(from, to, flags) => (*to, build(&swapped(from, to), flags)),
            Flags(flags) => (*flags, build(TEXT, flags)),
            World(change) => {
                change(&bench);
                let found = build(TEXT, "");
                prepare(&bench);
                ("", found)
            }
        };
        if found != *expected {
            wrong.push(format!("{row} ({what}): {expected:?} expected, {found:?} made"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let last = CASES.iter().rev().find_map(|case| match case.1 {
        Flags(flags) => Some(flags),
        Text(..) | Both(..) | World(_) => None,
    });
    assert_eq!(build(TEXT, last.unwrap()), "", "everything is as it was");
    bench.clean();
}

#[test]
fn build_add_url_is_cached_by_the_file() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let text = Arc::new(Mutex::new("1"));
    let told = Arc::clone(&text);
    let serve = move |_: &Request| answer("200 OK", &[], told.lock().unwrap().as_bytes());
    let server = runtime.block_on(Server::start(serve));
    let bench = Bench::with_busybox(Caller::Own);
    let cached = |folder: &str| {
        let line = format!("FROM busybox\nADD http://{}/{folder}/f /f\n", server.addr);
        bench.build(&line, "").success().stderr.contains("CACHED")
    };
    assert!(!cached("a"));
    assert!(cached("a") && cached("b"), "the same file from elsewhere");
    *text.lock().unwrap() = "2";
    assert!(!cached("a"), "another file from the same place");
    assert!(cached("b"));
    bench.clean();
}

/// The table in ARCHITECTURE.md has the rows that are proved, and no others.
#[test]
fn the_table_of_the_key_is_proved() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## The cache key\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
    let rows: BTreeSet<String> =
        rows.filter(|row| *row != "what").map(|row| row.replace('`', "")).collect();
    let proved = CASES.iter().map(|(row, ..)| (*row).to_owned());
    let proved: BTreeSet<String> =
        proved.chain(ELSEWHERE.iter().map(|(row, ..)| (*row).to_owned())).collect();
    assert_eq!(rows, proved);
    for (row, file, test) in ELSEWHERE {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(&format!("fn {test}(")), "{row}: no {test} in {file}");
    }
}
