//! Other Dockerfiles than the chain's, run as containers.

use std::time::Duration;

use super::{GREETING, context, free_port, get, parts, testdata, traces};

/// Several stages, the last from nothing; in a network of its own.
#[test]
fn a_static_program_from_scratch() {
    let Some(parts) = parts() else { return };
    let kiln = parts.kiln();
    let (file, folder) = (testdata("hello-go/Dockerfile.scratch"), testdata("hello-go"));
    kiln.args(["build", "-t", "tiny", "-f", &file, &folder]).run().success();
    let seen = kiln.ok("inspect tiny").json();
    let layers = seen[0]["images"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "nothing of the first stage is in it");

    let port = free_port();
    kiln.ok(&format!("run -d --name tiny -p 127.0.0.1:{port}:8080 tiny"));
    assert!(get(&format!("127.0.0.1:{port}")).contains(GREETING));
    let table = kiln.ok("ps").text();
    assert!(table.contains(&format!("127.0.0.1:{port}:8080/tcp")), "{table}");
    kiln.ok("stop tiny");
    kiln.ok("logs tiny").says("bye");
    kiln.ok("rm tiny");
    traces::none(&kiln);
}

/// Debian's packages, from the mirror that the base image names.
#[test]
fn packages_of_debian() {
    let Some(parts) = parts() else { return };
    let kiln = parts.kiln();
    let folder = testdata("hello-debian");
    kiln.args(["build", "-t", "packages", &folder]).run().success();
    let said = kiln.ok("run --rm packages").text();
    assert_eq!(said, "Hello, world!\n");
    // What the package's scripts and dpkg left is whole, with its owners.
    let script =
        "dpkg --audit && dpkg -s hello | grep Status && stat -c %U:%a /usr/bin/hello /etc/shadow";
    let said = kiln.args(["run", "--rm", "packages", "sh", "-ec", script]).run().success().text();
    assert_eq!(said, "Status: install ok installed\nroot:755\nroot:640\n");
    traces::none(&kiln);
}

#[test]
fn the_stop_signal_of_the_image() {
    let Some(parts) = parts() else { return };
    let kiln = parts.kiln();
    let script = "trap 'echo asked; exit 7' USR1; echo ready; while :; do sleep 0.1; done";
    let text = format!("FROM busybox\nSTOPSIGNAL SIGUSR1\nCMD {script}\n");
    let folder = context(&kiln, "signal", &text);
    kiln.args(["build", "-t", "signal", &folder]).run().success();
    kiln.ok("run -d --name signal --stop-timeout 60s signal");
    for _ in 0..300 {
        if kiln.ok("logs signal").text().contains("ready") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    kiln.ok("stop signal");
    assert_eq!(kiln.ok("logs signal").text(), "ready\nasked\n");
    assert!(kiln.ok("ps -a").text().contains("exited (7)"));
    kiln.ok("rm signal");
    traces::none(&kiln);
}

/// One of the words that `run` gives back: the program's exit code.
#[test]
fn exit_codes_of_programs() {
    let Some(parts) = parts() else { return };
    let kiln = parts.kiln();
    for (line, code) in [
        ("run --rm busybox true", 0),
        ("run --rm busybox sh -c exit\u{a0}42", 42),
        ("run --rm busybox no-such-program", 127),
        ("run --rm busybox /etc/passwd", 126),
        ("run --rm --memory 1x busybox", 125),
    ] {
        let words = line.split(' ').map(|word| word.replace('\u{a0}', " "));
        kiln.args(words).run().failure(code);
    }
    traces::none(&kiln);
}
