//! `-o type=oci,dest=FILE`: fields separated by commas, a field quoted as in CSV
//! (RFC 4180) if it has one itself.

use std::path::PathBuf;
use std::str::FromStr;

use super::ValueError;
use crate::output::{Dest, Kind};

/// Where a build's result goes besides the store. A value without `=` is a
/// folder, as for docker: `type=local,dest=VALUE`, or `-` a tar on stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputArg {
    pub kind: Kind,
    pub dest: Dest,
}

impl FromStr for OutputArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "-" {
            return Ok(Self { kind: Kind::Tar, dest: Dest::Stdout });
        }
        if !text.is_empty() && !text.contains(['=', ',']) {
            return Ok(Self { kind: Kind::Local, dest: Dest::Path(text.into()) });
        }
        let (mut kind, mut dest) = (None, None);
        for field in fields(text)? {
            let Some((name, value)) = field.split_once('=') else {
                return Err(ValueError::new(format!("`{field}`: name=value is expected")));
            };
            let twice = match name.trim().to_ascii_lowercase().as_str() {
                "type" => kind.replace(kind_of(value)?).is_some(),
                "dest" | "destination" => dest.replace(value.to_owned()).is_some(),
                other => {
                    return Err(ValueError::new(format!(
                        "`{other}` is not known; type and dest are"
                    )));
                }
            };
            if twice {
                return Err(ValueError::new(format!("`{name}` is given twice")));
            }
        }
        let kind = kind.ok_or_else(|| ValueError::new("it has no type=oci|docker|tar|local"))?;
        let dest = match dest.as_deref() {
            None | Some("") => return Err(ValueError::new("it has no dest=PATH")),
            Some("-") if kind == Kind::Local => {
                return Err(ValueError::new("type=local needs a folder, not `-`"));
            }
            Some("-") => Dest::Stdout,
            Some(path) => Dest::Path(PathBuf::from(path)),
        };
        Ok(Self { kind, dest })
    }
}

fn kind_of(name: &str) -> Result<Kind, ValueError> {
    Ok(match name {
        "oci" => Kind::Oci,
        "docker" => Kind::Docker,
        "tar" => Kind::Tar,
        "local" => Kind::Local,
        other => {
            return Err(ValueError::new(format!(
                "type `{other}` is not known; oci, docker, tar and local are"
            )));
        }
    })
}

/// The fields of one CSV record.
fn fields(text: &str) -> Result<Vec<String>, ValueError> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(ValueError::new("a quote is not closed"));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let path = |path: &str| Dest::Path(path.into());
        for (text, kind, dest) in [
            ("type=oci,dest=a.tar", Kind::Oci, path("a.tar")),
            ("dest=-,type=docker", Kind::Docker, Dest::Stdout),
            ("type=tar,\"dest=a,b.tar\"", Kind::Tar, path("a,b.tar")),
            ("type=tar,\"dest=a\"\"b\"", Kind::Tar, path("a\"b")),
            ("out", Kind::Local, path("out")),
            ("-", Kind::Tar, Dest::Stdout),
        ] {
            assert_eq!(text.parse(), Ok(OutputArg { kind, dest }), "{text}");
        }
        for bad in [
            "",
            "type=oci",
            "dest=x",
            "type=zip,dest=x",
            "type=oci,dest=",
            "type=oci,type=oci,dest=x",
            "type=oci,dest=x,push=true",
            "type=local,dest=-",
            "type=tar,\"dest=x",
            "a,b",
        ] {
            assert!(bad.parse::<OutputArg>().is_err(), "{bad}");
        }
    }
}
