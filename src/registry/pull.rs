//! Images from a registry into the store.

mod documents;

pub use documents::{Document, documents};

use std::collections::BTreeMap;
use std::sync::OnceLock;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OnceCell;

use super::mirror::Place;
use super::transport::{Action, Session};
use super::{Registries, RegistryError, blob, manifest, origin, size_text};
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Descriptor, Image, Index, Manifest, Raw};
use crate::layer::{Compression, Layer};
use crate::platform::Platform;
use crate::progress::{Progress, Way};
use crate::reference::{Pinned, Reference};
use crate::store::Store;

/// Blobs that are fetched or brought at once.
pub(super) const AT_ONCE: usize = 4;

/// Most manifests of one index that are fetched together: their documents are
/// in memory, and an index has room for thousands of entries.
const MANIFESTS: usize = 200;

/// Which platforms of an image are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    One(Platform),
    /// All that are listed, and what is listed beside them.
    All,
}

/// An image's documents.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What the name means: an index, or the manifest itself.
    pub raw: Raw,
    /// The platform's image: manifest and config, verified.
    pub image: Image,
}

/// The places that may have a repository, opened when first needed.
pub(super) struct Sources<'a> {
    at: &'a Registries,
    name: String,
    places: Vec<Source>,
    progress: &'a Progress,
}

