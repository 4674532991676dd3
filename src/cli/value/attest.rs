//! `--attest`, `--provenance` and `--sbom`, as `docker buildx build` spells them.

use std::str::FromStr;

use super::ValueError;
use super::csv::{attributes, boolean, fields};
use crate::attest::Mode;

/// What is to be attached, or that something is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttestArg {
    Provenance(Option<ProvenanceArg>),
    Sbom(Option<SbomFormat>),
}

/// How provenance is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProvenanceArg {
    pub mode: Mode,
    pub builder: Option<String>,
    pub reproducible: Option<bool>,
}

/// The form of an SBOM: kiln's own attribute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SbomFormat {
    #[default]
    Spdx,
    CycloneDx,
}

impl FromStr for AttestArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (kind, attrs) = attributes(&fields(text)?, str::to_lowercase)?;
        match kind.as_deref() {
            Some("provenance") => provenance(attrs),
            Some("sbom") => sbom(attrs),
            Some(other) => Err(ValueError::new(format!(
                "type={other}: kiln attaches provenance and sbom; `kiln copy` brings others"
            ))),
            None => Err(ValueError::new("type=provenance or type=sbom is expected")),
        }
    }
}

impl AttestArg {
    /// Reads the value of `--provenance`.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn provenance(text: &str) -> Result<Self, ValueError> {
        match switch(text) {
            Some(on) => Ok(Self::Provenance(on.then(ProvenanceArg::default))),
            None => provenance(plain(text)?),
        }
    }

    /// Reads the value of `--sbom`.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn sbom(text: &str) -> Result<Self, ValueError> {
        match switch(text) {
            Some(on) => Ok(Self::Sbom(on.then(SbomFormat::default))),
            None => sbom(plain(text)?),
        }
    }
}

type Attrs = Vec<(String, String)>;

/// True and false alone.
fn switch(text: &str) -> Option<bool> {
    if text.is_empty() { Some(false) } else { boolean("", text).ok() }
}

/// Attributes without a type, which the flag says.
fn plain(text: &str) -> Result<Attrs, ValueError> {
    match attributes(&fields(text)?, str::to_lowercase)? {
        (None, attrs) => Ok(attrs),
        (Some(_), _) => Err(ValueError::new("the flag says the type; --attest has type=")),
    }
}

fn provenance(attrs: Attrs) -> Result<AttestArg, ValueError> {
    let (mut arg, mut on) = (ProvenanceArg::default(), true);
    for (name, value) in attrs {
        match name.as_str() {
            "disabled" => on = !boolean(&name, &value)?,
            "mode" => {
                arg.mode = match value.as_str() {
                    "min" => Mode::Min,
                    "max" => Mode::Max,
                    _ => return Err(ValueError::new(format!("mode={value}: min or max"))),
                };
            }
            "builder-id" if value.is_empty() => {
                return Err(ValueError::new("builder-id= is a URI of whoever builds"));
            }
            "builder-id" => arg.builder = Some(value),
            "reproducible" => arg.reproducible = Some(boolean(&name, &value)?),
            "version" if value == "v1" => (),
            "version" => {
                let why = format!("version={value}: kiln's provenance is SLSA v1 only");
                return Err(ValueError::new(why));
            }
            "inline-only" if !boolean(&name, &value)? => (),
            "inline-only" => {
                let why = "inline-only=true: what is attached goes wherever the image goes that \
                           has room for it";
                return Err(ValueError::new(why));
            }
            _ => return Err(unknown(&name)),
        }
    }
    Ok(AttestArg::Provenance(on.then_some(arg)))
}

fn sbom(attrs: Attrs) -> Result<AttestArg, ValueError> {
    let (mut format, mut on) = (SbomFormat::default(), true);
    for (name, value) in attrs {
        match name.as_str() {
            "disabled" => on = !boolean(&name, &value)?,
            "format" => {
                format = match value.as_str() {
                    "spdx" => SbomFormat::Spdx,
                    "cyclonedx" => SbomFormat::CycloneDx,
                    _ => return Err(ValueError::new(format!("format={value}: spdx or cyclonedx"))),
                };
            }
            "generator" => {
                let why = "generator=: kiln reads packages itself and runs no image for it; leave \
                           it out";
                return Err(ValueError::new(why));
            }
            _ => return Err(unknown(&name)),
        }
    }
    Ok(AttestArg::Sbom(on.then_some(format)))
}

fn unknown(name: &str) -> ValueError {
    ValueError::new(format!("`{name}` is no attribute that kiln knows here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let max = ProvenanceArg { mode: Mode::Max, ..ProvenanceArg::default() };
        let named = ProvenanceArg {
            builder: Some("https://ci.example/a,b".into()),
            reproducible: Some(true),
            ..ProvenanceArg::default()
        };
        let plain = Some(ProvenanceArg::default());
        for (text, expected) in [
            ("type=provenance", AttestArg::Provenance(plain.clone())),
            ("type=provenance,mode=max,version=v1", AttestArg::Provenance(Some(max.clone()))),
            ("type=provenance,mode=max,disabled=true", AttestArg::Provenance(None)),
            (
                "type=provenance,\"builder-id=https://ci.example/a,b\",reproducible=true",
                AttestArg::Provenance(Some(named)),
            ),
            ("type=sbom", AttestArg::Sbom(Some(SbomFormat::Spdx))),
            ("TYPE=sbom,format=cyclonedx", AttestArg::Sbom(Some(SbomFormat::CycloneDx))),
            ("type=sbom,disabled=1", AttestArg::Sbom(None)),
        ] {
            assert_eq!(text.parse::<AttestArg>().unwrap(), expected, "{text}");
        }
        for (text, expected) in
            [("true", plain), ("false", None), ("", None), ("mode=max", Some(max))]
        {
            assert_eq!(AttestArg::provenance(text).unwrap(), AttestArg::Provenance(expected));
        }
        assert_eq!(AttestArg::sbom("false").unwrap(), AttestArg::Sbom(None));
        for (text, says) in [
            ("mode=max", "type=provenance or type=sbom"),
            ("type=other", "type=other"),
            ("type=provenance,mode=mid", "min or max"),
            ("type=provenance,version=v0.2", "SLSA v1"),
            ("type=provenance,builder-id=", "a URI"),
            ("type=provenance,inline-only=true", "wherever the image goes"),
            ("type=provenance,filename=x", "`filename` is no attribute"),
            ("type=sbom,generator=x", "runs no image"),
            ("type=sbom,mode=max", "`mode` is no attribute"),
        ] {
            let said = text.parse::<AttestArg>().unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
        assert!(AttestArg::provenance("type=provenance").is_err());
        assert!(AttestArg::sbom("generator=x").is_err());
    }
}
