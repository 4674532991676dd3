//! From the start to the removal, with signals and lost monitors between.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kiln::container::{self, ContainerError, LogRequest, Status};
use kiln::progress::Progress;
use kiln::sandbox::Io;

use super::fixture::{Fixture, is_alive};

#[test]
fn detached_life() {
    let fixture = Fixture::new();
    let mut ask = fixture
        .ask("trap 'echo bye; exit 3' TERM; echo up; echo oops >&2; while :; do sleep 0.05; done");
    ask.name = Some("web".into());
    let name = fixture.detach(ask.clone()).unwrap();
    assert_eq!(name, "web");
    fixture.await_log("web", "oops");
    let summary = fixture.inspect("web");
    assert_eq!(summary.state.status, Status::Running);
    let pid = summary.state.process.as_ref().unwrap().pid;
    assert!(is_alive(pid));
    assert_eq!(container::list(&fixture.store, false).unwrap().len(), 1);
    // By the beginning of its ID too.
    assert_eq!(fixture.inspect(&summary.config.id[..6]).config.name, "web");
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["state"]["status"], "running");
    assert_eq!(json["name"], "web");

    let taken = fixture.detach(ask).unwrap_err();
    assert!(
        matches!(&taken, ContainerError::NameTaken { name, id }
        if name == "web" && *id == summary.config.id),
        "{taken}"
    );
    let refused = container::remove(&fixture.store, "web", false).unwrap_err();
    assert!(matches!(refused, ContainerError::Running(_)), "{refused}");

    // Following ends with the container.
    let followed = std::thread::scope(|scope| {
        let reader = scope
            .spawn(|| fixture.logs("web", &LogRequest { follow: true, ..LogRequest::default() }));
        fixture.stop("web");
        reader.join().unwrap()
    });
    let lines: Vec<&str> = followed.lines().collect();
    assert!(lines.contains(&"up") && lines.contains(&"E:oops"), "{followed}");
    assert_eq!(lines.last(), Some(&"bye"));
    assert!(!is_alive(pid));
    let state = fixture.inspect("web").state;
    assert_eq!((state.status, state.exit_code, state.error), (Status::Exited, Some(3), None));
    assert!(state.started.unwrap() < state.finished.unwrap());

    // A stopped one can be stopped, but not killed.
    fixture.stop("web");
    assert!(matches!(
        container::kill(&fixture.store, "web", 15),
        Err(ContainerError::NotRunning(_))
    ));
    let tail = LogRequest { tail: Some(1), timestamps: true, ..LogRequest::default() };
    let last = fixture.logs("web", &tail);
    assert!(last.ends_with("Z bye\n") && last.lines().count() == 1, "{last}");

    container::remove(&fixture.store, "web", false).unwrap();
    assert!(matches!(
        container::inspect(&fixture.store, "web"),
        Err(ContainerError::NoContainer(_))
    ));
    assert!(fixture.folders().is_empty());
}

