//! The flags with which a build gives its `RUN`s something: secrets, agents, names of
//! hosts, a network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::ValueEnum;

use super::report::CliError;
use super::value::{AgentArg, HostArg, SecretArg, SecretFrom};
use crate::atomic::AtPath as _;
use crate::build::{Given, Secret};
use crate::dockerfile::RunNetwork;
use crate::env;

/// A secret that is larger is none.
const MAX_SECRET: u64 = 500 << 10;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct GivenFlags {
    /// Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME], without either the
    /// variable or file of that name; may be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<SecretArg>,

    /// Agent for RUN --mount=type=ssh: default, or ID=SOCKET; may be repeated
    #[arg(long = "ssh", value_name = "SPEC")]
    pub agents: Vec<AgentArg>,

    /// Name that every RUN finds in /etc/hosts; the address `host-gateway` is this machine;
    /// may be repeated
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub hosts: Vec<HostArg>,

    /// Network of every RUN that names none
    #[arg(long, value_name = "MODE", value_enum, default_value = "default")]
    pub network: NetworkArg,

    /// What the Dockerfile may ask for beyond the sandbox; may be repeated
    #[arg(long, value_name = "ENTITLEMENT", value_enum, value_delimiter = ',')]
    pub allow: Vec<Entitlement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Entitlement {
    /// RUN --network=host; it needs no allowance, as this is the default network
    #[value(name = "network.host")]
    NetworkHost,
    /// RUN --security=insecure: all capabilities of the sandbox's tier, no filter
    #[value(name = "security.insecure")]
    SecurityInsecure,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum NetworkArg {
    /// The host's
    #[default]
    Default,
    /// Loopback alone
    None,
    /// The host's
    Host,
}

impl NetworkArg {
    pub(super) fn network(self) -> RunNetwork {
        match self {
            Self::Default => RunNetwork::Default,
            Self::None => RunNetwork::None,
            Self::Host => RunNetwork::Host,
        }
    }
}

impl GivenFlags {
    pub(super) fn given(&self) -> Result<Given, CliError> {
        let mut secrets = BTreeMap::new();
        for arg in &self.secrets {
            if secrets.insert(arg.id.clone(), read(arg)?).is_some() {
                return Err(CliError::usage(format!("secret `{}` is given twice", arg.id)));
            }
        }
        let mut agents = BTreeMap::new();
        for AgentArg { id, socket } in &self.agents {
            let socket = match socket.clone().or_else(|| env::path(env::SSH_AUTH_SOCK)) {
                Some(socket) => socket,
                None => {
                    return Err(CliError::usage(format!("there is no ssh agent for `--ssh {id}`"))
                        .hint("start one with `eval $(ssh-agent)` and `ssh-add`, or name its socket: --ssh ID=SOCKET"));
                }
            };
            let kind = socket.metadata().at("open", &socket)?.file_type();
            if !std::os::unix::fs::FileTypeExt::is_socket(&kind) {
                let said = format!("`{}` is not the socket of an ssh agent", socket.display());
                return Err(CliError::usage(said)
                    .hint("kiln reads no keys itself: add the key to an agent with `ssh-add`, and name its socket"));
            }
            if agents.insert(id.clone(), socket).is_some() {
                return Err(CliError::usage(format!("ssh agent `{id}` is given twice")));
            }
        }
        Ok(Given { secrets, agents })
    }

    pub(super) fn hosts(&self) -> Vec<(String, IpAddr)> {
        self.hosts.iter().map(|host| (host.name.clone(), host.address)).collect()
    }
}

fn read(arg: &SecretArg) -> Result<Secret, CliError> {
    let from = match &arg.from {
        Some(from) => from.clone(),
        // As buildx: the variable of that name, else the file.
        None if env::get(&arg.id).is_some() => SecretFrom::Env(arg.id.clone()),
        None => SecretFrom::File(arg.id.clone().into()),
    };
    let bytes = match from {
        SecretFrom::Env(name) => match env::get(&name) {
            Some(value) => value.into_encoded_bytes(),
            // Unset and empty are one: an empty secret is a file.
            None => {
                let said = format!("secret `{}`: variable {name} is not set", arg.id);
                return Err(CliError::usage(said));
            }
        },
        SecretFrom::File(path) => {
            let size = path.metadata().at("read", &path)?.len();
            if size > MAX_SECRET {
                let said = format!("secret `{}` is larger than {MAX_SECRET} bytes", arg.id);
                return Err(CliError::usage(said).hint("bind it with --mount=type=bind"));
            }
            std::fs::read(&path).at("read", &path)?
        }
    };
    Ok(Secret::new(bytes))
}
