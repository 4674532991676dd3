//! Containers with real processes, as whoever runs the tests. The image is one
//! static busybox; the monitors are the real binary.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln::container::{
    self, ContainerError, LimitChanges, Limits, LogRequest, NetworkMode, Outcome, Port, Protocol,
    RunRequest, Status, Summary, Volume,
};
use kiln::digest::DiffId;
use kiln::image::{Image, ImageConfig, assemble};
use kiln::layer::{Compression, Layer};
use kiln::platform::Platform;
use kiln::progress::{Progress, Stream};
use kiln::sandbox::{Io, cgroup::CgroupError};
use kiln::store::Store;

/// A store with one image; what still runs at the end is removed.
struct Fixture {
    store: Store,
    image: Image,
    folder: tempfile::TempDir,
}

const APPLETS: [&str; 14] = [
    "cat", "env", "false", "grep", "hostname", "httpd", "id", "nc", "pwd", "sh", "sleep", "true",
    "seq", "head",
];

impl Fixture {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(edit: impl FnOnce(&mut ImageConfig)) -> Self {
        kiln::sandbox::set_helper(PathBuf::from(env!("CARGO_BIN_EXE_kiln")));
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind, mode, link: &str, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(data.len() as u64);
            if !link.is_empty() {
                header.set_link_name(link).unwrap();
            }
            tar.append_data(&mut header, path, data).unwrap();
        };
        let busybox = fs::read("/bin/busybox").unwrap();
        for dir in ["bin/", "etc/", "srv/", "tmp/"] {
            add(dir, tar::EntryType::Directory, 0o755, "", b"");
        }
        add("bin/busybox", tar::EntryType::Regular, 0o755, "", &busybox);
        for applet in APPLETS {
            add(&format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, "busybox", b"");
        }
        let passwd = b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n";
        add("etc/passwd", tar::EntryType::Regular, 0o644, "", passwd);
        add("srv/index.html", tar::EntryType::Regular, 0o644, "", b"served from inside\n");
        let tar = tar.into_inner().unwrap();
        let digest = store.put(&tar).unwrap();
        let layer = Layer {
            diff_id: DiffId::of(&tar),
            digest,
            size: tar.len() as u64,
            compression: Compression::None,
        };
        let mut config = ImageConfig::scratch(&Platform::host());
        config.config.env = vec!["GREETING=hello".into()];
        config.config.cmd = Some(vec!["sh".into(), "-c".into(), "echo the default".into()]);
        edit(&mut config);
        let image = assemble(config, &[layer]).unwrap();
        Self { store, image, folder }
    }

    fn ask(&self, script: &str) -> RunRequest {
        let mut ask = RunRequest::new(self.image.clone(), "test:latest");
        ask.command = ["sh", "-c", script].map(str::to_owned).to_vec();
        ask
    }

    /// In the foreground; gives the exit code and both streams.
    fn run(&self, ask: &RunRequest, input: &str) -> Result<(i32, String, String), ContainerError> {
        let (out, stdout) = std::io::pipe().unwrap();
        let (err, stderr) = std::io::pipe().unwrap();
        let (stdin, mut typed) = std::io::pipe().unwrap();
        typed.write_all(input.as_bytes()).unwrap();
        drop(typed);
        let io = Io {
            stdin: Some(OwnedFd::from(stdin)),
            stdout: Some(OwnedFd::from(stdout)),
            stderr: Some(OwnedFd::from(stderr)),
        };
        let read = |pipe: std::io::PipeReader| {
            std::thread::spawn(move || {
                let mut text = String::new();
                File::from(OwnedFd::from(pipe)).read_to_string(&mut text).unwrap();
                text
            })
        };
        let (out, err) = (read(out), read(err));
        let outcome = container::run(ask, &self.store, io, &Progress::silent())?;
        let Outcome::Ended { code } = outcome else { panic!("{outcome:?}") };
        Ok((code, out.join().unwrap(), err.join().unwrap()))
    }

    fn output(&self, script: &str) -> String {
        let (code, out, err) = self.run(&self.ask(script), "").unwrap();
        assert_eq!(code, 0, "{script}: {out}{err}");
        out
    }

    /// In the background; gives the name.
    fn detach(&self, ask: RunRequest) -> Result<String, ContainerError> {
        let ask = RunRequest { detach: true, ..ask };
        match container::run(&ask, &self.store, Io::default(), &Progress::silent())? {
            Outcome::Started { name, .. } => Ok(name),
            outcome @ Outcome::Ended { .. } => panic!("{outcome:?}"),
        }
    }

    fn inspect(&self, name: &str) -> Summary {
        container::inspect(&self.store, name).unwrap()
    }

    fn stop(&self, name: &str) {
        container::stop(&self.store, name, Some(Duration::from_secs(20))).unwrap();
    }

    fn logs(&self, name: &str, ask: &LogRequest) -> String {
        let mut text = Vec::new();
        container::logs(&self.store, name, ask, &mut |stream, bytes| {
            if stream == Stream::Stderr {
                text.extend_from_slice(b"E:");
            }
            text.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        String::from_utf8(text).unwrap()
    }

    /// Waits for a line in the log: what the test needs the container to have done.
    fn await_log(&self, name: &str, wanted: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.logs(name, &LogRequest::default()).contains(wanted) {
            assert!(Instant::now() < until, "no `{wanted}` in the log of {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn folders(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.store.root().join("containers")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for left in container::list(&self.store, true).unwrap_or_default() {
            let _ = container::remove(&self.store, &left.config.id, true);
        }
        // The unpacked layer may belong to other IDs.
        if let Ok(sandbox) = kiln::sandbox::Sandbox::open(None) {
            let _ = kiln::rootfs::remove(&sandbox, &self.folder.path().join("store/trees"));
        }
    }
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is dead; only nobody has looked yet.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[test]
fn foreground_surroundings() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("");
    ask.command.clear();
    assert_eq!(fixture.run(&ask, "").unwrap(), (0, "the default\n".into(), String::new()));
    let (code, out, err) = fixture.run(&fixture.ask("echo out; echo err >&2; exit 7"), "").unwrap();
    assert_eq!((code, &*out, &*err), (7, "out\n", "err\n"));
    assert_eq!(fixture.run(&fixture.ask("kill -9 $$; sleep 9"), "").unwrap().0 & 127, 0);

    let mut ask =
        fixture.ask("echo $GREETING $MORE $HOME $PATH; hostname; pwd; id -u; echo $HOSTNAME");
    ask.env = vec![("MORE".into(), "world".into())];
    ask.hostname = Some("box".into());
    ask.workdir = Some("/made/here".into());
    assert_eq!(
        fixture.run(&ask, "").unwrap().1,
        "hello world /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         box\n/made/here\n0\nbox\n"
    );
    let mut ask = fixture.ask("");
    ask.entrypoint = Some(vec!["cat".into()]);
    ask.command = vec!["/etc/hostname".into()];
    ask.hostname = Some("box".into());
    assert_eq!(fixture.run(&ask, "").unwrap().1, "box\n");

    // A user of the image, who may open the streams that root's pipes are.
    let mut ask = fixture.ask("id -u; id -g; echo $HOME; echo again >/dev/stdout");
    ask.user = Some("web".into());
    let outcome = fixture.run(&ask, "");
    if kiln::sandbox::Sandbox::open(None).unwrap().maps_id(33) {
        assert_eq!(outcome.unwrap().1, "33\n33\n/srv\nagain\n");
    } else {
        let error = outcome.unwrap_err();
        assert!(error.exit_code() == 125 && error.to_string().contains("33"), "{error}");
    }

    // Input only where it is asked for.
    let mut ask = fixture.ask("cat; echo end");
    assert_eq!(fixture.run(&ask, "typed").unwrap().1, "end\n");
    ask.interactive = true;
    assert_eq!(fixture.run(&ask, "typed ").unwrap().1, "typed end\n");
    ask.command = vec!["true".into()];
    assert_eq!(fixture.run(&ask, "never read").unwrap().0, 0);

    // A foreground container stays until it is removed.
    let all = container::list(&fixture.store, true).unwrap();
    assert!(all.len() >= 8 && all.iter().all(|one| one.state.status == Status::Exited));
    assert!(container::list(&fixture.store, false).unwrap().is_empty());
    assert_eq!(container::layers_in_use(&fixture.store).unwrap().len(), 1);
}

#[test]
fn volumes_and_what_is_written() {
    let fixture = Fixture::new();
    let shared = fixture.folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("in"), "from outside\n").unwrap();
    let mut ask = fixture
        .ask("cat /data/in; echo x >/ro/y && exit 1; echo inside >/data/out; echo kept >/kept");
    let volume = |target: &str, read_only| Volume {
        source: shared.clone(),
        target: target.into(),
        read_only,
    };
    ask.volumes = vec![volume("/data", false), volume("/ro", true)];
    let (code, out, _) = fixture.run(&ask, "").unwrap();
    assert_eq!((code, &*out), (0, "from outside\n"));
    assert_eq!(fs::read_to_string(shared.join("out")).unwrap(), "inside\n");
    // The image is as it was.
    assert_eq!(fixture.output("cat /kept 2>/dev/null || echo gone"), "gone\n");
    ask.volumes[0].source = fixture.folder.path().join("absent");
    let error = fixture.run(&ask, "").unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}

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

fn port(host: u16, container: u16) -> Port {
    Port { host_ip: Some([127, 0, 0, 1].into()), host, container, proto: Protocol::Tcp }
}

fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn published_ports() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("exec httpd -f -p 127.0.0.1:80 -h /srv");
    ask.publish = vec![port(0, 80)];
    let name = fixture.detach(ask.clone()).unwrap();
    let summary = fixture.inspect(&name);
    assert_eq!(summary.config.network, NetworkMode::Private);
    let host = summary.state.ports[0].host;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match get(host) {
            Ok(text) if text.contains("served from inside") => break,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Several at once, each whole.
    let all: Vec<_> = (0..20).map(|_| std::thread::spawn(move || get(host))).collect();
    assert!(all.into_iter().all(|one| one.join().unwrap().unwrap().ends_with("inside\n")));

    // The second one that wants the port is told so, and leaves nothing.
    let before = fixture.folders().len();
    ask.publish = vec![port(host, 80)];
    let error = fixture.detach(ask.clone()).unwrap_err();
    assert!(error.to_string().contains("another program listens there"), "{error}");
    assert_eq!(fixture.folders().len(), before);
    container::remove(&fixture.store, &name, true).unwrap();
    // With the container the port is free.
    TcpListener::bind(("127.0.0.1", host)).unwrap();

    // No way out: the host's loopback is not the container's.
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = outside.local_addr().unwrap().port();
    std::thread::spawn(move || while outside.accept().is_ok() {});
    for network in [NetworkMode::Private, NetworkMode::None] {
        let mut ask = fixture.ask(&format!("nc -w 2 127.0.0.1 {at} </dev/null && exit 9; exit 0"));
        ask.network = Some(network);
        assert_eq!(fixture.run(&ask, "").unwrap().0, 0);
    }
    let mut ask = fixture.ask(&format!("nc -w 2 127.0.0.1 {at} </dev/null"));
    ask.network = Some(NetworkMode::Host);
    assert_eq!(fixture.run(&ask, "").unwrap().0, 0);

    // What cannot be done is refused.
    let refused = |network, port: Port| {
        let ask = RunRequest { network, publish: vec![port], ..fixture.ask("true") };
        fixture.detach(ask).unwrap_err()
    };
    let udp = Port { proto: Protocol::Udp, ..port(5353, 53) };
    assert!(matches!(refused(None, udp), ContainerError::UdpPort(_)));
    let host = Some(NetworkMode::Host);
    assert!(matches!(refused(host, port(8080, 80)), ContainerError::HostPort(_)));
    let none = Some(NetworkMode::None);
    assert!(matches!(refused(none, port(80, 80)), ContainerError::PortWithoutNetwork(_)));
}

/// The last words of a container that ends at once arrive whole.
#[test]
fn a_connection_outlives_its_container() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("seq 1 20000 | nc -l -p 80");
    ask.publish = vec![port(0, 80)];
    let name = fixture.detach(ask).unwrap();
    let host = fixture.inspect(&name).state.ports[0].host;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut stream = TcpStream::connect(("127.0.0.1", host)).unwrap();
        let mut text = String::new();
        // Not listening yet: the connection ends at once.
        if stream.read_to_string(&mut text).is_ok() && !text.is_empty() {
            assert!(text.starts_with("1\n") && text.ends_with("\n20000\n"), "{}", text.len());
            break;
        }
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where a group of kiln's lies for one controller, in either version.
fn group_file(id: &str, files: [&str; 2]) -> Option<String> {
    let name = format!("kiln-{id}");
    let found = walkdir::WalkDir::new("/sys/fs/cgroup")
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() == name.as_str());
    found
        .flat_map(|entry| files.map(|file| entry.path().join(file)))
        .find_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
}

