//! Arguments, help, exit codes, and the commands that only look at the store.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use super::{keep, keep_index};
use crate::support::kiln::Kiln;

#[test]
fn usage_errors_exit_2() {
    let kiln = Kiln::new();
    for (line, says) in [
        ("", "Usage: kiln"),
        ("frobnicate", "frobnicate"),
        ("images --frob", "--frob"),
        ("images --json --quiet", "--quiet"),
        ("inspect", "<IMAGE>"),
        ("tag a", "<NAME>"),
        ("tag a b@sha256:12", "sha256"),
        ("tag a team/Upper", "lower-case"),
        ("save --format zip a", "--format"),
        ("save --platform a/b/c/d/e a", "--platform"),
        ("load --progress loud", "--progress"),
    ] {
        kiln.fails(2, line).says(says);
    }
    assert!(!kiln.store_path().exists(), "a wrong command line makes nothing");
    let pinned = format!("tag a b@sha256:{}", "0".repeat(64));
    kiln.fails(2, &pinned).says("has a digest");
    kiln.args(["load"]).env("KILN_PROGRESS", "loud").run().failure(2).says("KILN_PROGRESS");
    let set = |name: &str| kiln.args(["load"]).env(name, "loud").run();
    set("BUILDKIT_PROGRESS").failure(2).says("BUILDKIT_PROGRESS=`loud`");
    kiln.fails(2, "load --progress tty").says("terminal");
}

/// The texts of testdata/cli; `KILN_BLESS=1` writes them anew.
#[test]
fn help_is_as_recorded() {
    let kiln = Kiln::new();
    let folder = crate::support::kiln::data().join("cli");
    #[expect(clippy::disallowed_methods, reason = "a switch of the tests, not of kiln")]
    let bless = std::env::var_os("KILN_BLESS").is_some();
    let overview = kiln.ok("--help").text();
    let listed = overview.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut pages = vec![("kiln".to_owned(), overview.clone())];
    for line in listed.lines().filter(|line| !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        pages.push((name.to_owned(), kiln.ok(&format!("{name} --help")).text()));
    }
    let mut known = BTreeSet::new();
    for (name, text) in pages {
        let path = folder.join(format!("{name}.txt"));
        if bless {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, expected, "{} differs; KILN_BLESS=1 rewrites it", path.display());
        known.insert(path);
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(known.contains(&path), "{} is of no command", path.display());
    }
}

#[test]
fn version() {
    let text = Kiln::new().ok("--version").text();
    assert_eq!(text, format!("kiln {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn images_lists_names() {
    let kiln = Kiln::new();
    assert_eq!(kiln.ok("images").text(), "REPOSITORY  TAG  DIGEST  PLATFORM  SIZE\n");
    assert_eq!(kiln.ok("images --json").text(), "[]\n");
    assert_eq!(kiln.ok("images -q").text(), "");
    let single = keep(&kiln, "app:v1");
    let index = keep_index(&kiln, "localhost:5000/team/app:v2");
    let text = kiln.ok("images").text();
    let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..4], ["app", "v1", &single[7..19], "linux/amd64"]);
    let two = "linux/amd64,linux/arm64";
    assert_eq!(rows[2][..4], ["localhost:5000/team/app", "v2", &index[7..19], two]);
    assert_eq!(rows.len(), 3);
    assert!(kiln.ok("images --digests").text().contains(&single));
    assert_eq!(kiln.ok("images -q --digests app").text(), format!("{single}\n"));
    assert_eq!(kiln.ok("images -q app:v2").text(), "");
    let json = kiln.ok("images --json").json();
    assert_eq!(json[0]["digest"], single.as_str());
    assert_eq!(json[0]["name"], "docker.io/library/app:v1");
    assert_eq!(json[1]["platforms"][1], "linux/arm64");
    let size = json[0]["size"].as_u64().unwrap();
    assert!(json[1]["size"].as_u64().unwrap() > size, "two platforms have more bytes");
}

