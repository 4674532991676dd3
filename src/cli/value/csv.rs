//! Fields separated by commas, a field quoted as in CSV (RFC 4180) if it has one
//! itself: how docker's flags take several settings in one word.

use super::ValueError;

/// The fields of one CSV record.
pub(super) fn fields(text: &str) -> Result<Vec<String>, ValueError> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(ValueError::new("a quote is not closed"));
    }
    fields.push(field);
    Ok(fields)
}

/// The value of `type`, and all other attributes in their order.
pub(super) type Attributes = (Option<String>, Vec<(String, String)>);

/// Reads fields of the form `name=value`, each name once. `spelt` gives the one spelling
/// of a name.
pub(super) fn attributes(
    fields: &[String],
    spelt: impl Fn(&str) -> String,
) -> Result<Attributes, ValueError> {
    let (mut kind, mut left) = (None, Vec::<(String, String)>::new());
    for field in fields {
        let Some((name, value)) = field.split_once('=') else {
            return Err(ValueError::new(format!("`{field}`: name=value is expected")));
        };
        let name = spelt(name.trim());
        let twice = if name == "type" {
            kind.replace(value.to_owned()).is_some()
        } else {
            let known = left.iter().any(|(other, _)| *other == name);
            left.push((name.clone(), value.to_owned()));
            known
        };
        if twice {
            return Err(ValueError::new(format!("`{name}` is given twice")));
        }
    }
    Ok((kind, left))
}

/// True and false as docker's flags spell them; nothing behind `=` is true.
pub(in crate::cli) fn boolean(name: &str, value: &str) -> Result<bool, ValueError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(ValueError::new(format!("{name}={other}: true or false is expected"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        for (text, expected) in [
            ("a=b,c", vec!["a=b", "c"]),
            ("\"a=b,c\",d", vec!["a=b,c", "d"]),
            ("\"a=\"\"b\"\"\"", vec!["a=\"b\""]),
            ("a=\"b\"", vec!["a=\"b\""]),
            ("", vec![""]),
        ] {
            assert_eq!(fields(text).unwrap(), expected, "{text}");
        }
        assert!(fields("\"a").is_err());
        assert_eq!(boolean("x", ""), Ok(true));
        assert_eq!(boolean("x", "0"), Ok(false));
        assert!(boolean("x", "yes").is_err());
    }
}