#[test]
fn limits_and_their_update() {
    let fixture = Fixture::new();
    let memory = ["memory.max", "memory.limit_in_bytes"];
    let mut ask = fixture.ask("sleep 1000 & echo up; sleep 1000");
    ask.limits = Limits { memory: Some(64 << 20), cpus: Some(0.5), pids: None };
    let name = match fixture.detach(ask) {
        Ok(name) => name,
        // Where groups cannot be made, a limit is refused and not forgotten.
        Err(error) => {
            assert!(error.to_string().contains("may not be written"), "{error}");
            assert_ne!(rustix::process::geteuid().as_raw(), 0, "{error}");
            assert!(fixture.folders().is_empty());
            let free = fixture.detach(fixture.ask("sleep 1000")).unwrap();
            let change = LimitChanges { pids: Some(Some(50)), ..LimitChanges::default() };
            let error = container::update(&fixture.store, &free, &change).unwrap_err();
            assert!(matches!(error, ContainerError::Cgroup(CgroupError::Unavailable { .. })));
            assert_eq!(fixture.inspect(&free).config.limits, Limits::default());
            return;
        }
    };
    let id = fixture.inspect(&name).config.id;
    assert_eq!(group_file(&id, memory).unwrap(), (64 << 20).to_string());
    let change = LimitChanges { memory: Some(Some(128 << 20)), ..LimitChanges::default() };
    let all = container::update(&fixture.store, &name, &change).unwrap();
    assert_eq!(all, Limits { memory: Some(128 << 20), cpus: Some(0.5), pids: None });
    assert_eq!(group_file(&id, memory).unwrap(), (128 << 20).to_string());
    assert_eq!(fixture.inspect(&name).config.limits, all);
    container::remove(&fixture.store, &name, true).unwrap();
    assert_eq!(group_file(&id, memory), None);

    // One that began without gets a group for all its processes.
    let name = fixture.detach(fixture.ask("sleep 1000 & sleep 1000 & echo up; wait")).unwrap();
    fixture.await_log(&name, "up");
    let id = fixture.inspect(&name).config.id;
    assert_eq!(group_file(&id, ["pids.max"; 2]), None);
    let change = LimitChanges { pids: Some(Some(50)), ..LimitChanges::default() };
    container::update(&fixture.store, &name, &change).unwrap();
    assert_eq!(group_file(&id, ["pids.max"; 2]).unwrap(), "50");
    assert_eq!(group_file(&id, ["cgroup.procs"; 2]).unwrap().lines().count(), 3);
    let lift = LimitChanges { pids: Some(None), ..LimitChanges::default() };
    container::update(&fixture.store, &name, &lift).unwrap();
    assert_eq!(group_file(&id, ["pids.max"; 2]).unwrap(), "max");
    container::kill(&fixture.store, &name, 9).unwrap();
    assert_eq!(group_file(&id, ["pids.max"; 2]), None);
}

#[test]
fn much_output_is_kept() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("seq 1 200000; head -c 100000 /dev/zero");
    ask.name = Some("loud".into());
    let (code, out, _) = fixture.run(&ask, "").unwrap();
    assert_eq!(code, 0);
    assert_eq!(out.len(), fixture.logs("loud", &LogRequest::default()).len());
    assert!(out.contains("\n199999\n200000\n"));
}
