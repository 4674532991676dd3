//! `RUN --mount`: what is put into a step's root while it runs.
//!
//! The value is a CSV record of `key=value` fields. Keys are literal; values are
//! expanded before they are read, but for `from`, which has no variables. As in
//! BuildKit a field may depend on one before it: `required` on `type`.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::super::lexer::shown;
use super::super::suggest;

/// A mount with its variables filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountType,
    /// A stage, image or named context; none for the build context.
    pub from: Option<Spanned<String>>,
    /// The path in the source; for a secret its id. May be empty.
    pub source: String,
    /// As written; may be empty: for secrets and ssh that is their usual place, for
    /// the others the working folder, which a relative one starts from too.
    pub target: String,
    pub read_only: bool,
    /// Of a tmpfs, in bytes.
    pub size: Option<u64>,
    /// Of a cache, a secret or an agent.
    pub id: Option<String>,
    pub sharing: Sharing,
    /// A secret or an agent that must be there.
    pub required: bool,
    /// A secret's variable: an empty name stands for its id.
    pub env: Option<String>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// The flag's value.
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountType {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// Who else may use a cache while a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Anybody.
    #[default]
    Shared,
    /// Nobody: whoever comes meanwhile gets another cache.
    Private,
    /// Nobody: whoever comes meanwhile waits.
    Locked,
}

pub(super) const TYPES: &[(&str, MountType)] = &[
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
    ("tmpfs", MountType::Tmpfs),
];

