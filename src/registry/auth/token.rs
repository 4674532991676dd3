//! Tokens (distribution spec, "Token authentication", and its OAuth2 form).
//!
//! The registry names a token service; kiln shows it the credentials for that
//! registry and gets a token for the scopes it asks for. Rules: the service is
//! asked over HTTPS unless the registry itself is used over plain HTTP; it may
//! not redirect; what it says when it refuses is shown.

use oci_distribution::token_cache::RegistryToken;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, Url};

use super::{Credentials, RegistryError, Secret};
use crate::image::strict_json;
use crate::net::{IDLE, causes, escaped};
use crate::registry::words;

/// Most bytes of a token service's answer.
const LIMIT: u64 = 1 << 20;

/// What is asked of a token service.
pub(in crate::registry) struct TokenAsk<'a> {
    /// The registry that named the service.
    pub(in crate::registry) host: &'a str,
    pub(in crate::registry) realm: Url,
    pub(in crate::registry) service: Option<&'a str>,
    pub(in crate::registry) scopes: &'a [String],
    pub(in crate::registry) credentials: Option<&'a Credentials>,
    /// What the credentials are, in words.
    pub(in crate::registry) tried: &'a str,
}

/// The `Authorization` of user and password.
pub(in crate::registry) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let text = super::base64::encode(format!("{user}:{password}").as_bytes());
    secret_header(&format!("Basic {text}"))
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    // Nothing prints its value then.
    value.set_sensitive(true);
    Some(value)
}

fn bearer(host: &str, token: &str) -> Result<HeaderValue, RegistryError> {
    secret_header(&format!("Bearer {token}")).ok_or_else(|| RegistryError::Protocol {
        host: host.into(),
        why: "its token has characters that no header can carry".into(),
    })
}

