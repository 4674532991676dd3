//! Real processes in real namespaces, as whoever runs the tests: as root in the
//! root tier, as an ordinary user with the others. A tier that the machine
//! refuses fails the tests that need it, with the machine's reason.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kiln::sandbox::{
    Cancel, Exit, Ids, Io, Limits, Mount, MountKind, Network, Root, Sandbox, SandboxError,
    SandboxSpec, Tier, set_helper,
};

/// A root of one static busybox, and the folders a step changes.
struct Fixture {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
}

const PATH: &str = "/bin:/usr/bin";

impl Fixture {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(tier: Option<Tier>) -> Self {
        set_helper(PathBuf::from(env!("CARGO_BIN_EXE_kiln")));
        let sandbox = Sandbox::open(tier).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["lower/bin", "lower/etc", "upper", "work"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let busybox = folder.path().join("lower/bin/busybox");
        fs::copy("/bin/busybox", &busybox).unwrap();
        for applet in ["sh", "true", "false"] {
            std::os::unix::fs::symlink("busybox", folder.path().join("lower/bin").join(applet))
                .unwrap();
        }
        fs::write(folder.path().join("lower/etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        Self { sandbox, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spec(&self, argv: &[&str]) -> SandboxSpec {
        SandboxSpec {
            root: Root::Overlay {
                lowers: vec![self.path("lower")],
                upper: self.path("upper"),
                work: self.path("work"),
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
        self.spec(&["/bin/busybox", "sh", "-c", &script])
    }

    fn run(&self, spec: &SandboxSpec) -> Result<(Exit, String), SandboxError> {
        self.fresh();
        let (reader, writer) = std::io::pipe().unwrap();
        let error = writer.try_clone().unwrap();
        let io = Io {
            stdin: None,
            stdout: Some(OwnedFd::from(writer)),
            stderr: Some(OwnedFd::from(error)),
        };
        std::thread::scope(|scope| {
            let read = scope.spawn(move || {
                let mut text = String::new();
                let mut reader = File::from(OwnedFd::from(reader));
                reader.read_to_string(&mut text).unwrap();
                text
            });
            let exit = self.sandbox.run(spec, io, &Cancel::new());
            Ok((exit?, read.join().unwrap()))
        })
    }

    /// A volatile upper is mounted once: each step has its own.
    fn fresh(&self) {
        for name in ["upper", "work"] {
            let path = self.path(name);
            if path.exists() {
                let old = self.folder.path().join(format!("old-{}", fastrand(&path)));
                fs::rename(&path, old).unwrap();
            }
            fs::create_dir(&path).unwrap();
        }
    }

    fn output(&self, script: &str) -> String {
        let (exit, text) = self.run(&self.script(script)).unwrap();
        assert_eq!(exit, Exit::Code(0), "{script}: {text}");
        text
    }
}

fn fastrand(path: &Path) -> usize {
    fs::read_dir(path.parent().unwrap()).unwrap().count()
}

#[test]
fn exit_codes_and_signals() {
    let fixture = Fixture::new();
    let exit = |spec: &SandboxSpec| fixture.run(spec).unwrap().0;
    assert_eq!(exit(&fixture.spec(&["true"])), Exit::Code(0));
    assert_eq!(exit(&fixture.spec(&["false"])), Exit::Code(1));
    assert_eq!(exit(&fixture.script("exit 42")), Exit::Code(42));
    assert_eq!(fixture.output("echo hello; busybox id -u"), "hello\n0\n");
}
