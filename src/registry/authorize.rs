//! What a session shows to its registry.
//!
//! Nothing, until the registry asks for it with a 401. Then the best of the ways that it
//! offers, for the credentials that there are: a token of the service that it names, or
//! user and password. A token is asked for with the scopes of the session and those that
//! the registry's challenges named; the session keeps to them from then on. It is renewed
//! shortly before it runs out, and when the registry does not take it any more; how often
//! in one request has an end, so that a registry which takes none does not ask for ever.
//! Credentials go to the registry's own scheme, host and port, and to a token service over
//! HTTPS, or over plain HTTP where the registry itself is used so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue};

use super::auth::{self, Challenge, Credentials, Found, How, Secret, TokenAsk, Way};
use super::transport::Session;
use super::{RegistryError, endpoint};

/// Most renewals for one request of tokens that the registry took before. Others that share
/// a token that is good for a few requests may use it up before this one's turn comes.
const RAN_OUT: u8 = 16;

/// Most others for one request: the first token, and wider ones.
const WIDER: u8 = 4;

/// Most for one request of tokens that the registry never took from anybody.
const UNTAKEN: u8 = 1;

/// Most scopes of one token; a registry that names more is not believed.
const SCOPES: usize = 32;

/// Most bytes of what a challenge names of them.
const SCOPE: usize = 4096;

/// How often what is shown was renewed for one request.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ran_out: u8,
    wider: u8,
    untaken: u8,
}

impl Turns {
    /// Counts a renewal; false if it is one too many.
    fn next(&mut self, shown: Option<&HeaderValue>, before: Option<&Way>, way: &Way) -> bool {
        let same = before.is_some_and(|before| Arc::ptr_eq(&before.slot, &way.slot));
        let (count, most) = match shown {
            Some(shown) if way.slot.never_took(shown) => (&mut self.untaken, UNTAKEN),
            Some(_) if same => (&mut self.ran_out, RAN_OUT),
            _ => (&mut self.wider, WIDER),
        };
        *count += 1;
        *count <= most
    }
}

/// What a session has found out about showing itself.
pub(super) struct Access {
    /// The scopes of what the session is for.
    scopes: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    way: Option<Arc<Way>>,
    /// What was shown, in words; `None` if nothing.
    tried: Option<String>,
}

impl Access {
    pub(super) fn new(scopes: Vec<String>) -> Self {
        Self { scopes, state: Mutex::default() }
    }

