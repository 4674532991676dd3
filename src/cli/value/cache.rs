//! `--cache-from` and `--cache-to`, as `docker buildx build` spells them:
//! `type=registry,ref=NAME`, `type=local,src=FOLDER`, `type=local,dest=FOLDER`,
//! `type=inline`, and names alone for registries.

use std::path::PathBuf;
use std::str::FromStr;

use super::csv::{attributes, boolean, fields};
use super::{CompressionArg, ValueError};
use crate::build::{CacheFrom, LayoutEntry, Mode};
use crate::layer::Compression;
use crate::reference::Reference;

/// The tag that a layout's entry has where none is named, as with BuildKit.
const LATEST: &str = "latest";

/// Where a build takes its cache from: of one flag, several names or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFromArg(pub Vec<CacheFrom>);

/// Where a build's cache goes to: of one flag, several names or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheToArg(pub Vec<CacheTo>);

/// One place that a cache goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    pub place: CachePlace,
    pub mode: Mode,
    /// Of the layers that the build makes.
    pub compression: Option<Compression>,
    pub level: Option<u8>,
    /// With what the caches of `RUN --mount` hold: kiln's own attribute.
    pub mounts: bool,
    /// That it cannot be written is a warning.
    pub ignore_error: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    Registry(Reference),
    /// The folder of an image layout, and the tag of its entry.
    Folder {
        folder: PathBuf,
        tag: String,
    },
    /// The image itself.
    Inline,
}

impl FromStr for CacheFromArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut attrs = match Attrs::read(text)? {
            Written::Names(names) => {
                return Ok(Self(names.into_iter().map(CacheFrom::Registry).collect()));
            }
            Written::Attrs(attrs) => attrs,
        };
        let from = match attrs.kind.as_str() {
            "registry" => {
                let from = CacheFrom::Registry(attrs.reference()?);
                attrs.insecure()?;
                from
            }
            "local" => {
                let folder = attrs.folder("src")?;
                let tag = attrs.tag()?;
                let entry = match attrs.take("digest") {
                    None => LayoutEntry::Tag(tag.unwrap_or_else(|| LATEST.to_owned())),
                    Some(_) if tag.is_some() => {
                        return Err(ValueError::new("digest and tag name two entries"));
                    }
                    Some(digest) => LayoutEntry::Digest(
                        digest.parse().map_err(|error| ValueError::new(format!("{error}")))?,
                    ),
                };
                CacheFrom::Folder { folder, entry }
            }
            "inline" => {
                return Err(ValueError::new(
                    "type=inline is for --cache-to; the cache within an image is taken with \
                     type=registry,ref=IMAGE",
                ));
            }
            other => return Err(unknown(other, "registry and local")),
        };
        attrs.end()?;
        Ok(Self(vec![from]))
    }
}

impl FromStr for CacheToArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut attrs = match Attrs::read(text)? {
            Written::Names(names) => {
                let to = |name| CacheTo {
                    place: CachePlace::Registry(name),
                    mode: Mode::Min,
                    compression: None,
                    level: None,
                    mounts: false,
                    ignore_error: false,
                };
                let names = names.into_iter().map(to).collect::<Vec<_>>();
                names.iter().try_for_each(written_to)?;
                return Ok(Self(names));
            }
            Written::Attrs(attrs) => attrs,
        };
        let place = match attrs.kind.as_str() {
            "registry" => {
                let place = CachePlace::Registry(attrs.reference()?);
                attrs.insecure()?;
                place
            }
            "local" => CachePlace::Folder {
                folder: attrs.folder("dest")?,
                tag: attrs.tag()?.unwrap_or_else(|| LATEST.to_owned()),
            },
            "inline" => CachePlace::Inline,
            other => return Err(unknown(other, "registry, local and inline")),
        };
        let mode = match attrs.take("mode").as_deref() {
            None | Some("min") => Mode::Min,
            Some("max") if place == CachePlace::Inline => {
                return Err(ValueError::new(
                    "mode=max cannot be had with type=inline: an image has its own layers only; \
                     type=registry and type=local hold all",
                ));
            }
            Some("max") => Mode::Max,
            Some(other) => {
                return Err(ValueError::new(format!("mode={other} is not known: min and max are")));
            }
        };
        let compression = attrs.take("compression").map(|text| text.parse::<CompressionArg>());
        let compression = compression.transpose()?.map(|arg| arg.0);
        let level = attrs.take("compression-level").map(|level| {
            let said = |_| ValueError::new(format!("compression-level={level} is no number"));
            level.parse().map_err(said)
        });
        let to = CacheTo {
            place,
            mode,
            compression,
            level: level.transpose()?,
            mounts: attrs.flag("mounts")?.unwrap_or(false),
            ignore_error: attrs.flag("ignore-error")?.unwrap_or(false),
        };
        if to.mounts && to.place == CachePlace::Inline {
            return Err(ValueError::new(
                "mounts=true cannot be had with type=inline: what caches hold is in no image; \
                 type=registry and type=local hold it",
            ));
        }
        // A cache has the layers that the build makes, which have one form.
        attrs.flag("force-compression")?;
        attrs.fixed("oci-mediatypes", "a cache has OCI's media types")?;
        attrs.fixed("image-manifest", "a cache is an image manifest")?;
        attrs.end()?;
        written_to(&to)?;
        Ok(Self(vec![to]))
    }
}

