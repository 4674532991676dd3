//! Tokens (distribution spec, "Token authentication", and its OAuth2 form).
//!
//! The registry names a token service; kiln shows it the credentials for that
//! registry and gets a token for the scopes it asks for. Rules: the service is
//! asked over HTTPS unless the registry itself is used over plain HTTP; it may
//! not redirect; what it says when it refuses is shown, what it answers
//! otherwise never is. A refresh token goes out in a POST; a service that has no
//! such thing (404, 405) gets it as a password, at the same address. The other
//! way round, a service that takes no GET gets user and password in a POST.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde_json::{Map, Value};

use super::{Credentials, RegistryError, Secret};
use crate::image::{ImageError, strict_json};
use crate::net::{Backoff, IDLE, retry_after};
use crate::registry::transport::passing;
use crate::registry::{Registries, endpoint, words};

/// Most bytes of a token service's answer.
const LIMIT: u64 = 1 << 20;

/// How long a token lives of which nothing is said (the specification's default).
const UNSAID: Duration = Duration::from_secs(60);

/// Longest life that is believed.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A token is renewed this long before its end, or a quarter of its life if that is less.
const BEFORE: Duration = Duration::from_secs(10);

/// What is asked of a token service.
pub(in crate::registry) struct TokenAsk<'a> {
    pub(in crate::registry) at: &'a Registries,
    /// The registry that named the service.
    pub(in crate::registry) host: &'a str,
    pub(in crate::registry) realm: Url,
    pub(in crate::registry) service: Option<&'a str>,
    pub(in crate::registry) scopes: &'a [String],
    pub(in crate::registry) credentials: Option<&'a Credentials>,
    /// A refresh token that the service gave in place of the credentials' own.
    pub(in crate::registry) refresh: Option<String>,
    /// What the credentials are, in words.
    pub(in crate::registry) tried: &'a str,
}

/// What a token service gave. It has no text.
pub(in crate::registry) struct Granted {
    /// The `Authorization` to send to the registry.
    pub(in crate::registry) value: HeaderValue,
    /// `None` if it has no end.
    pub(in crate::registry) life: Option<Life>,
    /// The refresh token to show next time.
    pub(in crate::registry) refresh: Option<String>,
}

/// How long a token is good, by this machine's steady clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) struct Life {
    /// From here on it is better renewed.
    pub(in crate::registry) soon: Instant,
    pub(in crate::registry) end: Instant,
}

