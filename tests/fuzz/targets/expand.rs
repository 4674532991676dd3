//! A word with variables. The first line has their values, the rest is the word.
#![no_main]

use kiln::dockerfile::expand::MAX_LENGTH;
use kiln::dockerfile::{expand, expand_unquoted, expand_words};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    let (values, word) = text.split_once('\n').unwrap_or(("", text));
    let mut values = values.split('\u{1}');
    let (a, b) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
    let vars = |name: &str| match name {
        "a" => Some(a.to_owned()),
        "b" => Some(b.to_owned()),
        "e" => Some(String::new()),
        _ => None,
    };
    for escape in ['\\', '`'] {
        let whole = expand(word, escape, &vars);
        let unquoted = expand_unquoted(word, escape, &vars);
        let words = expand_words(word, escape, &vars);
        for one in [&whole, &unquoted] {
            match one {
                Ok(one) => {
                    assert!(one.value.len() <= 2 * MAX_LENGTH + word.len());
                    for variable in &one.variables {
                        let place = &word[variable.range.clone()];
                        assert!(place.starts_with('$') && place.ends_with(&variable.name));
                    }
                }
                Err(error) => assert!(word.get(error.range.clone()).is_some(), "{error:?}"),
            }
        }
        match (whole, words) {
            (Ok(whole), Ok(words)) => {
                assert_eq!(whole.variables, words.variables);
                // Words are the whole but for blanks.
                let bare = |text: &str| text.replace(char::is_whitespace, "");
                assert_eq!(bare(&whole.value), bare(&words.words.concat()));
            }
            (Err(whole), Err(words)) => assert_eq!(whole, words),
            (whole, words) => panic!("{whole:?} and {words:?}"),
        }
        let plain = |c: char| c != escape && !['$', '\'', '"'].contains(&c);
        if word.chars().all(plain) {
            assert_eq!(expand(word, escape, &vars).expect("nothing to expand").value, word);
        }
    }
    Corpus::Keep
});
