//! Paragraphs of fields, as Debian's files (deb822) and Python's metadata (RFC 822) have them.

/// A paragraph's fields by their names in small letters, in order.
#[derive(Debug, Default)]
pub(super) struct Paragraph {
    fields: Vec<(String, String)>,
    /// A line that is none of a field.
    pub(super) strange: bool,
}

impl Paragraph {
    /// The first field of a name, without spaces around it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.each(name).next()
    }

    /// All fields of a name.
    pub(super) fn each<'p>(&'p self, name: &str) -> impl Iterator<Item = &'p str> {
        let named = self.fields.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.trim())
    }
}

/// The paragraphs of a text, one after the other. Of fields other than `wanted` nothing is kept.
pub(super) fn paragraphs<'t>(
    text: &'t [u8],
    wanted: &'t [&str],
) -> impl Iterator<Item = Paragraph> + use<'t> {
    let mut lines = text.split(|byte| *byte == b'\n');
    std::iter::from_fn(move || {
        let mut paragraph = Paragraph::default();
        let mut begun = false;
        let mut keeps = false;
        for line in lines.by_ref() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.trim_ascii().is_empty() {
                if begun {
                    return Some(paragraph);
                }
                continue;
            }
            if line.starts_with(b"#") {
                continue;
            }
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                paragraph.strange |= !begun;
                if keeps && let Some((_, value)) = paragraph.fields.last_mut() {
                    value.push('\n');
                    value.push_str(&String::from_utf8_lossy(line));
                }
                begun = true;
                continue;
            }
            begun = true;
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                paragraph.strange = true;
                continue;
            };
            let (key, value) = line.split_at(colon);
            let key = String::from_utf8_lossy(key).to_lowercase();
            keeps = wanted.contains(&key.as_str());
            if keeps {
                let value = String::from_utf8_lossy(value.get(1..).unwrap_or_default());
                paragraph.fields.push((key, value.into_owned()));
            }
        }
        begun.then_some(paragraph)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read() {
        let text = b"\n\nA: 1\n 2\nB: x\nC: y\n  z\n\n\nA: 3\nodd\r\n\xff: 1";
        let all: Vec<Paragraph> = paragraphs(text, &["a", "c"]).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("a"), Some("1\n 2"));
        assert_eq!((all[0].get("b"), all[0].get("c")), (None, Some("y\n  z")));
        assert_eq!((all[1].get("a"), all[1].strange), (Some("3"), true));
        assert_eq!(paragraphs(b"\n\n", &[]).count(), 0);
    }
}
