//! What dpkg has installed: `/var/lib/dpkg/status`, or a file for each package in `status.d`, as
//! images without dpkg have it; licences from `/usr/share/doc` (copyright-format 1.0).

use std::collections::BTreeSet;

use super::fields::paragraphs;
use super::find::{MOST_COMPONENTS, MOST_NAME};
use super::licence::{Licence, of_debian};

/// A package as its paragraph states it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) arch: String,
    pub(super) maintainer: Option<String>,
    /// As it stands there: a name, with a version if that is another.
    pub(super) source: Option<String>,
}

const FIELDS: &[&str] = &["package", "version", "architecture", "maintainer", "source", "status"];

/// Packages whose files are there, and what is wrong with the file.
pub(super) fn read(text: &[u8]) -> (Vec<Package>, Vec<String>) {
    let (mut packages, mut wrong) = (Vec::new(), Vec::new());
    for (at, paragraph) in paragraphs(text, FIELDS).enumerate() {
        // One that is no database has a complaint for each paragraph.
        if wrong.len() > 8 || packages.len() > MOST_COMPONENTS {
            break;
        }
        let state = paragraph.get("status").and_then(|status| status.split_whitespace().nth(2));
        // Of these there are no files, or only what an administrator may have changed.
        if matches!(state, Some("not-installed" | "config-files")) {
            continue;
        }
        let field = |key: &str| paragraph.get(key).filter(|text| text.len() <= MOST_NAME);
        let fields = ["package", "version", "architecture"].map(field);
        let [Some(name), Some(version), Some(arch)] = fields else {
            wrong.push(format!(
                "paragraph {} names no package, version or architecture, or very long ones",
                at + 1
            ));
            continue;
        };
        if paragraph.strange {
            wrong.push(format!("the paragraph of `{name}` has lines that are no fields"));
        }
        let owned = |key: &str| field(key).map(str::to_owned);
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            maintainer: owned("maintainer"),
            source: owned("source"),
        });
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        wrong.push("it does not end with a line's end: it may be cut off".into());
    }
    (packages, wrong)
}

/// Names of licences in a package's copyright file, if that is machine-readable.
pub(super) fn licence(text: &[u8]) -> Option<Licence> {
    let mut paragraphs = paragraphs(text, &["format", "files", "license"]);
    let first = paragraphs.next()?;
    if !first.get("format").is_some_and(|format| format.contains("copyright-format")) {
        return None;
    }
    let names = |value: &str| value.lines().next().unwrap_or_default().trim().to_owned();
    // A paragraph without files only gives the text of a licence that others name.
    let of_files = paragraphs.filter(|one| one.get("files").is_some());
    let mut all: BTreeSet<String> =
        of_files.filter_map(|one| one.get("license").map(names)).collect();
    all.extend(first.get("license").map(names));
    Licence::all(all.iter().filter(|name| !name.is_empty()).map(|name| of_debian(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: a\nStatus: install ok installed\nArchitecture: amd64\n\
        Source: aa (1)\nVersion: 1:2-3\nDescription: x\n y\n\nPackage: gone\n\
        Status: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
        Package: half\nStatus: install ok half-configured\nVersion: 4\nArchitecture: all\n";

    #[test]
    fn status() {
        let (packages, wrong) = read(STATUS.as_bytes());
        let names: Vec<&str> = packages.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((names, wrong), (vec!["a", "half"], Vec::new()));
        assert_eq!(packages[0].version, "1:2-3");
        assert_eq!(packages[0].source.as_deref(), Some("aa (1)"));
        for end in 0..STATUS.len() {
            let (cut, wrong) = read(&STATUS.as_bytes()[..end]);
            let whole = cut.len() == 2 || end == 0;
            let at_a_line = STATUS.as_bytes()[..end].ends_with(b"\n");
            assert!(whole || !wrong.is_empty() || at_a_line, "{end}: {cut:?}");
        }
        assert_eq!(read(b"Package: a\nVersion: 1\n\n").1.len(), 1);
        assert_eq!(read(b"\x00\xff\n").1.len(), 1);
        // What is very long is not kept, whatever it is.
        let long = "x".repeat(MOST_NAME + 1);
        let text = |arch: &str, who: &str| {
            format!("Package: a\nVersion: 1\nArchitecture: {arch}\nMaintainer: {who}\n")
        };
        assert_eq!(read(text("all", &long).as_bytes()).0[0].maintainer, None);
        assert_eq!(read(text(&long, "x").as_bytes()).1.len(), 1);
    }

    #[test]
    fn licences() {
        let text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
            Files: *\nCopyright: x\nLicense: GPL-2+\n Text.\n\nFiles: a\nLicense: Expat\n\n\
            License: Artistic\n";
        let spdx = Licence::Spdx("GPL-2.0-or-later AND MIT".into());
        assert_eq!(licence(text.as_bytes()), Some(spdx));
        assert_eq!(licence(b"This is free software.\n"), None);
        assert_eq!(licence(b""), None);
    }
}
