//! Manifests: YAML in, objects with pinned images out.
//!
//! The text is cut at its document markers (YAML 1.2, 9.2) so that an error can
//! name the document. Scalars are read as kubectl reads them, by the YAML 1.1
//! rules: `yes` is true, `0644` is octal. `kind: List` is its items.

use serde_json::Value;

use super::{DeployError, Object, object};
use crate::diagnostic::Source;
use crate::reference::{Pinned, Reference};

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    /// With `apiVersion`, `kind` and `metadata.name`, each a string.
    pub(super) value: Value,
    pub(super) file: String,
    /// Counted from 1.
    pub(super) number: usize,
}

impl Document {
    /// Which object this is; the namespace only if it is written.
    pub(super) fn object(&self) -> Object {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &self.value["metadata"];
        Object {
            api_version: text(&self.value["apiVersion"]),
            kind: text(&self.value["kind"]),
            name: text(&metadata["name"]),
            namespace: metadata["namespace"].as_str().map(str::to_owned),
        }
    }
}

/// Reads all documents; empty ones are passed over.
pub(super) fn read(source: &Source) -> Result<Vec<Document>, DeployError> {
    let mut documents = Vec::new();
    for (at, (line, text)) in split(source.text()).into_iter().enumerate() {
        let number = at + 1;
        let wrong = |line: Option<usize>, why: String| DeployError::Manifest {
            file: source.name().to_owned(),
            document: number,
            line,
            why,
        };
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let values: Vec<Value> =
            serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
                let place = error.location().map(|place| line + (place.line() as usize).max(1) - 1);
                wrong(place, first_line(&error))
            })?;
        for value in values {
            if value.is_null() {
                continue;
            }
            for value in flatten(value) {
                check(&value).map_err(|why| wrong(Some(line), why))?;
                documents.push(Document { value, file: source.name().to_owned(), number });
            }
        }
    }
    if documents.is_empty() {
        return Err(DeployError::Manifest {
            file: source.name().to_owned(),
            document: 1,
            line: None,
            why: "there is no object in it".into(),
        });
    }
    Ok(documents)
}

/// The parser's message without its drawing of the place.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    text.lines().next().unwrap_or("not YAML").trim().trim_end_matches('.').to_owned()
}

/// Pieces of the text that hold one document each, with their first line's number.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut pieces = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    // A piece of directives alone (`%YAML 1.2`) belongs to the next marker.
    let mut only_directives = true;
    let mut directives = false;
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && offset > start && !(directives && only_directives) {
            pieces.push((first, &text[start..offset]));
            (start, first) = (offset, at + 1);
        }
        if marker {
            (only_directives, directives) = (true, false);
        } else if line.starts_with('%') {
            directives = true;
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            only_directives = false;
        }
        offset += line.len();
    }
    pieces.push((first, &text[start..]));
    // What stands before the first marker is no document if nothing is said there.
    pieces.retain(|(_, piece)| {
        piece.lines().any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#') && line != "---"
        })
    });
    pieces
}

fn flatten(mut value: Value) -> Vec<Value> {
    let list = value["kind"].as_str() == Some("List") && value["apiVersion"].as_str() == Some("v1");
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if list => items,
        Some(items) => {
            value["items"] = items;
            vec![value]
        }
        None => vec![value],
    }
}

fn check(value: &Value) -> Result<(), String> {
    if !value.is_object() {
        return Err("an object with apiVersion, kind and metadata is expected".into());
    }
    for path in ["/apiVersion", "/kind", "/metadata/name"] {
        let field = path[1..].replace('/', ".");
        match value.pointer(path) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(Value::Null) | None if path == "/metadata/name" => {
                return Err(match value.pointer("/metadata/generateName") {
                    Some(_) => "generateName makes a new object each time and cannot be applied; \
                                use metadata.name"
                        .into(),
                    None => format!("`{field}` is missing"),
                });
            }
            Some(Value::Null) | None => return Err(format!("`{field}` is missing")),
            Some(other) => return Err(format!("`{field}` is {other}, a text is expected")),
        }
    }
    match value.pointer("/metadata/namespace") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(other) => Err(format!("`metadata.namespace` is {other}, a text is expected")),
    }
}

/// Replaces the image of every container that runs `name` by the pinned one; at
/// least one must.
pub(super) fn pin(
    documents: &mut [Document],
    source: &Source,
    name: &Reference,
    image: &Pinned,
) -> Result<(), DeployError> {
    let mut found = Vec::new();
    let mut replaced = false;
    for document in documents {
        let Some(spec) = object::pod_spec(&mut document.value) else { continue };
        for list in ["initContainers", "containers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let Some(written) = container.get_mut("image") else { continue };
                let Some(text) = written.as_str() else { continue };
                if text.parse::<Reference>().is_ok_and(|other| other.name() == name.name()) {
                    *written = image.to_string().into();
                    replaced = true;
                } else if !found.iter().any(|known| known == text) {
                    found.push(text.to_owned());
                }
            }
        }
    }
    if replaced {
        return Ok(());
    }
    Err(DeployError::ImageNotUsed {
        file: source.name().to_owned(),
        wanted: name.at(name.registry(), name.repository()).familiar(),
        found,
    })
}

