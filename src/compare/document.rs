//! Fields of JSON documents that differ, by their paths.

use serde_json::{Map, Value};

use super::align::{AKIN, ANY, SAME, align};
use super::report::FieldChange;
use crate::image::{ImageError, strict_json};

/// Fields that differ in two documents. `implied` takes out what others say.
pub(super) fn compare(
    what: &'static str,
    a: &[u8],
    b: &[u8],
    implied: impl Fn(&mut Value),
) -> Result<Vec<FieldChange>, ImageError> {
    if a == b {
        return Ok(Vec::new());
    }
    let mut values = [strict_json::<Value>(what, a)?, strict_json::<Value>(what, b)?];
    let mut found = Vec::new();
    if values[0] == values[1] {
        let offset = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let note = format!("the same values, written otherwise from byte {offset} on");
        found.push(FieldChange::new("encoding", a.len(), b.len()).note(note));
        return Ok(found);
    }
    values.iter_mut().for_each(implied);
    let [a, b] = &values;
    fields("", a, b, &mut found);
    Ok(found)
}

/// Adds the paths at which two values differ.
pub(super) fn fields(path: &str, a: &Value, b: &Value, found: &mut Vec<FieldChange>) {
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
        (a, b) => found.push(FieldChange::new(shown(path), a.clone(), b.clone())),
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "(all)" } else { path }
}

fn objects(
    path: &str,
    a: &Map<String, Value>,
    b: &Map<String, Value>,
    found: &mut Vec<FieldChange>,
) {
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let plain = !key.is_empty()
            && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
        let path = match (path, plain) {
            ("", true) => key.clone(),
            (path, true) => format!("{path}.{key}"),
            (path, false) => format!("{path}[{key}]"),
        };
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => fields(&path, a, b, found),
            // Null has no other form here.
            (a, b) => {
                let text = |value: Option<&Value>| match value {
                    Some(Value::Null) => Value::from("null"),
                    Some(value) => value.clone(),
                    None => Value::Null,
                };
                found.push(FieldChange::new(path, text(a), text(b)));
            }
        }
    }
}

/// Lists that grew in the middle keep their later parts: each has its place in A, what is
/// new its place in B.
fn arrays(path: &str, a: &[Value], b: &[Value], found: &mut Vec<FieldChange>) {
    let by = |value: &Value| value.get("created_by").cloned();
    let keys: [Vec<_>; 2] = [a, b].map(|all| all.iter().map(by).collect());
    let pairs = align(a.len(), b.len(), |i, j| match (&keys[0][i], &keys[1][j]) {
        _ if a[i] == b[j] => SAME,
        (Some(x), Some(y)) if x == y => AKIN,
        _ => ANY,
    });
    for pair in pairs {
        match pair {
            (Some(i), Some(j)) => fields(&format!("{path}[{i}]"), &a[i], &b[j], found),
            (Some(i), None) => {
                found.push(FieldChange::new(format!("{path}[{i}]"), a[i].clone(), Value::Null));
            }
            (None, Some(j)) => {
                found.push(FieldChange::new(format!("{path}[{j}]"), Value::Null, b[j].clone()));
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

fn environment(path: &str, a: &[(&str, &str)], b: &[(&str, &str)], found: &mut Vec<FieldChange>) {
    let before = found.len();
    let value = |all: &[(&str, &str)], name: &str| {
        let found = all.iter().find(|(other, _)| *other == name);
        found.map_or(Value::Null, |(_, value)| Value::from(*value))
    };
    let new = b.iter().filter(|(name, _)| value(a, name).is_null());
    for (name, _) in a.iter().chain(new) {
        let (old, new) = (value(a, name), value(b, name));
        if old != new {
            found.push(FieldChange::new(format!("{path}[{name}]"), old, new));
        }
    }
    if found.len() == before {
        let names = |all: &[(&str, &str)]| -> Value {
            all.iter().map(|(name, _)| Value::from(*name)).collect()
        };
        found.push(FieldChange::new(path, names(a), names(b)).note("another order"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(a: Value, b: Value) -> Vec<String> {
        let mut found = Vec::new();
        fields("", &a, &b, &mut found);
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
        let found = compare("x", b"{\"a\":1}", b"{ \"a\":1}", |_| ()).unwrap();
        assert_eq!(found[0].field, "encoding");
        assert!(found[0].note.as_ref().unwrap().ends_with("from byte 1 on"));
    }
}
