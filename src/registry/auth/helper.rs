//! Credential helpers: programs `docker-credential-NAME` that keep secrets
//! elsewhere (docker-credential-helpers, "Development"). A server's name goes
//! in on standard input, JSON comes out. A helper that hangs is ended; what it leaves
//! running (an agent, that holds its pipes) is not waited for. What it says when it fails
//! is shown, what it says otherwise never is.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::{Credentials, RegistryError};
use crate::net::{self, escaped};

/// Long enough for a person to unlock a key store.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the pipes of a helper that has ended are read, if others hold them still. What
/// the helper itself wrote is in them by then.
const LEFT: Duration = Duration::from_secs(1);

/// Most bytes of an answer, and of what is said beside it.
const LIMIT: u64 = 1 << 20;

/// Most characters that are shown of what a helper says.
const SHOWN: usize = 200;

/// What helpers say if they know no such server; it is no error.
const NOT_FOUND: &str = "credentials not found";

/// Asks for the credentials of a server.
pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credentials>, RegistryError> {
    let Some(answer) = call(name, "get", server.as_bytes(), "").await? else { return Ok(None) };
    parse(name, &answer)
}

fn parse(name: &str, answer: &[u8]) -> Result<Option<Credentials>, RegistryError> {
    // What is there is not shown: it may be a secret in an odd form.
    let wrong = |why: &str| RegistryError::Helper { name: name.into(), why: why.into() };
    let answer: Value =
        serde_json::from_slice(answer).map_err(|_| wrong("its answer is no JSON"))?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str);
    match (text("Username"), text("Secret")) {
        (Some(""), Some("")) => Ok(None),
        (Some(user), Some(secret)) => Ok(Some(Credentials::password(user, secret))),
        _ => Err(wrong("its answer has no `Username` and `Secret`")),
    }
}

/// Gives a server's credentials to the helper.
pub(super) async fn store(
    name: &str,
    server: &str,
    user: &str,
    secret: &str,
) -> Result<(), RegistryError> {
    let entry = serde_json::json!({ "ServerURL": server, "Username": user, "Secret": secret });
    call(name, "store", entry.to_string().as_bytes(), secret).await.map(drop)
}

/// Takes a server's credentials away; false if there were none.
pub(super) async fn erase(name: &str, server: &str) -> Result<bool, RegistryError> {
    let had = get(name, server).await?.is_some();
    if had {
        call(name, "erase", server.as_bytes(), "").await?;
    }
    Ok(had)
}

/// Runs the helper; `None` if it knows no such server. `secret` is in the input and never
/// in an error.
async fn call(
    name: &str,
    verb: &str,
    input: &[u8],
    secret: &str,
) -> Result<Option<Vec<u8>>, RegistryError> {
    if name.contains('/') {
        let why = "a name is expected, not a path".to_owned();
        return Err(RegistryError::Helper { name: escaped(name, 100), why });
    }
    let command = Command::new(format!("docker-credential-{name}"));
    run(name, command, verb, input, secret, PATIENCE).await
}

async fn run(
    name: &str,
    mut helper: Command,
    verb: &str,
    input: &[u8],
    secret: &str,
    patience: Duration,
) -> Result<Option<Vec<u8>>, RegistryError> {
    let wrong = |why: String| RegistryError::Helper { name: name.into(), why };
    // It may ask whom it likes.
    net::pass("a credential helper").map_err(|offline| wrong(offline.to_string()))?;
    let mut child = helper
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => wrong(format!("`docker-credential-{name}` is not in PATH")),
            _ => wrong(format!("it cannot be started: {error}")),
        })?;
    let (status, answer, beside) = tokio::time::timeout(patience, talk(&mut child, input))
        .await
        .map_err(|_| wrong(format!("no answer to `{verb}` within {} s", patience.as_secs())))?
        .map_err(|error| wrong(error.to_string()))?;
    if status.success() {
        return Ok(Some(answer));
    }
    // Errors come on standard output, by that protocol; programs say the rest on the other.
    let said = [answer, beside].map(|bytes| words(&bytes, secret));
    if said.iter().any(|words| words.contains(NOT_FOUND)) {
        return Ok(None);
    }
    let said = said.iter().filter(|words| !words.is_empty()).map(|words| escaped(words, SHOWN));
    let said = Vec::from_iter(said).join("; ");
    let colon = if said.is_empty() { "" } else { ": " };
    Err(wrong(format!("`{verb}` ended with {status}{colon}{said}")))
}

