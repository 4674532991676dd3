//! Fields of JSON documents that differ, by their paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::align::{AKIN, ANY, SAME, align};
use super::report::FieldChange;
use super::told::Told;
use crate::image::{ImageError, strict_json};

/// Paths are cut behind so many bytes, keys behind so many characters.
const LONGEST_PATH: usize = 1024;
const LONGEST_KEY: usize = 200;

/// Adds the fields that differ in two documents. `implied` takes out what others say.
pub(super) fn compare(
    what: &'static str,
    a: &[u8],
    b: &[u8],
    implied: impl Fn(&mut Value),
    found: &mut Told,
) -> Result<(), ImageError> {
    if a == b {
        return Ok(());
    }
    let mut values = [strict_json::<Value>(what, a)?, strict_json::<Value>(what, b)?];
    if values[0] == values[1] {
        let offset = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let note = format!("the same values, written otherwise from byte {offset} on");
        found.push(|| FieldChange::new("encoding", a.len(), b.len()).note(note));
        return Ok(());
    }
    values.iter_mut().for_each(implied);
    let [a, b] = &values;
    fields("", a, b, found);
    Ok(())
}

/// Adds the paths at which two values differ.
pub(super) fn fields(path: &str, a: &Value, b: &Value, found: &mut Told) {
    match (a, b) {
        (a, b) if a == b => (),
        (Value::Object(a), Value::Object(b)) => objects(path, a, b, found),
        (Value::Array(a), Value::Array(b)) => {
            let names = (variables(a), variables(b));
            match names {
                (Some(a), Some(b)) if path.ends_with("Env") => environment(path, &a, &b, found),
                _ => arrays(path, a, b, found),
            }
        }
        (a, b) => found.push(|| FieldChange::new(shown(path), a.clone(), b.clone())),
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "(all)" } else { path }
}

/// The path of a member of an object.
fn member(path: &str, key: &str) -> String {
    let plain =
        !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    match (path, plain) {
        ("", true) => below("", "", key, ""),
        (path, true) => below(path, ".", key, ""),
        (path, false) => bracket(path, key),
    }
}

/// The path of something that has a name or a number in a list.
pub(super) fn bracket(path: &str, key: &str) -> String {
    below(path, "[", key, "]")
}

/// A path that is longer by a key; one that is as long as paths may be stays.
fn below(path: &str, before: &str, key: &str, after: &str) -> String {
    if path.len() > LONGEST_PATH {
        return path.to_owned();
    }
    let cut = key.char_indices().nth(LONGEST_KEY).map(|(end, _)| end);
    let (key, dots) = cut.map_or((key, ""), |end| (&key[..end], "…"));
    let mut longer = format!("{path}{before}{key}{dots}{after}");
    if longer.len() > LONGEST_PATH {
        longer.truncate(longer.floor_char_boundary(LONGEST_PATH));
        longer.push('…');
    }
    longer
}

fn objects(path: &str, a: &Map<String, Value>, b: &Map<String, Value>, found: &mut Told) {
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) if a == b => (),
            (Some(a), Some(b)) => fields(&member(path, key), a, b, found),
            // Null has no other form here.
            (a, b) => {
                let text = |value: Option<&Value>| match value {
                    Some(Value::Null) => Value::from("null"),
                    Some(value) => value.clone(),
                    None => Value::Null,
                };
                found.push(|| FieldChange::new(member(path, key), text(a), text(b)));
            }
        }
    }
}

/// Lists that grew in the middle keep their later parts: each has its place in A, what is
/// new its place in B.
fn arrays(path: &str, a: &[Value], b: &[Value], found: &mut Told) {
    let by = |value: &'_ Value| value.get("created_by").is_some();
    let keyed: [Vec<bool>; 2] = [a, b].map(|all| all.iter().map(by).collect());
    let pairs = align(a.len(), b.len(), |i, j| {
        if a[i] == b[j] {
            SAME
        } else if keyed[0][i] && keyed[1][j] && a[i].get("created_by") == b[j].get("created_by") {
            AKIN
        } else {
            ANY
        }
    });
    let at = |place: usize| bracket(path, &place.to_string());
    for pair in pairs {
        match pair {
            (Some(i), Some(j)) if a[i] == b[j] => (),
            (Some(i), Some(j)) => fields(&at(i), &a[i], &b[j], found),
            (Some(i), None) => {
                found.push(|| FieldChange::new(at(i), a[i].clone(), Value::Null));
            }
            (None, Some(j)) => {
                found.push(|| FieldChange::new(at(j), Value::Null, b[j].clone()));
            }
            (None, None) => (),
        }
    }
}