/// What is written has a tag, not a digest.
fn written_to(to: &CacheTo) -> Result<(), ValueError> {
    match &to.place {
        CachePlace::Registry(name) if name.digest().is_some() => {
            Err(ValueError::new(format!("`{}` has a digest", name.familiar())))
        }
        CachePlace::Registry(_) | CachePlace::Folder { .. } | CachePlace::Inline => Ok(()),
    }
}

fn unknown(kind: &str, known: &str) -> ValueError {
    ValueError::new(format!("type `{kind}` is not known; {known} are"))
}

/// The two ways to write it.
enum Written {
    Names(Vec<Reference>),
    Attrs(Attrs),
}

/// The attributes of one flag, taken out one by one.
struct Attrs {
    kind: String,
    left: Vec<(String, String)>,
}

impl Attrs {
    fn read(text: &str) -> Result<Written, ValueError> {
        let fields = fields(text)?;
        if fields.iter().all(|field| !field.contains('=')) {
            let names = fields.iter().filter(|name| !name.is_empty());
            let names = names.map(|name| reference(name)).collect::<Result<_, _>>()?;
            return Ok(Written::Names(names));
        }
        let (kind, left) = attributes(&fields, str::to_ascii_lowercase)?;
        let kind = kind.ok_or_else(|| ValueError::new("it has no type=registry|local|inline"))?;
        Ok(Written::Attrs(Self { kind, left }))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.left.iter().position(|(other, _)| other == name)?;
        Some(self.left.remove(at).1)
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, ValueError> {
        self.take(name).map(|value| boolean(name, &value)).transpose()
    }

    /// An attribute that may say only what is so anyway.
    fn fixed(&mut self, name: &str, why: &str) -> Result<(), ValueError> {
        match self.flag(name)? {
            Some(false) => Err(ValueError::new(format!("{name}=false cannot be had: {why}"))),
            Some(true) | None => Ok(()),
        }
    }

    fn reference(&mut self) -> Result<Reference, ValueError> {
        let name = self.take("ref").filter(|name| !name.is_empty());
        reference(&name.ok_or_else(|| ValueError::new("type=registry needs ref=NAME"))?)
    }

    fn insecure(&mut self) -> Result<(), ValueError> {
        match self.flag("registry.insecure")? {
            Some(true) => Err(ValueError::new(
                "registry.insecure=true cannot be had: name the registry with --insecure HOST",
            )),
            Some(false) | None => Ok(()),
        }
    }

    fn folder(&mut self, name: &str) -> Result<PathBuf, ValueError> {
        let path = self.take(name).filter(|path| !path.is_empty());
        path.map(PathBuf::from)
            .ok_or_else(|| ValueError::new(format!("type=local needs {name}=FOLDER")))
    }

    fn tag(&mut self) -> Result<Option<String>, ValueError> {
        match self.take("tag") {
            Some(tag) if tag.is_empty() => Err(ValueError::new("tag= is empty")),
            tag => Ok(tag),
        }
    }

    fn end(mut self) -> Result<(), ValueError> {
        match self.left.pop() {
            None => Ok(()),
            Some((name, _)) => {
                Err(ValueError::new(format!("type={} has no attribute `{name}`", self.kind)))
            }
        }
    }
}

fn reference(name: &str) -> Result<Reference, ValueError> {
    name.trim().parse().map_err(|error| ValueError::new(format!("{error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<Vec<CacheFrom>, String> {
        text.parse::<CacheFromArg>().map(|arg| arg.0).map_err(|error| error.to_string())
    }

    fn to(text: &str) -> Result<Vec<CacheTo>, String> {
        text.parse::<CacheToArg>().map(|arg| arg.0).map_err(|error| error.to_string())
    }

    #[test]
    fn sources() {
        let name = |name: &str| CacheFrom::Registry(name.parse().unwrap());
        let folder = |entry| CacheFrom::Folder { folder: "d".into(), entry };
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("", vec![]),
            ("a/b:c", vec![name("a/b:c")]),
            ("a,b.c/d", vec![name("a"), name("b.c/d")]),
            ("type=registry,ref=a", vec![name("a")]),
            ("ref=a,TYPE=registry,registry.insecure=false", vec![name("a")]),
            ("type=local,src=d", vec![folder(LayoutEntry::Tag("latest".into()))]),
            ("type=local,src=d,tag=x", vec![folder(LayoutEntry::Tag("x".into()))]),
            (
                &format!("type=local,src=d,digest={digest}"),
                vec![folder(LayoutEntry::Digest(digest.parse().unwrap()))],
            ),
        ] {
            assert_eq!(from(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn targets() {
        let place = |text: &str| to(text).unwrap().remove(0).place;
        let folder = |tag: &str| CachePlace::Folder { folder: "d".into(), tag: tag.into() };
        assert_eq!(place("a"), CachePlace::Registry("a".parse().unwrap()));
        assert_eq!(place("type=local,dest=d"), folder("latest"));
        assert_eq!(place("type=local,dest=d,tag=x"), folder("x"));
        assert_eq!(place("type=inline,mode=min"), CachePlace::Inline);
        let all = "type=registry,ref=a,mode=max,compression=zstd,compression-level=5,\
                   ignore-error=true,mounts=true,oci-mediatypes=true,image-manifest=true,force-compression=true";
        let all = to(all).unwrap().remove(0);
        assert_eq!((all.mode, all.compression), (Mode::Max, Some(Compression::Zstd)));
        assert_eq!((all.level, all.ignore_error, all.mounts), (Some(5), true, true));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("type=gha", "type `gha` is not known; registry and local are"),
            ("type=s3,bucket=x", "type `s3` is not known"),
            ("type=inline", "for --cache-to"),
            ("type=registry", "needs ref=NAME"),
            ("type=registry,ref=", "needs ref=NAME"),
            ("type=registry,ref=A", "lower-case"),
            ("type=registry,ref=a,mode=max", "no attribute `mode`"),
            ("type=registry,ref=a,registry.insecure=true", "--insecure"),
            ("type=registry,ref=a,ref=b", "twice"),
            ("type=local", "needs src=FOLDER"),
            ("type=local,dest=d", "needs src=FOLDER"),
            ("type=local,src=d,digest=sha256:0", "digest"),
            (&format!("type=local,src=d,tag=a,digest=sha256:{}", "0".repeat(64)), "two entries"),
            ("ref=a", "no type="),
            ("type=registry,a", "name=value"),
        ] {
            let said = from(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
        for (text, says) in [
            ("type=azblob", "type `azblob` is not known; registry, local and inline are"),
            ("type=local,src=d", "needs dest=FOLDER"),
            ("type=inline,mode=max", "an image has its own layers only"),
            ("type=inline,mounts=true", "in no image"),
            ("type=inline,ref=a", "no attribute `ref`"),
            ("type=local,dest=d,mode=all", "min and max"),
            ("type=local,dest=d,compression=estargz", "gzip, zstd and uncompressed"),
            ("type=local,dest=d,compression-level=x", "no number"),
            ("type=local,dest=d,ignore-error=perhaps", "true or false"),
            ("type=local,dest=d,oci-mediatypes=false", "OCI's media types"),
            ("type=local,dest=d,image-manifest=false", "image manifest"),
            (&format!("a@sha256:{}", "0".repeat(64)), "has a digest"),
        ] {
            let said = to(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
