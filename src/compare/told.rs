//! Fields that differ, up to a ceiling: what is over it is counted and never made, so that
//! documents and archives of a stranger cannot make a report of any size.

use serde_json::Value;

use super::report::FieldChange;

/// Most fields that are told of a document: a manifest, a config, an index.
const MOST_OF_DOCUMENT: usize = 10_000;
/// Most fields that are told of one file.
const MOST_OF_FILE: usize = 16;
/// Most bytes of a value that a file has, as JSON.
const LONGEST_OF_FILE: usize = 4096;

/// Takes fields as long as there is room.
#[derive(Debug)]
pub(super) struct Told {
    fields: Vec<FieldChange>,
    all: usize,
    most: usize,
    /// Longer values are cut.
    longest: usize,
}

impl Told {
    /// For a document that is held in memory: its values are told in full.
    pub(super) fn of_document() -> Self {
        Self { fields: Vec::new(), all: 0, most: MOST_OF_DOCUMENT, longest: usize::MAX }
    }

    /// For one file of many.
    pub(super) fn of_file() -> Self {
        Self { fields: Vec::new(), all: 0, most: MOST_OF_FILE, longest: LONGEST_OF_FILE }
    }

    /// Counts a field, and makes it if there is room.
    pub(super) fn push(&mut self, make: impl FnOnce() -> FieldChange) {
        if self.fields.len() < self.most {
            let mut change = make();
            for value in [&mut change.a, &mut change.b].into_iter().flatten() {
                cut(value, self.longest);
            }
            self.fields.push(change);
        }
        self.all += 1;
    }

    /// How many there are, those without room too.
    pub(super) fn count(&self) -> usize {
        self.all
    }

    /// The fields, and how many more there are.
    pub(super) fn into_parts(self) -> (Vec<FieldChange>, usize) {
        let more = self.all - self.fields.len();
        (self.fields, more)
    }

    /// The fields in one list; its last one says if there are more.
    pub(super) fn into_fields(self) -> Vec<FieldChange> {
        let (mut fields, more) = self.into_parts();
        if more > 0 {
            fields.push(FieldChange::new("…", (), ()).note(format!("{more} more fields differ")));
        }
        fields
    }
}

/// Cuts what is longer than so many bytes; lists and objects become the beginning of a text.
fn cut(value: &mut Value, longest: usize) {
    if longest == usize::MAX {
        return;
    }
    let text = match value {
        Value::String(text) if text.len() > longest => text.as_str().to_owned(),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            if text.len() <= longest {
                return;
            }
            text
        }
        _ => return,
    };
    let end = text.floor_char_boundary(longest);
    *value = format!("{}…", &text[..end]).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_and_not_made() {
        let mut told = Told::of_file();
        for number in 0..100 {
            told.push(|| {
                assert!(number < MOST_OF_FILE, "made although there is no room");
                FieldChange::new(number.to_string(), "x".repeat(10_000), vec!["é".repeat(9000)])
            });
        }
        let (fields, more) = told.into_parts();
        assert_eq!((fields.len(), more), (MOST_OF_FILE, 100 - MOST_OF_FILE));
        for value in [&fields[0].a, &fields[0].b] {
            let text = value.as_ref().unwrap().as_str().unwrap();
            assert!(text.ends_with('…') && text.len() <= LONGEST_OF_FILE + 3, "{}", text.len());
        }
        let mut told = Told::of_document();
        for _ in 0..MOST_OF_DOCUMENT + 5 {
            told.push(|| FieldChange::new("f", 1, 2));
        }
        let fields = told.into_fields();
        assert_eq!(fields.len(), MOST_OF_DOCUMENT + 1);
        assert_eq!(fields.last().unwrap().note.as_deref(), Some("5 more fields differ"));
    }
}
