//! CycloneDX 1.6 as JSON (its `schema/bom-1.6.schema.json`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::component::Component;
use super::licence::Licence;
use super::{Sbom, uuid};

const IMAGE: &str = "image";

pub(super) fn document(sbom: &Sbom) -> Vec<u8> {
    let created = sbom.created.rfc3339();
    let tool =
        json!({ "type": "application", "name": "kiln", "version": env!("CARGO_PKG_VERSION") });
    let mut components: Vec<Value> = sbom.components.iter().map(component).collect();
    if let Some(distribution) = &sbom.distribution {
        components.push(json!({
            "type": "operating-system",
            "bom-ref": "operating-system",
            "name": distribution.id,
            "version": distribution.version,
            "description": distribution.name,
        }));
    }
    let state = if sbom.warnings.is_empty() { "unknown" } else { "incomplete" };
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": { "components": [tool] },
            "component": {
                "type": "container",
                "bom-ref": IMAGE,
                "name": sbom.image.to_string(),
                "version": sbom.image.to_string(),
                "properties": [property("kiln:platform", &sbom.platform.to_string())],
            },
        },
        "components": components,
        "compositions": [{ "aggregate": state, "assemblies": [IMAGE] }],
    });
    if let Some(fields) = document.as_object_mut() {
        if !sbom.warnings.is_empty() {
            let notes = sbom.warnings.iter().map(|warning| {
                json!({
                    "subjects": [IMAGE],
                    "annotator": { "component": tool },
                    "timestamp": created,
                    "text": format!("incomplete: {}: {}", warning.path, warning.why),
                })
            });
            fields.insert("annotations".into(), notes.collect());
        }
        // Another content is another document.
        let serial = uuid(&Value::Object(fields.clone()).to_string());
        fields.insert("serialNumber".into(), format!("urn:uuid:{serial}").into());
    }
    format!("{document:#}\n").into_bytes()
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn component(component: &Component) -> Value {
    let mut properties = Vec::new();
    let layers: BTreeSet<_> =
        component.found.iter().map(|found| (found.digest, found.diff_id)).collect();
    for (digest, diff_id) in layers {
        properties.push(property("kiln:layer", &digest.to_string()));
        properties.push(property("kiln:layer:diffID", &diff_id.to_string()));
    }
    if let Some(source) = &component.source {
        properties.push(property("kiln:source", source));
    }
    let mut places: Vec<&str> = component.found.iter().map(|found| found.path.as_str()).collect();
    places.dedup();
    let places: Vec<Value> = places.into_iter().map(|path| json!({ "location": path })).collect();
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| drop(fields.insert(key.into(), value));
    put("type", "library".into());
    put("bom-ref", component.purl.clone().into());
    put("name", component.name.clone().into());
    if !component.version.is_empty() {
        put("version", component.version.clone().into());
    }
    put("purl", component.purl.clone().into());
    if let Some(supplier) = &component.supplier {
        put("supplier", json!({ "name": supplier }));
    }
    match &component.licence {
        None => (),
        // What is looked up may have a `+` behind it, which is no identifier.
        Some(Licence::Spdx(text)) if spdx::license_id(text).is_some_and(|id| id.name == text) => {
            put("licenses", json!([{ "license": { "id": text } }]));
        }
        Some(Licence::Spdx(text)) => put("licenses", json!([{ "expression": text }])),
        Some(Licence::Named(text)) => put("licenses", json!([{ "license": { "name": text } }])),
    }
    put("properties", properties.into());
    put("evidence", json!({ "occurrences": places }));
    Value::Object(fields)
}
