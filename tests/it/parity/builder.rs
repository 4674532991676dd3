//! The two builders.

use std::path::PathBuf;
use std::process::Command;

use super::answer::Answer;
use super::case::Fresh;
use crate::support::kiln::Kiln;

pub(super) trait Builder {
    /// Builds a case; an error is about the builder itself.
    fn build(&self, case: &Fresh) -> Result<Answer, String>;
}

/// The binary under test.
pub(super) struct Kilns<'a> {
    pub(super) kiln: &'a Kiln,
}

impl Builder for Kilns<'_> {
    fn build(&self, case: &Fresh) -> Result<Answer, String> {
        let output = format!("type=oci,dest={}", case.archive().display());
        let mut args = vec!["build".into(), "--progress=plain".into(), "-o".into(), output];
        args.extend(["-f".into(), case.file.clone()]);
        for (flag, value) in &case.flags {
            args.push(flag.clone());
            args.extend(value.clone());
        }
        args.push("context".into());
        let mut call = self.kiln.args(&args);
        call.command.current_dir(case.folder());
        let output = call.run();
        match output.code {
            Some(0) => Answer::of_archive(&case.archive()),
            Some(1 | 2) if !case.archive().exists() => Ok(Answer::refused(&output.stderr)),
            code => Err(format!("  kiln ended with {code:?}: {}", output.stderr)),
        }
    }
}

/// BuildKit's client, with a daemon's address.
pub(super) struct BuildKit {
    client: PathBuf,
    address: String,
}

impl BuildKit {
    /// As the recorder's environment says; `None` if it does not run.
    pub(super) fn from_env() -> Option<Self> {
        let address = kiln::env::text("KILN_PARITY_BUILDKIT")?;
        let client = kiln::env::path("KILN_PARITY_BUILDCTL").expect("the recorder names buildctl");
        let output = Command::new(&client)
            .args(["--addr", &address, "debug", "workers"])
            .output()
            .expect("buildctl runs");
        assert!(output.status.success(), "no BuildKit listens at {address}");
        Some(Self { client, address })
    }

    /// A flag in buildctl's words.
    fn translated(flag: &str, value: Option<&str>) -> Result<Vec<String>, String> {
        let value_or = || value.ok_or_else(|| format!("  {flag} has no value"));
        let option = |name: &str, value: &str| vec!["--opt".into(), format!("{name}={value}")];
        Ok(match flag {
            "--no-cache" => vec![flag.into()],
            "--secret" | "--ssh" => vec![flag.into(), value_or()?.into()],
            "--build-arg" => option(&format!("build-arg:{}", key(value_or()?)), rest(value_or()?)),
            "--label" => option(&format!("label:{}", key(value_or()?)), rest(value_or()?)),
            "--target" | "--platform" => option(&flag[2..], value_or()?),
            "--network" => option("force-network-mode", value_or()?),
            "--shm-size" => option("shm-size", value_or()?),
            "--ulimit" => option("ulimit", value_or()?),
            "--add-host" => {
                let (host, address) = value_or()?.split_once(':').ok_or("  HOST:IP")?;
                option("add-hosts", &format!("{host}={address}"))
            }
            "--build-context" => {
                let (name, place) = (key(value_or()?), rest(value_or()?));
                if place.contains("://") {
                    option(&format!("context:{name}"), place)
                } else {
                    let local = vec!["--local".into(), format!("named-{name}={place}")];
                    let more = option(&format!("context:{name}"), &format!("local:named-{name}"));
                    [local, more].concat()
                }
            }
            _ => return Err(format!("  the recorder cannot translate {flag}")),
        })
    }
}

fn key(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

fn rest(pair: &str) -> &str {
    pair.split_once('=').map_or("", |(_, value)| value)
}

impl Builder for BuildKit {
    fn build(&self, case: &Fresh) -> Result<Answer, String> {
        let (folder, file) = case.file.rsplit_once('/').unwrap_or((".", &case.file));
        let output = format!("type=oci,dest={}", case.archive().display());
        let mut command = Command::new(&self.client);
        command
            .args(["--addr", &self.address, "build", "--progress=plain"])
            .args(["--frontend", "dockerfile.v0", "--local", "context=context"])
            .args(["--local", &format!("dockerfile={folder}")])
            .args(["--opt", &format!("filename={file}"), "--output", &output])
            .current_dir(case.folder());
        let hosts: Vec<&str> = case
            .flags
            .iter()
            .filter(|(flag, _)| flag == "--add-host")
            .filter_map(|(_, value)| value.as_deref())
            .collect();
        assert!(hosts.len() < 2, "{}: the recorder knows one --add-host", case.name);
        for (flag, value) in &case.flags {
            command.args(Self::translated(flag, value.as_deref())?);
        }
        let output = command.output().map_err(|error| format!("  buildctl: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Answer::of_archive(&case.archive());
        }
        let message = said.lines().rfind(|line| line.starts_with("error: ")).unwrap_or(&said);
        for trouble in ["failed to do request", "connection refused", "no such host"] {
            if message.contains(trouble) {
                return Err(format!("  {message}"));
            }
        }
        Ok(Answer::refused(&without_ids(message)))
    }
}

/// A message without what differs from run to run: `ref ID::ID`, and the daemon's
/// temporary folders.
fn without_ids(message: &str) -> String {
    let text = message.strip_prefix("error: ").unwrap_or(message);
    let text = text.strip_prefix("failed to solve: ").unwrap_or(text);
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let follows_ref = words.last().is_some_and(|last| last == "ref");
        words.push(match word.split_once("/cachemounts/buildkit") {
            Some((_, rest)) => rest.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned(),
            None if follows_ref && word.contains("::") => "…:".to_owned(),
            None => word.to_owned(),
        });
    }
    words.join(" ")
}
