//! `--secret`, `--ssh` and `--add-host`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use super::ValueError;
use super::csv::fields;

/// `id=ID[,type=file|env][,src=FILE|,env=NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretArg {
    pub id: String,
    /// None: what the id names, as variable or as file.
    pub from: Option<SecretFrom>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    File(PathBuf),
    Env(String),
}

impl FromStr for SecretArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (mut id, mut kind, mut source, mut env) = (None, None, None, None);
        for field in fields(text)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| ValueError::new("id=ID,src=FILE or id=ID,env=NAME is expected"))?;
            let slot = match key.to_ascii_lowercase().as_str() {
                "id" => &mut id,
                "type" => &mut kind,
                "source" | "src" => &mut source,
                "env" => &mut env,
                other => {
                    let said = format!("a secret has no `{other}`: it has id, type, src, env");
                    return Err(ValueError::new(said));
                }
            };
            *slot = Some(value.to_owned());
        }
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| ValueError::new("id= is missing"))?;
        let from = match (kind.as_deref(), source, env) {
            (_, Some(_), Some(_)) => return Err(ValueError::new("it has src= or env=, not both")),
            // With type=env, src= names the variable.
            (Some("env"), Some(name), None) | (Some("env") | None, None, Some(name)) => {
                Some(SecretFrom::Env(name))
            }
            (Some("env"), None, None) => Some(SecretFrom::Env(id.clone())),
            (Some("file") | None, Some(path), None) => Some(SecretFrom::File(path.into())),
            (Some("file"), None, None) => Some(SecretFrom::File(id.clone().into())),
            (None, None, None) => None,
            (Some("file"), None, Some(_)) => {
                return Err(ValueError::new("type=file has src=, not env="));
            }
            (Some(_), ..) => return Err(ValueError::new("type= is file or env")),
        };
        Ok(Self { id, from })
    }
}

/// `default`, `ID`, or `ID=SOCKET`; no id means `default`, as for buildx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentArg {
    pub id: String,
    /// None for the one that `SSH_AUTH_SOCK` names.
    pub socket: Option<PathBuf>,
}

impl FromStr for AgentArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (id, socket) = match text.split_once('=') {
            Some((_, "")) => return Err(ValueError::new("no socket is named behind `=`")),
            Some((id, sockets)) if sockets.contains(',') => {
                return Err(ValueError::new(format!(
                    "several paths for `{id}` would be keys, which kiln does not read: add them to \
                     an agent with `ssh-add`, and name its socket"
                )));
            }
            Some((id, socket)) => (id, Some(PathBuf::from(socket))),
            None => (text, None),
        };
        let id = if id.is_empty() { "default" } else { id };
        Ok(Self { id: id.to_owned(), socket })
    }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may stand in brackets.
/// `host-gateway` is this machine: a step shares its network, so it is reached at
/// loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostArg {
    pub name: String,
    pub address: IpAddr,
}

impl FromStr for HostArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| ValueError::new("NAME:ADDRESS is expected"))?;
        if name.contains(char::is_whitespace) {
            return Err(ValueError::new(format!("`{name}` is no name of a host")));
        }
        if address == "host-gateway" {
            return Ok(Self { name: name.to_owned(), address: Ipv4Addr::LOCALHOST.into() });
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = bare.unwrap_or(address).parse();
        let address = address.map_err(|_| ValueError::new("that is no IP address"))?;
        Ok(Self { name: name.to_owned(), address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let from = |text: &str| text.parse::<SecretArg>().unwrap().from;
        assert_eq!(from("id=a"), None);
        assert_eq!(from("id=a,src=f"), Some(SecretFrom::File("f".into())));
        assert_eq!(from("id=a,\"src=f,g\""), Some(SecretFrom::File("f,g".into())));
        assert_eq!(from("type=file,id=a"), Some(SecretFrom::File("a".into())));
        assert_eq!(from("id=a,env=E"), Some(SecretFrom::Env("E".into())));
        assert_eq!(from("id=a,type=env"), Some(SecretFrom::Env("a".into())));
        assert_eq!(from("id=a,type=env,source=E"), Some(SecretFrom::Env("E".into())));
        for text in ["", "a", "src=f", "id=", "id=a,src=f,env=E", "id=a,type=x", "id=a,mode=4"] {
            assert!(text.parse::<SecretArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn agents_and_hosts() {
        assert_eq!("default".parse(), Ok(AgentArg { id: "default".into(), socket: None }));
        let named = AgentArg { id: "a".into(), socket: Some("/s".into()) };
        assert_eq!("a=/s".parse(), Ok(named));
        assert_eq!("".parse(), Ok(AgentArg { id: "default".into(), socket: None }));
        for text in ["a=", "a=/k1,/k2"] {
            assert!(text.parse::<AgentArg>().is_err(), "{text}");
        }
        for (text, address) in [
            ("a:1.2.3.4", "1.2.3.4"),
            ("h:host-gateway", "127.0.0.1"),
            ("a=::1", "::1"),
            ("a:[::1]", "::1"),
        ] {
            assert_eq!(text.parse::<HostArg>().unwrap().address.to_string(), address);
        }
        for text in ["a", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a:"] {
            assert!(text.parse::<HostArg>().is_err(), "{text}");
        }
    }
}
