//! How much a build reads of its context: all once, then what changed, then nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;

use super::bench::{Bench, callers};

/// Builds; gives `files_hashed`, `bytes_hashed` and `files_packed`.
fn counts(bench: &Bench, dockerfile: &str, more: &str) -> [u64; 3] {
    fs::write(bench.path("Dockerfile"), dockerfile).unwrap();
    let args = format!("build --progress=rawjson -f Dockerfile -t out context {more}");
    let output = bench.run(&mut bench.call(args.split_whitespace())).success();
    let objects = output.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let totals: Vec<Value> = objects.filter_map(|object| object.get("totals").cloned()).collect();
    let [totals] = totals.as_slice() else { panic!("{}", output.stderr) };
    ["files_hashed", "bytes_hashed", "files_packed"].map(|name| totals[name].as_u64().unwrap())
}

#[test]
fn build_reads_what_changed() {
    const TEXT: &str = "FROM scratch\nCOPY a /a\nCOPY b /b\n";
    let bench = Bench::new(callers()[0]);
    for number in 0..10 {
        bench.file(format!("a/{number}"), "four").file(format!("b/{number}"), "five5");
        bench.file(format!("other/{number}"), "nobody asks");
    }
    fs::hard_link(bench.context().join("a/0"), bench.context().join("a/again")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.context().join("a/socket"));
    // What was changed a moment ago may change once more unseen.
    let settle = || std::thread::sleep(Duration::from_secs(4));
    let racy = counts(&bench, TEXT, "");
    assert_eq!(racy, [20, 90, 21], "the socket is packed as an empty file");
    assert_eq!(counts(&bench, TEXT, ""), [20, 90, 0], "it is read again, and is the same");
    settle();
    assert_eq!(counts(&bench, TEXT, ""), [20, 90, 0]);
    assert_eq!(counts(&bench, TEXT, ""), [0, 0, 0]);
    // Another instruction about the same files.
    assert_eq!(counts(&bench, "FROM scratch\nCOPY a/1 b /c/d/\n", ""), [0, 0, 10]);
    assert_eq!(counts(&bench, TEXT, "--no-cache"), [0, 0, 21]);

    bench.file("b/3", "5five");
    assert_eq!(counts(&bench, TEXT, ""), [1, 5, 10], "one file, and its layer");
    settle();
    // It was too young to be remembered.
    assert_eq!(counts(&bench, TEXT, ""), [1, 5, 0]);
    assert_eq!(counts(&bench, TEXT, ""), [0, 0, 0]);
    fs::set_permissions(bench.context().join("b/3"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(bench.context().join("other/new"), "").unwrap();
    assert_eq!(counts(&bench, TEXT, ""), [1, 5, 10]);
    // Another store remembers nothing.
    fs::rename(bench.store_path(), bench.path("old")).unwrap();
    assert_eq!(counts(&bench, TEXT, "")[0], 20);
}
