//! What npm has installed: `node_modules/NAME/package.json`, and the hidden lock file beside
//! them (npm, "package-lock.json").

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::component::Kind;
use super::find::Draft;
use super::licence::Licence;

#[derive(Deserialize)]
struct Package {
    name: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    license: Option<Value>,
    #[serde(default)]
    licenses: Option<Value>,
    /// To a folder of the project itself, which has an entry of its own.
    #[serde(default)]
    link: bool,
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: BTreeMap<String, Package>,
}

/// Whether a folder is that of a package: `…/node_modules/NAME` or `…/node_modules/@SCOPE/NAME`.
pub(super) fn is_package(folder: &[u8]) -> bool {
    let mut parts = folder.rsplit(|byte| *byte == b'/');
    let Some(name) = parts.next() else { return false };
    // `.bin` and the like are no packages.
    if name.starts_with(b".") || name.starts_with(b"@") {
        return false;
    }
    match parts.next() {
        Some(b"node_modules") => true,
        Some(scope) if scope.starts_with(b"@") => parts.next() == Some(b"node_modules"),
        _ => false,
    }
}

/// Reads a package's own file.
pub(super) fn package(bytes: &[u8]) -> Result<Option<Draft>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let package: Package = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match package.name.clone() {
        Some(name) => Ok(Some(draft(&name, package))),
        None => Err("it has no name".into()),
    }
}

/// Reads the lock of a `node_modules`; `is_there` tells which packages are in the image.
pub(super) fn lock(bytes: &[u8], is_there: impl Fn(&str) -> bool) -> Result<Vec<Draft>, String> {
    let lock: Lock = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut drafts = Vec::new();
    for (folder, package) in lock.packages {
        let at = folder.rfind("node_modules/").map(|at| at + "node_modules/".len());
        let Some(short) = at.and_then(|at| folder.get(at..)) else { continue };
        if !package.link && is_there(&folder) {
            // An alias has the name of what it stands for.
            let name = package.name.clone().unwrap_or_else(|| short.to_owned());
            drafts.push(draft(&name, package));
        }
    }
    Ok(drafts)
}

fn draft(name: &str, package: Package) -> Draft {
    let (scope, name) = match name.split_once('/') {
        Some((scope, name)) if scope.starts_with('@') => (scope, name),
        _ => ("", name),
    };
    let version = package.version.unwrap_or_default();
    let mut draft = Draft::new(Kind::Npm, scope, name, &version);
    let stated = package.license.or(package.licenses);
    draft.licence = stated.and_then(|value| Licence::of(&words(&value)));
    draft
}

/// The forms of a licence that there were in the course of time.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        Value::Array(all) => all.iter().map(words).collect::<Vec<_>>().join(" OR "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages() {
        let read = |text: &str| package(text.as_bytes()).unwrap().unwrap();
        let one = read(r#"{"name":"@s/a","version":"1.0.0","license":{"type":"MIT"},"x":[1]}"#);
        assert_eq!((one.namespace.as_str(), one.name.as_str()), ("@s", "a"));
        assert_eq!(one.licence, Some(Licence::Spdx("MIT".into())));
        let old = read(r#"{"name":"b","licenses":[{"type":"MIT"},{"type":"ISC"}]}"#);
        assert_eq!(old.licence, Some(Licence::Spdx("MIT OR ISC".into())));
        assert!(package(b"{}").is_err());
        assert!(package(b"{\"name\":\"a\"").is_err());
        assert!(package(&b"[".repeat(100_000)).is_err());
    }

    #[test]
    fn locks() {
        let text = r#"{"packages":{"":{"name":"app"},"node_modules/a":{"version":"1"},
            "node_modules/a/node_modules/@s/b":{"version":"2","license":"ISC"},
            "node_modules/own":{"resolved":"packages/own","link":true},
            "node_modules/gone":{"version":"3"}}}"#;
        let all = lock(text.as_bytes(), |folder| !folder.ends_with("gone")).unwrap();
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        for end in 0..text.len() - 1 {
            assert!(lock(&text.as_bytes()[..end], |_| true).is_err());
        }
    }
}