/// One object as YAML, quoted so that YAML 1.1 readers take it as meant.
pub(super) fn write(value: &Value) -> Result<String, DeployError> {
    // Folding a long command or annotation keeps its meaning but not its looks.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options).map_err(|error| {
        DeployError::Api { doing: "write the object as YAML".into(), why: error.to_string() }
    })?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Pinned {
        let digest = crate::digest::BlobDigest(crate::digest::Digest::of(b"x"));
        name().pin(digest)
    }

    fn name() -> Reference {
        "registry.test:5000/team/app:v1".parse().unwrap()
    }

    fn file(text: &str) -> Source {
        Source::new("k8s.yaml", text)
    }

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: app}\n";

    #[test]
    fn documents() {
        let text = format!("# head\n---\n{SERVICE}--- # next\n{SERVICE}\n---\n---\n{SERVICE}...\n");
        let read = read(&file(&text)).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].object().path(), "service/app");
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n\
                    - {apiVersion: v1, kind: Pod, metadata: {name: b}}\n";
        let names: Vec<_> =
            super::read(&file(list)).unwrap().iter().map(|one| one.object().name).collect();
        assert_eq!(names, ["a", "b"]);
        let directive = format!("%YAML 1.2\n---\n{SERVICE}");
        assert_eq!(super::read(&file(&directive)).unwrap().len(), 1);
    }

    #[test]
    fn scalars_mean_what_kubectl_takes_them_for() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n\
                    x: {mode: 0644, on: yes, off: \"no\", n: 1, f: 1.5, s: 1.2.3, e: ~}\n";
        let value = read(&file(text)).unwrap()[0].value["x"].clone();
        assert_eq!(value["mode"], 420);
        assert_eq!(value["off"], "no");
        assert_eq!(value["n"], 1);
        assert_eq!(value["f"], 1.5);
        assert_eq!(value["s"], "1.2.3");
        assert!(value["e"].is_null());
    }

    #[test]
    fn every_matching_container_gets_the_digest() {
        let pod = "containers:\n  - {name: a, image: \"registry.test:5000/team/app:old\", x: [1]}\n  \
                   - {name: b, image: busybox}\n  initContainers:\n  - {name: c, image: registry.test:5000/team/app}\n";
        let deep = |path: &str| pod.replace('\n', &format!("\n{}", " ".repeat(path.len())));
        let text = format!(
            "{SERVICE}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  {pod}---\n\
             apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: c}}\nspec:\n jobTemplate:\n  spec:\n   \
             template:\n    spec:\n      {}",
            deep("    ")
        );
        let source = file(&text);
        let mut documents = read(&source).unwrap();
        let untouched = documents.clone();
        pin(&mut documents, &source, &name(), &image()).unwrap();
        assert_eq!(documents[0], untouched[0]);
        let wanted = image().to_string();
        let pod = &documents[1].value["spec"];
        assert_eq!(pod["containers"][0]["image"], wanted);
        assert_eq!(pod["containers"][0]["x"][0], 1);
        assert_eq!(pod["containers"][1]["image"], "busybox");
        assert_eq!(pod["initContainers"][0]["image"], wanted);
        let job = documents[2].value.pointer("/spec/jobTemplate/spec/template/spec").unwrap();
        assert_eq!(job["containers"][0]["image"], wanted);
    }

    #[test]
    fn an_image_that_nobody_uses() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: other/app}]}\n";
        let source = file(text);
        let mut documents = read(&source).unwrap();
        let error = pin(&mut documents, &source, &name(), &image()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("registry.test:5000/team/app") && text.contains("other/app"),
            "{text}"
        );
    }

    #[test]
    fn refused_with_its_place() {
        for (text, document, line, why) in [
            (format!("{SERVICE}---\nkind: [\n"), 2, None, ""),
            (format!("{SERVICE}---\na: 1\nkind: \"b\n"), 2, None, ""),
            (
                format!("{SERVICE}---\napiVersion: v1\nmetadata: {{name: a}}\n"),
                2,
                Some(4),
                "`kind`",
            ),
            ("kind: Pod\napiVersion: v1\n".into(), 1, Some(1), "`metadata.name`"),
            (
                "kind: Pod\napiVersion: 1\nmetadata: {name: a}\n".into(),
                1,
                Some(1),
                "`apiVersion` is 1",
            ),
            (
                "kind: Pod\napiVersion: v1\nmetadata: {generateName: a}\n".into(),
                1,
                Some(1),
                "generateName",
            ),
            ("just text\n".into(), 1, Some(1), "an object"),
            ("# nothing\n---\n".into(), 1, None, "no object"),
            ("a: 1\nb:\n\t- c\n".into(), 1, None, ""),
            ("a: 1\na: 2\n".into(), 1, Some(2), "uplicate"),
        ] {
            let error = read(&file(&text)).unwrap_err();
            let DeployError::Manifest { document: d, line: l, why: w, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(*d, document, "{error}");
            assert!(line.is_none() || *l == line, "{error}");
            assert!(w.contains(why) && !w.contains('\n'), "{error}");
        }
    }

    #[test]
    fn written_text_reads_the_same() {
        let value = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"a": "yes", "b": "0644", "c": "line\nline\n", "d": "1e3", "e": " x ", "f": "~",
                "g": "#x", "h": "a: b", "i": "", "j": "12:30:45", "k": "word ".repeat(60)},
            "empty": {}, "none": [], "n": 1,
        });
        let text = write(&value).unwrap();
        assert_eq!(read(&file(&text)).unwrap()[0].value, value, "{text}");
    }
}
