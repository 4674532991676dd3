//! A repository to read from, wherever it is: its mirrors, then itself.
//!
//! Documents that a store has are not fetched. Of a tag whose document could be there only
//! the digest is asked for (HEAD), which registries do not count as a pull.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OnceCell;

use super::super::mirror::Place;
use super::super::transport::{Action, Session};
use super::super::{Registries, RegistryError, blob, manifest, origin, referrers, size_text, tags};
use super::AT_ONCE;
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Image, Manifest, Raw};
use crate::layer::Layer;
use crate::progress::{Progress, Way};
use crate::reference::Reference;
use crate::store::Store;

/// The places that may have a repository, opened when first needed.
pub(in crate::registry) struct Sources<'a> {
    at: &'a Registries,
    pub(super) name: String,
    places: Vec<Source>,
    pub(super) progress: &'a Progress,
    /// Has documents that need not be fetched.
    known: Option<&'a Store>,
}

struct Source {
    place: Place,
    session: OnceCell<Session>,
    /// Why it cannot be reached: it is not waited for again.
    dead: OnceLock<String>,
}

/// Asks one place after the other, until one answers or its error is the last. Gives the
/// place's number, too.
macro_rules! at_first {
    ($sources:expr, $session:ident => $ask:expr) => {{
        let mut turns = Turns::of($sources);
        loop {
            let got = match $sources.session(turns.turn()).await {
                Ok($session) => $ask.await,
                Err(error) => Err(error),
            };
            match turns.after(got, $sources) {
                Ok(None) => {}
                Ok(Some(got)) => break Ok((turns.turn(), got)),
                Err(error) => break Err(error),
            }
        }
    }};
}

impl<'a> Sources<'a> {
    pub(in crate::registry) fn new(
        from: &Reference,
        at: &'a Registries,
        progress: &'a Progress,
    ) -> Result<Self, RegistryError> {
        at.tell(progress);
        let places = at.mirrors().for_pull(from)?;
        Ok(Self {
            at,
            name: from.name(),
            places: places
                .into_iter()
                .map(|place| Source { place, session: OnceCell::new(), dead: OnceLock::new() })
                .collect(),
            progress,
            known: None,
        })
    }

    /// Has it take documents from a store that has them.
    pub(super) fn knowing(self, store: &'a Store) -> Self {
        Self { known: Some(store), ..self }
    }

    pub(in crate::registry) async fn session(
        &self,
        turn: usize,
    ) -> Result<&Session, RegistryError> {
        let Source { place, session, .. } = &self.places[turn];
        session.get_or_try_init(|| Session::open(self.at, place, Action::Pull)).await
    }

