//! Where an image lies, in the words of skopeo's transports.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::reference::Reference;

/// A place to copy from or to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `NAME` or `docker://NAME`.
    Registry {
        name: Reference,
        /// It was given without tag and digest, so that the repository can be meant.
        bare: bool,
        /// It was given as `docker://NAME`.
        explicit: bool,
    },
    /// `store:NAME`: kiln's own store.
    Store(Reference),
    /// `oci:DIR[:TAG]`: an OCI image layout in a folder.
    Layout { folder: PathBuf, tag: Option<String> },
    /// `oci-archive:FILE[:TAG]`: a layout in a tar.
    OciArchive { file: PathBuf, tag: Option<String> },
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive { file: PathBuf, name: Option<Reference> },
}

/// Why a text is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no place of an image: {why}")]
pub struct PlaceError {
    text: String,
    why: String,
}

/// What other tools know, and kiln does not.
const OTHERS: [(&str, &str); 7] = [
    (
        "containers-storage:",
        "podman's own storage; `podman save --format oci-archive` gives a file",
    ),
    ("docker-daemon:", "docker's daemon; `docker save` gives a file for docker-archive:"),
    ("dir:", "skopeo's own form of a folder; oci: is the standard's"),
    ("oci-layout:", "BuildKit's word for oci:"),
    ("ostree:", "an ostree repository"),
    ("sif:", "a file of Singularity"),
    ("tarball:", "files that become an image"),
];

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let refuse = |why: String| PlaceError { text: text.chars().take(300).collect(), why };
        let name = |of: &str| of.parse::<Reference>().map_err(|error| refuse(error.why));
        let parts = |rest: &str| -> Result<(PathBuf, Option<String>), PlaceError> {
            let (path, more) = match rest.split_once(':') {
                Some((path, more)) => (path, Some(more)),
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(refuse("it names no file or folder".into()));
            }
            if more.is_some_and(str::is_empty) {
                return Err(refuse("its last colon has nothing behind it".into()));
            }
            Ok((path.into(), more.map(str::to_owned)))
        };
        let tagged = |rest: &str| {
            let (path, tag) = parts(rest)?;
            match tag {
                Some(tag) if !is_entry_name(&tag) => Err(refuse(format!(
                    "`{}` is no name of an image in a layout",
                    tag.escape_debug()
                ))),
                tag => Ok((path, tag)),
            }
        };
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(Self::Registry { name: name(rest)?, bare: is_bare(rest), explicit: true });
        }
        if let Some(rest) = text.strip_prefix("store:") {
            return Ok(Self::Store(name(rest)?));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (folder, tag) = tagged(rest)?;
            return Ok(Self::Layout { folder, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (file, tag) = tagged(rest)?;
            return Ok(Self::OciArchive { file, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (file, more) = parts(rest)?;
            let name = more.map(|more| name(&more)).transpose()?;
            if name.as_ref().is_some_and(|name| name.digest().is_some()) {
                return Err(refuse("a docker archive knows names with tags only".into()));
            }
            return Ok(Self::DockerArchive { file, name });
        }
        if let Some((_, what)) = OTHERS.iter().find(|(other, _)| text.starts_with(other)) {
            return Err(refuse(format!("that would be {what}")));
        }
        Ok(Self::Registry { name: name(text)?, bare: is_bare(text), explicit: false })
    }
}

/// True for a name that has neither tag nor digest.
fn is_bare(text: &str) -> bool {
    format!("{text}:x").parse::<Reference>().is_ok()
}

/// The names that entries of a layout may have (OCI image spec 1.1, annotations.md, the
/// grammar of `org.opencontainers.image.ref.name`).
fn is_entry_name(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || b"-._:@/+".contains(&c);
    text.len() <= 512
        && text.bytes().all(inner)
        && text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = |f: &mut fmt::Formatter<'_>, more: Option<String>| match more {
            Some(more) => write!(f, ":{more}"),
            None => Ok(()),
        };
        match self {
            Self::Registry { name, bare: true, .. } => f.write_str(&name.name()),
            Self::Registry { name, .. } => f.write_str(&name.familiar()),
            Self::Store(name) => write!(f, "store:{}", name.familiar()),
            Self::Layout { folder, tag } => {
                write!(f, "oci:{}", folder.display())?;
                more(f, tag.clone())
            }
            Self::OciArchive { file, tag } => {
                write!(f, "oci-archive:{}", file.display())?;
                more(f, tag.clone())
            }
            Self::DockerArchive { file, name } => {
                write!(f, "docker-archive:{}", file.display())?;
                more(f, name.as_ref().map(Reference::familiar))
            }
        }
    }
}

impl Place {
    /// Whether kiln's store serves: to hold the image, or on its way.
    #[must_use]
    pub fn needs_store(&self) -> bool {
        !matches!(self, Self::Registry { .. } | Self::Layout { .. })
    }

    /// The name in a registry.
    #[must_use]
    pub fn registry(&self) -> Option<&Reference> {
        match self {
            Self::Registry { name, .. } => Some(name),
            Self::Store(_)
            | Self::Layout { .. }
            | Self::OciArchive { .. }
            | Self::DockerArchive { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        for (text, shown) in [
            ("app", "docker.io/library/app"),
            ("app:1", "app:1"),
            ("docker://r:5000/a", "r:5000/a"),
            ("docker://oci:1", "oci:1"),
            ("store:app", "store:app:latest"),
            ("oci:a/b", "oci:a/b"),
            ("oci:/a:v1", "oci:/a:v1"),
            ("oci:/a:docker.io/library/a:v1", "oci:/a:docker.io/library/a:v1"),
            ("oci-archive:x.tar:v1", "oci-archive:x.tar:v1"),
            ("docker-archive:x.tar", "docker-archive:x.tar"),
            ("docker-archive:x.tar:r:5000/a:b", "docker-archive:x.tar:r:5000/a:b"),
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.to_string(), shown, "{text}");
        }
        for (text, says) in [
            ("", "empty"),
            ("oci:", "no file or folder"),
            ("oci:a:", "nothing behind it"),
            ("oci:a:\u{1b}", "no name of an image"),
            ("oci:a:-x", "no name of an image"),
            ("store:A", "lower-case"),
            ("docker-archive:x:a@sha256:1", "sha256"),
            ("containers-storage:a", "podman"),
            ("docker-daemon:a:b", "docker save"),
            ("dir:/x", "oci:"),
        ] {
            let said = text.parse::<Place>().unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
