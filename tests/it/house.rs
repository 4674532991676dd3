//! The rules of the house, read from the source tree: which module may use
//! which, how long a file may be, that test data is used, that variables are
//! documented, and that the README's commands are proved somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use walkdir::WalkDir;

/// What each module may use besides the words and itself; lower levels come
/// first, and a module may only name what stands above it here.
const MODULES: &[(&str, &[&str])] = &[
    ("dockerfile", &[]),
    ("layer", &[]),
    ("image", &["layer"]),
    ("lock", &[]),
    ("store", &["image", "layer"]),
    ("net", &[]),
    ("sandbox", &[]),
    ("registry", &["image", "layer", "net", "store"]),
    ("rootfs", &["image", "layer", "sandbox", "store"]),
    ("plan", &["dockerfile", "image", "layer"]),
    ("attest", &["image", "lock"]),
    ("build", &[DOCKERFILE_TO_PLAN, "sandbox"]),
    ("container", &[DOCKERFILE_TO_PLAN, "sandbox"]),
    ("output", &["image", "layer", "rootfs", "store"]),
    ("sbom", &["image", "layer", "store"]),
    ("copy", &["image", "net", "store", "registry", "output"]),
    ("bundle", &[DOCKERFILE_TO_PLAN, "build", "output", "copy"]),
    ("sign", &["attest", "copy", "image", "lock", "net", "registry", "store"]),
    ("prune", &["image", "layer", "rootfs", "sandbox", "store", "container"]),
    ("deploy", &["net"]),
    ("serve", &["image", "net", "registry", "store"]),
    ("compare", &["image", "layer", "store"]),
    (
        "cli",
        &[
            DOCKERFILE_TO_PLAN,
            "sandbox",
            "attest",
            "build",
            "container",
            "output",
            "sbom",
            "copy",
            "bundle",
            "sign",
            "prune",
            "deploy",
            "serve",
            "compare",
        ],
    ),
];

/// All of the levels 1 to 3, without `sandbox`.
const DOCKERFILE_TO_PLAN: &str = "levels 1 to 3";

/// Values that every module speaks; they use each other only.
const WORDS: &[&str] =
    &["atomic", "diagnostic", "digest", "env", "epoch", "platform", "progress", "reference"];

const LONGEST_FILE: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder of the project with one ending, with their texts.
fn texts(folder: &str, ending: &str) -> BTreeMap<PathBuf, String> {
    let files = WalkDir::new(root().join(folder)).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.path().extension().is_some_and(|e| e == ending));
    let texts = files.map(|entry| {
        let path = entry.path().strip_prefix(root()).unwrap().to_owned();
        (path, fs::read_to_string(entry.path()).unwrap())
    });
    texts.collect()
}

/// The path of the module that a file holds: `src/a/b.rs` and `src/a/b/mod.rs`
/// are both `["a", "b"]`.
fn module(file: &Path) -> Vec<String> {
    let path = file.strip_prefix("src").unwrap().with_extension("");
    let mut names: Vec<String> =
        path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str())) {
        names.pop();
    }
    names
}

/// A text without its comments and its tests, which may use anything.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(test)]") {
            // rustfmt closes what starts at the margin at the margin.
            let item = lines.by_ref().find(|line| !line.starts_with("#["));
            if item.is_some_and(|item| item.ends_with('{')) {
                let _ = lines.by_ref().find(|line| *line == "}");
            }
        } else if !line.trim_start().starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The top-level modules that a text names: by `crate::`, or by as many
/// `super::` as lead out of the module it stands in.
fn named(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rests: Vec<&str> = code.split("crate::").skip(1).collect();
    let up = "super::".repeat(depth);
    if depth > 0 {
        rests.extend(code.split(&up).skip(1));
    }
    for rest in rests {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(word(rest)),
        }
    }
    found
}

