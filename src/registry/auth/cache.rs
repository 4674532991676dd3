//! What this process may show to registries, kept as long as it is good.
//!
//! A token belongs to one registry, token service, set of scopes and one who
//! asked: what was given to nobody is never shown as somebody's, nor the other
//! way round. Sessions that agree in all of it share the token, and one of them
//! at a time fetches it. Nothing here has a text or leaves memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::{Found, token::Granted, token::Life};

/// How a registry wants to be shown who asks.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::registry) enum How {
    Basic,
    Bearer { realm: Url, service: Option<String>, scopes: Vec<String> },
}

/// One way to show oneself to a registry.
pub(in crate::registry) struct Way {
    pub(in crate::registry) how: How,
    /// Whose credentials it takes; `None` for nobody's.
    pub(in crate::registry) found: Option<Found>,
    pub(in crate::registry) slot: Arc<Slot>,
}

impl Way {
    /// The scopes of its tokens.
    pub(in crate::registry) fn scopes(&self) -> &[String] {
        match &self.how {
            How::Basic => &[],
            How::Bearer { scopes, .. } => scopes,
        }
    }
}

/// What tells tokens apart.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Scheme, host and port of the registry.
    registry: String,
    service: Option<(String, Option<String>)>,
    scopes: BTreeSet<String>,
    /// Where the credentials came from; each source has one secret for one user.
    who: Option<String>,
}

/// The place of one token.
#[derive(Default)]
pub(in crate::registry) struct Slot {
    held: Mutex<Option<Held>>,
    /// Held while a token is fetched.
    pub(in crate::registry) fetching: tokio::sync::Mutex<()>,
}

struct Held {
    value: HeaderValue,
    life: Option<Life>,
    /// The registry took it at least once.
    accepted: bool,
}

impl Slot {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before(&self, end: impl Fn(&Life) -> Instant) -> Option<HeaderValue> {
        let held = self.held();
        let good = |held: &&Held| held.life.as_ref().is_none_or(|life| Instant::now() < end(life));
        held.as_ref().filter(good).map(|held| held.value.clone())
    }

    /// What is good for a while yet.
    pub(in crate::registry) fn fresh(&self) -> Option<HeaderValue> {
        self.before(|life| life.soon)
    }

    /// What has not run out.
    pub(in crate::registry) fn good(&self) -> Option<HeaderValue> {
        self.before(|life| life.end)
    }

    pub(in crate::registry) fn set(&self, value: HeaderValue, life: Option<Life>) {
        *self.held() = Some(Held { value, life, accepted: false });
    }

    /// Notes that the registry took a token.
    pub(in crate::registry) fn accept(&self, value: &HeaderValue) {
        if let Some(held) = self.held().as_mut().filter(|held| held.value == *value) {
            held.accepted = true;
        }
    }

    /// True if this is the token here and the registry never took it.
    pub(in crate::registry) fn never_took(&self, value: &HeaderValue) -> bool {
        self.held().as_ref().is_some_and(|held| held.value == *value && !held.accepted)
    }
}

/// What a session knows of itself before it was told how: registry, repository, scopes.
type Kind = (String, String, Vec<String>);

/// A token service, and whose refresh token it changed.
type Service = (Url, Option<String>, String);

/// See the module.
#[derive(Default)]
pub(in crate::registry) struct Tokens {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    ways: Mutex<HashMap<Kind, Arc<Way>>>,
    refresh: Mutex<HashMap<Service, String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves these maps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tokens {
    /// The way for a registry, how it wants it, and whose credentials there are.
    pub(in crate::registry) fn way(
        &self,
        registry: &Url,
        how: How,
        found: Option<Found>,
    ) -> Arc<Way> {
        let service = match &how {
            How::Basic => None,
            How::Bearer { realm, service, .. } => Some((realm.to_string(), service.clone())),
        };
        let mut way = Way { how, found, slot: Arc::default() };
        let key = Key {
            registry: registry.to_string(),
            service,
            scopes: way.scopes().iter().cloned().collect(),
            who: way.found.as_ref().map(|found| found.source.clone()),
        };
        way.slot = Arc::clone(locked(&self.slots).entry(key).or_default());
        Arc::new(way)
    }

    /// How another session of the same kind has come in.
    pub(in crate::registry) fn known(
        &self,
        registry: &Url,
        repository: &str,
        scopes: &[String],
    ) -> Option<Arc<Way>> {
        let key = (registry.to_string(), repository.to_owned(), scopes.to_owned());
        locked(&self.ways).get(&key).cloned()
    }

    pub(in crate::registry) fn set_known(
        &self,
        registry: &Url,
        repository: &str,
        scopes: &[String],
        way: Arc<Way>,
    ) {
        let key = (registry.to_string(), repository.to_owned(), scopes.to_owned());
        locked(&self.ways).insert(key, way);
    }

    /// The refresh token that a service gave in place of the one from a source.
    pub(in crate::registry) fn refresh(&self, way: &Way) -> Option<String> {
        locked(&self.refresh).get(&service(way)?).cloned()
    }

    pub(in crate::registry) fn set_refresh(&self, way: &Way, granted: &mut Granted) {
        if let (Some(key), Some(token)) = (service(way), granted.refresh.take()) {
            locked(&self.refresh).insert(key, token);
        }
    }
}

fn service(way: &Way) -> Option<Service> {
    let (How::Bearer { realm, service, .. }, Some(found)) = (&way.how, &way.found) else {
        return None;
    };
    Some((realm.clone(), service.clone(), found.source.clone()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::Credentials;

    fn found(user: &str) -> Option<Found> {
        let credentials = Credentials::password(user, "p");
        Some(Found { credentials, source: format!("user `{user}`"), kept: false })
    }

    #[test]
    fn what_tells_tokens_apart() {
        let tokens = Tokens::default();
        let of = |registry: &str, service: &str, scopes: &[&str], who: Option<Found>| {
            let how = How::Bearer {
                realm: "https://t/".parse().unwrap(),
                service: Some(service.into()),
                scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            };
            Arc::as_ptr(&tokens.way(&registry.parse().unwrap(), how, who).slot)
        };
        let base = of("https://r/", "s", &["a", "b"], found("me"));
        assert_eq!(base, of("https://r/", "s", &["b", "a"], found("me")));
        for other in [
            of("https://r:5000/", "s", &["a", "b"], found("me")),
            of("http://r/", "s", &["a", "b"], found("me")),
            of("https://r/", "s2", &["a", "b"], found("me")),
            of("https://r/", "s", &["a"], found("me")),
            of("https://r/", "s", &["a", "b"], found("you")),
            of("https://r/", "s", &["a", "b"], None),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn tokens_run_out() {
        let (slot, now) = (Slot::default(), Instant::now());
        let value = HeaderValue::from_static("x");
        let hour = Duration::from_secs(3600);
        for (life, fresh, good) in [
            (None, true, true),
            (Some(Life { soon: now + hour, end: now + hour }), true, true),
            (Some(Life { soon: now, end: now + hour }), false, true),
            (Some(Life { soon: now, end: now }), false, false),
        ] {
            slot.set(value.clone(), life);
            assert_eq!((slot.fresh().is_some(), slot.good().is_some()), (fresh, good), "{life:?}");
        }
        assert!(slot.never_took(&value));
        slot.accept(&HeaderValue::from_static("y"));
        assert!(slot.never_took(&value));
        slot.accept(&value);
        assert!(!slot.never_took(&value));
    }
}
