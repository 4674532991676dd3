//! A plan as text, for people and for tests. One plan has one text; its warnings
//! are no part of it.

use std::fmt;

use super::graph::{Plan, Step};
use super::op::{Content, CopyFrom, MountSource, Op, RunMount};
use crate::dockerfile::RunNetwork;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "platform {}", self.platform)?;
        for step in &self.steps {
            write!(f, "{step}")?;
        }
        writeln!(f, "result {}", self.result)?;
        let config = serde_json::to_string_pretty(&self.config).map_err(|_| fmt::Error)?;
        writeln!(f, "config {config}")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {} {}", self.id, self.name)?;
        if let Some((below, more)) = self.inputs.split_first() {
            let more: Vec<String> = more.iter().map(|id| format!(", reads {id}")).collect();
            writeln!(f, "  on {below}{}", more.concat())?;
        }
        match &self.op {
            Op::Base(base) => match &base.image {
                None => writeln!(f, "  base scratch"),
                Some(image) => {
                    writeln!(f, "  base {} for {}", image.reference, image.platform)?;
                    writeln!(f, "  digest {}", image.digest)?;
                    for layer in &image.layers {
                        writeln!(f, "  layer {}", layer.diff_id)?;
                    }
                    Ok(())
                }
            },
            Op::Run(run) => {
                writeln!(f, "  run {:?}", run.argv)?;
                if let Some(script) = &run.script {
                    writeln!(f, "  script {:?} {:?}", script.path, script.text)?;
                }
                for mount in &run.mounts {
                    mount_text(f, mount)?;
                }
                if run.network != RunNetwork::Default {
                    writeln!(f, "  network {:?}", run.network)?;
                }
                if run.normalize {
                    writeln!(f, "  normalized")?;
                }
                if let Some(name) = &run.hostname {
                    writeln!(f, "  hostname {name:?}")?;
                }
                if run.insecure {
                    writeln!(f, "  insecure")?;
                }
                for (name, value) in &run.env {
                    writeln!(f, "  env {name}={value:?}")?;
                }
                for (name, _) in &run.hints.proxies.0 {
                    writeln!(f, "  proxy {name}")?;
                }
                if !run.user.is_empty() {
                    writeln!(f, "  user {:?}", run.user)?;
                }
                writeln!(f, "  cwd {:?}", run.cwd)?;
                writeln!(f, "  platform {}", run.platform)
            }
            Op::Copy(copy) => {
                let what = if copy.unpack { "unpack" } else { "copy" };
                match copy.from {
                    CopyFrom::Context => write!(f, "  {what} from context")?,
                    CopyFrom::Named(at) => write!(f, "  {what} from named context {at}")?,
                    CopyFrom::Input(index) => write!(f, "  {what} from input {index}")?,
                }
                let paths: Vec<&str> =
                    copy.sources.iter().map(|source| source.path.as_str()).collect();
                writeln!(f, " {paths:?} to {:?}", copy.destination)?;
                for below in copy.sources.iter().filter_map(|source| source.below.as_ref()) {
                    writeln!(f, "  with parents {below:?}")?;
                }
                for repository in &copy.repositories {
                    writeln!(f, "  repository {repository}")?;
                }
                for remote in &copy.remotes {
                    let checksum = remote.checksum.map(|sum| format!(" {sum}")).unwrap_or_default();
                    let how = if remote.unpack { "fetch and unpack" } else { "fetch" };
                    writeln!(f, "  {how} {:?} as {:?}{checksum}", remote.url, remote.name)?;
                }
                for Content { name, text } in &copy.contents {
                    writeln!(f, "  content {name:?} {text:?}")?;
                }
                for pattern in &copy.excludes {
                    writeln!(f, "  without {pattern:?}")?;
                }
                if copy.link {
                    writeln!(f, "  link")?;
                }
                if let Some(owner) = &copy.owner {
                    writeln!(f, "  owner {owner:?}")?;
                }
                if let Some(mode) = &copy.mode {
                    writeln!(f, "  mode {mode}")?;
                }
                Ok(())
            }
            Op::Workdir(workdir) => {
                writeln!(f, "  folder {:?}", workdir.path)?;
                if let Some(owner) = &workdir.owner {
                    writeln!(f, "  owner {owner:?}")?;
                }
                Ok(())
            }
        }
    }
}

fn mount_text(f: &mut fmt::Formatter<'_>, mount: &RunMount) -> fmt::Result {
    let from = |source: &MountSource| match source.from {
        CopyFrom::Context => format!("{:?} of context", source.path),
        CopyFrom::Named(at) => format!("{:?} of named context {at}", source.path),
        CopyFrom::Input(index) => format!("{:?} of input {index}", source.path),
    };
    let ro = |read_only: bool| if read_only { ", read-only" } else { "" };
    match mount {
        RunMount::Bind { source, target, read_only } => {
            writeln!(f, "  mount {} at {target:?}{}", from(source), ro(*read_only))
        }
        RunMount::Cache(cache) => {
            let seed = cache.seed.as_ref().map(|seed| format!(" from {}", from(seed)));
            let (mode, (uid, gid)) = (cache.mode, cache.owner);
            let (id, target, ro) = (&cache.id, &cache.target, ro(cache.read_only));
            let (seed, sharing) = (seed.unwrap_or_default(), cache.sharing);
            writeln!(f, "  cache {id:?}{seed} at {target:?} {mode:04o} {uid}:{gid} {sharing:?}{ro}")
        }
        RunMount::Tmpfs { target, size, read_only } => {
            writeln!(f, "  tmpfs at {target:?} {size:?}{}", ro(*read_only))
        }
        RunMount::Secret(secret) => {
            let (mode, (uid, gid)) = (secret.mode, secret.owner);
            let required = if secret.required { " required" } else { "" };
            let (id, target, env) = (&secret.id, &secret.target, &secret.env);
            writeln!(f, "  secret {id:?} at {target:?} as {env:?} {mode:04o} {uid}:{gid}{required}")
        }
        RunMount::Ssh(ssh) => {
            let required = if ssh.required { " required" } else { "" };
            writeln!(f, "  ssh {:?} at {:?}{required}", ssh.id, ssh.target)
        }
    }
}
