//! One package's header (rpm, "RPM v4 Package format", header structure), as databases have it:
//! without the magic number before it.

use super::super::content::number;

#[derive(Debug, Default, Clone, PartialEq)]
pub(in super::super) struct Package {
    pub(in super::super) name: String,
    /// With the release.
    pub(in super::super) version: String,
    pub(in super::super) epoch: Option<String>,
    /// Keys that rpm lists as packages have none.
    pub(in super::super) arch: Option<String>,
    pub(in super::super) licence: Option<String>,
    pub(in super::super) vendor: Option<String>,
    /// The source package's file name.
    pub(in super::super) source: Option<String>,
    /// A file of it, which tells the layer.
    pub(in super::super) file: Option<Vec<u8>>,
}

const NAME: u64 = 1000;
const VERSION: u64 = 1001;
const RELEASE: u64 = 1002;
const EPOCH: u64 = 1003;
const VENDOR: u64 = 1011;
const LICENSE: u64 = 1014;
const ARCH: u64 = 1022;
const SOURCE: u64 = 1044;
const DIR_INDEXES: u64 = 1116;
const BASE_NAMES: u64 = 1117;
const DIR_NAMES: u64 = 1118;

const INT32: u64 = 4;
const STRING: u64 = 6;
const STRING_ARRAY: u64 = 8;
const I18N: u64 = 9;

/// Most entries of a header (rpm's own ceiling).
const MOST_ENTRIES: u64 = 65_535;
/// Most folders that are counted to find the first file's.
const MOST_FOLDERS: usize = 100_000;

/// `None` if it is damaged.
pub(super) fn read(blob: &[u8]) -> Option<Package> {
    let entries = number(blob, 0, 4, true)?;
    let size = usize::try_from(number(blob, 4, 4, true)?).ok()?;
    if entries == 0 || entries > MOST_ENTRIES {
        return None;
    }
    let begin = 8 + usize::try_from(entries).ok()?.checked_mul(16)?;
    let index = blob.get(8..begin)?;
    let header = Header { index, data: blob.get(begin..begin.checked_add(size)?)? };
    let (name, version) = (header.text(NAME)?, header.text(VERSION)?);
    let version = match header.text(RELEASE) {
        Some(release) => format!("{version}-{release}"),
        None => version,
    };
    let owned = |tag| header.text(tag).filter(|text| !text.is_empty() && text != "(none)");
    Some(Package {
        name,
        version,
        epoch: header.number(EPOCH).map(|epoch| epoch.to_string()),
        arch: owned(ARCH),
        licence: owned(LICENSE),
        vendor: owned(VENDOR),
        source: owned(SOURCE),
        file: header.file(),
    })
}

struct Header<'b> {
    index: &'b [u8],
    data: &'b [u8],
}

impl<'b> Header<'b> {
    /// An entry's type and the data from its place on.
    fn entry(&self, tag: u64) -> Option<(u64, &'b [u8])> {
        let entry =
            self.index.chunks_exact(16).find(|entry| number(entry, 0, 4, true) == Some(tag))?;
        let at = usize::try_from(number(entry, 8, 4, true)?).ok()?;
        Some((number(entry, 4, 4, true)?, self.data.get(at..)?))
    }

    /// The first of its texts.
    fn text(&self, tag: u64) -> Option<String> {
        let bytes = self.strings(tag)?.next()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    fn strings(&self, tag: u64) -> Option<impl Iterator<Item = &'b [u8]> + use<'b>> {
        let (kind, data) = self.entry(tag)?;
        // One that has no end is cut off.
        let data = data.get(..data.iter().rposition(|byte| *byte == 0)?)?;
        [STRING, STRING_ARRAY, I18N].contains(&kind).then(|| data.split(|byte| *byte == 0))
    }

    fn number(&self, tag: u64) -> Option<u64> {
        let (kind, data) = self.entry(tag)?;
        (kind == INT32).then(|| number(data, 0, 4, true))?
    }

    /// The path of its first file.
    fn file(&self) -> Option<Vec<u8>> {
        let base = self.strings(BASE_NAMES)?.next()?;
        let folder = usize::try_from(self.number(DIR_INDEXES)?).ok()?;
        if folder > MOST_FOLDERS {
            return None;
        }
        Some([self.strings(DIR_NAMES)?.nth(folder)?, base].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of texts and one number.
    fn sample() -> Vec<u8> {
        let fields: [(u64, u64, &[u8]); 7] = [
            (NAME, STRING, b"bash\0"),
            (VERSION, STRING, b"5.2\0"),
            (RELEASE, STRING, b"1.fc40\0"),
            (EPOCH, INT32, &[0, 0, 0, 3]),
            (DIR_INDEXES, INT32, &[0, 0, 0, 1]),
            (BASE_NAMES, STRING_ARRAY, b"bash\0"),
            (DIR_NAMES, STRING_ARRAY, b"/etc/\0/usr/bin/\0"),
        ];
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, kind, bytes) in fields {
            for number in [tag, kind, data.len() as u64, 1] {
                index.extend_from_slice(&(number as u32).to_be_bytes());
            }
            data.extend_from_slice(bytes);
        }
        let counts = [7u32.to_be_bytes(), (data.len() as u32).to_be_bytes()].concat();
        [counts, index, data].concat()
    }

    #[test]
    fn headers() {
        let blob = sample();
        let package = read(&blob).unwrap();
        assert_eq!((package.name.as_str(), package.version.as_str()), ("bash", "5.2-1.fc40"));
        assert_eq!(package.epoch.as_deref(), Some("3"));
        assert_eq!(package.file.as_deref(), Some(&b"/usr/bin/bash"[..]));
        for end in 0..blob.len() {
            assert_eq!(read(&blob[..end]), None, "{end}");
        }
        for at in 0..blob.len() {
            let mut bent = blob.clone();
            bent[at] ^= 0xff;
            read(&bent);
        }
    }
}
