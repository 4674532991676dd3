//! The acceptance tests: what a user does from a Dockerfile to a rollout, and
//! what this user sees when it fails, with the real binary, real registries and
//! a real API server, as whoever runs the tests.

mod chain;
mod failures;
mod inputs;
mod library;
mod node;
mod readme;
mod traces;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::deploy::world::World;
use crate::support::kiln::Kiln;
use crate::support::skip;

/// What testdata/hello-go answers.
const GREETING: &str = "Hello from kiln!";

/// What tests/run started.
struct Parts {
    /// A registry for anybody, with the base images.
    open: String,
    /// One that wants a login.
    closed: String,
    user: String,
    password: String,
    conf: PathBuf,
}

/// The parts, or `None` with the reason on stderr.
fn parts() -> Option<Parts> {
    let given = |name: &str| {
        kiln::env::text(name).ok_or_else(|| format!("{name} is not set; tests/run sets it"))
    };
    let all = || {
        Ok(Parts {
            open: given("KILN_TEST_REGISTRY")?,
            closed: given("KILN_TEST_REGISTRY_AUTH")?,
            user: given("KILN_TEST_USER")?,
            password: given("KILN_TEST_PASSWORD")?,
            conf: given("CONTAINERS_REGISTRIES_CONF")?.into(),
        })
    };
    all().map_err(|why: String| skip(&why)).ok()
}

impl Parts {
    /// A home of its own, where `FROM` finds the base images.
    fn kiln(&self) -> Kiln {
        let mut kiln = Kiln::new();
        kiln.set("CONTAINERS_REGISTRIES_CONF", &self.conf);
        kiln
    }

    fn log_in(&self, kiln: &Kiln) {
        let args = ["login", &self.closed, "-u", &self.user, "--password-stdin"];
        kiln.args(args).stdin(format!("{}\n", self.password)).run().success();
    }

    /// The image of testdata/hello-go in the open registry. It is built once, for
    /// those tests that begin with a pushed image.
    fn hello(&self) -> String {
        // A failure is told once, by whoever came first.
        static PUSHED: LazyLock<Mutex<Option<String>>> = LazyLock::new(Mutex::default);
        let mut pushed = PUSHED.lock().expect("the image of testdata/hello-go can be built");
        if pushed.is_none() {
            let kiln = self.kiln();
            let name = self.own("hello");
            let (name, context) = (name.as_str(), testdata("hello-go"));
            kiln.args(["build", "--push", "-t", name, &context]).run().success();
            *pushed = Some(name.to_owned());
        }
        pushed.clone().expect("it was set above")
    }

    /// A name in the open registry that no other process of the tests uses.
    fn own(&self, name: &str) -> String {
        format!("{}/test-{}/{name}", self.open, std::process::id())
    }
}

/// A path below the folder `testdata`.
fn testdata(name: &str) -> String {
    crate::support::kiln::data().join(name).to_str().expect("the folder's name is text").to_owned()
}

/// The host's port 8080, on which the program of testdata/hello-go insists: one
/// test at a time may run it in the host's network.
struct Port8080 {
    /// Another program may have the port all the same.
    free: bool,
    _turn: MutexGuard<'static, ()>,
}

impl Port8080 {
    fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).is_ok();
        Self { free, _turn: turn }
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

/// What a server answers to `GET /`, once it listens.
#[track_caller]
fn get(address: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut last = String::new();
    for _ in 0..300 {
        let answer = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
            write!(stream, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        match answer {
            Ok(text) if text.starts_with("HTTP/1.1 200") => return text,
            Ok(text) => last = text,
            Err(error) => last = error.to_string(),
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{address} does not answer: {last}");
}

/// A namespace whose pods may pull from a registry that wants a login.
fn namespace(world: &World, name: &str, registry: &str, user: &str, password: &str) -> String {
    let space = world.namespace(name);
    let (server, user) =
        (format!("--docker-server={registry}"), format!("--docker-username={user}"));
    let password = format!("--docker-password={password}");
    let secret = ["create", "secret", "docker-registry", "pull", "-n", &space];
    world.kubectl(&[&secret[..], &[&server, &user, &password]].concat());
    let patch = r#"{"imagePullSecrets": [{"name": "pull"}]}"#;
    world.kubectl(&["patch", "serviceaccount", "default", "-n", &space, "-p", patch]);
    space
}

/// A folder of the test's own with a Dockerfile.
fn context(kiln: &Kiln, name: &str, dockerfile: &str) -> String {
    let folder = kiln.path(name);
    std::fs::create_dir(&folder).expect("the name is new");
    std::fs::write(folder.join("Dockerfile"), dockerfile).expect("the folder is ours");
    folder.to_str().expect("the folder's name is text").to_owned()
}