/// What a helper that failed has said, without secrets.
fn words(bytes: &[u8], secret: &str) -> String {
    let text = String::from_utf8_lossy(bytes).trim().to_owned();
    // An answer after all.
    if text.contains("\"Secret\"") {
        return String::new();
    }
    if secret.is_empty() { text } else { text.replace(secret, "***") }
}

/// Gives the input and takes all that is said until the helper ends.
async fn talk(child: &mut Child, input: &[u8]) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            match stdin.write_all(input).await {
                // A helper may answer without reading.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => drop(stdin),
            }
        }
        Ok(())
    };
    let (mut answer, mut beside) = (Vec::new(), Vec::new());
    let status = {
        let speak =
            async { tokio::try_join!(give, take(stdout, &mut answer), take(stderr, &mut beside)) };
        tokio::pin!(speak);
        tokio::select! {
            spoken = &mut speak => {
                spoken?;
                child.wait().await?
            }
            status = child.wait() => {
                if let Ok(spoken) = tokio::time::timeout(LEFT, speak).await {
                    spoken?;
                }
                status?
            }
        }
    };
    Ok((status, answer, beside))
}

/// Reads all that comes, into `into` at once, so that it is there if others never end it.
async fn take(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    while from.read_buf(into).await? > 0 {
        if into.len() as u64 > LIMIT {
            return Err(io::Error::other(format!("it says more than {LIMIT} bytes")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    async fn ask(script: &str, patience: Duration) -> Result<Option<Credentials>, RegistryError> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(script).arg("docker-credential-test");
        let server = b"https://index.docker.io/v1/";
        match run("test", shell, "get", server, "hunter2", patience).await? {
            Some(answer) => parse("test", &answer),
            None => Ok(None),
        }
    }

    #[tokio::test]
    async fn protocol() {
        let echo = r#"printf '{"ServerURL":"%s","Username":"%s","Secret":"s"}' x "$1 $(cat)""#;
        let found = ask(echo, PATIENCE).await.unwrap().unwrap();
        assert_eq!(found.user, "get https://index.docker.io/v1/");
        let token = r#"echo '{"Username":"<token>","Secret":"id"}'"#;
        let found = ask(token, PATIENCE).await.unwrap().unwrap();
        assert!(matches!(found.secret, Secret::Identity(_)));
        for none in [
            "echo credentials not found in native keychain; exit 1",
            "echo credentials not found in native keychain >&2; exit 1",
            r#"echo '{"Username":"","Secret":""}'"#,
        ] {
            assert!(ask(none, PATIENCE).await.unwrap().is_none(), "{none}");
        }
    }

    /// An agent that a helper starts holds its pipes for long.
    #[tokio::test]
    async fn what_a_helper_leaves_running_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let agent = format!(
            r#"sleep 600 & echo $! > {}; echo '{{"Username":"u","Secret":"s"}}'"#,
            pid.display()
        );
        let found = ask(&agent, PATIENCE).await.unwrap().unwrap();
        assert_eq!(found.user, "u");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // It lived on: nobody waited for its end.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn failures_are_said() {
        for (script, patience, expected) in [
            ("printf 'locked\\033[1m'; exit 3", PATIENCE, "exit status: 3: locked\\u{1b}[1m"),
            ("echo no session bus >&2; exit 1", PATIENCE, ": no session bus"),
            ("echo one; echo two >&2; exit 1", PATIENCE, ": one; two"),
            ("echo no json", PATIENCE, "no JSON"),
            ("echo '\"hunter2\"'", PATIENCE, "no `Username` and `Secret`"),
            ("echo '{\"Username\":\"u\",\"Secret\":[\"hunter2\"]}'", PATIENCE, "no `Username`"),
            ("echo wrong hunter2; exit 1", PATIENCE, ": wrong ***"),
            ("echo '{\"Secret\":\"swordfish\"}'; exit 1", PATIENCE, "exit status: 1"),
            ("exec yes", PATIENCE, "more than 1048576 bytes"),
            ("yes >&2", PATIENCE, "more than 1048576 bytes"),
            ("exec sleep 600", Duration::from_millis(50), "no answer"),
        ] {
            let text = ask(script, patience).await.err().map(|error| error.to_string());
            let text = text.unwrap_or_default();
            assert!(text.contains(expected), "{script}: {text}");
            assert!(!text.contains("hunter2") && !text.contains("swordfish"), "{text}");
            assert!(text.len() < 2 * SHOWN + 100, "{text}");
        }
        for (name, expected) in [("a/../b", "not a path"), ("kiln-has-no-such", "not in PATH")] {
            let text = get(name, "x").await.err().map(|error| error.to_string());
            assert!(text.as_ref().is_some_and(|text| text.contains(expected)), "{text:?}");
        }
    }
}
