//! `-v SOURCE:TARGET[:ro|:rw]`.

use std::str::FromStr;

use super::ValueError;
use crate::container;

/// A path of the host that the container sees. kiln has no named volumes, so
/// the source is a path: absolute, or relative with a leading `.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume(pub container::Volume);

impl FromStr for Volume {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => return Err(ValueError::new("SOURCE:TARGET or SOURCE:TARGET:ro is expected")),
        };
        if !(source.starts_with('/') || source.starts_with('.')) {
            return Err(ValueError::new(format!(
                "`{source}` is no path; write /{source} or ./{source} (there are no named volumes)"
            )));
        }
        if !target.starts_with('/') {
            return Err(ValueError::new(format!("the target `{target}` is not absolute")));
        }
        let mut read_only = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                // SELinux labels do nothing here, and scripts give them often.
                "rw" | "z" | "Z" => (),
                other => return Err(ValueError::new(format!("option `{other}` is not known"))),
            }
        }
        Ok(Self(container::Volume { source: source.into(), target: target.into(), read_only }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let of = |text: &str| {
            let Volume(it) = text.parse().ok()?;
            Some(format!("{} {} {}", it.source.display(), it.target.display(), it.read_only))
        };
        assert_eq!(of("/a:/b").as_deref(), Some("/a /b false"));
        assert_eq!(of("./a:/b:ro,Z").as_deref(), Some("./a /b true"));
        for bad in ["", "/a", "a:/b", "/a:b", "/a:/b:xx", "/a:/b:ro:rw"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