const SHARINGS: &[(&str, Sharing)] =
    &[("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

/// Every key, aliases behind the name they stand for.
pub(in super::super) const KEYS: &[(&str, &[&str])] = &[
    ("type", &[]),
    ("from", &[]),
    ("source", &["src"]),
    ("target", &["dst", "destination"]),
    ("readonly", &["ro"]),
    ("readwrite", &["rw"]),
    ("id", &[]),
    ("sharing", &[]),
    ("required", &[]),
    ("size", &[]),
    ("mode", &[]),
    ("uid", &[]),
    ("gid", &[]),
    ("env", &[]),
];

impl MountType {
    #[must_use]
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl Mount {
    /// What a flag's `from` says; none if it has no such field.
    #[must_use]
    pub fn source(flag: &Spanned<String>) -> Option<Spanned<String>> {
        let field = fields(&flag.value).ok()?.into_iter().rfind(|field| {
            field.split_once('=').is_some_and(|(key, _)| key.eq_ignore_ascii_case("from"))
        })?;
        let (_, value) = field.split_once('=')?;
        Some(part(flag, &field, value.to_owned())).filter(|from| !from.value.is_empty())
    }

    /// Reads a flag's value; `fill` fills in the variables of a field's.
    ///
    /// # Errors
    /// If a key or value is wrong, or they do not go together.
    pub fn parse(
        flag: &Spanned<String>,
        fill: &mut dyn FnMut(&str) -> Result<String, Diagnostic>,
    ) -> Result<Self, Diagnostic> {
        let mut mount = Self {
            kind: MountType::Bind,
            from: None,
            source: String::new(),
            target: String::new(),
            read_only: true,
            size: None,
            id: None,
            sharing: Sharing::Shared,
            required: false,
            env: None,
            mode: None,
            uid: None,
            gid: None,
            span: flag.span,
        };
        let (mut asked_read_only, mut shares) = (None, false);
        for field in fields(&flag.value).map_err(|said| wrong(flag, flag.value.as_str(), &said))? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (canonical(key, &field, flag)?, Some(value)),
                None => (canonical(&field, &field, flag)?, None),
            };
            let bad = |what: &str| wrong(flag, &field, what);
            let value = match (key, value) {
                (_, Some(value)) => Some(fill(value)?),
                ("readonly" | "readwrite" | "required", None) => None,
                (key, None) => return Err(bad(&format!("`{key}` needs a value"))),
            };
            let text = || value.clone().unwrap_or_default();
            let yes = || match value.as_deref() {
                None => Ok(true),
                Some(value) => boolean(value).ok_or_else(|| bad("neither true nor false")),
            };
            match key {
                "type" => {
                    let name = text().to_ascii_lowercase();
                    mount.kind = choice(&name, TYPES)
                        .map_err(|near| hinted(bad("no such type of mount"), near))?;
                }
                "from" => {
                    mount.from = Some(part(flag, &field, text())).filter(|f| !f.value.is_empty())
                }
                "source" => mount.source = text(),
                "target" => mount.target = text(),
                "readonly" => asked_read_only = Some(yes()?),
                "readwrite" => asked_read_only = Some(!yes()?),
                "required" if matches!(mount.kind, MountType::Secret | MountType::Ssh) => {
                    mount.required = yes()?;
                }
                "size" if mount.kind == MountType::Tmpfs => {
                    mount.size = Some(bytes(&text()).ok_or_else(|| bad("no size, such as 64m"))?);
                }
                "required" | "size" => {
                    let kind = mount.kind.name();
                    return Err(bad(&format!("a mount of type {kind} has none"))
                        .hint("`type` comes before what depends on it"));
                }
                "id" => mount.id = Some(text()).filter(|id| !id.is_empty()),
                "sharing" => {
                    shares = true;
                    let name = text().to_ascii_lowercase();
                    mount.sharing = choice(&name, SHARINGS)
                        .map_err(|near| hinted(bad("no way of sharing"), near))?;
                }
                "mode" => {
                    let mode = u32::from_str_radix(&text(), 8);
                    mount.mode = Some(mode.map_err(|_| bad("no octal mode"))?);
                }
                "uid" => mount.uid = Some(text().parse().map_err(|_| bad("no number"))?),
                "gid" => mount.gid = Some(text().parse().map_err(|_| bad("no number"))?),
                _ => mount.env = Some(text()),
            }
        }
        let writable = matches!(mount.kind, MountType::Cache | MountType::Tmpfs);
        mount.read_only = asked_read_only.unwrap_or(!writable);
        mount.consistent(shares).map_err(|said| wrong(flag, &flag.value, &said))?;
        Ok(mount)
    }

    fn consistent(&self, shares: bool) -> Result<(), String> {
        let kind = self.kind.name();
        if matches!(self.kind, MountType::Bind | MountType::Tmpfs) {
            let given = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
            if let Some((name, _)) = given.iter().find(|(_, value)| value.is_some()) {
                return Err(format!("a mount of type {kind} has no {name}"));
            }
        }
        if shares && self.kind != MountType::Cache {
            return Err(format!("a mount of type {kind} has no sharing"));
        }
        match self.kind {
            MountType::Secret if self.from.is_some() => Err("a secret has no from".into()),
            MountType::Secret
                if self.source.is_empty() && self.target.is_empty() && self.id.is_none() =>
            {
                Err("a secret needs an id or a target".into())
            }
            MountType::Secret if !self.source.is_empty() && self.id.is_some() => {
                Err("a secret has an id or a source, not both".into())
            }
            MountType::Ssh if !self.source.is_empty() => Err("an ssh agent has no source".into()),
            _ => Ok(()),
        }
    }
}

/// Looks at a flag before its variables are known: keys, `from`, and all of it
/// where there are none.
pub(super) fn early(flag: &Spanned<String>) -> Result<(), Diagnostic> {
    for field in fields(&flag.value).map_err(|said| wrong(flag, flag.value.as_str(), &said))? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        let variable = value.find('$').is_some_and(|at| at + 1 < value.len());
        if canonical(key, &field, flag)? == "from" && variable {
            return Err(wrong(flag, &field, "`from` has no variables")
                .hint("add a stage `FROM $VARIABLE AS name`, and name that"));
        }
    }
    if flag.value.contains(['$', '\\', '\'', '"']) {
        return Ok(());
    }
    Mount::parse(flag, &mut |value| Ok(value.to_owned())).map(drop)
}

fn canonical(key: &str, field: &str, flag: &Spanned<String>) -> Result<&'static str, Diagnostic> {
    let key = key.to_ascii_lowercase();
    let found = KEYS.iter().find(|(name, more)| *name == key || more.contains(&key.as_str()));
    found.map(|(name, _)| *name).ok_or_else(|| {
        let names = KEYS.iter().flat_map(|(name, more)| std::iter::once(name).chain(more.iter()));
        let said = wrong(flag, field, &format!("a mount has no `{}`", shown(&key)));
        hinted(said, suggest::nearest(&key, names.copied()))
    })
}

