//! The session of an upload, remembered for the process after one that was killed.
//!
//! A record of the store, by blob and `host/repository`: the session's address, which may hold
//! a token and is shown nowhere. One upload at a time keeps it up to date; another one of the
//! same blob to the same place meanwhile has a session of its own. It is a memory: what the
//! registry says of that address decides, and whatever it says that is no place to go on from
//! means a new session.

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::super::RegistryError;
use super::super::transport::Session;
use super::Blob;
use crate::digest::Digest;
use crate::store::Slot;

/// The records' area.
const AREA: &str = "uploads";

/// What is remembered.
#[derive(Serialize, Deserialize)]
struct Place {
    url: String,
}

/// The right to remember one upload.
pub(super) struct Kept<'a>(Slot<'a>);

impl<'a> Kept<'a> {
    /// Unless the upload cannot be remembered, or somebody else makes it now.
    pub(super) fn of(session: &Session, blob: &Blob<'a>) -> Result<Option<Self>, RegistryError> {
        let Some(store) = blob.kept else { return Ok(None) };
        let key = Digest::of(format!("{} {}", blob.digest, session.name()).as_bytes());
        Ok(store.try_slot(AREA, &key)?.map(Self))
    }

    /// Where the session was, if this process may go there too.
    pub(super) fn url(&self, session: &Session) -> Option<Url> {
        session.known_address(&self.0.read::<Place>()?.url)
    }

    pub(super) fn note(&self, url: &Url) -> Result<(), RegistryError> {
        Ok(self.0.note(&Place { url: url.to_string() })?)
    }

    pub(super) fn forget(&self) -> Result<(), RegistryError> {
        Ok(self.0.forget()?)
    }
}
