//! Runs `git`, apart from whoever builds: no configuration of theirs, no terminal.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Git, GitError};
use crate::atomic::{AtPath as _, private_folder};
use crate::dockerfile::{GitSource, Transport};
use crate::env;
use crate::net::{self, escaped};
use crate::store::Scratch;

/// Longest silence of a `git` that talks to a server, with its own progress on.
const PATIENCE: Duration = Duration::from_secs(300);
/// What a `git` that is told to end gets to do so.
const GRACE: Duration = Duration::from_secs(5);
/// Most bytes that are kept of what it says.
const LIMIT: usize = 16 << 20;
/// Whom a token is for where it is named without a host, as BuildKit has it: the
/// repository alone, but at GitHub all of them.
const SHARED: [&str; 2] = ["https://github.com/", "https://www.github.com/"];

/// Runs of `git` for one source, with one configuration.
pub(super) struct Session<'a> {
    git: Git<'a>,
    /// Without password.
    url: &'a str,
    home: Scratch,
    ssh: Option<String>,
    /// What no message may have.
    secrets: Vec<String>,
}

/// Where git works.
#[derive(Clone, Copy)]
pub(super) enum Place<'p> {
    Nowhere,
    Bare(&'p Path),
    Tree { git_dir: &'p Path, tree: &'p Path },
}

impl<'a> Session<'a> {
    pub(super) fn new(git: Git<'a>, source: &'a GitSource) -> Result<Self, GitError> {
        let home = git.store.scratch("git")?;
        let (header, mut secrets) = authorization(git, source)?;
        secrets.extend(source.login.iter().map(|login| login.password.clone()));
        secrets.retain(|secret| !secret.is_empty());
        let templates = home.path().join("templates");
        private_folder(&templates)?;
        let mut config = configuration(&templates);
        if let Some(header) = header {
            let scope = SHARED.into_iter().find(|prefix| source.remote.starts_with(prefix));
            let scope = scope.unwrap_or(&source.remote);
            let _ = write!(
                config,
                "[http {}]\n\textraHeader = {}\n",
                quoted(scope),
                quoted(&format!("Authorization: {header}"))
            );
        }
        let path = home.path().join(".gitconfig");
        let mut how = fs::OpenOptions::new();
        let how = how.write(true).create_new(true).mode(0o600);
        let mut file = how.open(&path).at("create", &path)?;
        file.write_all(config.as_bytes()).at("write", &path)?;
        let ssh = match source.transport {
            Transport::Http | Transport::Git => None,
            Transport::Ssh => {
                if !git.given.agents.contains_key("default") {
                    return Err(GitError::NoAgent { url: source.remote.clone() });
                }
                let hosts = git.store.repositories()?.join("known_hosts");
                Some(ssh_command(&hosts))
            }
        };
        Ok(Self { git, url: &source.remote, home, ssh, secrets })
    }

    /// Runs it, and gives what it writes on its standard output.
    pub(super) fn run(&self, place: Place<'_>, args: &[&str]) -> Result<Vec<u8>, GitError> {
        self.attempt(place, args)?.map_err(|why| self.failed(args, &why))
    }

    /// As [`Session::run`]; what it says when it fails is the inner error.
    pub(super) fn attempt(
        &self,
        place: Place<'_>,
        args: &[&str],
    ) -> Result<Result<Vec<u8>, String>, GitError> {
        if talks(args) {
            let passed = net::pass(&format!("`git {}`", verb(args)));
            passed.map_err(|offline| self.failed(args, &offline.to_string()))?;
        }
        let mut command = self.command(place);
        command.args(args);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GitError::NoGit,
            _ => GitError::Start(error),
        })?;
        let heard = Arc::new(AtomicU64::new(0));
        let out = child.stdout.take().map(|from| drain(from, heard.clone()));
        let err = child.stderr.take().map(|from| drain(from, heard.clone()));
        let ended = self.wait(&mut child, &heard, args);
        let read = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
        };
        let (out, err) = (read(out), read(err));
        if ended? { Ok(Ok(out)) } else { Ok(Err(self.said(&err))) }
    }

    pub(super) fn failed(&self, args: &[&str], why: &str) -> GitError {
        let (url, what) = (self.url.to_owned(), verb(args));
        GitError::Failed { url, what, why: why.to_owned() }
    }

    fn command(&self, place: Place<'_>) -> Command {
        let home = self.home.path();
        let mut command = Command::new("git");
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its helpers are ended with it.
        command.process_group(0);
        for name in [env::PATH].into_iter().chain(env::PROXIES) {
            if let Some(value) = env::get(name) {
                command.env(name, value);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", home.join(".gitconfig"))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            // For records that are thrown away.
            .env("GIT_COMMITTER_NAME", "kiln")
            .env("GIT_COMMITTER_EMAIL", "kiln@build.invalid");
        if let Some(ssh) = &self.ssh {
            command.env("GIT_SSH_COMMAND", ssh).env("GIT_SSH_VARIANT", "ssh");
            if let Some(agent) = self.git.given.agents.get("default") {
                command.env("SSH_AUTH_SOCK", agent);
            }
        }
        match place {
            Place::Nowhere => command.current_dir(home),
            Place::Bare(folder) => command.current_dir(folder).env("GIT_DIR", folder),
            Place::Tree { git_dir, tree } => {
                command.current_dir(tree).env("GIT_DIR", git_dir).env("GIT_WORK_TREE", tree)
            }
        };
        command
    }

    /// Waits for its end; true if it went well.
    fn wait(&self, child: &mut Child, heard: &AtomicU64, args: &[&str]) -> Result<bool, GitError> {
        let mut last = (0, Instant::now());
        let mut nap = Duration::from_millis(1);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status.success()),
                Ok(None) => (),
                Err(error) => {
                    end(child);
                    return Err(GitError::Start(error));
                }
            }
            let now = heard.load(Ordering::Relaxed);
            if now != last.0 || !talks(args) {
                last = (now, Instant::now());
            }
            let url = || self.url.to_owned();
            let error = if self.git.cancel.is_cancelled() {
                GitError::Cancelled
            } else if last.1.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                GitError::Silent { url: url(), what: verb(args), seconds }
            } else {
                std::thread::sleep(nap);
                nap = (nap * 2).min(Duration::from_millis(50));
                continue;
            };
            end(child);
            return Err(error);
        }
    }

    /// What it complained of, for people: no progress, no advice, no secret.
    fn said(&self, stderr: &[u8]) -> String {
        let text = String::from_utf8_lossy(stderr);
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default().trim())
            .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
            .collect();
        let telling = |line: &&&str| {
            ["fatal:", "error:", "remote:", "ssh:"].iter().any(|start| line.starts_with(start))
        };
        let kept: Vec<&str> = lines.iter().filter(telling).copied().collect();
        let kept = if kept.is_empty() { lines } else { kept };
        let mut text = kept.join("; ");
        for secret in &self.secrets {
            text = text.replace(secret, "xxxxx");
        }
        if text.is_empty() { "it does not say why".to_owned() } else { escaped(&text, 1000) }
    }
}