#[test]
fn stop_signals() {
    // A first process that handles nothing is killed after the timeout.
    let fixture = Fixture::new();
    let deaf = fixture.detach(fixture.ask("exec sleep 1000")).unwrap();
    container::stop(&fixture.store, &deaf, Some(Duration::from_millis(100))).unwrap();
    assert_eq!(fixture.inspect(&deaf).state.exit_code, Some(137));

    let loops = "; echo up; while :; do sleep 0.05; done";
    let mut ask = fixture.ask(&format!("trap 'exit 4' 37{loops}"));
    ask.stop_signal = Some("SIGRTMIN+3".into());
    let name = fixture.detach(ask).unwrap();
    fixture.await_log(&name, "up");
    fixture.stop(&name);
    assert_eq!(fixture.inspect(&name).state.exit_code, Some(4));

    // The image's, and `kill` with another one.
    let fixture = Fixture::with(|config| config.config.stop_signal = Some("SIGQUIT".into()));
    let script = format!("trap 'exit 5' QUIT; trap 'echo usr1' USR1{loops}");
    let name = fixture.detach(fixture.ask(&script)).unwrap();
    fixture.await_log(&name, "up");
    container::kill(&fixture.store, &name, container::parse_signal("USR1").unwrap()).unwrap();
    fixture.await_log(&name, "usr1");
    fixture.stop(&name);
    assert_eq!(fixture.inspect(&name).state.exit_code, Some(5));
    let name = fixture.detach(fixture.ask("sleep 1000")).unwrap();
    container::kill(&fixture.store, &name, 9).unwrap();
    assert_eq!(fixture.inspect(&name).state.exit_code, Some(137));
    let mut ask = fixture.ask("true");
    ask.stop_signal = Some("NOPE".into());
    assert!(matches!(fixture.detach(ask), Err(ContainerError::BadSignal(_))));
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let fixture = Fixture::new();
    for (program, code) in [("nowhere", 127), ("/bin/nowhere", 127), ("/etc/passwd", 126)] {
        for detach in [true, false] {
            let mut ask = fixture.ask("");
            ask.command = vec![program.into()];
            ask.detach = detach;
            let run = container::run(&ask, &fixture.store, Io::default(), &Progress::silent());
            let error = run.unwrap_err();
            assert_eq!(error.exit_code(), code, "{program}: {error}");
            assert!(error.to_string().contains(program), "{error}");
        }
    }
    let mut ask = fixture.ask("true");
    ask.user = Some("ghost".into());
    let error = fixture.detach(ask).unwrap_err();
    assert!(error.exit_code() == 125 && error.to_string().contains("ghost"), "{error}");
    let mut ask = fixture.ask("true");
    ask.entrypoint = Some(Vec::new());
    ask.command.clear();
    assert!(matches!(fixture.detach(ask), Err(ContainerError::NoCommand(_))));
    let mut ask = fixture.ask("true");
    ask.name = Some("../x".into());
    assert!(matches!(fixture.detach(ask), Err(ContainerError::BadName(_))));
    assert!(fixture.folders().is_empty(), "{:?}", fixture.folders());
}

#[test]
fn removed_when_it_ends() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("echo x >/file; exit 6");
    ask.remove = true;
    assert_eq!(fixture.run(&ask, "").unwrap().0, 6);
    assert!(fixture.folders().is_empty());
    let mut ask = fixture.ask("sleep 1000");
    ask.remove = true;
    let name = fixture.detach(ask).unwrap();
    container::kill(&fixture.store, &name, 9).unwrap();
    assert!(fixture.folders().is_empty());
    // By force while it runs.
    let name = fixture.detach(fixture.ask("sleep 1000")).unwrap();
    let pid = fixture.inspect(&name).state.process.unwrap().pid;
    container::remove(&fixture.store, &name, true).unwrap();
    assert!(!is_alive(pid) && fixture.folders().is_empty());
}

/// The monitor of a container: the process whose arguments name its folder.
fn monitor_of(folder: &Path) -> i32 {
    let wanted = folder.as_os_str().as_encoded_bytes();
    let own = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next() == Some(b"kiln-monitor") && words.next() == Some(wanted)
    };
    let pids = fs::read_dir("/proc").unwrap();
    let mut pids = pids.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.find(own).unwrap()
}

#[test]
fn a_killed_monitor_takes_the_container_along() {
    let fixture = Fixture::new();
    let name =
        fixture.detach(fixture.ask("echo mark >>/marks; grep -c mark /marks; sleep 1000")).unwrap();
    fixture.await_log(&name, "1");
    let summary = fixture.inspect(&name);
    let pid = summary.state.process.unwrap().pid;
    let folder = fixture.store.root().join("containers").join(&summary.config.id);
    let monitor = rustix::process::Pid::from_raw(monitor_of(&folder)).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while is_alive(pid) || fixture.inspect(&name).state.status == Status::Running {
        assert!(Instant::now() < until, "the container outlives its monitor");
        std::thread::sleep(Duration::from_millis(20));
    }
    let state = fixture.inspect(&name).state;
    assert_eq!((state.status, state.exit_code), (Status::Lost, None));
    assert!(container::list(&fixture.store, false).unwrap().is_empty());
    fixture.stop(&name);

    // What it had changed is still there.
    container::start(&fixture.store, &name, &Progress::silent()).unwrap();
    fixture.await_log(&name, "2");
    assert_eq!(fixture.inspect(&name).state.status, Status::Running);
    let again = container::start(&fixture.store, &name, &Progress::silent()).unwrap_err();
    assert!(matches!(again, ContainerError::Running(_)), "{again}");
    container::remove(&fixture.store, &name, true).unwrap();
}
