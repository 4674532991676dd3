//! A container's configuration in the sandbox's words.

use std::fs;
use std::path::{Path, PathBuf};

use super::request::NetworkMode;
use super::state::Container;
use super::update::limits;
use crate::sandbox::{Mount, MountKind, Network, Root, SandboxSpec};

/// What the sandbox is to run. `lowers` are the image's unpacked layers,
/// topmost first.
pub(super) fn spec(container: &Container, lowers: Vec<PathBuf>) -> SandboxSpec {
    let config = &container.config;
    let mut mounts = files(container);
    for volume in &config.volumes {
        mounts.push(Mount {
            target: volume.target.clone(),
            what: MountKind::Bind { source: volume.source.clone(), read_only: volume.read_only },
        });
    }
    SandboxSpec {
        root: Root::Overlay {
            lowers,
            upper: container.file("upper"),
            work: container.file("work"),
        },
        argv: config.argv.clone(),
        env: config.env.clone(),
        cwd: config.cwd.clone(),
        user: config.ids.clone(),
        hostname: config.hostname.clone(),
        mounts,
        network: match config.network {
            NetworkMode::Host => Network::Host,
            NetworkMode::None | NetworkMode::Private => Network::None,
        },
        privileged: false,
        limits: limits(container, &config.limits),
        stop_signal: config.stop_signal,
    }
}

/// The files an engine gives every container: its names, and on the host's
/// network the host's view of names. A volume at the same place replaces one.
fn files(container: &Container) -> Vec<Mount> {
    let config = &container.config;
    let host = config.network == NetworkMode::Host;
    let read = |path: &str| {
        if host { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
    };
    let files = [
        ("/etc/hosts", hosts(&read("/etc/hosts"), &config.hostname)),
        ("/etc/hostname", format!("{}\n", config.hostname)),
        ("/etc/resolv.conf", read("/etc/resolv.conf")),
    ];
    files
        .into_iter()
        .filter(|(path, _)| !config.volumes.iter().any(|volume| volume.target == Path::new(path)))
        .map(|(path, text)| Mount {
            target: path.into(),
            what: MountKind::File { content: text.into_bytes(), mode: 0o644, owner: (0, 0) },
        })
        .collect()
}

fn hosts(host: &str, name: &str) -> String {
    let mut text = if host.is_empty() {
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned()
    } else {
        host.to_owned()
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    // Programs such as sudo want their own host's name to resolve.
    text.push_str(&format!("127.0.1.1\t{name}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::hosts;

    #[test]
    fn own_name_resolves() {
        assert_eq!(hosts("10.0.0.1 db", "c1"), "10.0.0.1 db\n127.0.1.1\tc1\n");
        assert!(hosts("", "c1").starts_with("127.0.0.1\tlocalhost\n"));
    }
}