/// The verb of a command line, for messages.
fn verb(args: &[&str]) -> String {
    let words = args.iter().filter(|arg| !arg.starts_with('-') && !arg.contains('='));
    words.take(1).copied().collect()
}

/// True if it waits for a server. Options stand before a verb in none of these.
fn talks(args: &[&str]) -> bool {
    args.first().is_some_and(|verb| ["ls-remote", "fetch", "submodule"].contains(verb))
}

/// Ends it and its helpers.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let tell = |signal: Signal| {
        // It may have ended by itself.
        let _ = group.map(|group| kill_process_group(group, signal));
    };
    tell(Signal::TERM);
    let told = Instant::now();
    while told.elapsed() < GRACE && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    tell(Signal::KILL);
    let _ = child.wait();
}

/// Reads to the end, and keeps the last of it.
fn drain(mut from: impl Read + Send + 'static, heard: Arc<AtomicU64>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(count @ 1..) = from.read(&mut piece) {
            heard.fetch_add(count as u64, Ordering::Relaxed);
            kept.extend_from_slice(&piece[..count]);
            if kept.len() > 2 * LIMIT {
                kept.drain(..kept.len() - LIMIT);
            }
        }
        kept
    })
}

/// All that git knows of configuration.
fn configuration(templates: &Path) -> String {
    let templates = quoted(&templates.to_string_lossy());
    // Git has a door of its own.
    let way = if net::is_shut().is_some() { "never" } else { "always" };
    format!(
        "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\taskPass =\n\tlogAllRefUpdates = false\n\
         [init]\n\tdefaultBranch = master\n\ttemplateDir = {templates}\n\
         [safe]\n\tdirectory = *\n\
         [credential]\n\thelper =\n\
         [advice]\n\tdetachedHead = false\n\
         [gc]\n\tautoDetach = false\n\
         [maintenance]\n\tautoDetach = false\n\
         [http]\n\tlowSpeedLimit = 1\n\tlowSpeedTime = 60\n\
         [protocol]\n\tallow = never\n\
         [protocol \"http\"]\n\tallow = {way}\n\
         [protocol \"https\"]\n\tallow = {way}\n\
         [protocol \"ssh\"]\n\tallow = {way}\n\
         [protocol \"git\"]\n\tallow = {way}\n\
         [uploadpack]\n\tallowAnySHA1InWant = true\n"
    )
}

/// A value as git's configuration takes any.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

/// ssh without keys and settings of the user's: an agent alone. A host that is not
/// known is remembered, one whose key changes is refused.
fn ssh_command(hosts: &Path) -> String {
    let hosts = hosts.to_string_lossy().replace('\'', "'\\''");
    format!(
        "ssh -F none -o BatchMode=yes -o IdentityFile=none -o ConnectTimeout=30 \
         -o ServerAliveInterval=15 -o StrictHostKeyChecking=accept-new \
         -o 'UserKnownHostsFile=\"{hosts}\" ~/.ssh/known_hosts'"
    )
}

/// The header that proves who asks, from the build's secrets or the URL's password;
/// and what of it is secret.
fn authorization(
    git: Git<'_>,
    source: &GitSource,
) -> Result<(Option<String>, Vec<String>), GitError> {
    if source.transport != Transport::Http {
        return Ok((None, Vec::new()));
    }
    let basic =
        |text: String| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    for (id, is_token) in [
        (format!("GIT_AUTH_HEADER.{}", source.host), false),
        (format!("GIT_AUTH_TOKEN.{}", source.host), true),
        ("GIT_AUTH_HEADER".to_owned(), false),
        ("GIT_AUTH_TOKEN".to_owned(), true),
    ] {
        let Some(secret) = git.given.secrets.get(&id) else { continue };
        let text = std::str::from_utf8(secret.bytes()).ok().map(str::trim_end);
        let text = text.filter(|text| !text.chars().any(char::is_control));
        let text = text.ok_or(GitError::Secret(id))?.to_owned();
        let header = if is_token { basic(format!("x-access-token:{text}")) } else { text.clone() };
        return Ok((Some(header.clone()), vec![text, header]));
    }
    let login = source.login.as_ref();
    let header = login.map(|login| basic(format!("{}:{}", login.user, login.password)));
    Ok((header.clone(), header.into_iter().collect()))
}