struct Source {
    place: Place,
    session: OnceCell<Session>,
    /// Why it cannot be reached: it is not waited for again.
    dead: OnceLock<String>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(
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
        })
    }

    async fn session(&self, turn: usize) -> Result<&Session, RegistryError> {
        let Source { place, session, .. } = &self.places[turn];
        session.get_or_try_init(|| Session::open(self.at, place, Action::Pull)).await
    }

    async fn manifest(&self, selector: &str) -> Result<Raw, RegistryError> {
        let what = format!("manifest {}{selector}", self.prefix(selector));
        let mut turns = Turns::of(self);
        loop {
            let got = match self.session(turns.turn).await {
                Ok(session) => manifest::get(session, selector, &what).await,
                Err(error) => Err(error),
            };
            if let Some(got) = turns.after(got, self)? {
                return Ok(got);
            }
        }
    }

    fn prefix(&self, selector: &str) -> String {
        let mark = if selector.contains(':') { '@' } else { ':' };
        format!("{}{mark}", self.name)
    }

    async fn config(&self, at: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let what = format!("config {} of {}", at.digest, self.name);
        let mut turns = Turns::of(self);
        loop {
            let got = match self.session(turns.turn).await {
                Ok(session) => blob::document(session, at, &what).await,
                Err(error) => Err(error),
            };
            if let Some(got) = turns.after(got, self)? {
                return Ok(got);
            }
        }
    }

    /// Fetches a layer unless the store has it.
    pub(super) async fn layer(&self, layer: &Layer, into: &Store) -> Result<(), RegistryError> {
        let shown = format!("pull sha256:{} ({})", layer.digest.short(), size_text(layer.size));
        let task = self.progress.transfer(Way::Pull, layer.digest, layer.size, shown);
        if into.has_blob(&layer.digest, layer.size) {
            task.found();
            return Ok(());
        }
        let mut turns = Turns::of(self);
        loop {
            let got = match self.session(turns.turn).await {
                Ok(session) => blob::download(session, layer, into, &task).await,
                Err(error) => Err(error),
            };
            if turns.after(got, self)?.is_some() {
                break;
            }
        }
        origin::remember(into, layer.digest, &self.places[turns.turn].place.name())?;
        task.done();
        Ok(())
    }

    /// Fetches several layers, a few at once; the first error ends all.
    async fn layers(&self, layers: &[Layer], into: &Store) -> Result<(), RegistryError> {
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
    async fn listed(&self, entry: &Descriptor) -> Result<Raw, RegistryError> {
        if entry.media_type.is_index() {
            let (name, digest) = (self.name.clone(), entry.digest);
            return Err(RegistryError::Nested { name, digest });
        }
        let raw = self.manifest(&entry.digest.to_string()).await?;
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

    async fn image(&self, manifest: Raw) -> Result<Image, RegistryError> {
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
struct Turns {
    turn: usize,
    said: Vec<String>,
}

impl Turns {
    fn of(sources: &Sources<'_>) -> Self {
        let mut turns = Self { turn: 0, said: Vec::new() };
        turns.pass_over_the_dead(sources);
        turns
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
    fn after<T>(
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
            if matches!(error, RegistryError::Unreachable { .. } | RegistryError::Tls { .. }) {
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

/// Layers that a manifest says to fetch from elsewhere are not fetched.
fn refuse_foreign(manifest: &Manifest) -> Result<(), RegistryError> {
    match manifest.layers.iter().find(|layer| !layer.urls.is_empty()) {
        Some(layer) => Err(RegistryError::ForeignLayer { digest: layer.digest }),
        None => Ok(()),
    }
}

/// Reads what a name means for a platform: the documents only.
///
/// # Errors
/// If the registry does not give them, or what it gives is wrong.
pub async fn resolve(
    from: &Reference,
    platform: &Platform,
    at: &Registries,
    progress: &Progress,
) -> Result<Resolved, RegistryError> {
    let from = &at.mirrors().meaning(from)?;
    let sources = Sources::new(from, at, progress)?;
    one(&sources, from, platform).await
}

/// What a name points to in its registry now, as a reference that always will; of a short
/// name, in the registry that it means.
///
/// # Errors
/// If the registry does not say.
pub async fn pin(
    name: &Reference,
    at: &Registries,
    progress: &Progress,
) -> Result<Pinned, RegistryError> {
    let name = &at.mirrors().meaning(name)?;
    if let Some(digest) = name.digest() {
        return Ok(name.pin(digest));
    }
    let raw = Sources::new(name, at, progress)?.manifest(&name.selector()).await?;
    Ok(name.pin(raw.digest))
}

async fn one(
    sources: &Sources<'_>,
    from: &Reference,
    platform: &Platform,
) -> Result<Resolved, RegistryError> {
    let raw = sources.manifest(&from.selector()).await?;
    if !raw.media_type.is_index() {
        let image = sources.image(raw.clone()).await?;
        let has = image.platform();
        if !has.satisfies(platform) {
            let name = from.familiar();
            sources.progress.warn(format!("`{name}` is an image for {has}, not for {platform}"));
        }
        return Ok(Resolved { raw, image });
    }
    let index = index(&raw, from)?;
    let entry = index.choose(platform).ok_or_else(|| RegistryError::Platform {
        name: from.familiar(),
        wanted: Box::new(platform.clone()),
        available: index.platforms(),
    })?;
    let manifest = sources.listed(entry).await?;
    let image = sources.image(manifest).await?;
    Ok(Resolved { raw, image })
}

fn index(raw: &Raw, from: &Reference) -> Result<Index, RegistryError> {
    Index::read(&raw.bytes).map_err(|source| RegistryError::Document {
        what: format!("index of {}", from.familiar()),
        source,
    })
}

/// Fetches an image into the store and names it there. For one platform of
/// several the name points to that platform's manifest, unless it has a digest:
/// then to what has that digest. A short name is kept as what it means.
///
/// # Errors
/// If the registry does not give it, or what it gives is wrong. What is in the
/// store then is verified, but has no name.
pub async fn pull(
    from: &Reference,
    want: &Want,
    into: &Store,
    at: &Registries,
    progress: &Progress,
) -> Result<AnyImage, RegistryError> {
    let from = &at.mirrors().meaning(from)?;
    let sources = Sources::new(from, at, progress)?;
    let platform = match want {
        Want::One(platform) => platform,
        Want::All => return all(&sources, from, into).await,
    };
    let Resolved { raw, image } = one(&sources, from, platform).await?;
    sources.layers(image.layers(), into).await?;
    into.put(&raw.bytes)?;
    let image = AnyImage::Image(image);
    into.keep_documents(&image)?;
    let named = if from.digest() == Some(raw.digest) { &raw } else { image.raw() };
    into.tag(from, named.descriptor())?;
    Ok(image)
}

async fn all(
    sources: &Sources<'_>,
    from: &Reference,
    into: &Store,
) -> Result<AnyImage, RegistryError> {
    let raw = sources.manifest(&from.selector()).await?;
    let image = if raw.media_type.is_index() {
        let mut images = Vec::new();
        let mut beside = Vec::new();
        let mut layers = Vec::new();
        let listed = index(&raw, from)?.manifests;
        if listed.len() > MANIFESTS {
            let (name, count) = (from.familiar(), listed.len());
            return Err(RegistryError::TooManyManifests { name, count, limit: MANIFESTS });
        }
        for entry in &listed {
            if !(entry.media_type.is_manifest() || entry.media_type.is_index()) {
                let kind = crate::net::escaped(entry.media_type.as_str(), 100);
                sources.progress.note(format!("left out {}: a `{kind}`", entry.digest));
                continue;
            }
            let manifest = sources.listed(entry).await?;
            if entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
                beside.push(manifest);
                continue;
            }
            let image = sources.image(manifest).await?;
            layers.extend_from_slice(image.layers());
            images.push(image);
        }
        for manifest in beside {
            layers.extend(attached(sources, &manifest, into).await?);
        }
        sources.layers(&layers, into).await?;
        AnyImage::Index { raw, images }
    } else {
        let image = sources.image(raw).await?;
        sources.layers(image.layers(), into).await?;
        AnyImage::Image(image)
    };
    into.keep(from, &image)?;
    Ok(image)
}

/// Keeps a manifest that is no image (an attestation) with its config, and gives
/// its blobs.
async fn attached(
    sources: &Sources<'_>,
    raw: &Raw,
    into: &Store,
) -> Result<Vec<Layer>, RegistryError> {
    let parsed = Manifest::read(&raw.bytes).map_err(|source| RegistryError::Document {
        what: format!("manifest {} of {}", raw.digest, sources.name),
        source,
    })?;
    refuse_foreign(&parsed)?;
    into.put(&sources.config(&parsed.config).await?)?;
    into.put(&raw.bytes)?;
    let as_layer = |entry: &Descriptor| Layer {
        // Such a blob is no tar and has no diff ID; only its digest and size matter here.
        diff_id: crate::digest::DiffId(entry.digest.0),
        digest: entry.digest,
        size: entry.size,
        compression: Compression::None,
    };
    Ok(parsed.layers.iter().map(as_layer).collect())
}