/// The list as `NAME=value`, if each is that and no name occurs twice.
fn variables(list: &[Value]) -> Option<Vec<(&str, &str)>> {
    let all: Option<Vec<_>> = list.iter().map(|one| one.as_str()?.split_once('=')).collect();
    let all = all?;
    let mut names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.windows(2).all(|two| two[0] != two[1]).then_some(all)
}

fn environment(path: &str, a: &[(&str, &str)], b: &[(&str, &str)], found: &mut Told) {
    let before = found.count();
    let [of_a, of_b] = [a, b].map(|all| all.iter().copied().collect::<BTreeMap<_, _>>());
    let value = |all: &BTreeMap<&str, &str>, name: &str| {
        all.get(name).map_or(Value::Null, |value| Value::from(*value))
    };
    let new = b.iter().filter(|(name, _)| !of_a.contains_key(name));
    for (name, _) in a.iter().chain(new) {
        if of_a.get(name) != of_b.get(name) {
            let (old, new) = (value(&of_a, name), value(&of_b, name));
            found.push(|| FieldChange::new(bracket(path, name), old, new));
        }
    }
    if found.count() == before {
        let names = |all: &[(&str, &str)]| -> Value {
            all.iter().map(|(name, _)| Value::from(*name)).collect()
        };
        found.push(|| FieldChange::new(path, names(a), names(b)).note("another order"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(a: Value, b: Value) -> Vec<String> {
        let mut found = Told::of_document();
        fields("", &a, &b, &mut found);
        let found = found.into_fields();
        let side = |value: &Option<Value>| value.as_ref().map_or("-".into(), Value::to_string);
        found.iter().map(|one| format!("{} {} {}", one.field, side(&one.a), side(&one.b))).collect()
    }

    #[test]
    fn fields_by_path() {
        for (a, b, expected) in [
            (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), &["a.b 1 2"][..]),
            (json!({"a": 1}), json!({"b.c": 1}), &["a 1 -", "[b.c] - 1"]),
            (json!({"a": null}), json!({}), &["a \"null\" -"]),
            (json!([1, 2, 3]), json!([1, 9, 2, 3]), &["[1] - 9"]),
            (
                json!({"Env": ["A=1", "B=2"]}),
                json!({"Env": ["B=2", "A=3"]}),
                &["Env[A] \"1\" \"3\""],
            ),
            (
                json!({"Env": ["A=1", "B=2"]}),
                json!({"Env": ["B=2", "A=1"]}),
                &["Env [\"A\",\"B\"] [\"B\",\"A\"]"],
            ),
            (json!(1), json!("1"), &["(all) 1 \"1\""]),
        ] {
            assert_eq!(paths(a, b), expected);
        }
    }

    #[test]
    fn written_otherwise() {
        let mut found = Told::of_document();
        compare("x", b"{\"a\":1}", b"{ \"a\":1}", |_| (), &mut found).unwrap();
        let found = found.into_fields();
        assert_eq!(found[0].field, "encoding");
        assert!(found[0].note.as_ref().unwrap().ends_with("from byte 1 on"));
    }

    /// A megabyte of long keys, of deep objects, of many leaves makes no more than that.
    #[test]
    fn paths_and_fields_have_a_ceiling() {
        let leaves = |n: u32| {
            let leaves: Map<String, Value> =
                (0..50_000).map(|at| (at.to_string(), n.into())).collect();
            let key = "é".repeat(400_000);
            let mut value = Value::from(leaves);
            for _ in 0..100 {
                value = json!({ key[..4000].to_owned(): value });
            }
            json!({ key: value })
        };
        let mut found = Told::of_document();
        fields("", &leaves(1), &leaves(2), &mut found);
        assert_eq!(found.count(), 50_000);
        let fields = found.into_fields();
        assert_eq!(fields.len(), 10_001);
        let longest = fields.iter().map(|one| one.field.len()).max().unwrap();
        assert!(longest <= LONGEST_PATH + 3, "{longest}");
        // A long list of variables takes no time to speak of.
        let list = |n: usize| json!({ "Env": (0..100_000).map(|at| format!("{at}={n}")).collect::<Vec<_>>() });
        assert_eq!(paths(list(1), list(2)).len(), 10_001);
    }
}
