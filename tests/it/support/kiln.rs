//! Runs the binary in an environment of its own.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A home with a store, removed when dropped.
pub(crate) struct Kiln {
    home: TempDir,
    variables: Vec<(String, OsString)>,
}

/// The folder of test inputs and recorded outputs.
pub(crate) fn data() -> PathBuf {
    let own = || concat!(env!("CARGO_MANIFEST_DIR"), "/testdata").into();
    kiln::env::path("KILN_TEST_DATA").unwrap_or_else(own)
}

/// The binary under test.
pub(crate) fn program() -> PathBuf {
    kiln::env::path("KILN_TEST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kiln").into())
}

impl Kiln {
    pub(crate) fn new() -> Self {
        let home = TempDir::new().expect("a temporary folder can be made");
        Self { home, variables: Vec::new() }
    }

    /// Gives every later call a variable.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// A path in the home, for files of the test.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn store_path(&self) -> PathBuf {
        self.path("store")
    }

    /// The store, opened by the test itself.
    pub(crate) fn store(&self) -> kiln::store::Store {
        kiln::store::Store::open(&self.store_path()).expect("the store opens")
    }

    /// A call with arguments and nothing else of the caller's.
    pub(crate) fn args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call {
        let mut call = self.program(program());
        call.command.args(args);
        call
    }

    /// Runs kiln, and gives the most memory that it had, in KiB.
    pub(crate) fn peak(&self, arguments: &[&str]) -> (Output, u64) {
        let said = self.path("peak");
        let mut timed = self.program("time");
        timed.command.args(["-f", "%M", "-o"]).arg(&said).arg(program()).args(arguments);
        let output = timed.run();
        // What went wrong is a line before it.
        let said = std::fs::read_to_string(said).unwrap();
        (output, said.lines().last().unwrap().trim().parse().unwrap())
    }

    /// As [`Kiln::args`], of another program.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Call {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("KILN_STORE", self.store_path())
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Call { command, stdin: None }
    }

    /// As [`Kiln::args`] with the words of a line, run, and done.
    pub(crate) fn ok(&self, line: &str) -> Output {
        self.args(line.split_whitespace()).run().success()
    }

    /// As [`Kiln::args`] with the words of a line, run, and ended with a code.
    pub(crate) fn fails(&self, code: i32, line: &str) -> Output {
        self.args(line.split_whitespace()).run().failure(code)
    }
}

impl Drop for Kiln {
    fn drop(&mut self) {
        // A test that failed has left its containers.
        for entry in std::fs::read_dir(self.store_path().join("containers")).into_iter().flatten() {
            if let Ok(entry) = entry
                && entry.path().is_dir()
            {
                self.args(["rm".as_ref(), "-f".as_ref(), entry.file_name().as_os_str()]).run();
            }
        }
        if rustix::process::geteuid().is_root() || !self.store_path().join("trees").exists() {
            return;
        }
        // Unpacked images have files of the user's other IDs. What stays is
        // noticed by whoever looks at the temporary folder.
        let _ = Command::new("unshare")
            .args(["--map-root-user", "--map-auto", "rm", "-rf"])
            .arg(self.home.path())
            .status();
    }
}

/// A call that was not made yet.
pub(crate) struct Call {
    pub(crate) command: Command,
    stdin: Option<Vec<u8>>,
}

impl Call {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.command.stdin(Stdio::piped());
        self.stdin = Some(bytes.into());
        self
    }

    pub(crate) fn run(mut self) -> Output {
        let mut child = self.command.spawn().expect("kiln starts");
        // A thread, since the child may write before it has read all.
        let feeder = self.stdin.take().map(|bytes| {
            let mut stdin = child.stdin.take().expect("stdin is a pipe");
            std::thread::spawn(move || {
                // A child that has read enough closes the pipe.
                let _ = stdin.write_all(&bytes);
            })
        });
        let output = child.wait_with_output().expect("kiln ends");
        if let Some(feeder) = feeder {
            feeder.join().expect("the feeder does not panic");
        }
        Output {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// What a call left.
#[derive(Debug)]
pub(crate) struct Output {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.failure(0)
    }

    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> Self {
        let text = self.text();
        assert_eq!(self.code, Some(code), "stdout: {text}\nstderr: {}", self.stderr);
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).expect("stdout is JSON")
    }

    /// Checks that stderr has a text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "`{text}` is not in: {}", self.stderr);
        self
    }
}

/// Runs another program, which must succeed; gives its stdout.
#[track_caller]
pub(crate) fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