fn choice<T: Copy>(name: &str, all: &[(&'static str, T)]) -> Result<T, Option<&'static str>> {
    match all.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => Ok(*value),
        None => Err(suggest::nearest(name, all.iter().map(|(known, _)| *known))),
    }
}

fn hinted(said: Diagnostic, near: Option<&'static str>) -> Diagnostic {
    match near {
        Some(near) => said.hint(format!("did you mean {near}?")),
        None => said,
    }
}

/// A field's place in the flag.
fn part(flag: &Spanned<String>, field: &str, value: String) -> Spanned<String> {
    let span = match flag.value.find(field) {
        Some(at) => flag.part(at..at + field.len()),
        None => flag.span,
    };
    Spanned::new(value, span)
}

fn wrong(flag: &Spanned<String>, field: &str, what: &str) -> Diagnostic {
    let at = part(flag, field, String::new());
    Diagnostic::error(at.span, format!("`--mount`: `{}`: {what}", shown(field)))
}

/// As Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size such as `64m` or `1.5GiB`; units are powers of 1024, as docker's are.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let number: f64 = digits.parse().ok().filter(|number: &f64| *number >= 0.0)?;
    let unit = text[digits.len()..].trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let size = number * 1024_f64.powi(i32::try_from(shift).ok()?);
    // Exact up to 2^53, more than any machine has.
    (size < 9e15).then_some(size as u64)
}

/// The fields of a CSV record: commas within double quotes belong to a field, two
/// quotes there are one.
fn fields(record: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut chars = record.chars().peekable();
    let mut quoted = false;
    let mut fresh = true;
    while let Some(c) = chars.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => {
                quoted = false;
                if chars.peek().is_some_and(|next| *next != ',') {
                    return Err("a quote ends within a field".into());
                }
            }
            '"' if fresh => quoted = true,
            '"' => return Err("a quote within a field that does not begin with one".into()),
            ',' if !quoted => {
                fields.push(String::new());
                fresh = true;
                continue;
            }
            c => field.push(c),
        }
        fresh = false;
    }
    if quoted {
        return Err("a quote is never closed".into());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, String> {
        let flag = Spanned::new(text.to_owned(), Span::new(0, text.len()));
        Mount::parse(&flag, &mut |value| Ok(value.to_owned())).map_err(|said| said.message)
    }

    #[test]
    fn options() {
        let bind = read("target=/x,source=/a,from=build,rw").unwrap();
        assert_eq!((bind.kind, bind.read_only), (MountType::Bind, false));
        assert_eq!(bind.from.as_ref().map(Spanned::as_str), Some("build"));
        let cache = read("type=CACHE,dst=/c,sharing=locked,mode=0700,uid=5,gid=6,id=z").unwrap();
        assert_eq!((cache.kind, cache.sharing), (MountType::Cache, Sharing::Locked));
        assert_eq!((cache.mode, cache.uid, cache.gid), (Some(0o700), Some(5), Some(6)));
        assert!(!cache.read_only);
        let secret = read("type=secret,id=a,required,env=").unwrap();
        assert!(secret.required && secret.read_only);
        assert_eq!(secret.env.as_deref(), Some(""));
        assert_eq!(read("type=tmpfs,target=/t,size=1.5k").unwrap().size, Some(1536));
        assert_eq!(read("type=bind,\"target=/a,b\"").unwrap().target, "/a,b");
        assert!(read("target=/x,ro=false").is_ok_and(|mount| !mount.read_only));
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "type=binf,target=/x",
            "targt=/x",
            "target",
            "target=/x,ro=maybe",
            "target=/x,required",
            "target=/x,size=1",
            "type=tmpfs,target=/x,size=many",
            "target=/x,uid=1",
            "type=tmpfs,target=/x,mode=700",
            "target=/x,sharing=locked",
            "type=cache,target=/x,sharing=open",
            "type=secret",
            "type=secret,id=a,source=b",
            "type=secret,id=a,from=b",
            "type=ssh,source=a",
            "type=cache,target=/x,mode=9",
            "type=bind,\"target=/a",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sources_before_expansion() {
        let flag = |text: &str| Spanned::new(text.to_owned(), Span::new(0, text.len()));
        let from = Mount::source(&flag("type=bind,from=build,target=$X")).unwrap();
        assert_eq!((from.as_str(), from.span), ("build", Span::new(10, 20)));
        assert!(early(&flag("target=$X,mode=$Y")).is_ok());
        assert!(early(&flag("from=$X,target=/x")).is_err());
        assert!(early(&flag("tarjet=$X")).is_err());
    }
}
