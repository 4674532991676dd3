//! How processes start and end, and who ends with whom.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln::sandbox::{Cancel, Exit, Io, SandboxError, SandboxSpec, Tier};

use super::fixture::{Fixture, changes, each, output, parent};

fn is_alive(pid: u32) -> bool {
    // A zombie is dead, and waits for a parent that may be slow.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ") && !status.contains("State:\tX")
}

fn until(what: &str, mut test: impl FnMut() -> bool) {
    for _ in 0..500 {
        if test() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what} did not happen");
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn exit_codes_and_signals() {
    each(|fixture| {
        let exit = |spec: &SandboxSpec| fixture.run(spec).0;
        assert_eq!(exit(&fixture.spec(&["true"])), Exit::Code(0));
        assert_eq!(exit(&fixture.spec(&["/bin/false"])), Exit::Code(1));
        assert_eq!(exit(&fixture.script("exit 42")), Exit::Code(42));
        let running = fixture.start("echo ready; sleep 1000");
        running.signal(9).unwrap();
        assert_eq!(running.wait().unwrap(), Exit::Signal(9));
        assert_eq!(running.wait().unwrap().code(), 137);
        running.signal(9).unwrap();
        assert!(running.signal(4711).is_err());
    });
}

#[test]
fn programs_that_cannot_be_executed() {
    each(|fixture| {
        let errno = |argv: &[&str]| match fixture.error(&fixture.spec(argv)) {
            SandboxError::Exec { program, errno } => {
                assert_eq!(program, argv[0]);
                errno
            }
            other => panic!("{other}"),
        };
        assert_eq!(errno(&["absent"]), 2);
        assert_eq!(errno(&["/bin/absent"]), 2);
        assert_eq!(errno(&["/etc/passwd"]), 13);
        assert_eq!(errno(&["/etc"]), 13);
        assert_eq!(errno(&[""]), 2);
        let mut spec = fixture.spec(&["a\0b"]);
        assert!(matches!(fixture.error(&spec), SandboxError::Setup { .. }));
        spec = fixture.spec(&["true"]);
        spec.cwd = PathBuf::from("/etc/passwd");
        let error = fixture.error(&spec).to_string();
        assert!(error.contains("/etc/passwd"), "{error}");
        // What was made on the way is gone.
        assert_eq!(changes(fixture, &spec), BTreeMap::new());
    });
}

#[test]
fn nothing_outlives_the_first_process() {
    each(|fixture| {
        let spec = fixture.script("(trap '' TERM HUP; sleep 1000) & echo started");
        // The pipe's end is the end of all who held it.
        assert_eq!(fixture.output(&spec), "started\n");
        let running = fixture.start("echo ready; sleep 1000");
        let (pid, keeper) = (running.pid(), parent(running.pid()));
        drop(running);
        assert!(!is_alive(pid) && !is_alive(keeper));
    });
}

#[test]
fn everything_dies_with_the_helper() {
    each(|fixture| {
        for up in 1..=2 {
            let running = fixture.start("echo ready; sleep 1000");
            let pid = running.pid();
            let helper = (0..up).fold(pid, |pid, _| parent(pid));
            kill(helper);
            let error = running.wait().unwrap_err();
            let died = matches!(error, SandboxError::Died { .. } | SandboxError::Job(_));
            assert!(died, "{error}");
            until("death", || !is_alive(pid));
        }
    });
}

/// The variable that makes [`everything_dies_with_the_caller`] the caller; its
/// value is the file to write the process's number to.
const CALLER: &str = "KILN_TEST_CALLER";

#[test]
fn everything_dies_with_the_caller() {
    if let Some(file) = kiln::env::path(CALLER) {
        each(|fixture| {
            let running = fixture.start("echo ready; sleep 1000");
            fs::write(&file, format!("{}\n", running.pid())).unwrap();
            std::thread::sleep(Duration::from_secs(1000));
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut caller = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::processes::everything_dies_with_the_caller"])
        .env(CALLER, &file)
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = 0;
    until("start", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        pid = text.strip_suffix('\n').map_or(0, |text| text.parse().unwrap());
        pid != 0
    });
    let tree = [pid, parent(pid), parent(parent(pid))];
    assert!(tree.into_iter().all(is_alive));
    caller.kill().unwrap();
    caller.wait().unwrap();
    until("death", || !tree.into_iter().any(is_alive));
    Fixture::new(Tier::SingleId).clear(folder.path());
}

#[test]
fn cancelling_asks_first() {
    each(|fixture| {
        for (script, said) in [
            ("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done", "bye\n"),
            ("echo ready; sleep 1000", ""),
            ("trap '' TERM; echo ready; sleep 1000", ""),
            ("trap : TERM; echo ready; while :; do sleep 0.1; done", ""),
        ] {
            let (io, reader) = output();
            let cancel = Cancel::new();
            let (result, rest) = std::thread::scope(|scope| {
                let spec = fixture.script(script);
                let run = scope.spawn({
                    let cancel = cancel.clone();
                    move || fixture.sandbox.run(&spec, io, &cancel)
                });
                let mut reader = BufReader::new(reader);
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                cancel.cancel();
                let mut rest = String::new();
                reader.read_to_string(&mut rest).unwrap();
                (run.join().unwrap(), rest)
            });
            assert!(matches!(result, Err(SandboxError::Cancelled)), "{result:?}");
            assert_eq!(rest, said);
            let again = fixture.sandbox.run(&fixture.spec(&["true"]), Io::default(), &cancel);
            assert!(matches!(again, Err(SandboxError::Cancelled)));
        }
    });
}

#[test]
fn jobs_answer_or_say_why_not() {
    each(|fixture| {
        let error = fixture.sandbox.call::<_, ()>("absent", &"x".repeat(3_000_000)).unwrap_err();
        assert!(matches!(&error, SandboxError::Job(text) if text.contains("absent")), "{error}");
    });
}
