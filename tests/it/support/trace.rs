//! Which sockets of network families a program and all that it starts make, by strace.

use std::path::Path;
use std::process::Command;

/// A command behind another program, with the same environment and folder.
pub(crate) fn behind(program: &str, args: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(args).arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer.stdin(std::process::Stdio::null());
    outer
}

/// The command under strace, which writes to a file.
pub(crate) fn traced(command: &Command, to: &Path) -> Command {
    let to = to.to_str().unwrap();
    // All calls that make a socket, or use one that was handed over; and the one by which
    // a step leaves the host's network.
    let calls = "trace=execve,socket,connect,bind,listen,sendto,sendmsg,sendmmsg,unshare,setns";
    behind("strace", &["-f", "-qq", "-e", calls, "-e", "signal=none", "-o", to, "--"], command)
}

/// What a trace has of network families in the host's network: a process that is in one of its
/// own may make what it likes there.
pub(crate) fn sockets(trace: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(trace).unwrap();
    assert!(!text.is_empty(), "strace has seen nothing: {}", trace.display());
    let mut apart = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let (process, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if call.starts_with("unshare(") && call.contains("CLONE_NEWNET") && call.ends_with("= 0") {
            apart.push(process);
        }
        // Names of files, groups and signals have none of these words.
        let network = ["AF_INET", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "AF_XDP"];
        if network.iter().any(|family| call.contains(family)) && !apart.contains(&process) {
            found.push(line.to_owned());
        }
    }
    found
}