/// The first word of each part of `a::b, c::{d, e}, f}`.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut start) = (0, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            letter if start && !letter.is_whitespace() => {
                heads.extend(word(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// `MODULES` in full.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let lower = MODULES.iter().map(|(name, _)| *name).take_while(|name| *name != "build");
    let lower: Vec<&str> = lower.filter(|name| *name != "sandbox").collect();
    let full = MODULES.iter().enumerate().map(|(at, (name, uses))| {
        let mut all: BTreeSet<&str> = uses.iter().copied().collect();
        if all.remove(DOCKERFILE_TO_PLAN) {
            all.extend(&lower);
        }
        for used in &all {
            let place = MODULES.iter().position(|(other, _)| other == used);
            assert!(place.is_some_and(|place| place < at), "`{name}` may not use `{used}`");
        }
        (*name, all)
    });
    full.collect()
}

#[test]
fn modules_use_what_lies_below_them() {
    let allowed = allowed();
    let mut wrong = Vec::new();
    for (file, text) in texts("src", "rs") {
        let path = module(&file);
        let Some(own) = path.first() else { continue };
        if path.iter().any(|name| name == "tests") {
            continue;
        }
        assert!(
            allowed.contains_key(own.as_str()) || WORDS.contains(&own.as_str()),
            "{} is of a module that tests/it/house.rs does not know",
            file.display()
        );
        for used in named(&code(&text), path.len()) {
            let known = allowed.contains_key(used.as_str());
            let may = allowed.get(own.as_str()).is_some_and(|all| all.contains(used.as_str()));
            if known && used != *own && !may {
                wrong.push(format!("{}: `{own}` uses `{used}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not point down:\n{}", wrong.join("\n"));
}

/// What makes a socket of a network family, or a client that does, and where it may stand.
/// All of these places ask `net` first (`src/net/door.rs`).
const SOCKETS: &[(&str, &[&str])] = &[
    ("TcpListener::bind", &["src/net/door.rs"]),
    ("TcpStream::connect", &["src/net/file.rs"]),
    ("UdpSocket::bind", &["src/net/door.rs"]),
    ("reqwest::Client::", &["src/net/mod.rs"]),
    ("Client::try_from(", &["src/deploy/cluster.rs"]),
    ("Client::try_default", &[]),
    ("TcpSocket::new", &[]),
    ("lookup_host", &[]),
    ("to_socket_addrs", &["src/net/file.rs"]),
    ("hickory", &["src/net/mod.rs"]),
    // In a network of a step's own, or of a container's.
    ("socket_with(", &["src/sandbox/network.rs", "src/container/connector.rs"]),
    ("TcpSocket::from_std_stream", &["src/container/ports.rs"]),
    // Programs that may ask whom they like; `head.rs` has git ask nobody.
    ("Command::new(\"git\")", &["src/build/git/command.rs", "src/build/git/head.rs"]),
    ("docker-credential-{name}\"))", &["src/registry/auth/helper.rs"]),
];

#[test]
fn sockets_are_made_at_the_door() {
    let mut wrong = Vec::new();
    let mut found: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (file, text) in texts("src", "rs") {
        if module(&file).iter().any(|name| name == "tests") {
            continue;
        }
        let code = code(&text);
        for (word, places) in SOCKETS {
            if !code.contains(word) {
                continue;
            }
            match places.iter().find(|place| Path::new(place) == file) {
                Some(place) => drop(found.insert((word, place))),
                None => wrong.push(format!("{}: {word}", file.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "sockets that `net` does not know of:\n{}", wrong.join("\n"));
    for (word, places) in SOCKETS {
        for place in *places {
            assert!(found.contains(&(word, place)), "{place} has no {word} any more");
        }
    }
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let text = "use crate::store::Store;\nuse crate::{image::{A, b}, net};\n// crate::cli\n\
                use super::super::layer;\nuse super::near;\n\
                #[cfg(test)]\nmod tests {\n    use crate::build;\n}\nuse crate::plan;\n\
                #[cfg(test)]\nmod other;\nlet _ = crate::env::get;\n";
    let found: Vec<String> = named(&code(text), 2).into_iter().collect();
    assert_eq!(found, ["env", "image", "layer", "net", "plan", "store"]);
    assert_eq!(module(Path::new("src/a/b/mod.rs")), ["a", "b"]);
    assert_eq!(module(Path::new("src/a.rs")), ["a"]);
    assert!(module(Path::new("src/main.rs")).is_empty());
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = texts("src", "rs")
        .into_iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(file, lines)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "over {LONGEST_FILE} lines:\n{}", long.join("\n"));
}

#[test]
fn test_data_is_used() {
    let own = Path::new("tests/it/house.rs");
    let mut all = texts("src", "rs");
    for folder in ["tests", "examples", "benches"] {
        if root().join(folder).is_dir() {
            all.extend(texts(folder, "rs"));
        }
    }
    all.remove(own);
    for entry in fs::read_dir(root().join("testdata")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // As a path or as the name of an area.
        let used = [format!("\"{name}\""), format!("testdata/{name}"), format!("\"{name}/")];
        let is_used = all.values().any(|text| used.iter().any(|form| text.contains(form)));
        assert!(is_used, "no test names testdata/{name}");
    }
}

#[test]
fn variables_are_documented() {
    let text = fs::read_to_string(root().join("src/env.rs")).unwrap();
    let list = text.split("\nvariables! {\n").nth(1).unwrap().split("\n}").next().unwrap();
    // What every Unix program knows under this name.
    let known = ["HOME", "PATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME"];
    let mut before = "";
    for line in list.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" = \"") {
            let documented = before.starts_with("///") || known.contains(&name);
            assert!(documented, "src/env.rs does not say what {name} is");
        }
        before = line;
    }
}

/// Where a command of the README is proved.
enum Proof {
    /// `.ci/run` runs it.
    Ci,
    /// A test of this name runs it.
    Test(&'static str),
}

/// Every line of the README's `sh` blocks, without its comment.
const COMMANDS: &[(&str, Proof)] = &[
    ("cargo run --release -- build -t kiln .", Proof::Ci),
    ("tests/run", Proof::Ci),
    ("kiln build -t 127.0.0.1:5000/hello testdata/hello-go", Proof::Test("what_it_does")),
    ("kiln login 127.0.0.1:5000 -u me --password-stdin < password", Proof::Test("what_it_does")),
    ("kiln push 127.0.0.1:5000/hello", Proof::Test("what_it_does")),
    ("kiln run -d --name hello 127.0.0.1:5000/hello", Proof::Test("what_it_does")),
    ("curl http://127.0.0.1:8080/", Proof::Test("what_it_does")),
    ("kiln update --memory 64m hello", Proof::Test("what_it_does")),
    ("kiln stop hello", Proof::Test("what_it_does")),
    (
        "kiln deploy --name hello --image 127.0.0.1:5000/hello --port 8080 --replicas 2",
        Proof::Test("what_it_does"),
    ),
    (
        "kiln up -t 127.0.0.1:5000/hello --name hello --port 8080 testdata/hello-go",
        Proof::Test("what_it_does"),
    ),
    (
        "kiln build -t registry.example/app:1 --push --cache-from registry.example/app:cache \
         --cache-to type=registry,ref=registry.example/app:cache,mode=max .",
        Proof::Test("build_takes_a_cache_from_a_registry"),
    ),
    (
        "kiln build -t registry.example/app:1 --push --provenance=mode=max .",
        Proof::Test("builds_write_it_where_there_is_room"),
    ),
    (
        "kiln serve --addr 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem",
        Proof::Test("tls_and_passwords"),
    ),
    ("kiln generate-key-pair --output-key-prefix release", Proof::Test("who_signed")),
    (
        "kiln build -t registry.example/app:1 --push --sign-key release.key .",
        Proof::Test("a_build_is_signed_before_it_leaves"),
    ),
    (
        "kiln sign --key release.key -a env=prod docker://registry.example/app:1",
        Proof::Test("docker_registry"),
    ),
    (
        "kiln attest --key release.key --type spdxjson --predicate sbom.json docker://registry.example/app:1",
        Proof::Test("attestations"),
    ),
    (
        "kiln verify --key release.pub --type spdxjson docker://registry.example/app:1",
        Proof::Test("docker_registry"),
    ),
    (
        "kiln sign-blob --key release.key --bundle inputs.sigstore.json inputs.tar",
        Proof::Test("files_are_signed_and_verified_by_both"),
    ),
    (
        "kiln verify-blob --key release.pub --bundle inputs.sigstore.json inputs.tar",
        Proof::Test("files_are_signed_and_verified_by_both"),
    ),
    ("kiln verify --policy policy.toml docker://registry.example/app:1", Proof::Test("who_signed")),
    (
        "kiln deploy --name app --image registry.example/app:1 --verify-policy policy.toml",
        Proof::Test("deploy_refuses"),
    ),
    (
        "kiln lock .",
        Proof::Test("a_locked_build_takes_what_was_there_and_lock_tells_what_has_moved"),
    ),
    (
        "kiln build --locked -t app .",
        Proof::Test("a_locked_build_takes_what_was_there_and_lock_tells_what_has_moved"),
    ),
    ("kiln bundle -o inputs.tar .", Proof::Test("inputs_build_the_same_without_a_network")),
    (
        "kiln bundle --image registry.example/app:1 -o results.tar --split 4g",
        Proof::Test("parts_are_the_archive"),
    ),
    (
        "kiln build --offline --bundle inputs.tar -t app:2 .",
        Proof::Test("inputs_build_the_same_without_a_network"),
    ),
    ("kiln load -i results.tar.001", Proof::Test("parts_are_the_archive")),
    ("kiln diff app:yesterday app:today", Proof::Test("a_run_that_writes_the_time_is_found")),
    ("kiln sbom app:today -o app.spdx.json", Proof::Test("an_index_has_one_for_each_platform")),
];

/// The lines of the README's `sh` blocks, and what follows a prompt in its `console` blocks.
fn readme_commands() -> Vec<String> {
    let text = fs::read_to_string(root().join("README.md")).unwrap().replace("\\\n", " ");
    let blocks = |kind: &str| -> Vec<String> {
        let fence = format!("```{kind}\n");
        let all = text.split(&fence).skip(1);
        all.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let (typed, shown) = (blocks("sh"), blocks("console"));
    let typed = typed.iter().flat_map(|block| block.lines());
    let shown = shown.iter().flat_map(|block| block.lines()).filter_map(|l| l.strip_prefix("$ "));
    let lines = typed.chain(shown).map(|line| line.split(" #").next().unwrap());
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn readme_commands_are_proved() {
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    let tests: Vec<String> = texts("tests/it", "rs").into_values().collect();
    let commands = readme_commands();
    assert!(!commands.is_empty(), "the README shows no command");
    for command in &commands {
        let known = COMMANDS.iter().find(|(known, _)| known == command);
        let Some((_, proof)) = known else {
            panic!("tests/it/house.rs does not say what proves the README's `{command}`");
        };
        match proof {
            Proof::Ci => assert!(ci.contains(command), ".ci/run does not run `{command}`"),
            Proof::Test(name) => {
                let is_there = tests.iter().any(|text| text.contains(&format!("fn {name}()")));
                assert!(is_there, "`{command}` is proved by a test that is not there: {name}");
            }
        }
    }
    for (known, _) in COMMANDS {
        assert!(commands.iter().any(|line| line == known), "the README has no `{known}` any more");
    }
}

/// The flags are real: clap reads them before `--help`.
#[test]
fn readme_commands_are_understood() {
    let kiln = kiln::env::path("KILN_TEST_BIN")
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_kiln")));
    for command in readme_commands() {
        let Some(line) = command.strip_prefix("kiln ") else { continue };
        let words = line.split(" <").next().unwrap().split_whitespace();
        let output = Command::new(&kiln).args(words).arg("--help").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{command}`: {errors}");
    }
}
