//! `kiln login`.

use super::credentials::Password;

/// Store credentials for a registry, after trying them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Host of the registry, with its port if that is not 443
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry: String,

    /// Name of the user [default: asked for]
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,

    /// The password or token; other users of the machine can see it in the
    /// process list, so --password-stdin is better
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<Password>,

    /// Read the password from stdin
    #[arg(long, requires = "username")]
    pub password_stdin: bool,

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
}
