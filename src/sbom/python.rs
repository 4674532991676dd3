//! What Python's installers leave: `*.dist-info/METADATA` and `*.egg-info` (core metadata 2.4).

use std::collections::BTreeSet;

use super::component::Kind;
use super::fields::paragraphs;
use super::find::Draft;
use super::licence::Licence;

const FIELDS: &[&str] =
    &["name", "version", "license-expression", "license", "classifier", "author"];

/// Reads a package's metadata. What stands behind its fields is a description.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Draft>, String> {
    let fields = paragraphs(bytes, FIELDS).next().unwrap_or_default();
    let (Some(name), Some(version)) = (fields.get("name"), fields.get("version")) else {
        return Err("it has no name or version".into());
    };
    let mut draft = Draft::new(Kind::Pypi, "", name, version);
    // Before PEP 639 the field often held a text, and the classifiers the name.
    let stated = fields.get("license-expression").or_else(|| {
        fields.get("license").filter(|text| text.lines().count() == 1 && text.len() < 100)
    });
    let classified = || {
        let all = fields.each("classifier").filter_map(|one| one.strip_prefix("License ::"));
        let last = all.filter_map(|one| one.rsplit("::").next()).map(|one| one.trim().to_owned());
        let all: BTreeSet<String> = last.filter(|name| name != "OSI Approved").collect();
        // Some packages name alternatives so, others what holds together.
        Licence::of(&all.into_iter().collect::<Vec<_>>().join(", "))
    };
    draft.licence = stated.and_then(Licence::of).or_else(classified);
    draft.supplier = fields.get("author").filter(|one| *one != "UNKNOWN").map(str::to_owned);
    Ok(Some(draft))
}

/// A name as PyPI compares it (PEP 503): of `-`, `_` and `.` in a row there is one dash.
pub(super) fn normalized(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).enumerate();
    let whole = parts.filter(|(at, part)| *at == 0 || !part.is_empty());
    whole.map(|(_, part)| part.to_lowercase()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["Friendly-Bard", "friendly.bard", "FrIeNdLy-._.-bArD"] {
            assert_eq!(normalized(name), "friendly-bard");
        }
    }

    #[test]
    fn metadata() {
        let read = |text: &str| read(text.as_bytes());
        let one = read(
            "Metadata-Version: 2.4\nName: A_b\nVersion: 1.0\nLicense-Expression: MIT\n\
            License: other\n\nName: x\n",
        );
        let one = one.unwrap().unwrap();
        assert_eq!((one.name.as_str(), one.version.as_str()), ("A_b", "1.0"));
        assert_eq!(one.licence, Some(Licence::Spdx("MIT".into())));
        let old = read(
            "Name: a\nVersion: 1\nLicense: UNKNOWN\n\
            Classifier: License :: OSI Approved :: BSD License\n",
        )
        .unwrap()
        .unwrap();
        assert_eq!(old.licence, Some(Licence::Named("BSD License".into())));
        let either = read(
            "Name: a\nVersion: 1\nClassifier: License :: OSI Approved :: MIT\n\
            Classifier: License :: OSI Approved :: ISC\n",
        );
        let either = either.unwrap().unwrap().licence;
        assert_eq!(either, Some(Licence::Named("ISC, MIT".into())), "neither AND nor OR is said");
        assert!(read("Name: a\n").is_err());
        assert!(read("").is_err());
        assert!(read("\n\n\u{0}").is_err());
    }
}