#[test]
fn an_image_that_cannot_be_read_is_listed() {
    let kiln = Kiln::new();
    let digest = keep(&kiln, "app:v1");
    fs::remove_file(kiln.store_path().join("blobs/sha256").join(&digest[7..])).unwrap();
    let output = kiln.ok("images").says("warning: app:v1: blob");
    assert!(output.text().lines().nth(1).unwrap().starts_with("app"), "{}", output.text());
    kiln.fails(1, "inspect app:v1").says("pull it again");
    kiln.ok("rmi app:v1");
    assert_eq!(kiln.ok("images").text().lines().count(), 1);
}

#[test]
fn inspect_shows_documents() {
    let kiln = Kiln::new();
    let digest = keep(&kiln, "app:v1");
    kiln.ok("tag app:v1 other");
    let json = kiln.ok("inspect app:v1").json();
    assert_eq!(json[0]["digest"], digest.as_str());
    let names = &json[0]["names"];
    assert_eq!(names[0], "docker.io/library/app:v1");
    assert_eq!(names[1], "docker.io/library/other:latest");
    let image = &json[0]["images"][0];
    assert_eq!(image["config"]["config"]["Cmd"][0], "/three");
    assert_eq!(image["manifest"]["layers"].as_array().unwrap().len(), 4);
    assert_eq!(image["layers"][1]["compression"], "zstd");
    for text in [&digest, &digest[7..15], "other"] {
        assert_eq!(kiln.ok(&format!("inspect {text}")).json()[0]["digest"], digest.as_str());
    }
    let index = keep_index(&kiln, "many");
    let json = kiln.ok("inspect many app:v1").json();
    assert_eq!(json[0]["index"]["manifests"][1]["platform"]["architecture"], "arm64");
    assert_eq!((&json[0]["digest"], &json[1]["digest"]), (&index.into(), &digest.into()));
}

#[test]
fn an_absent_image_comes_with_a_suggestion() {
    let kiln = Kiln::new();
    keep(&kiln, "registry.example/alpine:3");
    for (wanted, says) in [
        ("registry.example/alpine", "did you mean `registry.example/alpine:3`?"),
        ("registry.example/apline:3", "did you mean `registry.example/alpine:3`?"),
        ("alpine:3", "did you mean `registry.example/alpine:3`?"),
        ("entirely/else", "hint: `kiln images` lists"),
        ("sha256:0123456789ab", "no image"),
    ] {
        for command in ["inspect", "save -o x.tar", "rmi"] {
            let output = kiln.fails(1, &format!("{command} {wanted}")).says(says);
            assert_eq!(output.text(), "");
        }
    }
    assert!(!kiln.path("x.tar").exists());
}

#[test]
fn tag_and_rmi() {
    let kiln = Kiln::new();
    let digest = keep(&kiln, "app:v1");
    kiln.ok("tag app:v1 app:v2 quay.io/me/app");
    assert_eq!(kiln.ok("images -q").text().lines().count(), 1, "one image, three names");
    kiln.fails(1, &format!("rmi {}", &digest[7..20])).says("several names: app:v1, app:v2");
    kiln.fails(1, "rmi app:v2 absent").says("absent");
    assert_eq!(kiln.ok("images").text().lines().count(), 4, "all or nothing");
    assert_eq!(kiln.ok("rmi -f app:v2 absent").text(), "app:v2\n");
    assert_eq!(kiln.ok("rmi app:v1").text(), "app:v1\n");
    assert_eq!(kiln.ok(&format!("rmi {}", &digest[7..20])).text(), "quay.io/me/app:latest\n");
    kiln.fails(1, "inspect quay.io/me/app");
    let other = keep(&kiln, "b");
    kiln.ok("tag b c");
    assert_eq!(kiln.ok(&format!("rmi -f {other}")).text(), "b:latest\nc:latest\n");
}

#[test]
fn a_store_that_cannot_be() {
    let kiln = Kiln::new();
    fs::create_dir(kiln.path("full")).unwrap();
    fs::write(kiln.path("full/file"), "x").unwrap();
    kiln.fails(1, "--store full images").says("is no kiln store").says("hint: choose");
    kiln.fails(1, "images --store /proc/nowhere").says("/proc/nowhere");
    assert_eq!(fs::read_dir(kiln.path("full")).unwrap().count(), 1);
}