/// Gets a token, as the `Authorization` to send to the registry.
pub(in crate::registry) async fn request(
    client: &reqwest::Client,
    ask: &TokenAsk<'_>,
) -> Result<HeaderValue, RegistryError> {
    let secret = ask.credentials.map(|credentials| &credentials.secret);
    let request = match (ask.credentials, secret) {
        (_, Some(Secret::Registry(token))) => return bearer(ask.host, token),
        (_, Some(Secret::Identity(token))) => {
            let mut form = query(ask);
            form.extend([
                ("grant_type", "refresh_token".to_owned()),
                ("client_id", "kiln".to_owned()),
                ("refresh_token", token.clone()),
            ]);
            if !ask.scopes.is_empty() {
                form.retain(|(name, _)| *name != "scope");
                form.push(("scope", ask.scopes.join(" ")));
            }
            client
                .post(ask.realm.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(encoded(&form))
        }
        (Some(Credentials { user, .. }), Some(Secret::Password(password))) => {
            let authorization = basic(user, password).ok_or_else(|| RegistryError::Protocol {
                host: ask.host.into(),
                why: "user and password do not fit into a header".into(),
            })?;
            get(client, ask).header(AUTHORIZATION, authorization)
        }
        (None, _) | (_, None) => get(client, ask),
    };
    let service = ask.realm.host_str().unwrap_or_default().to_owned();
    let lost = |why: String| RegistryError::Unreachable { host: service.clone(), why };
    let response = tokio::time::timeout(IDLE, request.send())
        .await
        .map_err(|_| lost(format!("no answer within {} s", IDLE.as_secs())))?
        .map_err(|error| lost(causes(&error.without_url())))?;
    let status = response.status();
    if !status.is_success() {
        let words = if status.is_redirection() {
            "it redirects, which kiln does not follow with credentials".to_owned()
        } else {
            words::of(response).await
        };
        return Err(RegistryError::Token {
            host: ask.host.into(),
            service,
            status: status.as_u16(),
            tried: ask.tried.into(),
            words,
        });
    }
    read(response, ask.host, &service).await
}

fn get(client: &reqwest::Client, ask: &TokenAsk<'_>) -> reqwest::RequestBuilder {
    let mut url = ask.realm.clone();
    url.query_pairs_mut().extend_pairs(query(ask));
    if let Some(credentials) = ask.credentials.filter(|one| !one.user.is_empty()) {
        url.query_pairs_mut().append_pair("account", &credentials.user);
    }
    client.get(url)
}

fn query(ask: &TokenAsk<'_>) -> Vec<(&'static str, String)> {
    let service = ask.service.map(|service| ("service", service.to_owned()));
    service.into_iter().chain(ask.scopes.iter().map(|scope| ("scope", scope.clone()))).collect()
}

fn encoded(form: &[(&str, String)]) -> String {
    // A URL's query has the very form that a form's body has.
    let Ok(mut url) = Url::parse("http://localhost/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

async fn read(
    mut response: Response,
    host: &str,
    service: &str,
) -> Result<HeaderValue, RegistryError> {
    let bytes = words::limited(&mut response, LIMIT).await.map_err(|why| {
        RegistryError::Interrupted { host: service.into(), what: "the token".into(), why }
    })?;
    let wrong = |why: String| RegistryError::Protocol {
        host: host.into(),
        why: format!("the answer of its token service {service} holds no token: {why}"),
    };
    let Some(bytes) = bytes else { return Err(wrong(format!("more than {LIMIT} bytes"))) };
    let fields: serde_json::Map<String, serde_json::Value> =
        strict_json("token", &bytes).map_err(|error| wrong(escaped(&error.to_string(), 200)))?;
    let fields = serde_json::Value::Object(
        fields.into_iter().filter(|(_, value)| value.as_str() != Some("")).collect(),
    );
    let token = serde_json::from_value::<RegistryToken>(fields)
        .map_err(|_| wrong("neither `token` nor `access_token`".into()))?;
    bearer(host, token.token())
}

/// The scopes of a request: kiln's own and the one that the registry's challenge
/// names, each repository once with all its actions.
pub(in crate::registry) fn scopes(own: &[String], challenged: Option<&str>) -> Vec<String> {
    let mut merged: Vec<(String, Vec<String>)> = Vec::new();
    let named = challenged.unwrap_or_default().split_whitespace().map(str::to_owned);
    for scope in own.iter().cloned().chain(named) {
        let (resource, actions) = match scope.rsplit_once(':') {
            Some((resource, actions)) => (resource.to_owned(), actions.to_owned()),
            None => (scope, String::new()),
        };
        let actions = actions.split(',').map(str::to_owned);
        match merged.iter_mut().find(|(have, _)| *have == resource) {
            Some((_, have)) => {
                for action in actions {
                    if !have.contains(&action) {
                        have.push(action);
                    }
                }
            }
            None => merged.push((resource, actions.collect())),
        }
    }
    merged
        .into_iter()
        .map(|(resource, actions)| {
            let actions = actions.join(",");
            if actions.is_empty() { resource } else { format!("{resource}:{actions}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_merge() {
        let own = ["repository:a/b:pull,push".to_owned()];
        for (own, challenged, expected) in [
            (&own[..], None, vec!["repository:a/b:pull,push"]),
            (&own[..], Some("repository:a/b:pull"), vec!["repository:a/b:pull,push"]),
            (&own[..], Some("repository:a/b:push,delete"), vec!["repository:a/b:pull,push,delete"]),
            (
                &own[..],
                Some("repository:c:pull registry:catalog:*"),
                vec!["repository:a/b:pull,push", "repository:c:pull", "registry:catalog:*"],
            ),
            (&[], None, vec![]),
            (&[], Some("odd"), vec!["odd"]),
        ] {
            assert_eq!(scopes(own, challenged), expected);
        }
    }

    #[test]
    fn secrets_have_no_debug_text() {
        let header = basic("me", "pass").unwrap();
        assert!(!format!("{header:?}").contains("Basic"));
        let credentials = Credentials::password("me", "pass");
        assert_eq!(format!("{credentials:?}"), "Credentials");
    }
}
