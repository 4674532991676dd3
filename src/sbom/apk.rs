//! What apk has installed: `/lib/apk/db/installed` (apk-v2, "installed database").

use super::find::{MOST_COMPONENTS, MOST_NAME};
use super::licence::Licence;

/// That of Linux (limits.h): of a longer one there is no file.
const LONGEST_PATH: usize = 4096;

#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) arch: String,
    pub(super) origin: Option<String>,
    pub(super) maintainer: Option<String>,
    pub(super) licence: Option<Licence>,
    /// A file of it, which tells the layer.
    pub(super) file: Option<Vec<u8>>,
}

/// Packages, and what is wrong with the file.
pub(super) fn read(text: &[u8]) -> (Vec<Package>, Vec<String>) {
    let (mut packages, mut wrong) = (Vec::new(), Vec::new());
    let mut package = Package::default();
    let mut begun = false;
    let mut folder: &[u8] = b"";
    let end = text.len();
    let mut place = 0;
    for line in text.split(|byte| *byte == b'\n') {
        place += line.len() + 1;
        if !line.is_empty() {
            begun = true;
            let (key, value) = match line {
                [key, b':', value @ ..] => (*key, value),
                _ => (0, line),
            };
            let words = || String::from_utf8_lossy(value).into_owned();
            // What is very long names nothing.
            let short = || Some(words()).filter(|text| text.len() <= MOST_NAME);
            match key {
                b'P' => package.name = short().unwrap_or_default(),
                b'V' => package.version = short().unwrap_or_default(),
                b'A' => package.arch = short().unwrap_or_default(),
                b'o' => package.origin = short(),
                b'm' => package.maintainer = short(),
                b'L' => package.licence = Licence::of(&words()),
                b'F' => folder = value,
                b'R' if package.file.is_none() && folder.len() + value.len() < LONGEST_PATH => {
                    package.file = Some([folder, b"/", value].concat());
                }
                0 => {
                    let start: String = words().chars().take(100).collect();
                    wrong.push(format!("`{}` is no field", start.escape_debug()));
                }
                _ => (),
            }
        }
        if begun && (line.is_empty() || place > end) {
            let one = std::mem::take(&mut package);
            if one.name.is_empty() || one.version.is_empty() {
                wrong.push(format!("package {} has no name or version", packages.len() + 1));
            } else {
                packages.push(one);
            }
            (begun, folder) = (false, b"");
        }
        // One that is no database has a complaint for each line.
        if wrong.len() > 8 || packages.len() > MOST_COMPONENTS {
            break;
        }
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        wrong.push("it does not end with a line's end: it may be cut off".into());
    }
    (packages, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: &str = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\n\
        R:ld-musl-x86_64.so.1\na:0:0:755\nR:b\n\nP:busybox\nV:1.36-r1\nA:x86_64\nL:GPL-2.0-only\n\n";

    #[test]
    fn installed() {
        let (packages, wrong) = read(DB.as_bytes());
        assert_eq!((packages.len(), wrong.len()), (2, 0), "{wrong:?}");
        assert_eq!(packages[0].file.as_deref(), Some(&b"lib/ld-musl-x86_64.so.1"[..]));
        assert_eq!(packages[0].licence, Some(Licence::Spdx("MIT".into())));
        assert_eq!(packages[1].version, "1.36-r1");
        // The last one's empty line may be missing.
        assert_eq!(read(&DB.as_bytes()[..DB.len() - 1]), (packages, wrong));
        for end in 0..DB.len() {
            read(&DB.as_bytes()[..end]);
        }
        let many = "P:a\nV:1\n\n".repeat(MOST_COMPONENTS + 10);
        assert_eq!(read(many.as_bytes()).0.len(), MOST_COMPONENTS + 1, "enough to be told");
        let long = format!("P:a\nV:1\nm:{}\n\n", "x".repeat(MOST_NAME + 1));
        assert_eq!(read(long.as_bytes()).0[0].maintainer, None);
        assert!(!read(b"V:1\n\n").1.is_empty());
        assert!(!read(b"\x00\x01\xff").1.is_empty());
    }
}
