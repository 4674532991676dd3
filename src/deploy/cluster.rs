//! Finding the API server and reaching it.
//!
//! A kubeconfig decides where one is named or found (`--kubeconfig`,
//! `KUBECONFIG`, `~/.kube/config`); without any, the service account of the pod
//! that kiln runs in. The variables are read by the Kubernetes client itself.
//! An unreachable server is told within [`ANSWER`], not left to TCP.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Error};

use super::DeployError;
use crate::net;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the first answer may take, the connection included.
const ANSWER: Duration = Duration::from_secs(15);
/// How long any later single answer may take; admission webhooks have 30 s.
const REQUEST: Duration = Duration::from_secs(60);

/// An API server that has answered.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    address: String,
    namespace: String,
    version: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({})", self.address)
    }
}

impl Cluster {
    /// Finds the configuration and asks the server for its version.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
    ) -> Result<Self, DeployError> {
        net::pass("a rollout")?;
        let mut config = configure(kubeconfig, context).await?;
        config.connect_timeout = Some(CONNECT);
        let address = address(&config);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| trouble(&address, "use the kubeconfig's credentials", error))?;
        let unknown = Self { client, address, namespace, version: String::new() };
        // One try: the retries that help a running deployment would only hide
        // for a while that there is nobody.
        let asked = tokio::time::timeout(ANSWER, unknown.client.apiserver_version()).await;
        let version = match asked {
            Ok(Ok(info)) => info.git_version,
            // It answers, and more than that is not needed.
            Ok(Err(Error::Api(status))) if status.code == 403 => "unknown".to_owned(),
            Ok(Err(error)) => return Err(trouble(&unknown.address, "ask for the version", error)),
            Err(_) => return Err(unknown.silent(ANSWER)),
        };
        Ok(Self { version, ..unknown })
    }

    /// The server's address, as in the kubeconfig.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
    /// The address of this machine that the server's packets come back to. None if the
    /// kubeconfig has a name for the server, which only its resolver can turn into an address.
    #[must_use]
    pub fn local_address(&self) -> Option<IpAddr> {
        let uri: http::Uri = self.address.parse().ok()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let server: IpAddr = match host {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host.parse().ok()?,
        };
        net::local_address(SocketAddr::new(server, uri.port_u16().unwrap_or(443)))
    }
    /// The namespace of the kubeconfig's context, or of the pod kiln runs in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    /// The server's version, such as `v1.35.4`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The answer to one request; `doing` completes "cannot …".
    pub(super) async fn answer<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, DeployError> {
        match tokio::time::timeout(REQUEST, request).await {
            Ok(answer) => answer.map_err(|error| trouble(&self.address, doing, error)),
            Err(_) => Err(self.silent(REQUEST)),
        }
    }

    pub(super) fn silent(&self, waited: Duration) -> DeployError {
        DeployError::Unreachable {
            address: self.address.clone(),
            why: format!("no answer within {}s", waited.as_secs()),
        }
    }
}

async fn configure(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<Config, DeployError> {
    let path = kubeconfig.map(Path::to_path_buf);
    let read = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let file = match read {
        Ok(file) => file,
        // Nobody named a file, and the usual one is not there.
        Err(error) if kubeconfig.is_none() && context.is_none() && absent(&error) => {
            return Config::incluster().map_err(|inside| DeployError::NoCluster {
                kubeconfig: chain(&error),
                in_cluster: chain(&inside),
            });
        }
        Err(error) => return Err(DeployError::Kubeconfig { path, why: chain(&error) }),
    };
    if let Some(name) = context
        && !file.contexts.iter().any(|known| known.name == name)
    {
        let known = file.contexts.iter().map(|known| known.name.clone()).collect();
        return Err(DeployError::NoContext { name: name.into(), path, known });
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(|error| DeployError::Kubeconfig { path, why: chain(&error) })
}

fn absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == ErrorKind::NotFound,
        _ => false,
    }
}

/// Without user information, which an address may carry.
fn address(config: &Config) -> String {
    let text = config.cluster_url.to_string();
    let text = text.trim_end_matches('/');
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => text.to_owned(),
    }
}

/// An error of the client in kiln's words.
pub(super) fn trouble(address: &str, doing: &str, error: Error) -> DeployError {
    let address = address.to_owned();
    let doing = doing.to_owned();
    match error {
        Error::Api(status) => match status.code {
            401 => DeployError::Unauthorized { address, why: status.message },
            403 => DeployError::Forbidden { doing, why: status.message },
            _ if status.message.is_empty() => {
                DeployError::Api { doing, why: format!("{} {}", status.code, status.reason) }
            }
            _ => DeployError::Api { doing, why: status.message },
        },
        Error::Auth(error) => DeployError::Unauthorized { address, why: chain(&error) },
        Error::HyperError(_) | Error::Service(_) | Error::ReadEvents(_) => {
            // The client's credentials (an exec plug-in) are made on the way.
            let why = innermost(&error);
            DeployError::Unreachable { address, why }
        }
        other => DeployError::Api { doing, why: chain(&other) },
    }
}

/// All causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}

/// The last causes: what comes before is the client telling its layers.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut words = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        words.push(error.to_string());
        next = error.source();
    }
    let last = words.pop().unwrap_or_default();
    match words.pop() {
        // "tcp connect error", "dns error": which of them it was is worth a word.
        Some(before) if !before.contains(&last) && !before.starts_with("ServiceError") => {
            format!("{before}: {last}")
        }
        _ => last,
    }
}