impl Life {
    /// Of a token that was asked for at `begun`, when it was `age` old.
    fn new(begun: Instant, lifetime: Duration, age: Duration) -> Self {
        // No service hands out what has run out: its clocks disagree then.
        let age = if age < lifetime { age } else { Duration::ZERO };
        let left = (lifetime - age).min(LONGEST);
        let end = begun + left;
        Self { soon: end - BEFORE.min(left / 4), end }
    }
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

/// Gets a token.
pub(in crate::registry) async fn request(
    client: &reqwest::Client,
    ask: &TokenAsk<'_>,
) -> Result<Granted, RegistryError> {
    match ask.credentials.map(|credentials| (&credentials.user, &credentials.secret)) {
        None => exchange(ask, || get(client, ask, None)).await,
        Some((_, Secret::Registry(token))) => {
            Ok(Granted { value: bearer(ask.host, token)?, life: None, refresh: None })
        }
        Some((user, Secret::Password(password))) => {
            let got = with_password(client, ask, user, password).await;
            if !absent(&got) {
                return got;
            }
            let grant = [("grant_type", "password"), ("username", user), ("password", password)];
            exchange(ask, || post(client, ask, &grant)).await
        }
        Some((user, Secret::Identity(own))) => {
            if let Some(newer) = ask.refresh.as_deref().filter(|newer| newer != own) {
                let got = refreshed(client, ask, newer).await;
                // It may have been taken back; the user's own is still there.
                if !matches!(got, Err(RegistryError::Token { status: 400..=405, .. })) {
                    return got;
                }
            }
            let got = refreshed(client, ask, own).await;
            if !absent(&got) {
                return got;
            }
            // Where there is no POST, a new one is of no use.
            Ok(Granted { refresh: None, ..with_password(client, ask, user, own).await? })
        }
    }
}

/// True if the service has no such way to ask.
fn absent(got: &Result<Granted, RegistryError>) -> bool {
    matches!(got, Err(RegistryError::Token { status: 404 | 405, .. }))
}

async fn with_password(
    client: &reqwest::Client,
    ask: &TokenAsk<'_>,
    user: &str,
    password: &str,
) -> Result<Granted, RegistryError> {
    let authorization = basic(user, password).ok_or_else(|| RegistryError::Protocol {
        host: ask.host.into(),
        why: "user and password do not fit into a header".into(),
    })?;
    let account = Some(user).filter(|user| !user.is_empty());
    let request = || get(client, ask, account).header(AUTHORIZATION, authorization.clone());
    exchange(ask, request).await
}

async fn refreshed(
    client: &reqwest::Client,
    ask: &TokenAsk<'_>,
    token: &str,
) -> Result<Granted, RegistryError> {
    let grant = [("grant_type", "refresh_token"), ("refresh_token", token)];
    exchange(ask, || post(client, ask, &grant)).await
}

fn get(client: &reqwest::Client, ask: &TokenAsk<'_>, account: Option<&str>) -> RequestBuilder {
    let mut url = ask.realm.clone();
    let service = ask.service.map(|service| ("service", service));
    let scopes = ask.scopes.iter().map(|scope| ("scope", scope.as_str()));
    let account = account.map(|account| ("account", account));
    let pairs: Vec<_> = service.into_iter().chain(scopes).chain(account).collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    client.get(url)
}

fn post(client: &reqwest::Client, ask: &TokenAsk<'_>, grant: &[(&str, &str)]) -> RequestBuilder {
    let scopes = ask.scopes.join(" ");
    let mut form: Vec<(&str, &str)> =
        ask.service.map(|service| ("service", service)).into_iter().collect();
    form.push(("client_id", "kiln"));
    form.extend(grant);
    if !scopes.is_empty() {
        form.push(("scope", &scopes));
    }
    client
        .post(ask.realm.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(encoded(&form))
}

fn encoded(form: &[(&str, &str)]) -> String {
    // A URL's query has the very form that a form's body has.
    let Ok(mut url) = Url::parse("http://localhost/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

/// A request that did not bring a token.
struct Failed {
    error: RegistryError,
    /// True if the same may succeed a little later.
    again: bool,
    wish: Option<Duration>,
}

impl From<RegistryError> for Failed {
    fn from(error: RegistryError) -> Self {
        Self { again: error.may_pass(), error, wish: None }
    }
}

/// Sends a request, again if need be, and reads the answer.
async fn exchange(
    ask: &TokenAsk<'_>,
    request: impl Fn() -> RequestBuilder,
) -> Result<Granted, RegistryError> {
    let (mut backoff, mut connecting) = (Backoff::default(), Backoff::short());
    loop {
        let Failed { error, again, wish } = match once(ask, request()).await {
            Ok(granted) => return Ok(granted),
            Err(failed) => failed,
        };
        let refused = matches!(error, RegistryError::Unreachable { .. });
        let turns = if refused { &mut connecting } else { &mut backoff };
        let Some(pause) = turns.wait(wish).filter(|_| again) else { return Err(error) };
        ask.at.say_waiting(pause, &error.to_string());
        tokio::time::sleep(pause).await;
    }
}

async fn once(ask: &TokenAsk<'_>, request: RequestBuilder) -> Result<Granted, Failed> {
    let service = endpoint::host_of(&ask.realm);
    let begun = Instant::now();
    let response = tokio::time::timeout(IDLE, request.send())
        .await
        .map_err(|_| RegistryError::Interrupted {
            host: service.clone(),
            what: "the token".into(),
            why: format!("no answer within {} s", IDLE.as_secs()),
        })?
        .map_err(|error| endpoint::broken(ask.at, &ask.realm, &service, "the token", error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(read(response, ask.host, &service, begun).await?);
    }
    let wish = retry_after(response.headers());
    let mut words = if status.is_redirection() {
        "it redirects, which kiln does not follow with credentials".to_owned()
    } else {
        words::of(response).await
    };
    if let Some(wish) = wish.filter(|_| status == StatusCode::TOO_MANY_REQUESTS) {
        let dot = if words.is_empty() { "" } else { "; " };
        words = format!("{words}{dot}wait {} s", wish.as_secs());
    }
    let error = RegistryError::Token {
        host: ask.host.into(),
        service,
        status: status.as_u16(),
        tried: ask.tried.into(),
        words,
    };
    Err(Failed { error, again: passing(status), wish })
}

async fn read(
    mut response: Response,
    host: &str,
    service: &str,
    begun: Instant,
) -> Result<Granted, RegistryError> {
    let headers = std::mem::take(response.headers_mut());
    let bytes = words::limited(&mut response, LIMIT).await.map_err(|why| {
        RegistryError::Interrupted { host: service.into(), what: "the token".into(), why }
    })?;
    let wrong = |why: String| RegistryError::Protocol {
        host: host.into(),
        why: format!("the answer of its token service {service} holds no token: {why}"),
    };
    let Some(bytes) = bytes else { return Err(wrong(format!("more than {LIMIT} bytes"))) };
    let answer = Answer::parse(&bytes).map_err(wrong)?;
    let life = Life::new(begun, answer.lifetime, age(&answer.issued, &headers));
    Ok(Granted { value: bearer(host, &answer.token)?, life: Some(life), refresh: answer.refresh })
}

/// A token document.
struct Answer {
    token: String,
    lifetime: Duration,
    issued: Option<String>,
    refresh: Option<String>,
}

impl Answer {
    /// Errors say where, never what is there: it may be a token in an odd form.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let read = strict_json::<Value>("token", bytes);
        let mut fields: Map<String, Value> = match read {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err("it is JSON, but not an object".into()),
            // Its own words could show what is there.
            Err(ImageError::Malformed { .. }) => return Err("it is no valid JSON".into()),
            Err(_) => return Err("it is too large".into()),
        };
        let mut text = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let token = text("token")
            .or_else(|| text("access_token"))
            .ok_or("neither `token` nor `access_token`")?;
        let (issued, refresh) = (text("issued_at"), text("refresh_token"));
        Ok(Self { token, lifetime: lifetime(fields.get("expires_in")), issued, refresh })
    }
}

/// What `expires_in` says: seconds, as a number or, of some services, as a text.
fn lifetime(stated: Option<&Value>) -> Duration {
    let seconds = match stated {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    // Too long ones end as those that no duration can hold.
    match seconds {
        Some(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST),
        _ => UNSAID,
    }
}

/// How old a token was when it was given out: by the service's clock alone, since this
/// machine's may be wrong.
fn age(issued: &Option<String>, headers: &HeaderMap) -> Duration {
    let told = || {
        let issued: jiff::Timestamp = issued.as_deref()?.parse().ok()?;
        let now = headers.get(DATE)?.to_str().ok()?;
        let now = jiff::fmt::rfc2822::parse(now).ok()?.timestamp();
        Duration::try_from(now.duration_since(issued)).ok()
    };
    told().unwrap_or_default()
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
        for credentials in
            [Credentials::password("me", "pass"), Credentials::password("<token>", "pass")]
        {
            assert_eq!(format!("{credentials:?}"), "Credentials");
        }
    }

    #[test]
    fn documents() {
        let parse = |text: &str| {
            let found = Answer::parse(text.as_bytes());
            found.map(|a| (a.token, a.lifetime.as_secs(), a.issued, a.refresh))
        };
        for (text, token, seconds) in [
            (r#"{"token":"t"}"#, "t", 60),
            (r#"{"access_token":"t"}"#, "t", 60),
            (r#"{"token":"","access_token":"t","expires_in":300}"#, "t", 300),
            (r#"{"token":"t","access_token":"u","expires_in":0}"#, "t", 60),
            (r#"{"token":"t","expires_in":-5}"#, "t", 60),
            (r#"{"token":"t","expires_in":null}"#, "t", 60),
            (r#"{"token":"t","expires_in":"90"}"#, "t", 90),
            (r#"{"token":"t","expires_in":1}"#, "t", 1),
            (r#"{"token":"t","expires_in":1e300}"#, "t", LONGEST.as_secs()),
        ] {
            assert_eq!(parse(text).unwrap(), (token.into(), seconds, None, None), "{text}");
        }
        let all = r#"{"token":"t","issued_at":"2026-01-01T00:00:00Z","refresh_token":"r"}"#;
        let (_, _, issued, refresh) = parse(all).unwrap();
        assert_eq!(
            (issued.as_deref(), refresh.as_deref()),
            (Some("2026-01-01T00:00:00Z"), Some("r"))
        );
        for bad in [
            "\"hunter2\"",
            "[\"hunter2\"]",
            "{\"hunter2\":1,\"hunter2\":2}",
            "{\"token\":[\"hunter2\"]}",
            "{\"token\":\"hunter2",
            "hunter2",
            "{}",
            "",
        ] {
            let why = parse(bad).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn lives() {
        let begun = Instant::now();
        let seconds = Duration::from_secs;
        for (lifetime, age, soon, end) in [
            (60, 0, 50.0, 60),
            (60, 20, 30.0, 40),
            (300, 0, 290.0, 300),
            (1, 0, 0.75, 1),
            // Nobody hands out what has run out.
            (60, 70, 50.0, 60),
        ] {
            let life = Life::new(begun, seconds(lifetime), seconds(age));
            assert_eq!((life.soon - begun).as_secs_f64(), soon, "{lifetime} {age}");
            assert_eq!(life.end - begun, seconds(end));
        }
        assert_eq!(Life::new(begun, Duration::MAX, Duration::ZERO).end - begun, LONGEST);
    }

    /// The two times are the service's own; without one of them a token is new.
    #[test]
    fn ages() {
        for (issued, date, expected) in [
            (Some("2026-03-01T12:00:00Z"), Some("Sun, 01 Mar 2026 12:00:30 GMT"), 30),
            (Some("2026-03-01T12:00:00.5+00:00"), Some("Sun, 01 Mar 2026 12:00:31 GMT"), 30),
            (Some("2026-03-01T12:00:00Z"), Some("Sun, 01 Mar 2026 11:00:00 GMT"), 0),
            (Some("2026-03-01T12:00:00Z"), None, 0),
            (None, Some("Sun, 01 Mar 2026 12:00:30 GMT"), 0),
            (Some("yesterday"), Some("today"), 0),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(date.map(|date| (DATE, HeaderValue::from_static(date))));
            let found = age(&issued.map(str::to_owned), &headers);
            assert_eq!(found.as_secs(), expected, "{issued:?} {date:?}");
        }
    }
}
