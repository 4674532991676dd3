//! `RUN`: a process on the step's root, whose changes are the layer.

use std::os::fd::OwnedFd;

use super::super::again::hostname;
use super::super::room::Room;
use super::output::lines;
use super::{Bench, StepError, mounts};
use crate::dockerfile::RunNetwork;
use crate::epoch::Epoch;
use crate::layer::Layer;
use crate::net::{self, Offline};
use crate::plan::RunOp;
use crate::progress::{Stream, Task};
use crate::rootfs::{self, Ground, Packed, Packing, Work};
use crate::sandbox::{Exit, Io, Mount, MountKind, Network, Sandbox, SandboxSpec};

/// What a step runs with, besides what the Dockerfile says.
pub(super) struct Surroundings<'a> {
    pub bench: &'a Bench<'a>,
    pub sandbox: &'a Sandbox,
    pub room: &'a Room,
    /// The step's, for messages.
    pub name: &'a str,
    pub task: &'a Task,
    /// What it stands on, and what its mounts read.
    pub inputs: &'a [Vec<Layer>],
    pub epoch: Epoch,
}

pub(super) fn run(around: &Surroundings<'_>, op: &RunOp) -> Result<Packed, StepError> {
    let Surroundings { bench, sandbox, .. } = around;
    let (store, layers) = (bench.store, &around.inputs[0]);
    rootfs::unpack_unread(store, sandbox, layers, bench.progress)?;
    // The upper folder's own mode is the root's as long as the step runs.
    let (account, root_mode) = rootfs::standing(store, layers, &op.user)?;
    let work = Work::new(store, sandbox, "run")?;
    let kept = around.room.take(layers);
    let ground = Ground::new(store, sandbox, layers, root_mode, work.path(), kept, bench.progress)?;
    let mut env = op.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".into(), account.home));
    }
    // What is given for the build holds over the file's own.
    env.retain(|(name, _)| !op.hints.proxies.0.iter().any(|(given, _)| given == name));
    env.extend(op.hints.proxies.0.iter().cloned());
    let mounted = mounts::mounted(around, op, work.path())?;
    env.extend(mounted.env);
    let hostname = op.hostname.as_deref().unwrap_or_else(|| hostname(sandbox));
    let mut names = vec![hostname.to_owned()];
    if !sandbox.names_host() {
        // A program that asks gets the container's.
        names.push(rustix::system::uname().nodename().to_string_lossy().into_owned());
    }
    let mut mounts = network_files(op, &names);
    mounts.extend(mounted.mounts);
    mounts.extend(op.script.as_ref().map(|script| Mount {
        target: script.path.clone().into(),
        what: MountKind::File { content: script.text.clone().into(), mode: 0o755, owner: (0, 0) },
    }));
    let spec = SandboxSpec {
        root: ground.root(),
        argv: op.argv.clone(),
        env,
        cwd: op.cwd.clone().into(),
        user: account.ids,
        hostname: hostname.into(),
        mounts,
        network: network(op.network)?,
        privileged: op.insecure,
        limits: around.room.held.step(),
        stop_signal: libc::SIGTERM,
    };
    let (exit, out_of_memory) = execute(around, &spec)?;
    if let Some(limit) = spec.limits.memory.filter(|_| out_of_memory) {
        if exit != Exit::Code(0) {
            return Err(StepError::Memory { exit, limit });
        }
        around.bench.progress.warn(format!(
            "{}: a process was killed that used more than --memory {limit}",
            around.name
        ));
    }
    if exit != Exit::Code(0) {
        return Err(StepError::Exit { exit, command: op.argv.clone() });
    }
    let how = Packing { epoch: around.epoch, form: bench.form, normalize: op.normalize };
    let packed = ground.pack(how)?;
    if op.normalize {
        // A plain root still has what the layer has not.
        return Ok(packed);
    }
    let mut layers = layers.clone();
    layers.push(packed.layer.clone());
    if let Some(kept) = ground.keep(&layers)? {
        around.room.keep(kept);
    }
    Ok(packed)
}

/// What the machine gives of what is asked for. Offline, no step reaches what the host does:
/// not even its sockets without a file, which belong to its network too.
fn network(asked: RunNetwork) -> Result<Network, Offline> {
    match asked {
        RunNetwork::Default if net::is_shut().is_some() => Ok(Network::None),
        RunNetwork::Default => Ok(Network::Host),
        RunNetwork::Host => net::pass("RUN --network=host").map(|()| Network::Host),
        RunNetwork::None => Ok(Network::None),
    }
}

/// The host's resolver, and a host file that knows the step's own names.
fn network_files(op: &RunOp, names: &[String]) -> Vec<Mount> {
    let file = |target: &str, content: Vec<u8>| Mount {
        target: target.into(),
        what: MountKind::File { content, mode: 0o644, owner: (0, 0) },
    };
    let mut hosts = format!(
        "127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        names.join(" ")
    );
    for (name, address) in &op.hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let mut files = vec![file("/etc/hosts", hosts.into())];
    if let Ok(content) = std::fs::read("/etc/resolv.conf") {
        files.push(file("/etc/resolv.conf", content));
    }
    files
}

/// Runs it, and passes its output on line by line. Also tells whether memory ran out.
fn execute(around: &Surroundings<'_>, spec: &SandboxSpec) -> Result<(Exit, bool), StepError> {
    let (stdout, to_stdout) = std::io::pipe().map_err(StepError::Pipe)?;
    let (stderr, to_stderr) = std::io::pipe().map_err(StepError::Pipe)?;
    let io = Io {
        stdin: None,
        stdout: Some(OwnedFd::from(to_stdout)),
        stderr: Some(OwnedFd::from(to_stderr)),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| lines(stdout, |line| around.task.line(Stream::Stdout, line)));
        scope.spawn(|| lines(stderr, |line| around.task.line(Stream::Stderr, line)));
        Ok(around.sandbox.run_limited(spec, io, around.bench.cancel)?)
    })
}
