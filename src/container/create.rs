//! Request and image become a container's configuration, and that a folder.

use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ContainerError;
use super::name;
use super::request::{Limits, NetworkMode, Port, Protocol, RunRequest, Volume};
use super::signal::{TERM, parse_signal};
use super::state::{self, Container, Hold, State};
use super::stop::DEFAULT_STOP_TIMEOUT;
use super::update::in_sandbox_words;
use crate::atomic::{self, AtPath as _, FileLock};
use crate::digest::BlobDigest;
use crate::layer::Layer;
use crate::net;
use crate::rootfs::Account;
use crate::sandbox::{self, Ids, Own, Tier};
use crate::store::Store;

/// docker's value where the image says none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `config.json`: what runs, with everything decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub id: String,
    pub name: String,
    /// RFC 3339 in UTC.
    pub created: String,
    pub image: String,
    pub image_digest: BlobDigest,
    /// The image's layers, lowest first.
    pub layers: Vec<Layer>,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    /// As it was asked for.
    pub user: String,
    pub ids: Ids,
    pub hostname: String,
    pub volumes: Vec<Volume>,
    pub network: NetworkMode,
    pub publish: Vec<Port>,
    /// The sandbox that was asked for, instead of the best.
    #[serde(default)]
    pub sandbox: Option<Tier>,
    pub limits: Limits,
    #[serde(default)]
    pub own_limits: Own,
    /// It has a control group, or had one.
    pub grouped: bool,
    pub stop_signal: i32,
    pub stop_timeout: Duration,
    pub interactive: bool,
    pub remove: bool,
}

/// ENTRYPOINT and CMD as docker combines them with what was asked.
fn argv(ask: &RunRequest) -> Result<Vec<String>, ContainerError> {
    let image = &ask.image.config().config;
    let mut argv = match &ask.entrypoint {
        Some(entrypoint) => entrypoint.clone(),
        None => image.entrypoint.clone().unwrap_or_default(),
    };
    if ask.command.is_empty() && ask.entrypoint.is_none() {
        argv.extend(image.cmd.clone().unwrap_or_default());
    } else {
        argv.extend(ask.command.iter().cloned());
    }
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv),
        _ => Err(ContainerError::NoCommand(ask.image_name.clone())),
    }
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.into(), value.into())),
    }
}

/// Defaults, then the image's, then what was asked.
fn environment(
    ask: &RunRequest,
    hostname: &str,
    home: &str,
) -> Result<Vec<(String, String)>, ContainerError> {
    let mut env = Vec::new();
    set(&mut env, "PATH", DEFAULT_PATH);
    set(&mut env, "HOSTNAME", hostname);
    for entry in &ask.image.config().config.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(&mut env, name, value);
    }
    for (name, value) in &ask.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(ContainerError::BadVariable(format!("{name}={value}")));
        }
        set(&mut env, name, value);
    }
    if !env.iter().any(|(name, _)| name == "HOME") {
        set(&mut env, "HOME", home);
    }
    Ok(env)
}

fn workdir(ask: &RunRequest) -> Result<PathBuf, ContainerError> {
    match &ask.workdir {
        Some(path) if path.is_absolute() => Ok(path.clone()),
        Some(path) => Err(ContainerError::RelativeWorkdir(path.clone())),
        // An image may leave the slash out.
        None => Ok(Path::new("/").join(&ask.image.config().config.working_dir)),
    }
}

/// Which network, and whether the ports make sense on it.
pub(super) fn network(ask: &RunRequest) -> Result<NetworkMode, ContainerError> {
    if let Some(port) = ask.publish.first() {
        net::pass(&format!("publishing port {port}"))?;
    }
    let default = match (net::is_shut(), ask.publish.is_empty()) {
        (Some(_), _) => NetworkMode::None,
        (None, true) => NetworkMode::Host,
        (None, false) => NetworkMode::Private,
    };
    let mode = ask.network.unwrap_or(default);
    if mode == NetworkMode::Host {
        net::pass("the host's network")?;
    }
    for port in &ask.publish {
        match (mode, port.proto) {
            (_, Protocol::Udp) => return Err(ContainerError::UdpPort(port.clone())),
            (NetworkMode::None, Protocol::Tcp) => {
                return Err(ContainerError::PortWithoutNetwork(port.clone()));
            }
            (NetworkMode::Host, Protocol::Tcp) if ![0, port.container].contains(&port.host) => {
                return Err(ContainerError::HostPort(port.clone()));
            }
            (NetworkMode::Host | NetworkMode::Private, Protocol::Tcp) => (),
        }
    }
    Ok(mode)
}

