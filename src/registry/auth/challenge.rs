//! `WWW-Authenticate` (RFC 9110, 11.6.1): what a server wants to see.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One way in that the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) enum Challenge {
    Basic,
    /// Ask this token service (distribution spec's token authentication).
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// The challenges of a response that kiln understands.
pub(in crate::registry) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(parse).collect()
}

/// Parses one header, which may hold several challenges. What is malformed ends
/// the reading; what is unknown is left out.
pub(in crate::registry) fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        match spaced.strip_prefix('=') {
            // `name=value` belongs to the scheme before it.
            Some(value) if !found.is_empty() => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else {
                    break;
                };
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            Some(_) => break,
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| known(&scheme, parameters)).collect()
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some servers send addresses unquoted.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn known(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let get = |name: &str| {
        parameters.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            // Several scopes are one text with spaces; some servers name each by itself.
            let scopes = parameters.iter().filter(|(have, _)| have == "scope");
            let scopes: Vec<&str> = scopes.map(|(_, value)| value.trim()).collect();
            let scope = Some(scopes.join(" ")).filter(|scope| !scope.trim().is_empty());
            Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn forms() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let hub_is = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );
        for (text, expected) in [
            (hub.to_owned(), vec![hub_is.clone()]),
            (
                r#"Bearer realm="https://t/",scope="a:b:pull",scope="a:c:pull",error="x""#.into(),
                vec![bearer("https://t/", None, Some("a:b:pull a:c:pull"))],
            ),
            (
                r#"Bearer realm="https://t/",scope="" "#.into(),
                vec![bearer("https://t/", None, None)],
            ),
            ("Basic realm=\"x, y\"".into(), vec![Challenge::Basic]),
            ("basic".into(), vec![Challenge::Basic]),
            (format!("Basic realm=\"a\", {hub}"), vec![Challenge::Basic, hub_is]),
            (
                "bearer realm=https://t/token , service=s".into(),
                vec![bearer("https://t/token", Some("s"), None)],
            ),
            (r#"BEARER realm="a\"b""#.into(), vec![bearer("a\"b", None, None)]),
            (r#"Negotiate, Digest realm="x""#.into(), vec![]),
            (r#"Bearer service="no realm""#.into(), vec![]),
            (r#"Bearer realm="open"#.into(), vec![]),
            ("=,=\"".into(), vec![]),
            (String::new(), vec![]),
        ] {
            assert_eq!(parse(&text), expected, "{text}");
        }
    }
}
