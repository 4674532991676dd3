//! Credential helpers: programs `docker-credential-NAME` that keep secrets
//! elsewhere (docker-credential-helpers, "Development"). A server's name goes
//! in on standard input, JSON comes out. A helper that hangs is ended.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::{Credentials, RegistryError, Secret};
use crate::net::escaped;

/// Long enough for a person to unlock a key store.
const PATIENCE: Duration = Duration::from_secs(30);
const LIMIT: u64 = 1 << 20;

/// What helpers say if they know no such server; it is no error.
const NOT_FOUND: &str = "credentials not found";

/// Asks for the credentials of a server.
pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credentials>, RegistryError> {
    let Some(answer) = call(name, "get", server.as_bytes()).await? else { return Ok(None) };
    parse(name, &answer).map(Some)
}

fn parse(name: &str, answer: &[u8]) -> Result<Credentials, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| RegistryError::Helper {
        name: name.into(),
        why: format!("its answer is no JSON: {error}"),
    })?;
    let secret = if answer.username == "<token>" {
        Secret::Identity(answer.secret)
    } else {
        Secret::Password(answer.secret)
    };
    Ok(Credentials { user: answer.username, secret })
}

/// Gives a server's credentials to the helper.
pub(super) async fn store(
    name: &str,
    server: &str,
    user: &str,
    secret: &str,
) -> Result<(), RegistryError> {
    let entry = serde_json::json!({ "ServerURL": server, "Username": user, "Secret": secret });
    call(name, "store", entry.to_string().as_bytes()).await.map(drop)
}

/// Takes a server's credentials away; false if there were none.
pub(super) async fn erase(name: &str, server: &str) -> Result<bool, RegistryError> {
    let had = get(name, server).await?.is_some();
    if had {
        call(name, "erase", server.as_bytes()).await?;
    }
    Ok(had)
}

/// Runs the helper; `None` if it knows no such server.
async fn call(name: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>, RegistryError> {
    if name.contains('/') {
        let why = "a name is expected, not a path".to_owned();
        return Err(RegistryError::Helper { name: name.into(), why });
    }
    run(name, Command::new(format!("docker-credential-{name}")), verb, input, PATIENCE).await
}

async fn run(
    name: &str,
    mut helper: Command,
    verb: &str,
    input: &[u8],
    patience: Duration,
) -> Result<Option<Vec<u8>>, RegistryError> {
    let wrong = |why: String| RegistryError::Helper { name: name.into(), why };
    let mut child = helper
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => wrong(format!("`docker-credential-{name}` is not in PATH")),
            _ => wrong(format!("it cannot be started: {error}")),
        })?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        if let Some(mut stdin) = stdin {
            match stdin.write_all(input).await {
                // A helper may answer without reading.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => drop(stdin),
            }
        }
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(LIMIT).read_to_end(&mut answer).await?;
        }
        Ok((child.wait().await?, answer))
    };
    let (status, answer) = tokio::time::timeout(patience, talk)
        .await
        .map_err(|_| wrong(format!("no answer to `{verb}` within {} s", patience.as_secs())))?
        .map_err(|error| wrong(error.to_string()))?;
    if status.success() {
        return Ok(Some(answer));
    }
    // Errors come on standard output, by that protocol.
    let words = String::from_utf8_lossy(&answer);
    if words.contains(NOT_FOUND) {
        return Ok(None);
    }
    Err(wrong(format!("`{verb}` ended with {status}: {}", escaped(&words, 200))))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(script: &str, patience: Duration) -> Result<Option<Credentials>, RegistryError> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(script).arg("docker-credential-test");
        match run("test", shell, "get", b"https://index.docker.io/v1/", patience).await? {
            Some(answer) => parse("test", &answer).map(Some),
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
        let none = "echo credentials not found in native keychain; exit 1";
        assert!(ask(none, PATIENCE).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn failures_are_said() {
        for (script, patience, expected) in [
            ("printf 'locked\\033[1m'; exit 3", PATIENCE, "locked\\u{1b}[1m"),
            ("echo no json", PATIENCE, "no JSON"),
            ("exec sleep 600", Duration::from_millis(50), "no answer"),
        ] {
            let text = ask(script, patience).await.err().map(|error| error.to_string());
            assert!(text.as_ref().is_some_and(|text| text.contains(expected)), "{text:?}");
        }
        for (name, expected) in [("a/../b", "not a path"), ("kiln-has-no-such", "not in PATH")] {
            let text = get(name, "x").await.err().map(|error| error.to_string());
            assert!(text.as_ref().is_some_and(|text| text.contains(expected)), "{text:?}");
        }
    }
}
