//! `--annotation [TYPE[[PLATFORM]]:]KEY=VALUE`, and the same as attributes of an
//! output: `annotation[-TYPE][[PLATFORM]].KEY=VALUE`.

use std::str::FromStr;

use super::ValueError;
use crate::image::{Note, NotePlace};
use crate::platform::Platform;

/// What one flag asks for: an annotation at each of the places that it lists. A
/// flag of nothing asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationArg(pub Vec<Note>);

/// What descriptors carry for a reason of their own: names, and what belongs to which
/// image.
const RESERVED: [&str; 3] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
    "containerimage.config.digest",
];

impl FromStr for AnnotationArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let (key, value) =
            text.split_once('=').ok_or_else(|| ValueError::new("[TYPE:]KEY=VALUE is expected"))?;
        let (types, key) = match key.split_once(':') {
            Some((types, key)) => (types, key),
            None => ("manifest", key),
        };
        let notes = types.split(',').map(|word| {
            let (kind, platform) = kind_of(word)?;
            note(kind, platform, key, value)
        });
        notes.collect::<Result<_, _>>().map(Self)
    }
}

/// Reads an attribute of an output, if it is an annotation.
pub(super) fn attribute(name: &str, value: &str) -> Option<Result<Note, ValueError>> {
    let rest = name.strip_prefix("annotation")?;
    // The type and the platform have no dot, the key mostly has.
    let (head, key) = rest.split_once('.')?;
    let read = || {
        let word = match head.strip_prefix('-') {
            Some(word) => word.to_owned(),
            None if head.is_empty() || head.starts_with('[') => format!("manifest{head}"),
            None => return Err(ValueError::new(format!("`{name}` is not known"))),
        };
        let (kind, platform) = kind_of(&word)?;
        note(kind, platform, key, value)
    };
    Some(read())
}

/// `TYPE` or `TYPE[PLATFORM]`.
fn kind_of(word: &str) -> Result<(&str, Option<Platform>), ValueError> {
    let Some((kind, rest)) = word.split_once('[') else { return Ok((word, None)) };
    let platform = rest
        .strip_suffix(']')
        .ok_or_else(|| ValueError::new(format!("`{word}`: TYPE[OS/ARCH] is expected")))?;
    let platform = platform.parse::<Platform>();
    platform
        .map(|platform| (kind, Some(platform)))
        .map_err(|error| ValueError::new(error.to_string()))
}

fn note(
    kind: &str,
    platform: Option<Platform>,
    key: &str,
    value: &str,
) -> Result<Note, ValueError> {
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(ValueError::new(format!("`{key}` is no key of an annotation")));
    }
    let place = match (kind, platform) {
        ("manifest", platform) => NotePlace::Manifest(platform),
        ("manifest-descriptor", platform) => NotePlace::ManifestDescriptor(platform),
        ("index", None) => NotePlace::Index,
        ("index-descriptor", None) => NotePlace::IndexDescriptor,
        ("index" | "index-descriptor", Some(_)) => {
            return Err(ValueError::new(format!("`{kind}` has no platform: it is of all")));
        }
        (other, _) => {
            return Err(ValueError::new(format!(
                "`{other}` is no type of an annotation: manifest, manifest-descriptor, index and \
                 index-descriptor are"
            )));
        }
    };
    let descriptor = matches!(place, NotePlace::ManifestDescriptor(_) | NotePlace::IndexDescriptor);
    if descriptor && (RESERVED.contains(&key) || key.starts_with("vnd.docker.reference.")) {
        return Err(ValueError::new(format!("`{key}` is reserved: builders write it themselves")));
    }
    Ok(Note { place, key: key.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let places = |text: &str| {
            let AnnotationArg(notes) = text.parse().unwrap();
            notes.into_iter().map(|note| note.place).collect::<Vec<_>>()
        };
        let arm = Some(Platform::new("linux", "arm64"));
        assert_eq!(places(""), []);
        assert_eq!(places("com.example=a=b"), [NotePlace::Manifest(None)]);
        assert_eq!(
            places("index,manifest[linux/arm64]:com.example=a"),
            [NotePlace::Index, NotePlace::Manifest(arm.clone())]
        );
        assert_eq!(
            places("manifest-descriptor[linux/arm64/v8],index-descriptor:a=b"),
            [NotePlace::ManifestDescriptor(arm), NotePlace::IndexDescriptor]
        );
        let AnnotationArg(notes) = "a.b=c=d,e".parse().unwrap();
        assert_eq!((notes[0].key.as_str(), notes[0].value.as_str()), ("a.b", "c=d,e"));
        for (text, says) in [
            ("a", "KEY=VALUE"),
            ("=b", "no key"),
            ("manifest:=b", "no key"),
            ("a b=c", "no key"),
            ("bad:a=b", "`bad` is no type"),
            ("manifest[a/b/c/d]:a=b", "not a platform"),
            ("manifest[linux/arm64:a=b", "TYPE[OS/ARCH]"),
            ("index[linux/arm64]:a=b", "no platform"),
            ("index-descriptor:org.opencontainers.image.ref.name=x", "reserved"),
            ("manifest-descriptor:vnd.docker.reference.type=x", "reserved"),
        ] {
            let said = text.parse::<AnnotationArg>().unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn attributes() {
        let place = |name: &str| attribute(name, "v").map(|note| note.map(|note| note.place));
        assert_eq!(place("name"), None);
        assert_eq!(place("annotation.a.b"), Some(Ok(NotePlace::Manifest(None))));
        assert_eq!(place("annotation-index.a"), Some(Ok(NotePlace::Index)));
        let arm = Some(Platform::new("linux", "arm64"));
        assert_eq!(place("annotation[linux/arm64].a"), Some(Ok(NotePlace::Manifest(arm.clone()))));
        let place = place("annotation-manifest-descriptor[linux/arm64].a.b");
        assert_eq!(place, Some(Ok(NotePlace::ManifestDescriptor(arm))));
        for bad in ["annotations.a", "annotation-layer.a", "annotation.", "annotation[x].a"] {
            assert!(attribute(bad, "v").is_some_and(|note| note.is_err()), "{bad}");
        }
    }
}
