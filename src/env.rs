//! Every environment variable kiln reads, each documented once.
//!
//! No other module reads the environment (the Kubernetes client reads its own:
//! `KUBECONFIG`, in a cluster `KUBERNETES_SERVICE_*`, and the proxy variables).

use std::ffi::OsString;
use std::path::PathBuf;

macro_rules! variables {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
    };
}

variables! {
    /// The store's folder; otherwise `$XDG_DATA_HOME/kiln`, `~/.local/share/kiln`.
    STORE = "KILN_STORE";
    /// Where the state of containers lies while they exist; otherwise below the store.
    STATE = "KILN_STATE";
    /// How much the store may hold where no `--store-limit` says it: `20g`, `inodes=500000`,
    /// or both with a comma between them.
    STORE_LIMIT = "KILN_STORE_LIMIT";
    /// Work without a network, as `--offline` has it: 1 or true, else 0 or false.
    OFFLINE = "KILN_OFFLINE";
    /// Seconds since 1970 that outputs carry as their time, or `context` for the time of
    /// the commit that is built.
    SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH";
    /// Folder of docker's `config.json`; otherwise `~/.docker`.
    DOCKER_CONFIG = "DOCKER_CONFIG";
    /// A file of credentials in the form of docker's `config.json`, read instead.
    REGISTRY_AUTH_FILE = "REGISTRY_AUTH_FILE";
    /// A `registries.conf` read instead of the user's and the system's.
    REGISTRIES_CONF = "CONTAINERS_REGISTRIES_CONF";
    /// A folder of additions to it, read instead of the user's and the system's.
    REGISTRIES_CONF_DIR = "CONTAINERS_REGISTRIES_CONF_DIR";
    /// A bundle of root certificates in PEM, used instead of the system's.
    SSL_CERT_FILE = "SSL_CERT_FILE";
    /// Folders of root certificates (`:` between them), used instead of the system's.
    SSL_CERT_DIR = "SSL_CERT_DIR";
    /// The password of a private key, as cosign reads it.
    COSIGN_PASSWORD = "COSIGN_PASSWORD";
    /// Set in CGI programs, where `HTTP_PROXY` cannot be believed.
    REQUEST_METHOD = "REQUEST_METHOD";
    /// How progress is shown where no `--progress` says it: auto, tty, plain, rawjson, quiet.
    PROGRESS = "KILN_PROGRESS";
    /// As `KILN_PROGRESS`, where that is not set: what docker's builders read.
    BUILDKIT_PROGRESS = "BUILDKIT_PROGRESS";
    /// No colour, whatever its value (no-color.org).
    NO_COLOR = "NO_COLOR";
    /// `dumb` means no cursor movement: plain progress.
    TERM = "TERM";
    HOME = "HOME";
    XDG_DATA_HOME = "XDG_DATA_HOME";
    XDG_CONFIG_HOME = "XDG_CONFIG_HOME";
    /// Where podman keeps its credentials (`containers/auth.json`).
    XDG_RUNTIME_DIR = "XDG_RUNTIME_DIR";
    PATH = "PATH";
    /// The socket of the caller's ssh agent, for `--ssh`.
    SSH_AUTH_SOCK = "SSH_AUTH_SOCK";
}

/// The proxies of whoever calls kiln: its own way out, and that of programs that it starts.
pub const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// The variable's value; unset and empty are the same.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn get(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// As [`get`], if it is UTF-8.
#[must_use]
pub fn text(name: &str) -> Option<String> {
    get(name)?.into_string().ok()
}

/// As [`get`], a path.
#[must_use]
pub fn path(name: &str) -> Option<PathBuf> {
    get(name).map(PathBuf::from)
}

/// The store's folder where no flag names one.
#[must_use]
pub fn store() -> PathBuf {
    let data = || path(XDG_DATA_HOME).or_else(|| Some(path(HOME)?.join(".local/share")));
    path(STORE)
        .or_else(|| Some(data()?.join("kiln")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/kiln"))
}

/// Where configuration of the user lies: `$XDG_CONFIG_HOME` or `~/.config`.
#[must_use]
pub fn config_home() -> Option<PathBuf> {
    path(XDG_CONFIG_HOME).or_else(|| Some(path(HOME)?.join(".config")))
}
