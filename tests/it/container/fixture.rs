//! A store with an image of one static busybox, and calls of the library.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln::container::{self, ContainerError, LogRequest, Outcome, RunRequest, Summary};
use kiln::digest::DiffId;
use kiln::image::{Image, ImageConfig, assemble};
use kiln::layer::{Compression, Layer};
use kiln::platform::Platform;
use kiln::progress::{Progress, Stream};
use kiln::sandbox::Io;
use kiln::store::Store;

/// A store with one image; what still runs at the end is removed.
pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) image: Image,
    pub(super) folder: tempfile::TempDir,
}

const APPLETS: [&str; 14] = [
    "cat", "env", "false", "grep", "hostname", "httpd", "id", "nc", "pwd", "sh", "sleep", "true",
    "seq", "head",
];

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(super) fn with(edit: impl FnOnce(&mut ImageConfig)) -> Self {
        kiln::sandbox::set_helper(crate::support::kiln::program());
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

    pub(super) fn ask(&self, script: &str) -> RunRequest {
        let mut ask = RunRequest::new(self.image.clone(), "test:latest");
        ask.command = ["sh", "-c", script].map(str::to_owned).to_vec();
        ask
    }

    /// In the foreground; gives the exit code and both streams.
    pub(super) fn run(
        &self,
        ask: &RunRequest,
        input: &str,
    ) -> Result<(i32, String, String), ContainerError> {
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

    pub(super) fn output(&self, script: &str) -> String {
        let (code, out, err) = self.run(&self.ask(script), "").unwrap();
        assert_eq!(code, 0, "{script}: {out}{err}");
        out
    }

    /// In the background; gives the name.
    pub(super) fn detach(&self, ask: RunRequest) -> Result<String, ContainerError> {
        let ask = RunRequest { detach: true, ..ask };
        match container::run(&ask, &self.store, Io::default(), &Progress::silent())? {
            Outcome::Started { name, .. } => Ok(name),
            outcome @ Outcome::Ended { .. } => panic!("{outcome:?}"),
        }
    }

    pub(super) fn inspect(&self, name: &str) -> Summary {
        container::inspect(&self.store, name).unwrap()
    }

    pub(super) fn stop(&self, name: &str) {
        container::stop(&self.store, name, Some(Duration::from_secs(20))).unwrap();
    }

    pub(super) fn logs(&self, name: &str, ask: &LogRequest) -> String {
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
    pub(super) fn await_log(&self, name: &str, wanted: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.logs(name, &LogRequest::default()).contains(wanted) {
            assert!(Instant::now() < until, "no `{wanted}` in the log of {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn folders(&self) -> Vec<PathBuf> {
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

pub(super) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is dead; only nobody has looked yet.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