    /// The same, and a scope more.
    pub(super) fn and(&self, scope: String) -> Self {
        Self::new([self.scopes.clone(), vec![scope]].concat())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// What was shown to the registry, in words.
    pub(super) fn tried(&self) -> String {
        self.access.state().tried.clone().unwrap_or_else(|| "no credentials".into())
    }

    /// True if an address is the registry's own.
    pub(super) fn owns(&self, url: &Url) -> bool {
        endpoint::same_origin(url, &self.base)
    }

    /// The error for a server elsewhere that wants a login.
    pub(super) fn foreign_login(&self, what: &str) -> RegistryError {
        RegistryError::Redirect {
            host: self.host.clone(),
            what: what.into(),
            why: "it asks for a login there".into(),
        }
    }

    /// What is shown at an address, if it is the registry's own.
    pub(super) async fn authorization(
        &self,
        url: &Url,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        if self.owns(url) { self.shown().await } else { Ok(None) }
    }

    /// What is shown to the registry now. What is about to run out is renewed first.
    pub(super) async fn shown(&self) -> Result<Option<HeaderValue>, RegistryError> {
        let Some(way) = self.way() else { return Ok(None) };
        if let Some(value) = way.slot.fresh() {
            return Ok(Some(value));
        }
        match self.obtain(&way, None).await {
            Ok(value) => Ok(Some(value)),
            Err(error) => match (way.slot.good(), error) {
                // The old one serves as long as it may.
                (Some(value), _) => Ok(Some(value)),
                // There may be other credentials by now: the registry's answer to nobody
                // has them looked up.
                (None, RegistryError::Token { status: 400..=403, .. }) => Ok(None),
                (None, error) => Err(error),
            },
        }
    }

    /// How to come in, as this session or one of its kind was told.
    fn way(&self) -> Option<Arc<Way>> {
        let mut state = self.access.state();
        if state.way.is_none() {
            let known = self.at.tokens().known(&self.base, &self.repository, &self.access.scopes);
            if let Some(found) = known.as_ref().and_then(|way| way.found.as_ref()) {
                state.tried = Some(found.source.clone());
            }
            state.way = known;
        }
        state.way.clone()
    }

    /// Notes that the registry took what was shown.
    pub(super) fn accepted(&self, shown: Option<&HeaderValue>) {
        if let (Some(shown), Some(way)) = (shown, &self.access.state().way) {
            way.slot.accept(shown);
        }
    }

    /// Sees to it that there is something else to show than what a 401 of the registry
    /// refused. False if there is not. `headers` are those of the answer.
    pub(super) async fn renew(
        &self,
        headers: &HeaderMap,
        shown: Option<&HeaderValue>,
        what: &str,
        turns: &mut Turns,
    ) -> Result<bool, RegistryError> {
        let offers = auth::challenges(headers);
        if offers.is_empty() {
            return Err(RegistryError::Protocol {
                host: self.host.clone(),
                why: format!("it asks for a login for {what}, but not how (Basic or Bearer)"),
            });
        }
        let before = self.way();
        let mut anew = false;
        loop {
            let found = self.at.keyring().find(&self.host, &self.repository, anew).await?;
            self.access.state().tried = found.as_ref().map(|found| found.source.clone());
            // A helper may have better ones by now than what it said before.
            let old = found.as_ref().is_some_and(|found| found.kept);
            let Some(how) = self.choose(&offers, found.as_ref(), before.as_deref())? else {
                return Ok(false);
            };
            let way = self.at.tokens().way(&self.base, how, found);
            if !anew && !turns.next(shown, before.as_deref(), &way) {
                return Ok(false);
            }
            match self.obtain(&way, shown).await {
                Ok(value) if shown == Some(&value) && old => anew = true,
                Err(RegistryError::Token { status: 400..=403, .. }) if old => anew = true,
                Ok(value) => {
                    let scopes = &self.access.scopes;
                    let tokens = self.at.tokens();
                    tokens.set_known(&self.base, &self.repository, scopes, Arc::clone(&way));
                    self.access.state().way = Some(way);
                    return Ok(shown != Some(&value));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The best way in for the credentials that there are; `None` if there is none. A token
    /// comes before the password, which need not be shown to the registry itself then.
    fn choose(
        &self,
        offers: &[Challenge],
        found: Option<&Found>,
        before: Option<&Way>,
    ) -> Result<Option<How>, RegistryError> {
        let mut refused = None;
        for offer in offers {
            let Challenge::Bearer { realm, service, scope } = offer else { continue };
            match self.realm(realm) {
                Ok(realm) => {
                    let scopes = self.scopes(before, scope.as_deref())?;
                    return Ok(Some(How::Bearer { realm, service: service.clone(), scopes }));
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let secret = found.map(|found| &found.credentials.secret);
        if offers.contains(&Challenge::Basic) && matches!(secret, Some(Secret::Password(_))) {
            return Ok(Some(How::Basic));
        }
        if let Some(error) = refused {
            return Err(error);
        }
        if matches!(secret, Some(Secret::Identity(_) | Secret::Registry(_)))
            && let Some(tried) = &mut self.access.state().tried
        {
            *tried += " (a token, where the registry takes user and password only)";
        }
        Ok(None)
    }

    /// The scopes to ask for: the session's, those of its last token, and a challenge's.
    fn scopes(
        &self,
        before: Option<&Way>,
        challenged: Option<&str>,
    ) -> Result<Vec<String>, RegistryError> {
        let own = before.map_or(&[][..], Way::scopes).join(" ");
        let named = challenged.unwrap_or_default();
        let all = auth::scopes(&auth::scopes(&self.access.scopes, Some(&own)), Some(named));
        if named.len() > SCOPE || all.len() > SCOPES {
            return Err(RegistryError::Protocol {
                host: self.host.clone(),
                why: format!("it names more than {SCOPES} scopes that a token should have"),
            });
        }
        Ok(all)
    }

    /// What to show in a way, unless it is what was shown already: what another request
    /// has fetched in the meantime, or something new.
    async fn obtain(
        &self,
        way: &Way,
        shown: Option<&HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        let _one_at_a_time = way.slot.fetching.lock().await;
        if let Some(value) = way.slot.fresh().filter(|value| shown != Some(value)) {
            return Ok(value);
        }
        let credentials = way.found.as_ref().map(|found| &found.credentials);
        let tried = way.found.as_ref().map_or("no credentials", |found| &found.source);
        let (value, life) = match &way.how {
            How::Basic => (self.basic(credentials)?, None),
            How::Bearer { realm, service, scopes } => {
                let ask = TokenAsk {
                    at: &self.at,
                    host: &self.host,
                    realm: realm.clone(),
                    service: service.as_deref(),
                    scopes,
                    credentials,
                    refresh: self.at.tokens().refresh(way),
                    tried,
                };
                let mut granted = auth::request_token(&self.at.client_for(realm)?, &ask).await?;
                self.at.tokens().set_refresh(way, &mut granted);
                (granted.value, granted.life)
            }
        };
        // What is the same was refused, or taken, all the same.
        if shown != Some(&value) {
            way.slot.set(value.clone(), life);
        }
        Ok(value)
    }

    fn basic(&self, credentials: Option<&Credentials>) -> Result<HeaderValue, RegistryError> {
        let header = credentials.and_then(|credentials| match &credentials.secret {
            Secret::Password(password) => auth::basic(&credentials.user, password),
            Secret::Identity(_) | Secret::Registry(_) => None,
        });
        header.ok_or_else(|| RegistryError::Protocol {
            host: self.host.clone(),
            why: "user and password do not fit into a header".into(),
        })
    }

    /// The token service's address, if credentials may go there.
    fn realm(&self, text: &str) -> Result<Url, RegistryError> {
        endpoint::follow(&self.base, text, |host| self.at.plain_allowed(host)).map_err(|why| {
            RegistryError::Redirect {
                host: self.host.clone(),
                what: "the request for a token".into(),
                why,
            }
        })
    }
}
