//! The distribution, by os-release(5).

/// What an image says of its distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    pub id: String,
    /// Empty where there are no versions, as in Debian's unstable one.
    pub version: String,
    /// For people.
    pub name: String,
}

impl Distribution {
    /// Reads the file. `None` if it has no `ID`.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let field = |key: &str| {
            let mut lines = text.lines().rev();
            let value = lines.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
            let value = unquoted(value.trim());
            (value.len() <= 256).then_some(value)
        };
        let id = field("ID").filter(|id| !id.is_empty())?;
        let version = field("VERSION_ID").unwrap_or_default();
        let name = field("PRETTY_NAME").or_else(|| field("NAME")).unwrap_or_else(|| id.clone());
        Some(Self { id, version, name })
    }

    /// The namespace in package URLs: purl-spec has names of its own for some.
    pub(super) fn vendor(&self) -> &str {
        match self.id.as_str() {
            "rhel" => "redhat",
            id if id.starts_with("opensuse") => "opensuse",
            id => id,
        }
    }

    /// The qualifier in package URLs.
    pub(super) fn qualifier(&self) -> String {
        match self.version.as_str() {
            "" => self.id.clone(),
            version => format!("{}-{version}", self.id),
        }
    }
}

/// A value without the shell's quotes and backslashes.
fn unquoted(value: &str) -> String {
    let inner = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote)));
    let mut out = String::new();
    let mut letters = inner.unwrap_or(value).chars();
    while let Some(letter) = letters.next() {
        out.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let text = b"# x\nNAME='Debian GNU/Linux'\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"a \\\"b\\\"\"\n";
        let read = Distribution::read(text).unwrap();
        assert_eq!((read.id.as_str(), read.version.as_str()), ("debian", "12"));
        assert_eq!(read.name, "a \"b\"");
        assert_eq!(read.qualifier(), "debian-12");
        assert_eq!(Distribution::read(b"ID=alpine").unwrap().qualifier(), "alpine");
        assert_eq!(Distribution::read(b"VERSION_ID=1\xff"), None);
        for (id, vendor) in [
            ("rhel", "redhat"),
            ("opensuse-leap", "opensuse"),
            ("opensuse-tumbleweed", "opensuse"),
            ("fedora", "fedora"),
        ] {
            let read = Distribution::read(format!("ID={id}").as_bytes()).unwrap();
            assert_eq!(read.vendor(), vendor);
        }
    }
}