#[test]
fn closed_and_full_stdout_are_errors() {
    let kiln = Kiln::new();
    keep(&kiln, "app");
    for line in ["images", "inspect app", "--help", "save app"] {
        let mut call = kiln.args(line.split(' '));
        call.command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
        call.run().failure(1).says("No space left");
        let mut call = kiln.args(line.split(' '));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        call.command.stdout(writer);
        let output = call.run().failure(1);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        assert!(!output.stderr.contains("error"), "nobody is there to tell: {}", output.stderr);
    }
    let mut call = kiln.args(["inspect", "absent"]);
    call.command.stderr(fs::File::options().write(true).open("/dev/full").unwrap());
    call.run().failure(1);
}

#[test]
fn colours_are_asked_for_or_absent() {
    let kiln = Kiln::new();
    let plain = kiln.fails(1, "inspect absent").stderr;
    assert!(plain.starts_with("error: no image"), "{plain}");
    let coloured = kiln.fails(1, "inspect absent --color always").stderr;
    assert!(coloured.starts_with("\u{1b}[1;31merror"), "{coloured}");
}

#[test]
fn progress_forms() {
    let kiln = Kiln::new();
    keep(&kiln, "app");
    let plain = kiln.ok("save -o a.tar app --progress plain").stderr;
    assert!(plain.starts_with("#1 save app\n#1 DONE 0."), "{plain}");
    assert_eq!(kiln.ok("save -o a.tar app --progress quiet").stderr, "");
    for line in ["save -o a.tar app --progress rawjson", "save -o a.tar gone --progress rawjson"] {
        let output = kiln.args(line.split(' ')).run();
        assert!(!output.stderr.is_empty());
        for line in output.stderr.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            let known = ["vertexes", "statuses", "logs", "warnings", "error"];
            assert!(object.as_object().unwrap().keys().all(|key| known.contains(&&**key)));
        }
    }
    fs::write(kiln.path("bad.tar"), "x").unwrap();
    let json = kiln.fails(1, "load -i bad.tar --progress rawjson").stderr;
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert!(last["error"]["hint"].as_str().unwrap().contains("archive"));
}

/// `script` gives its child a terminal.
#[test]
fn progress_on_a_terminal() {
    let kiln = Kiln::new();
    keep(&kiln, "app");
    let on_terminal = |term: &str, line: &str| {
        let command = format!("{} {line}", crate::support::kiln::program().display());
        let output = std::process::Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("TERM", term)
            .env("KILN_STORE", kiln.store_path())
            .env_remove("NO_COLOR")
            .current_dir(kiln.path(""))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let bars = on_terminal("xterm", "save -o a.tar app");
    assert!(bars.contains("\u{1b}[32m✓\u{1b}[0m save app 0."), "{bars:?}");
    assert!(on_terminal("dumb", "save -o a.tar app").contains("#1 DONE"));
    fs::write(kiln.path("bad.tar"), "x").unwrap();
    let failed = on_terminal("xterm", "load -i bad.tar");
    let (task, error) = (failed.find("✗").unwrap(), failed.find("error").unwrap());
    assert!(task < error, "{failed:?}");
    assert!(on_terminal("xterm", "save app").contains("not written to a terminal"));
}

#[test]
fn a_signal_ends_the_work_and_clears_up() {
    let kiln = Kiln::new();
    let mut call = kiln.args(["load"]);
    call.command.stdin(Stdio::piped());
    let mut child = call.command.spawn().unwrap();
    let tmp = kiln.store_path().join("tmp");
    let entries = || fs::read_dir(&tmp).map_or(0, Iterator::count);
    while entries() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it waits for its input");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    // Its end would be an end of the work as well.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted by SIGINT"));
    assert_eq!(entries(), 0);
}

/// A store that cannot be read is no store without the image: nothing is pulled.
#[test]
fn run_of_a_damaged_store_asks_no_registry() {
    let kiln = Kiln::new();
    kiln.ok("images");
    std::fs::write(kiln.store_path().join("index.json"), "{").unwrap();
    kiln.fails(125, "run registry.invalid/x").says("index.json");
}
