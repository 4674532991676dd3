//! The commit that a folder of the caller's has checked out.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::env;
use crate::net::escaped;

/// The time of the commit that the folder's work tree is at, in seconds; or why there is
/// none. Whether files were changed since is of no interest: they are what is built, and
/// the time says no more than when their last commit was made.
///
/// This is the caller's own repository, so the caller's own configuration decides whether
/// git trusts it (`safe.directory`). The commit is read as it is stored: nothing that a
/// repository can configure is run.
pub(in super::super) fn head_time(folder: &Path) -> Result<i64, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["cat-file", "commit", "HEAD"]);
    command.env_clear().env("LC_ALL", "C").stdin(Stdio::null());
    // What the repository lacks is not fetched.
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none");
    for name in [env::PATH, env::HOME, env::XDG_CONFIG_HOME] {
        if let Some(value) = env::get(name) {
            command.env(name, value);
        }
    }
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "this machine has no program `git`".to_owned(),
        _ => format!("cannot start `git`: {error}"),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("git fails");
        return Err(escaped(first.trim(), 300));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    committer_time(&text).ok_or_else(|| "git gives a commit without a time".to_owned())
}

/// `committer NAME <ADDRESS> SECONDS ZONE`, in the headers that end with an empty line.
fn committer_time(commit: &str) -> Option<i64> {
    let mut headers = commit.lines().take_while(|line| !line.is_empty());
    let line = headers.find_map(|line| line.strip_prefix("committer "))?;
    line.rsplit(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_commits() {
        let commit = "tree 4b8\nparent 1\nauthor A B <a@b> 5 +0000\n\
            committer C 7 <c> 1500000000 -0330\ngpgsig x\n committer no 1 +0\n\ncommitter t 2 +0\n";
        assert_eq!(committer_time(commit), Some(1_500_000_000));
        for bad in ["", "tree 4b8\n\ncommitter t 2 +0\n", "committer \n", "committer x y z\n"] {
            assert_eq!(committer_time(bad), None, "{bad}");
        }
    }
}
