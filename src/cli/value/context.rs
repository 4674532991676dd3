//! `--build-context NAME=SOURCE`.

use std::path::PathBuf;
use std::str::FromStr;

use super::ValueError;
use crate::dockerfile::GitSource;
use crate::platform::Platform;
use crate::reference::Reference;

/// What a name of the Dockerfile stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextArg {
    /// A stage's name, or an image's short one without `:latest`; with
    /// `::PLATFORM` behind it, if one was given.
    pub name: String,
    pub source: ContextFrom,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextFrom {
    /// A folder, or an archive of images or files.
    Path(PathBuf),
    /// A git repository.
    Git(Box<GitSource>),
    /// Another file of an HTTP server.
    Url(String),
    /// `docker-image://REFERENCE`.
    Image(Reference),
    /// `docker-image://scratch`.
    Scratch,
    /// `oci-layout://FOLDER[:TAG][@DIGEST]`.
    Layout { path: PathBuf, tag: Option<String>, digest: Option<String> },
}

impl FromStr for ContextArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, source) = text
            .split_once('=')
            .filter(|(name, source)| !name.is_empty() && !source.is_empty())
            .ok_or_else(|| ValueError::new("NAME=FOLDER or NAME=docker-image://… is expected"))?;
        let (name, platform) = match name.split_once("::") {
            Some((name, platform)) => {
                let platform = platform.parse::<Platform>();
                (name, Some(platform.map_err(|error| ValueError::new(error.to_string()))?))
            }
            None => (name, None),
        };
        let name = match name.parse::<Reference>() {
            Ok(reference) => reference.familiar(),
            Err(_) => name.to_owned(),
        };
        let mut name = name.strip_suffix(":latest").unwrap_or(&name).to_owned();
        if let Some(platform) = platform {
            name = format!("{name}::{platform}");
        }
        Ok(Self { name, source: from(source)? })
    }
}

fn from(source: &str) -> Result<ContextFrom, ValueError> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        return match image {
            "scratch" => Ok(ContextFrom::Scratch),
            image => {
                let read = image.parse();
                read.map(ContextFrom::Image).map_err(|error| ValueError::new(format!("{error}")))
            }
        };
    }
    if let Some(layout) = source.strip_prefix("oci-layout://") {
        let (rest, digest) = match layout.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (layout, None),
        };
        // A colon within the path's folders is part of it.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        return Ok(ContextFrom::Layout { path: path.into(), tag, digest });
    }
    if let Some(git) = GitSource::parse(source) {
        let git = git.map_err(|error| ValueError::new(error.to_string()))?;
        return Ok(ContextFrom::Git(Box::new(git)));
    }
    match source.split_once("://") {
        Some((scheme, _)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => {
            Ok(ContextFrom::Url(source.to_owned()))
        }
        Some((scheme, _)) => Err(ValueError::new(format!(
            "there are no contexts from {scheme}://: name a folder, an archive, a git or HTTP URL, docker-image:// or oci-layout://"
        ))),
        None => Ok(ContextFrom::Path(source.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sources() {
        let read = |text: &str| text.parse::<ContextArg>().unwrap();
        for (text, name) in [
            ("a=.", "a"),
            ("docker.io/library/alpine:latest=.", "alpine"),
            ("alpine:3=.", "alpine:3"),
            ("a::linux/arm64=.", "a::linux/arm64"),
            ("Base_1=.", "Base_1"),
        ] {
            assert_eq!(read(text).name, name, "{text}");
        }
        assert_eq!(read("a=../x").source, ContextFrom::Path("../x".into()));
        assert_eq!(read("a=docker-image://scratch").source, ContextFrom::Scratch);
        let image = ContextFrom::Image("alpine:3".parse().unwrap());
        assert_eq!(read("a=docker-image://alpine:3").source, image);
        let layout = |path: &str, tag: Option<&str>, digest: Option<&str>| ContextFrom::Layout {
            path: path.into(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        };
        assert_eq!(read("a=oci-layout:///x/y").source, layout("/x/y", None, None));
        assert_eq!(read("a=oci-layout://y:v1").source, layout("y", Some("v1"), None));
        assert_eq!(read("a=oci-layout://y@sha256:0").source, layout("y", None, Some("sha256:0")));
        let git = GitSource::parse("https://h/x.git#v1:d").unwrap().unwrap();
        assert_eq!(read("a=https://h/x.git#v1:d").source, ContextFrom::Git(Box::new(git)));
        assert_eq!(read("a=http://h/x").source, ContextFrom::Url("http://h/x".to_owned()));
        for text in [
            "a=https://h/x.git?x=y",
            "a",
            "=x",
            "a=",
            "a=ftp://x",
            "a=docker-image://A B",
            "a::x/y/z/w=.",
        ] {
            assert!(text.parse::<ContextArg>().is_err(), "{text}");
        }
    }
}
