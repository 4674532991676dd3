//! Real processes in real namespaces, as whoever runs the tests: root has the
//! root tier and a user namespace with one ID, an ordinary user both kinds of
//! user namespace. A tier that the machine refuses fails the tests with the
//! machine's reason.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln::sandbox::cgroup::{Cgroup, CgroupError};
use kiln::sandbox::{
    Cancel, Exit, Ids, Io, Limits, Mount, MountKind, Network, Root, Running, Sandbox, SandboxError,
    SandboxSpec, Tier, set_helper,
};

/// A root of one static busybox, and the folders a step changes.
struct Fixture {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
}

const PATH: &str = "/bin:/usr/bin";
const APPLETS: &[&str] = &[
    "cat", "env", "false", "head", "id", "ls", "mkdir", "mknod", "mount", "rm", "sh", "sleep",
    "touch", "true", "unshare", "wc",
];

/// The tiers whoever runs the tests must have.
fn each(test: impl Fn(&Fixture)) {
    let root = rustix::process::geteuid().is_root();
    for tier in [if root { Tier::Root } else { Tier::Subuid }, Tier::SingleId] {
        let fixture = Fixture::new(tier);
        test(&fixture);
    }
}

impl Fixture {
    fn new(tier: Tier) -> Self {
        set_helper(PathBuf::from(env!("CARGO_BIN_EXE_kiln")));
        let sandbox = Sandbox::open(Some(tier)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self { sandbox, folder };
        for name in ["lower/bin", "lower/etc"] {
            fs::create_dir_all(fixture.path(name)).unwrap();
        }
        fs::copy("/bin/busybox", fixture.path("lower/bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", fixture.path("lower/bin").join(applet)).unwrap();
        }
        fs::write(fixture.path("lower/etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A specification with an upper folder of its own: a volatile one is mounted once.
    fn spec(&self, argv: &[&str]) -> SandboxSpec {
        let step = tempfile::Builder::new().prefix("step-").tempdir_in(self.folder.path());
        let step = step.unwrap().keep();
        for name in ["upper", "work"] {
            fs::create_dir(step.join(name)).unwrap();
        }
        fs::set_permissions(step.join("upper"), fs::Permissions::from_mode(0o755)).unwrap();
        SandboxSpec {
            root: Root::Overlay {
                lowers: vec![self.path("lower")],
                upper: step.join("upper"),
                work: step.join("work"),
            },
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: vec![("PATH".to_owned(), PATH.to_owned())],
            cwd: PathBuf::from("/"),
            user: Ids::default(),
            hostname: "step".to_owned(),
            mounts: Vec::new(),
            network: Network::None,
            limits: Limits::default(),
            stop_signal: 15,
        }
    }

    fn script(&self, script: &str) -> SandboxSpec {
        self.spec(&["sh", "-c", script])
    }

    /// How it ended, and what it said on both streams.
    fn run(&self, spec: &SandboxSpec) -> (Exit, String) {
        let (io, mut reader) = output();
        std::thread::scope(|scope| {
            let read = scope.spawn(move || {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                text
            });
            let exit = self.sandbox.run(spec, io, &Cancel::new()).unwrap();
            (exit, read.join().unwrap())
        })
    }

    fn error(&self, spec: &SandboxSpec) -> SandboxError {
        self.sandbox.run(spec, Io::default(), &Cancel::new()).unwrap_err()
    }

    fn output(&self, spec: &SandboxSpec) -> String {
        let (exit, text) = self.run(spec);
        assert_eq!(exit, Exit::Code(0), "{}: {:?}: {text}", self.sandbox.tier(), spec.argv);
        text
    }

    /// Starts a process and waits until it has written its first line.
    fn start(&self, script: &str) -> Running {
        let (io, reader) = output();
        let running = self.sandbox.start(&self.script(script), io).unwrap();
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        running
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.clear(self.folder.path());
    }
}

impl Fixture {
    /// Files of other IDs, and folders nobody may read, are removed from inside.
    fn clear(&self, folder: &Path) {
        let mut spec = self.spec(&["sh", "-c", "rm -rf /all/* /all/.tmp*"]);
        let what = MountKind::Bind { source: folder.to_owned(), read_only: false };
        spec.mounts = vec![Mount { target: PathBuf::from("/all"), what }];
        // What is in use, as the upper of this very run, is left to the folder's own drop.
        let _ = self.sandbox.run(&spec, Io::default(), &Cancel::new());
    }
}

fn output() -> (Io, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let error = writer.try_clone().unwrap();
    let io =
        Io { stdin: None, stdout: Some(OwnedFd::from(writer)), stderr: Some(OwnedFd::from(error)) };
    (io, reader)
}

fn upper(spec: &SandboxSpec) -> &Path {
    let Root::Overlay { upper, .. } = &spec.root;
    upper
}

/// What lies in the upper folder: path and a letter for the type. Folders that
/// are equal to the lower's in mode and time were only copied up.
fn changes(fixture: &Fixture, spec: &SandboxSpec) -> BTreeMap<String, char> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(upper(spec)).min_depth(1) {
        let entry = entry.unwrap();
        let below = entry.path().strip_prefix(upper(spec)).unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let kind = match meta.file_type() {
            kind if kind.is_dir() => 'd',
            kind if kind.is_char_device() && meta.rdev() == 0 => 'w',
            kind if kind.is_symlink() => 'l',
            _ => 'f',
        };
        let lower = fixture.path("lower").join(below).symlink_metadata();
        let same = |lower: &fs::Metadata| {
            (lower.mode(), lower.mtime(), lower.mtime_nsec())
                == (meta.mode(), meta.mtime(), meta.mtime_nsec())
        };
        if kind == 'd' && lower.is_ok_and(|lower| same(&lower)) {
            continue;
        }
        found.insert(below.to_str().unwrap().to_owned(), kind);
    }
    found
}

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

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
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
fn surroundings_are_those_of_the_specification() {
    // Something a careless child would inherit.
    let leak = rustix::io::dup(std::io::stderr()).unwrap();
    each(|fixture| {
        let mut spec = fixture.spec(&["env"]);
        spec.env.push(("GREETING".to_owned(), "a b\"c".to_owned()));
        assert_eq!(fixture.output(&spec), "PATH=/bin:/usr/bin\nGREETING=a b\"c\n");
        // The last is the folder itself.
        assert_eq!(fixture.output(&fixture.spec(&["ls", "/proc/self/fd"])), "0\n1\n2\n3\n");
        assert_eq!(fixture.output(&fixture.script("echo /proc/[0-9]*; echo $$")), "/proc/1\n1\n");
        assert_eq!(fixture.output(&fixture.spec(&["cat", "/proc/sys/kernel/hostname"])), "step\n");
        assert_eq!(fixture.output(&fixture.script("umask; read x; echo $?")), "0022\n1\n");
        let mounts = fixture.output(&fixture.spec(&["cat", "/proc/self/mountinfo"]));
        assert!(!mounts.contains(fixture.folder.path().to_str().unwrap()), "{mounts}");
        let below = ["/proc", "/sys", "/dev"];
        for line in mounts.lines() {
            let place = line.split(' ').nth(4).unwrap();
            let known = place == "/" || below.iter().any(|folder| place.starts_with(folder));
            assert!(known, "{line}");
        }
        let signals = fixture.output(&fixture.spec(&["cat", "/proc/self/status"]));
        for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
            assert!(signals.contains(line), "{signals}");
        }
        let mut spec = fixture.script("pwd; ls -ld . | head -c 10");
        spec.cwd = PathBuf::from("/srv/new");
        assert_eq!(fixture.output(&spec), "/srv/new\ndrwxr-xr-x");
        assert_eq!(
            changes(fixture, &spec),
            BTreeMap::from([("srv".to_owned(), 'd'), ("srv/new".to_owned(), 'd')])
        );
    });
    drop(leak);
}

#[test]
fn users_and_groups() {
    each(|fixture| {
        let mut spec = fixture.script("id -u; id -g; id -G; echo out > /dev/stdout");
        assert_eq!(fixture.output(&spec), "0\n0\n0\nout\n");
        spec = fixture.script("id -u; id -g; id -G; echo out > /dev/stdout; touch /x");
        spec.user = Ids { uid: 7, gid: 8, groups: vec![9] };
        if fixture.sandbox.tier() == Tier::SingleId {
            let error = fixture.error(&spec);
            assert!(matches!(error, SandboxError::Unmapped { id: 7, .. }), "{error}");
            assert!(!fixture.sandbox.maps_id(1));
            return;
        }
        let (exit, text) = fixture.run(&spec);
        assert!(text.starts_with("7\n8\n8 9\nout\n"), "{text}");
        assert!(text.contains("Permission denied"), "{text}");
        assert_eq!(exit, Exit::Code(1));
        assert!(fixture.sandbox.maps_id(65535));
        // It would mean "stay root" to the kernel.
        spec.user.uid = u32::MAX;
        assert!(matches!(fixture.error(&spec), SandboxError::Unmapped { .. }));
    });
}

#[test]
fn rights_are_bounded() {
    each(|fixture| {
        let status = fixture.output(&fixture.spec(&["cat", "/proc/self/status"]));
        for (set, expected) in [
            ("CapInh", "0000000000000000"),
            ("CapPrm", "00000000a80425fb"),
            ("CapEff", "00000000a80425fb"),
            ("CapBnd", "00000000a80425fb"),
            ("CapAmb", "0000000000000000"),
            // `sudo` in a build step works.
            ("NoNewPrivs", "0"),
        ] {
            assert!(status.contains(&format!("{set}:\t{expected}")), "{status}");
        }
        for refused in [
            "mount -t tmpfs x /etc",
            "echo h > /proc/sys/kernel/hostname",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            "echo h > /proc/sysrq-trigger",
            "mkdir /sys/fs/cgroup/x",
            "ls /sys/firmware | head -c 1 | grep .",
            "mknod /disk b 254 0 && cat /disk",
            "mknod /dev/mem2 c 1 1 && cat /dev/mem2",
            ": < /dev/tty",
            "unshare -U true",
        ] {
            let (exit, text) = fixture.run(&fixture.script(refused));
            assert_ne!(exit, Exit::Code(0), "{refused}: {text}");
        }
        assert_eq!(
            fixture.output(&fixture.script("cat /proc/keys /proc/timer_list | wc -c")),
            "0\n"
        );
    });
}

/// What runs inside may execute `/proc/self/exe`, which is the helper until then.
#[test]
fn the_helper_cannot_be_overwritten() {
    each(|fixture| {
        let running = fixture.start("echo ready; sleep 1000");
        let helper = parent(running.pid());
        let exe = |pid| rustix::fs::statvfs(format!("/proc/{pid}/exe")).unwrap().f_flag;
        assert!(exe(helper).contains(rustix::fs::StatVfsMountFlags::RDONLY));
        drop(running);
        assert_eq!(fixture.run(&fixture.spec(&["/proc/self/exe", "--version"])).0, Exit::Code(0));
    });
}

#[test]
fn devices_work() {
    each(|fixture| {
        let script =
            "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 9 /dev/urandom | wc -c
            echo s > /dev/shm/s; cat /dev/shm/s; echo $(ls /dev); : > /dev/full && echo full
            echo t > /dev/ptmx || echo none";
        let text = fixture.output(&fixture.script(script));
        let expected =
            "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        assert!(text.starts_with(&format!("4\n9\ns\n{expected}\nfull\n")), "{text}");
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
fn the_upper_holds_the_change_and_nothing_else() {
    each(|fixture| {
        let mut spec = fixture.spec(&["true"]);
        let file = |target: &str, content: &str| Mount {
            target: PathBuf::from(target),
            what: MountKind::File { content: content.as_bytes().to_vec(), mode: 0o644 },
        };
        spec.mounts = vec![
            file("/etc/resolv.conf", "nameserver 192.0.2.1\n"),
            file("/etc/hosts", ""),
            file("/run/secrets/deep/er/token", "hush"),
            Mount { target: PathBuf::from("/var/cache/x"), what: tmpfs() },
        ];
        assert_eq!(fixture.output(&spec), "");
        assert_eq!(changes(fixture, &spec), BTreeMap::new());

        let mounts = spec.mounts.clone();
        spec = fixture.script(
            "cat /run/secrets/deep/er/token; echo 127.0.0.1 x >> /etc/hosts; echo new > /etc/new
             rm /etc/passwd; touch /run/own /var/cache/x/lost; mkdir /made",
        );
        spec.mounts = mounts;
        assert_eq!(fixture.output(&spec), "hush");
        let expected = [
            ("etc", 'd'),
            ("etc/new", 'f'),
            ("etc/passwd", 'w'),
            ("made", 'd'),
            ("run", 'd'),
            ("run/own", 'f'),
        ];
        let expected = expected.map(|(path, kind)| (path.to_owned(), kind));
        assert_eq!(changes(fixture, &spec), BTreeMap::from(expected));
    });
}

fn tmpfs() -> MountKind {
    MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777 }
}

#[test]
fn mounts_of_the_host() {
    each(|fixture| {
        let (shared, kept) = (fixture.path("shared"), fixture.path("kept"));
        fs::create_dir_all(shared.join("inner")).unwrap();
        fs::write(shared.join("file"), "shared\n").unwrap();
        fs::create_dir_all(&kept).unwrap();
        let bind = |target: &str, source: &Path, read_only| Mount {
            target: PathBuf::from(target),
            what: MountKind::Bind { source: source.to_owned(), read_only },
        };
        let mut spec = fixture.script(
            "cat /src/file /one; touch /src/no || echo refused; touch /src/inner/over /cache/kept
             echo > /one || echo refused; head -c 3000000 /dev/zero > /src/inner/big || echo full",
        );
        spec.mounts = vec![
            bind("/src", &shared, true),
            Mount { target: PathBuf::from("/src/inner"), what: tmpfs() },
            bind("/cache", &kept, false),
            bind("/one", &shared.join("file"), true),
        ];
        let (exit, text) = fixture.run(&spec);
        assert!(text.starts_with("shared\nshared\n"), "{text}");
        assert_eq!(text.matches("refused").count(), 2, "{text}");
        assert!(text.ends_with("full\n"), "{text}");
        assert_eq!(exit, Exit::Code(0));
        assert!(kept.join("kept").exists());
        assert_eq!(fs::read_dir(shared.join("inner")).unwrap().count(), 0);
        assert_eq!(changes(fixture, &spec), BTreeMap::new());
        spec = fixture.spec(&["true"]);
        spec.mounts = vec![bind("/x", &fixture.path("absent"), true)];
        let error = fixture.error(&spec).to_string();
        assert!(error.contains("absent") && error.contains("/x"), "{error}");
    });
}

#[test]
fn links_in_the_root_lead_nowhere_else() {
    each(|fixture| {
        let canary = fixture.path("canary");
        fs::create_dir(&canary).unwrap();
        symlink(&canary, fixture.path("lower/out")).unwrap();
        symlink("../../../../../../../../..", fixture.path("lower/etc/up")).unwrap();
        symlink("../run/systemd/resolv.conf", fixture.path("lower/etc/resolv.conf")).unwrap();
        symlink("loop", fixture.path("lower/etc/loop")).unwrap();
        symlink("/proc/self/cwd", fixture.path("lower/magic")).unwrap();
        let file = |target: &str| Mount {
            target: PathBuf::from(target),
            what: MountKind::File { content: b"in".to_vec(), mode: 0o600 },
        };
        let mut spec = fixture.script("cat /etc/resolv.conf /out/a /b /out/../c");
        spec.mounts = ["/etc/resolv.conf", "/out/a", "/etc/up/b", "../../c"].map(file).to_vec();
        spec.cwd = PathBuf::from("/out/d");
        let (_, text) = fixture.run(&spec);
        assert!(text.starts_with("ininin"), "{text}");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
        assert!(changes(fixture, &spec).values().all(|kind| *kind == 'd'));
        for target in ["/etc/loop", "/etc/loop/x", "/magic/x", "/etc/passwd/x"] {
            spec = fixture.spec(&["true"]);
            spec.mounts = vec![file(target)];
            assert!(matches!(fixture.error(&spec), SandboxError::Setup { .. }), "{target}");
        }
    });
}

#[test]
fn networks() {
    each(|fixture| {
        let mut spec = fixture.script("echo /sys/class/net/*; cat /sys/class/net/lo/flags");
        assert_eq!(fixture.output(&spec), "/sys/class/net/lo\n0x9\n");
        spec = fixture.spec(&["cat", "/proc/net/dev"]);
        spec.network = Network::Host;
        let names = |text: &str| -> Vec<String> {
            let names = text.lines().filter_map(|line| line.split_once(':'));
            names.map(|(name, _)| name.trim().to_owned()).collect()
        };
        let host = fs::read_to_string("/proc/net/dev").unwrap();
        assert_eq!(names(&fixture.output(&spec)), names(&host));
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
        .args(["--exact", "sandbox::everything_dies_with_the_caller"])
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
fn an_upper_of_a_container_is_used_again() {
    each(|fixture| {
        let spec = fixture.script("cat /count; echo x >> /count");
        for expected in ["", "x\n", "x\nx\n"] {
            let (io, mut reader) = output();
            let running = fixture.sandbox.start(&spec, io).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(running.wait().unwrap(), Exit::Code(0));
            assert!(text.ends_with(expected), "{text}");
        }
    });
}

#[test]
fn a_root_from_scratch() {
    each(|fixture| {
        let mut spec = fixture.spec(&["/busybox", "touch", "/made"]);
        fs::copy("/bin/busybox", upper(&spec).join("busybox")).unwrap();
        let Root::Overlay { lowers, .. } = &mut spec.root;
        lowers.clear();
        assert_eq!(fixture.output(&spec), "");
        let files = [("busybox", 'f'), ("made", 'f')].map(|(path, kind)| (path.to_owned(), kind));
        assert_eq!(changes(fixture, &spec), BTreeMap::from(files));
    });
}

#[test]
fn many_layers_and_long_paths() {
    each(|fixture| {
        let mut spec = fixture.spec(&["cat", "/layer"]);
        let Root::Overlay { lowers, .. } = &mut spec.root;
        let deep = fixture.path(&format!("with:colon,and\\more/{}", "x".repeat(200)));
        for number in (0..200).rev() {
            let lower = deep.join(number.to_string());
            fs::create_dir_all(&lower).unwrap();
            fs::write(lower.join("layer"), number.to_string()).unwrap();
            lowers.insert(0, lower);
        }
        assert_eq!(fixture.output(&spec), "0");
    });
}

#[test]
fn jobs_answer_or_say_why_not() {
    each(|fixture| {
        let error = fixture.sandbox.call::<_, ()>("absent", &"x".repeat(3_000_000)).unwrap_err();
        assert!(matches!(&error, SandboxError::Job(text) if text.contains("absent")), "{error}");
    });
}

#[test]
fn kinds_name_the_mapping() {
    let kind = |tier| Fixture::new(tier).sandbox.kind().to_owned();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(kind(Tier::SingleId), format!("one-{uid}"));
    let best = Sandbox::open(None).unwrap();
    if uid == 0 {
        assert_eq!((best.kind(), best.refused().len()), ("root", 0));
        assert_eq!(best.overlay_xattr(), "trusted.overlay.");
    } else {
        assert!(best.kind().starts_with("map-"), "{}", best.kind());
        assert_eq!(best.refused()[0].0, Tier::Root);
        assert_eq!(best.overlay_xattr(), "user.overlay.");
        let error = Sandbox::open(Some(Tier::Root)).unwrap_err().to_string();
        assert!(error.contains("not run as root"), "{error}");
    }
}

/// As root groups are made below the own one. An ordinary user has them where
/// the group was given to it, and else the error says what to give.
#[test]
fn limits_hold_and_go() {
    let root = rustix::process::geteuid().is_root();
    let fixture = Fixture::new(if root { Tier::Root } else { Tier::Subuid });
    let mut spec = fixture
        .script("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done 2>&1; echo ready; sleep 1000");
    let name = format!("kiln-test-{}", std::process::id());
    spec.limits = Limits { pids: Some(5), cgroup: name.clone(), ..Limits::default() };
    let (io, reader) = output();
    let running = match fixture.sandbox.start(&spec, io) {
        Err(SandboxError::Cgroup(CgroupError::Unavailable { why, .. })) if !root => {
            let uid = rustix::process::geteuid().as_raw().to_string();
            assert!(why.contains(&uid) && why.contains("/sys/fs/cgroup"), "{why}");
            return;
        }
        other => other.unwrap(),
    };
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    let refused = lines.find(|line| line.contains("fork"));
    assert!(refused.is_some());
    let group = Cgroup::open(&name).unwrap();
    let folders: Vec<PathBuf> = group.folders().map(Path::to_owned).collect();
    assert!(!folders.is_empty());
    let held = |file: &str| {
        let found = folders.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok());
        found.map(|text| text.trim().to_owned())
    };
    assert_eq!(held("pids.max").as_deref(), Some("5"));
    let limits =
        Limits { memory: Some(64 << 20), cpus: Some(0.5), pids: Some(100), cgroup: name.clone() };
    group.set(&limits).unwrap();
    assert_eq!(held("pids.max").as_deref(), Some("100"));
    let memory = held("memory.limit_in_bytes").or_else(|| held("memory.max"));
    assert_eq!(memory.as_deref(), Some("67108864"));
    let cpu = held("cpu.cfs_quota_us").or_else(|| held("cpu.max"));
    assert!(cpu.is_some_and(|cpu| cpu.starts_with("50000")));
    drop(running);
    assert!(folders.iter().all(|folder| !folder.exists()));
    assert!(matches!(Cgroup::open(&name), Err(CgroupError::Missing(_))));
}

#[test]
fn memory_beyond_the_limit_kills() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let fixture = Fixture::new(Tier::Root);
    let mut spec = fixture.spec(&["sh", "-c", "exec head -c 300000000 /dev/zero > /dev/shm/x"]);
    spec.mounts = vec![Mount {
        target: PathBuf::from("/dev/shm"),
        what: MountKind::Tmpfs { size: None, mode: 0o1777 },
    }];
    spec.limits = Limits {
        memory: Some(32 << 20),
        cgroup: format!("kiln-test-memory-{}", std::process::id()),
        ..Limits::default()
    };
    let (exit, text) = fixture.run(&spec);
    assert_eq!(exit, Exit::Signal(9), "{text}");
}
