//! Git repositories, and servers of them: the smart one that git brings along, and
//! a dumb one that gives files.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::http::{Request, Server, answer};

/// Runs `git` in a folder, apart from whoever tests; gives its output.
#[track_caller]
pub(crate) fn git(folder: &Path, args: &str) -> String {
    let output = command(folder).args(args.split_whitespace()).output().expect("git is needed");
    assert!(output.status.success(), "git {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env_clear().env("PATH", kiln::env::get("PATH").unwrap());
    let config = [
        ("safe.directory", "*"),
        ("init.defaultBranch", "main"),
        ("protocol.file.allow", "always"),
    ];
    command.env("GIT_CONFIG_COUNT", config.len().to_string());
    for (at, (name, value)) in config.into_iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), name);
        command.env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@invalid");
        command.env(format!("GIT_{who}_DATE"), "@1000000000 +0000");
    }
    command
}

/// Serves the repositories of a folder: `/smart/…`, `/dumb/…`, and `/auth/…`, which
/// is smart and asks for the header that the test names.
pub(crate) fn serve(runtime: &tokio::runtime::Runtime, root: &Path, header: &str) -> Server {
    let (root, header) = (root.to_owned(), header.to_owned());
    runtime.block_on(Server::start(move |request| {
        let path = request.path.split('?').next().unwrap_or_default();
        if let Some(path) = path.strip_prefix("/dumb/") {
            return match std::fs::read(root.join(path)) {
                Ok(bytes) => answer("200 OK", &[], &bytes),
                Err(_) => answer("404 Not Found", &[], b"no"),
            };
        }
        let (place, rest) = path[1..].split_once('/').unwrap_or((path, ""));
        match place {
            "auth" if request.header("authorization") != Some(header.as_str()) => {
                answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"x\"")], b"no")
            }
            "auth" | "smart" => backend(request, &root, &format!("/{rest}")),
            _ => answer("404 Not Found", &[], b"no"),
        }
    }))
}

/// The program that git has for this, by RFC 3875.
fn backend(request: &Request, root: &PathBuf, path: &str) -> Vec<u8> {
    let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
    let mut child = command(root)
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", request.path.split_once('?').map_or("", |(_, query)| query))
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It may answer without reading all of it.
    let _ = child.stdin.take().unwrap().write_all(&request.body);
    let said = child.wait_with_output().unwrap().stdout;
    let end = said.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&said[..end]).into_owned();
    let fields: Vec<(&str, &str)> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let status = fields.iter().find(|(name, _)| *name == "Status").map_or("200 OK", |(_, v)| *v);
    let fields: Vec<_> = fields.iter().filter(|(name, _)| *name != "Status").copied().collect();
    answer(status, &fields, &said[end + 4..])
}
