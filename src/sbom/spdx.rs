//! SPDX 2.3 as JSON (its `schemas/spdx-schema.json`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::component::Component;
use super::licence::Licence;
use super::{Sbom, uuid};
use crate::digest::Digest;

const NONE: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
const TOOL: &str = concat!("Tool: kiln-", env!("CARGO_PKG_VERSION"));

pub(super) fn document(sbom: &Sbom) -> Vec<u8> {
    let mut licences = BTreeMap::new();
    let mut packages = vec![image(sbom)];
    let mut relations = vec![relation(DOCUMENT, "DESCRIBES", IMAGE)];
    if let Some(distribution) = &sbom.distribution {
        packages.push(json!({
            "SPDXID": "SPDXRef-OperatingSystem",
            "name": distribution.id,
            "versionInfo": distribution.version,
            "description": distribution.name,
            "primaryPackagePurpose": "OPERATING-SYSTEM",
            "downloadLocation": NONE,
            "filesAnalyzed": false,
        }));
        relations.push(relation(IMAGE, "CONTAINS", "SPDXRef-OperatingSystem"));
    }
    for component in &sbom.components {
        let id = id(component);
        relations.push(relation(IMAGE, "CONTAINS", &id));
        packages.push(package(component, id, &mut licences));
    }
    let created = sbom.created.rfc3339();
    let mut document = json!({
        "SPDXID": DOCUMENT,
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "name": sbom.image.to_string(),
        "creationInfo": {
            "created": created,
            "creators": [TOOL],
            "licenseListVersion": list_version(),
        },
        "packages": packages,
        "relationships": relations,
    });
    if let Some(fields) = document.as_object_mut() {
        if !licences.is_empty() {
            let extracted = licences
                .into_iter()
                .map(|(id, text)| json!({ "licenseId": id, "name": text, "extractedText": text }));
            fields.insert("hasExtractedLicensingInfos".into(), extracted.collect());
        }
        if !sbom.warnings.is_empty() {
            let notes = sbom.warnings.iter().map(|warning| {
                json!({
                    "annotationType": "OTHER",
                    "annotator": TOOL,
                    "annotationDate": created,
                    "comment": format!("incomplete: {}: {}", warning.path, warning.why),
                })
            });
            fields.insert("annotations".into(), notes.collect());
        }
        // Another content is another document.
        let namespace = uuid(&Value::Object(fields.clone()).to_string());
        let namespace = format!("https://spdx.org/spdxdocs/kiln-{namespace}");
        fields.insert("documentNamespace".into(), namespace.into());
    }
    format!("{document:#}\n").into_bytes()
}

/// The list's version, of whose three numbers SPDX takes two.
fn list_version() -> String {
    spdx::license_version().split('.').take(2).collect::<Vec<_>>().join(".")
}

fn image(sbom: &Sbom) -> Value {
    json!({
        "SPDXID": IMAGE,
        "name": sbom.image.to_string(),
        "versionInfo": sbom.image.to_string(),
        "comment": format!("a container image for {}", sbom.platform),
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": sbom.image.hex() }],
        "downloadLocation": NONE,
        "filesAnalyzed": false,
    })
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// Letters, digits, `.` and `-` only; the hash tells apart what they make alike.
fn id(component: &Component) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = component.name.chars().take(80).map(letter).collect();
    let hash = Digest::of(component.purl.as_bytes()).hex();
    format!("SPDXRef-{}-{name}-{hash}", component.kind.as_str())
}

fn package(component: &Component, id: String, licences: &mut BTreeMap<String, String>) -> Value {
    let places = component.found.iter().map(|found| {
        format!("{} in layer {} (diff ID {})", found.path, found.digest, found.diff_id)
    });
    let mut info = format!("found by {}", places.collect::<Vec<_>>().join(", "));
    if let Some(source) = &component.source {
        info.push_str(&format!("; made from {source}"));
    }
    let licence = match &component.licence {
        None => NONE.to_owned(),
        Some(Licence::Spdx(expression)) => expression.clone(),
        Some(Licence::Named(text)) => {
            let id = format!("LicenseRef-{}", Digest::of(text.as_bytes()).hex());
            licences.insert(id.clone(), text.clone());
            id
        }
    };
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| drop(fields.insert(key.into(), value));
    put("SPDXID", id.into());
    put("name", component.name.clone().into());
    if !component.version.is_empty() {
        put("versionInfo", component.version.clone().into());
    }
    if let Some(supplier) = &component.supplier {
        put("supplier", actor(supplier).into());
    }
    put("downloadLocation", NONE.into());
    put("filesAnalyzed", false.into());
    put("licenseConcluded", NONE.into());
    put("licenseDeclared", licence.into());
    put("copyrightText", NONE.into());
    put("sourceInfo", info.into());
    put(
        "externalRefs",
        json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": component.purl,
        }]),
    );
    Value::Object(fields)
}

/// `Person: NAME (ADDRESS)`, or an organization where there is no address.
fn actor(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = text.strip_suffix('>').and_then(|text| text.rsplit_once('<'));
    match parts {
        Some((name, address)) if !name.trim().is_empty() => {
            format!("Person: {} ({address})", name.trim().trim_matches('"'))
        }
        _ => format!("Organization: {text}"),
    }
}
