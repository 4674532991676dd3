//! A sandbox of each tier on a root of one static busybox.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use kiln::sandbox::{
    Cancel, Exit, Ids, Io, Limits, Mount, MountKind, Network, Root, Running, Sandbox, SandboxError,
    SandboxSpec, Tier, set_helper,
};

/// A root of one static busybox, and the folders a step changes.
pub(super) struct Fixture {
    pub(super) sandbox: Sandbox,
    pub(super) folder: tempfile::TempDir,
}

const PATH: &str = "/bin:/usr/bin";

const APPLETS: &[&str] = &[
    "base64", "cat", "env", "false", "head", "id", "ls", "mkdir", "mknod", "mount", "rm", "sh",
    "sleep", "touch", "true", "unshare", "wc",
];

/// The tiers whoever runs the tests must have.
pub(super) fn each(test: impl Fn(&Fixture)) {
    let root = rustix::process::geteuid().is_root();
    for tier in [if root { Tier::Root } else { Tier::Subuid }, Tier::SingleId] {
        let fixture = Fixture::new(tier);
        test(&fixture);
    }
}

impl Fixture {
    pub(super) fn new(tier: Tier) -> Self {
        set_helper(crate::support::kiln::program());
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

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A specification with an upper folder of its own: a volatile one is mounted once.
    pub(super) fn spec(&self, argv: &[&str]) -> SandboxSpec {
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
            privileged: false,
            limits: Limits::default(),
            stop_signal: 15,
        }
    }

    pub(super) fn script(&self, script: &str) -> SandboxSpec {
        self.spec(&["sh", "-c", script])
    }

    /// How it ended, and what it said on both streams.
    pub(super) fn run(&self, spec: &SandboxSpec) -> (Exit, String) {
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

    pub(super) fn error(&self, spec: &SandboxSpec) -> SandboxError {
        self.sandbox.run(spec, Io::default(), &Cancel::new()).unwrap_err()
    }

    pub(super) fn output(&self, spec: &SandboxSpec) -> String {
        let (exit, text) = self.run(spec);
        assert_eq!(exit, Exit::Code(0), "{}: {:?}: {text}", self.sandbox.tier(), spec.argv);
        text
    }

    /// Starts a process and waits until it has written its first line.
    pub(super) fn start(&self, script: &str) -> Running {
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
    pub(super) fn clear(&self, folder: &Path) {
        let mut spec = self.spec(&["sh", "-c", "rm -rf /all/* /all/.tmp*"]);
        let what = MountKind::Bind { source: folder.to_owned(), read_only: false };
        spec.mounts = vec![Mount { target: PathBuf::from("/all"), what }];
        // What is in use, as the upper of this very run, is left to the folder's own drop.
        let _ = self.sandbox.run(&spec, Io::default(), &Cancel::new());
    }
}

pub(super) fn output() -> (Io, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let error = writer.try_clone().unwrap();
    let io =
        Io { stdin: None, stdout: Some(OwnedFd::from(writer)), stderr: Some(OwnedFd::from(error)) };
    (io, reader)
}

pub(super) fn upper(spec: &SandboxSpec) -> &Path {
    let Root::Overlay { upper, .. } = &spec.root;
    upper
}

/// What lies in the upper folder: path and a letter for the type. Folders that
/// are equal to the lower's in mode and time were only copied up.
pub(super) fn changes(fixture: &Fixture, spec: &SandboxSpec) -> BTreeMap<String, char> {
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

pub(super) fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}