/// The user that is meant: the asked, else the image's, else root.
pub(super) fn user(ask: &RunRequest) -> &str {
    let user = ask.user.as_deref().unwrap_or(&ask.image.config().config.user);
    if user.is_empty() { "0" } else { user }
}

fn stop_signal(ask: &RunRequest) -> Result<i32, ContainerError> {
    let image = ask.image.config().config.stop_signal.as_deref();
    match ask.stop_signal.as_deref().or(image) {
        None | Some("") => Ok(TERM),
        Some(text) => parse_signal(text).ok_or_else(|| ContainerError::BadSignal(text.to_owned())),
    }
}

fn volumes(ask: &RunRequest) -> Result<Vec<Volume>, ContainerError> {
    let absolute = |volume: &Volume| {
        let target = &volume.target;
        if !target.is_absolute() || target.components().any(|part| part == Component::ParentDir) {
            return Err(ContainerError::VolumeTarget(target.clone()));
        }
        match fs::canonicalize(&volume.source) {
            Ok(source) => Ok(Volume { source, ..volume.clone() }),
            Err(source) => Err(ContainerError::Volume { path: volume.source.clone(), source }),
        }
    };
    ask.volumes.iter().map(absolute).collect()
}

/// Decides everything; `name` is filled in when the container is made.
pub(super) fn resolve(
    ask: &RunRequest,
    id: String,
    account: Account,
) -> Result<Config, ContainerError> {
    if let Some(name) = &ask.name
        && !name::is_valid(name)
    {
        return Err(ContainerError::BadName(name.clone()));
    }
    sandbox::cgroup::check(&in_sandbox_words(&ask.limits))?;
    let hostname = ask.hostname.clone().unwrap_or_else(|| id.clone());
    Ok(Config {
        name: ask.name.clone().unwrap_or_default(),
        created: state::now(),
        image: ask.image_name.clone(),
        image_digest: ask.image.digest(),
        layers: ask.image.layers().to_vec(),
        argv: argv(ask)?,
        env: environment(ask, &hostname, &account.home)?,
        cwd: workdir(ask)?,
        user: user(ask).to_owned(),
        ids: account.ids,
        hostname,
        volumes: volumes(ask)?,
        network: network(ask)?,
        publish: ask.publish.clone(),
        sandbox: ask.sandbox,
        limits: ask.limits,
        own_limits: ask.own_limits.clone(),
        grouped: !ask.limits.is_empty(),
        stop_signal: stop_signal(ask)?,
        stop_timeout: ask.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT),
        interactive: ask.interactive,
        remove: ask.remove,
        id,
    })
}

/// Makes the container's folder, held by the caller. Until `config.json` is
/// there it is no container.
pub(super) fn create(
    store: &Store,
    mut config: Config,
) -> Result<(Container, Hold), ContainerError> {
    let root = state::root(store)?;
    let _names = FileLock::exclusive(&root.join("lock"))?;
    let others = state::all(store)?;
    let taken = |name: &str| others.iter().find(|other| other.config.name == name);
    if config.name.is_empty() {
        config.name = loop {
            let name = random(name::suggest())?;
            if taken(&name).is_none() {
                break name;
            }
            // So many containers that words run out: the ID is a name too.
            if others.len() > 500 {
                break config.id.clone();
            }
        };
    } else if let Some(other) = taken(&config.name) {
        return Err(ContainerError::NameTaken { name: config.name, id: other.config.id.clone() });
    }
    sweep(&root)?;
    state::announce(store, &root)?;
    let container = Container { path: root.join(&config.id), config };
    for folder in ["upper", "work"] {
        atomic::private_folder(&container.file(folder))?;
    }
    // The upper's top is the container's `/`, which every user of it must pass.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(container.file("upper"), mode)
        .at("set the mode of", container.file("upper"))?;
    for file in ["lock", "log"] {
        let path = container.file(file);
        File::create_new(&path).at("create", &path)?;
    }
    let hold =
        container.try_hold()?.ok_or_else(|| ContainerError::Busy(container.config.id.clone()))?;
    container.record(&State::created())?;
    container.write_config()?;
    Ok((container, hold))
}

pub(super) fn random<T>(made: std::io::Result<T>) -> Result<T, ContainerError> {
    made.map_err(|source| ContainerError::Monitor { what: "get random numbers", source })
}

/// Clears what interrupted creations and removals left. Their upper is empty or
/// gone, since a removal takes it before `config.json`.
fn sweep(root: &Path) -> Result<(), ContainerError> {
    for entry in fs::read_dir(root).at("read", root)? {
        let path = entry.at("read", root)?.path();
        if path.is_dir() && !path.join("config.json").exists() {
            fs::remove_dir_all(&path).at("remove", &path)?;
        }
    }
    Ok(())
}
