//! Flags about registries: who asks, and how far the connection is trusted.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::report::CliError;
use crate::reference::Reference;
use crate::registry::{Credentials, Options, Registries};

/// The flags of commands that speak to a registry.
#[derive(Debug, Clone, clap::Args)]
pub struct RegistryArgs {
    /// Credentials for the registry, instead of those that `login` stored; other
    /// users of the machine can see them in the process list
    #[arg(long, value_name = "USER:PASSWORD")]
    pub creds: Option<Creds>,

    #[command(flatten)]
    pub auth: AuthFileFlag,

    #[command(flatten)]
    pub tls: TlsFlag,

    /// As --tls-verify=false, for this host[:port] only; may be repeated
    #[arg(long, value_name = "HOST")]
    pub insecure: Vec<String>,
}

/// Where credentials are.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AuthFileFlag {
    /// File of credentials, as docker's config.json or podman's auth.json [default:
    /// $REGISTRY_AUTH_FILE, else those two]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
}

impl AuthFileFlag {
    /// The file that credentials are read from.
    ///
    /// # Errors
    /// If the user named one that is not there.
    pub fn there(&self) -> Result<Option<PathBuf>, CliError> {
        match &self.authfile {
            Some(file) if !file.exists() => {
                let missing = format!("--authfile: {} is not there", file.display());
                Err(CliError::plain(missing).hint("`kiln login --authfile FILE` makes one"))
            }
            file => Ok(file.clone()),
        }
    }
}

/// How far a registry's connection is trusted.
#[derive(Debug, Clone, clap::Args)]
pub struct TlsFlag {
    /// With `=false`: take the registry's certificate as it is, and plain HTTP
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub tls_verify: bool,

    /// Folder with roots (*.crt) and client certificates (*.cert, *.key) for the registry,
    /// instead of its own below certs.d
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
}

impl RegistryArgs {
    /// True if any of the flags was used.
    #[must_use]
    pub fn is_given(&self) -> bool {
        let Self { creds, auth, tls, insecure } = self;
        let certificates = tls.cert_dir.is_some() || !tls.tls_verify || !insecure.is_empty();
        creds.is_some() || auth.authfile.is_some() || certificates
    }

    /// As [`Self::registries`], to pull a name, which may be short for one of another registry.
    ///
    /// # Errors
    /// As there, or if the name could mean several.
    pub fn to_pull(&self, name: &Reference) -> Result<Registries, CliError> {
        match name.short() {
            None => self.registries(Some(name)),
            Some(_) => {
                let meant = Registries::load(Options::default())?.meaning(name)?;
                self.registries(Some(&meant))
            }
        }
    }

    /// The way to registries under these flags; `--creds` are for the registry of
    /// `name`, and what `--tls-verify=false` says is said of it too.
    ///
    /// # Errors
    /// If `registries.conf` is malformed, the credentials are for nobody, or their file is
    /// not there.
    pub fn registries(&self, name: Option<&Reference>) -> Result<Registries, CliError> {
        let (insecure, auth_file) = (self.insecure.clone(), self.auth.there()?);
        let mut options = Options { insecure, auth_file, ..Options::default() };
        options.cert_dir.clone_from(&self.tls.cert_dir);
        let host = name.map(|name| name.registry().to_owned());
        if !self.tls.tls_verify {
            let host = host.clone().ok_or_else(|| {
                CliError::usage(
                    "--tls-verify=false needs an image's name to say which registry is meant",
                )
                .hint("use --insecure HOST")
            })?;
            options.insecure.push(host);
        }
        if let Some(creds) = &self.creds {
            let host = host.ok_or_else(|| {
                CliError::usage("--creds needs an image's name to say which registry they are for")
            })?;
            let password = creds.password.as_ref().ok_or_else(|| {
                CliError::usage("--creds has no password").hint(
                    "USER:PASSWORD is expected; `kiln login` keeps them out of the process list",
                )
            })?;
            options.credentials.push((host, Credentials::password(&creds.user, password.reveal())));
        }
        Ok(Registries::load(options)?)
    }
}

/// A name and a password that does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Creds {
    pub user: String,
    /// `None` if only a name was given.
    pub password: Option<Password>,
}

impl FromStr for Creds {
    // An error would print the value.
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once(':') {
            Some((user, password)) => {
                Self { user: user.into(), password: Some(Password(password.into())) }
            }
            None => Self { user: text.into(), password: None },
        })
    }
}

impl fmt::Debug for Creds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Creds({})", self.user)
    }
}

/// A password that does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Password {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_show_itself() {
        let Ok(creds) = "me:se:cret".parse::<Creds>();
        assert_eq!(creds.password.as_ref().map(Password::reveal), Some("se:cret"));
        assert_eq!(format!("{creds:?} {:?}", creds.password), "Creds(me) Some(Password)");
    }
}
