//! What a builder made of a case, in the form that is kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read as _;
use std::path::Path;

use kiln::platform::Platform;
use serde_json::{Map, Value, json};

use super::tree::Tree;

/// The history of the tests' own base images begins each entry with this.
const BASE: &str = "kiln tests: ";

/// The answer of a builder that refuses.
pub(super) const REFUSED: &str = "refused";

/// `{"refused": …}` or `{"images": […]}`.
pub(super) struct Answer(Value);

impl Answer {
    pub(super) fn refused(message: &str) -> Self {
        Self(json!({ REFUSED: message.trim() }))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map(Self).map_err(|error| error.to_string())
    }

    /// Of an archive in the OCI layout.
    pub(super) fn of_archive(path: &Path) -> Result<Self, String> {
        let blobs = Blobs::read(path)?;
        let mut images = Vec::new();
        blobs.images(&blobs.document("index.json")?, &mut images)?;
        Ok(Self(json!({ "images": images })))
    }

    /// What can differ, each with its place.
    pub(super) fn lines(&self) -> BTreeMap<String, Value> {
        let mut lines = BTreeMap::new();
        if let Some(message) = self.0.get(REFUSED) {
            lines.insert(REFUSED.into(), message.clone());
        }
        let images = self.0["images"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (number, image) in images.iter().enumerate() {
            let prefix = if images.len() > 1 { format!("{number}/") } else { String::new() };
            for (field, value) in image.as_object().into_iter().flatten() {
                let place = format!("{prefix}{field}");
                match value {
                    Value::Object(map) => lines.extend(
                        map.iter().map(|(key, value)| (format!("{place}/{key}"), value.clone())),
                    ),
                    Value::Array(list) => lines.extend(
                        list.iter()
                            .enumerate()
                            .map(|(at, value)| (format!("{place}/{at}"), value.clone())),
                    ),
                    one => {
                        lines.insert(place, one.clone());
                    }
                }
            }
        }
        lines
    }
}

/// With a line for each file, for who reviews it.
impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(out, &self.0, 0)?;
        writeln!(out)
    }
}

fn write_value(out: &mut fmt::Formatter<'_>, value: &Value, depth: usize) -> fmt::Result {
    const DEEPEST: usize = 4;
    let (open, close, items): (char, char, Vec<(String, &Value)>) = match value {
        Value::Object(map) if !map.is_empty() && depth < DEEPEST => (
            '{',
            '}',
            map.iter().map(|(key, value)| (format!("{}: ", json!(key)), value)).collect(),
        ),
        Value::Array(list) if !list.is_empty() && depth < DEEPEST => {
            ('[', ']', list.iter().map(|value| (String::new(), value)).collect())
        }
        other => return write!(out, "{other}"),
    };
    writeln!(out, "{open}")?;
    let last = items.len() - 1;
    for (at, (key, value)) in items.into_iter().enumerate() {
        write!(out, "{:width$}{key}", "", width = 2 * (depth + 1))?;
        write_value(out, value, depth + 1)?;
        writeln!(out, "{}", if at == last { "" } else { "," })?;
    }
    write!(out, "{:width$}{close}", "", width = 2 * depth)
}

/// The files of an archive.
struct Blobs(HashMap<String, Vec<u8>>);

impl Blobs {
    fn read(path: &Path) -> Result<Self, String> {
        let file =
            std::fs::File::open(path).map_err(|error| format!("  {}: {error}", path.display()))?;
        let mut blobs = HashMap::new();
        let mut archive = tar::Archive::new(std::io::BufReader::new(file));
        for entry in archive.entries().map_err(|error| error.to_string())? {
            let mut entry = entry.map_err(|error| error.to_string())?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
            blobs.insert(name, bytes);
        }
        Ok(Self(blobs))
    }

    fn blob(&self, descriptor: &Value) -> Result<&[u8], String> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let name = format!("blobs/{}", digest.replace(':', "/"));
        self.0.get(&name).map(Vec::as_slice).ok_or_else(|| format!("  the archive lacks {name}"))
    }

    fn document(&self, name: &str) -> Result<Value, String> {
        let bytes = self.0.get(name).ok_or_else(|| format!("  the archive lacks {name}"))?;
        serde_json::from_slice(bytes).map_err(|error| format!("  {name}: {error}"))
    }

    /// The images below an index, in its order.
    fn images(&self, index: &Value, images: &mut Vec<Value>) -> Result<(), String> {
        for descriptor in index["manifests"].as_array().into_iter().flatten() {
            if descriptor["platform"]["os"] == "unknown" {
                continue;
            }
            let document: Value = serde_json::from_slice(self.blob(descriptor)?)
                .map_err(|error| format!("  a manifest: {error}"))?;
            if document.get("manifests").is_some() {
                self.images(&document, images)?;
            } else {
                images.push(self.image(&document)?);
            }
        }
        Ok(())
    }

    fn image(&self, manifest: &Value) -> Result<Value, String> {
        let config: Value = serde_json::from_slice(self.blob(&manifest["config"])?)
            .map_err(|error| format!("  a config: {error}"))?;
        let history = config["history"].as_array().cloned().unwrap_or_default();
        let is_empty = |entry: &Value| entry["empty_layer"] == true;
        let is_base = |entry: &&Value| {
            entry["created_by"].as_str().is_some_and(|text| text.starts_with(BASE))
        };
        let of_base: Vec<&Value> = history.iter().take_while(is_base).collect();
        let base_layers = of_base.iter().filter(|entry| !is_empty(entry)).count();
        let own = history.iter().skip(of_base.len()).map(|entry| {
            let mut fields = Map::new();
            fields.insert("created_by".into(), entry["created_by"].clone());
            if is_empty(entry) {
                fields.insert("empty_layer".into(), true.into());
            }
            Value::from(fields)
        });
        let own: Vec<Value> = own.collect();
        let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let full = history.iter().filter(|entry| !is_empty(entry)).count();
        if full != layers.len() {
            return Err(format!("  {full} layers by the history, {} are there", layers.len()));
        }
        let (mut tree, mut base) = (Tree::default(), Tree::default());
        for (number, layer) in layers.iter().enumerate() {
            if number == base_layers {
                base = tree.clone();
            }
            tree.apply(flate2::read::MultiGzDecoder::new(self.blob(layer)?))
                .map_err(|error| format!("  layer {number}: {error}"))?;
        }
        if base_layers == layers.len() {
            base = tree.clone();
        }
        let (files, removed) = tree.against(&base);
        let mut image = Map::new();
        image.insert("platform".into(), platform(&config).into());
        if let Some(author) = config["author"].as_str().filter(|author| !author.is_empty()) {
            image.insert("author".into(), author.into());
        }
        let mut fields = config["config"].as_object().cloned().unwrap_or_default();
        fields.retain(|_, value| !says_nothing(value));
        image.insert("config".into(), fields.into());
        image.insert("history".into(), own.into());
        image.insert("files".into(), files.into());
        if !removed.is_empty() {
            image.insert("removed".into(), removed.into());
        }
        Ok(image.into())
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn platform(config: &Value) -> String {
    let fields = ["os", "architecture", "variant"].map(|name| config[name].as_str().unwrap_or(""));
    let text = fields.join("/");
    let text = text.trim_end_matches('/');
    if text == Platform::host().to_string() { "host".into() } else { text.into() }
}
