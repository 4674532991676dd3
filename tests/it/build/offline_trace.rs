//! That `--offline` opens no socket of a network family, by a trace of system calls: of kiln,
//! its helpers, `git`, and all else that it starts.

use std::fs;

use super::bench::{Bench, callers};
use super::offline::World;
use crate::support::trace::{sockets, traced};

/// Commands that do their work without a network.
const WORK: &[&str] = &[
    "build --no-cache -f Dockerfile -t out context",
    "build -f Dockerfile -t out context",
    "build -f Dockerfile -o type=oci,dest=out.tar context",
    "bundle --image store:out -o results.tar",
    "bundle -f Dockerfile -o inputs.tar context",
    "bundle --list inputs.tar",
    "build --bundle inputs.tar -f Dockerfile -t out context",
    "check -f Dockerfile context",
    "copy store:out oci:layout:out",
    "diff out busybox",
    "doctor",
    "du",
    "generate-key-pair",
    "images",
    "inspect out",
    "load -i saved.tar",
    "manifest inspect store:out",
    "ps",
    "prune --force",
    "run --rm out echo hi",
    "sbom out",
    "sign --key cosign.key out",
    "verify --key cosign.pub out",
    // strace waits for the end of all that it has seen begin.
    "run -d --name left out true",
    "logs left",
    "rm -f left",
    "stop -t 0s running",
    "rm running",
    "save -o saved2.tar out",
    "tag out again",
    "rmi again",
];

/// Commands that are refused.
const REFUSED: &[&str] = &[
    "build -f Dockerfile --push -t r.example/out context",
    "build https://r.example/repo.git",
    "deploy --image r.example/out",
    "login r.example -u a -p b",
    "pull r.example/out",
    "push out r.example/out",
    "run r.example/out",
    "serve --addr 127.0.0.1:0",
    "tags r.example/out",
    "up -t out context",
];

#[test]
fn build_offline_makes_no_socket_of_a_network() {
    let world = World::new();
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        fs::write(bench.path("Dockerfile"), world.dockerfile()).unwrap();
        let trace = bench.path("trace");
        let run = |line: &str| {
            let mut call = bench.call(line.split(' '));
            call.env("COSIGN_PASSWORD", "hush");
            let _ = fs::remove_file(&trace);
            let output = bench.run(&mut traced(&call, &trace));
            (output, sockets(&trace))
        };
        // A trace shows them where there are some.
        let (online, made) = run("build -f Dockerfile -t out context");
        online.success();
        assert!(made.iter().any(|line| line.contains("AF_INET")), "{made:#?}");
        run("save -o saved.tar out").0.success();
        let line = "run -d --offline --name running out sleep 1000";
        bench.run(&mut bench.call(line.split(' '))).success();
        let mut wrong = Vec::new();
        for line in WORK {
            let (output, made) = run(&format!("--offline {line}"));
            let expected = if line.starts_with("diff") { 1 } else { 0 };
            assert_eq!(output.code, Some(expected), "{line}: {}", output.stderr);
            wrong.extend(made.into_iter().map(|call| format!("{line}: {call}")));
        }
        for line in REFUSED {
            let (output, made) = run(&format!("--offline {line}"));
            assert_ne!(output.code, Some(0), "{line}");
            wrong.extend(made.into_iter().map(|call| format!("{line}: {call}")));
        }
        assert!(wrong.is_empty(), "{caller:?}: {}", wrong.join("\n"));
        bench.clean();
    }
}
