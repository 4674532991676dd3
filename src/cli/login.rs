//! `kiln login`.

use std::io::{self, BufRead, IsTerminal as _, Read as _};

use rustix::termios::OptionalActions;

use super::credentials::{AuthFileFlag, Password, TlsFlag};
use super::invocation::Invocation;
use super::report::{self, CliError};
use crate::atomic::AtPath as _;
use crate::net::escaped;
use crate::registry::{self, Credentials, Options, Registries, RegistryError};

/// Most bytes of a password: no header could carry more.
const LONGEST: u64 = 64 << 10;

/// Store credentials for a registry, after trying them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Host of the registry, with its port if that is not 443; with a repository or the
    /// beginning of one behind it, the credentials are for what lies below that
    #[arg(value_name = "REGISTRY[/REPOSITORY]", default_value = "docker.io")]
    pub registry: String,

    /// Name of the user [default: asked for]
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,

    /// The password or token; other users of the machine can see it in the
    /// process list, so --password-stdin is better
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<Password>,

    /// Read the password from stdin, to its end; one newline there is not part of it
    #[arg(long, requires = "username")]
    pub password_stdin: bool,

    /// Only print which user commands would log in as; fail if there is none
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    pub get_login: bool,

    #[command(flatten)]
    pub auth: AuthFileFlag,

    #[command(flatten)]
    pub tls: TlsFlag,
}

/// Tries the credentials and keeps them.
///
/// # Errors
/// If the registry refuses them, or they cannot be kept.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let insecure = if args.tls.tls_verify { Vec::new() } else { vec![args.registry.clone()] };
    let (auth_file, cert_dir) = (args.auth.authfile.clone(), args.tls.cert_dir.clone());
    let options = Options { insecure, auth_file, cert_dir, ..Options::default() };
    let registries = Registries::load(options)?;
    if args.get_login {
        let found = registry::logged_in(&args.registry, &registries);
        let Some(login) = invocation.block_on(found)? else {
            return Err(CliError::plain(format!("not logged in to {}", args.registry))
                .hint(format!("log in with `kiln login {}`", args.registry)));
        };
        return invocation.print(escaped(&login.user, 200));
    }
    let ask = |what: &str| -> Result<String, CliError> {
        if !io::stdin().is_terminal() {
            return Err(CliError::usage(format!(
                "no {what} was given, and there is nobody to ask"
            ))
            .hint("use --username NAME --password-stdin"));
        }
        report::say(&format!("{what}: "));
        line(&mut io::stdin().lock())
    };
    let user = match args.username {
        Some(user) => user,
        None => ask("username")?,
    };
    let password = match args.password {
        Some(password) => password,
        None if args.password_stdin => whole(&mut io::stdin().lock())?.into(),
        None => {
            let _quiet = NoEcho::new();
            ask("password")?.into()
        }
    };
    if user.is_empty() || password.reveal().is_empty() {
        return Err(CliError::usage("a user's name and a password are needed; one is empty"));
    }
    let credentials = Credentials::password(user, password.reveal());
    let login = async {
        registry::login(&args.registry, &credentials, &registries).await.map_err(|error| {
            let refused = matches!(
                error,
                RegistryError::Unauthorized { .. }
                    | RegistryError::Denied { .. }
                    | RegistryError::Token { .. }
            );
            let error = CliError::from(error);
            if refused { error.hint("check the user name and the password") } else { error }
        })
    };
    let kept = invocation.block_on(login)?;
    invocation.print(format!("Login Succeeded; kept in {kept}"))
}

fn line(from: &mut impl BufRead) -> Result<String, CliError> {
    let mut text = String::new();
    from.take(LONGEST).read_line(&mut text).at("read", "stdin")?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A password of several lines, as a key in JSON is one, keeps them.
pub(super) fn whole(from: &mut impl io::Read) -> Result<String, CliError> {
    let mut text = String::new();
    from.take(LONGEST + 1).read_to_string(&mut text).at("read", "stdin")?;
    if text.len() as u64 > LONGEST {
        return Err(CliError::usage(format!("the password has more than {LONGEST} bytes")));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// The terminal shows nothing of what is typed while this lives.
struct NoEcho(Option<rustix::termios::Termios>);

impl NoEcho {
    fn new() -> Self {
        let before = rustix::termios::tcgetattr(io::stdin()).ok();
        if let Some(mut quiet) = before.clone() {
            quiet.local_modes.remove(rustix::termios::LocalModes::ECHO);
            // What cannot be hidden is shown; the password works all the same.
            let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &quiet);
        }
        Self(before)
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