    /// Host and repository of each place.
    pub(in crate::registry) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places.iter().map(|Source { place, .. }| (&*place.host, &*place.repository))
    }

    /// True if an error is of the place that was asked, and not of whom its answer was for.
    pub(in crate::registry) fn is_of(&self, turn: usize, error: &RegistryError) -> bool {
        error.host() == Some(self.places[turn].place.host.as_str())
    }

    /// What a tag or a digest means.
    pub(in crate::registry) async fn manifest(&self, selector: &str) -> Result<Raw, RegistryError> {
        if let Some(store) = self.known
            && let Ok(digest) = selector.parse::<BlobDigest>()
            && let Some(raw) = known_document(store, &digest)
        {
            return Ok(raw);
        }
        self.fetched(selector, self.known).await
    }

    async fn fetched(&self, selector: &str, known: Option<&Store>) -> Result<Raw, RegistryError> {
        let what = format!("manifest {}{selector}", self.prefix(selector));
        let ask = async |session: &Session| {
            if let Some(store) = known
                && let Some(digest) = manifest::head(session, selector, &what).await?
                && let Some(raw) = known_document(store, &digest)
            {
                return Ok(raw);
            }
            manifest::get(session, selector, &what).await
        };
        at_first!(self, session => ask(session)).map(|(_, got)| got)
    }

    /// The digest that a tag means now.
    pub(in crate::registry) async fn digest(
        &self,
        selector: &str,
    ) -> Result<BlobDigest, RegistryError> {
        let what = format!("manifest {}{selector}", self.prefix(selector));
        let ask = async |session: &Session| match manifest::head(session, selector, &what).await? {
            Some(digest) => Ok(digest),
            None => Ok(manifest::get(session, selector, &what).await?.digest),
        };
        at_first!(self, session => ask(session)).map(|(_, got)| got)
    }

    /// The repository's tags, sorted.
    pub(in crate::registry) async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let what = format!("the tags of {}", self.name);
        let (tags, odd) = at_first!(self, session => tags::all(session, &what))?.1;
        for one in odd {
            self.progress.warn(format!("`{one}` is no tag and was left out"));
        }
        Ok(tags.into_iter().collect())
    }

    /// What refers to a manifest.
    pub(in crate::registry) async fn referrers(
        &self,
        subject: BlobDigest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        at_first!(self, session => referrers::list(session, subject, artifact_type))
            .map(|(_, got)| got)
    }

    fn prefix(&self, selector: &str) -> String {
        let mark = if selector.contains(':') { '@' } else { ':' };
        format!("{}{mark}", self.name)
    }

    /// A small blob whole, as configs are.
    pub(in crate::registry) async fn config(
        &self,
        at: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        if let Some(store) = self.known
            && store.has_blob(&at.digest, at.size)
            && let Ok(bytes) = store.document(&at.digest)
        {
            return Ok(bytes);
        }
        let what = format!("config {} of {}", at.digest, self.name);
        at_first!(self, session => blob::document(session, at, &what)).map(|(_, got)| got)
    }

    /// Fetches a layer unless the store has it.
    pub(in crate::registry) async fn layer(
        &self,
        layer: &Layer,
        into: &Store,
    ) -> Result<(), RegistryError> {
        let shown = format!("pull sha256:{} ({})", layer.digest.short(), size_text(layer.size));
        let task = self.progress.transfer(Way::Pull, layer.digest, layer.size, shown);
        if into.has_blob(&layer.digest, layer.size) {
            task.found();
            return Ok(());
        }
        let (turn, ()) = at_first!(self, session => blob::download(session, layer, into, &task))?;
        origin::remember(into, layer.digest, &self.places[turn].place.name())?;
        task.done();
        Ok(())
    }

    /// Fetches several layers, a few at once; the first error ends all.
    pub(super) async fn layers(&self, layers: &[Layer], into: &Store) -> Result<(), RegistryError> {
        let mut wanted: BTreeMap<BlobDigest, &Layer> = BTreeMap::new();
        for layer in layers {
            wanted.insert(layer.digest, layer);
        }
        let mut waiting = wanted.into_values();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < AT_ONCE {
                let Some(layer) = waiting.next() else { break };
                running.push(self.layer(layer, into));
            }
            match running.next().await {
                Some(result) => result?,
                None => return Ok(()),
            }
        }
    }

    /// The manifest that an index lists, as the entry describes it.
    pub(super) async fn listed(&self, entry: &Descriptor) -> Result<Raw, RegistryError> {
        if entry.media_type.is_index() {
            let (name, digest) = (self.name.clone(), entry.digest);
            return Err(RegistryError::Nested { name, digest });
        }
        self.described(entry).await
    }

    /// The manifest or index that an entry describes.
    pub(in crate::registry) async fn described(
        &self,
        entry: &Descriptor,
    ) -> Result<Raw, RegistryError> {
        let fits = |raw: &Raw| raw.media_type == entry.media_type;
        let known = self.known.and_then(|store| known_document(store, &entry.digest));
        let raw = match known.filter(fits) {
            Some(raw) => raw,
            None => self.fetched(&entry.digest.to_string(), None).await?,
        };
        let found = raw.descriptor();
        if found.size != entry.size || found.media_type != entry.media_type {
            return Err(RegistryError::Mismatch {
                host: self.name.clone(),
                what: format!("manifest {}", entry.digest),
                expected: format!("{} of {} bytes", entry.media_type, entry.size),
                found: format!("{} of {} bytes", found.media_type, found.size),
            });
        }
        Ok(raw)
    }

    pub(super) async fn image(&self, manifest: Raw) -> Result<Image, RegistryError> {
        let wrong = |digest: BlobDigest| {
            let what = format!("manifest {digest} of {}", self.name);
            |source| RegistryError::Document { what, source }
        };
        let digest = manifest.digest;
        let parsed = Manifest::read(&manifest.bytes).map_err(wrong(digest))?;
        refuse_foreign(&parsed)?;
        let config = self.config(&parsed.config).await?;
        Image::read(manifest, config).map_err(wrong(digest))
    }
}

/// Which place is asked, and what those before it said.
pub(in crate::registry) struct Turns {
    turn: usize,
    said: Vec<String>,
}

impl Turns {
    pub(in crate::registry) fn of(sources: &Sources<'_>) -> Self {
        let mut turns = Self { turn: 0, said: Vec::new() };
        turns.pass_over_the_dead(sources);
        turns
    }

    /// The place to ask.
    pub(in crate::registry) fn turn(&self) -> usize {
        self.turn
    }

    /// The last place is asked in any case.
    fn pass_over_the_dead(&mut self, of: &Sources<'_>) {
        while self.turn + 1 < of.places.len()
            && let Some(why) = of.places[self.turn].dead.get()
        {
            self.said.push(why.clone());
            self.turn += 1;
        }
    }

    /// What a place gave; `None` if the next one is to be asked, of which the user is told.
    pub(in crate::registry) fn after<T>(
        &mut self,
        got: Result<T, RegistryError>,
        of: &Sources<'_>,
    ) -> Result<Option<T>, RegistryError> {
        let error = match got {
            Ok(got) => return Ok(Some(got)),
            Err(error) => error,
        };
        if self.turn + 1 < of.places.len() && error.another_may() {
            let text = error.to_string();
            let away =
                matches!(error, RegistryError::Unreachable { .. } | RegistryError::Tls { .. });
            // What it leads to may be away alone.
            if away && of.is_of(self.turn, &error) {
                let _ = of.places[self.turn].dead.set(text.clone());
            }
            self.said.push(text);
            self.turn += 1;
            self.pass_over_the_dead(of);
            let next = &of.places[self.turn].place.host;
            of.progress.note(format!("{error}; trying {next} next"));
            return Ok(None);
        }
        if self.said.is_empty() {
            return Err(error);
        }
        let earlier = std::mem::take(&mut self.said);
        Err(RegistryError::Everywhere { earlier, source: Box::new(error) })
    }
}

/// A manifest or index that a store has; what is damaged there or is none is fetched.
fn known_document(store: &Store, digest: &BlobDigest) -> Option<Raw> {
    Raw::read(store.document(digest).ok()?).ok()
}

/// Layers that a manifest says to fetch from elsewhere are not fetched.
pub(in crate::registry) fn refuse_foreign(manifest: &Manifest) -> Result<(), RegistryError> {
    match manifest.layers.iter().find(|layer| !layer.urls.is_empty()) {
        Some(layer) => Err(RegistryError::ForeignLayer { digest: layer.digest }),
        None => Ok(()),
    }
}
