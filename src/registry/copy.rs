//! Repositories that whole trees of documents and blobs are copied from and to, whatever
//! the documents describe: nothing is read but what they list.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use reqwest::Url;

use super::destination::{Destination, Mount, as_layer};
use super::pull::{Sources, Turns};
use super::reading::Reading;
use super::transport::Session;
use super::upload::{self, Blob};
use super::{Registries, RegistryError, blob, manifest, referrers};
use crate::atomic::AtPath as _;
use crate::digest::{BlobDigest, Hashing};
use crate::image::{Descriptor, Index, Raw};
use crate::progress::{Progress, Task};
use crate::reference::{Pinned, Reference};
use crate::store::Store;

/// A repository to copy from, mirrors included.
pub struct Origin<'a> {
    sources: Sources<'a>,
    from: Reference,
}

impl<'a> Origin<'a> {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// If registries.conf blocks the name.
    pub fn new(
        from: &Reference,
        at: &'a Registries,
        progress: &'a Progress,
    ) -> Result<Self, RegistryError> {
        let from = at.meaning(from)?;
        Ok(Self { sources: Sources::new(&from, at, progress)?, from })
    }

    /// For messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.from.familiar()
    }

    /// The name, in the registry that it means.
    #[must_use]
    pub fn meaning(&self) -> &Reference {
        &self.from
    }

    /// What the name means.
    ///
    /// # Errors
    /// If the registry does not give it, or what it gives is wrong.
    pub async fn root(&self) -> Result<Raw, RegistryError> {
        self.sources.manifest(&self.from.selector()).await
    }

    /// The manifest or index that an entry of an index describes.
    ///
    /// # Errors
    /// As [`Origin::root`].
    pub async fn document(&self, entry: &Descriptor) -> Result<Raw, RegistryError> {
        self.sources.described(entry).await
    }

    /// A small blob whole, verified.
    ///
    /// # Errors
    /// As [`Origin::root`].
    pub async fn bytes(&self, at: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        self.sources.config(at).await
    }

    /// What refers to a manifest.
    ///
    /// # Errors
    /// If the registry does not say.
    pub async fn referrers(
        &self,
        subject: BlobDigest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        self.sources.referrers(subject, artifact_type).await
    }

    /// Fetches a blob into a store, unless it is there.
    ///
    /// # Errors
    /// If nobody gives it, or what is given is wrong; nothing is in the store then.
    pub async fn to_store(&self, at: &Descriptor, store: &Store) -> Result<(), RegistryError> {
        self.sources.layer(&as_layer(at.digest, at.size), store).await
    }

    /// Fetches a blob into a file, from its beginning on; `path` is for messages. It is
    /// verified.
    ///
    /// # Errors
    /// If nobody gives it, or what is given is wrong: the file has to go then.
    pub async fn to_file(
        &self,
        at: &Descriptor,
        file: &mut File,
        path: &Path,
        task: &Task,
    ) -> Result<(), RegistryError> {
        let mut turns = Turns::of(&self.sources);
        loop {
            let got = match self.sources.session(turns.turn()).await {
                Ok(session) => fetch(session, at, file, path, task).await,
                Err(error) => Err(error),
            };
            if let Some(()) = turns.after(got, &self.sources)? {
                return Ok(());
            }
        }
    }
}

async fn fetch(
    session: &Session,
    at: &Descriptor,
    file: &mut File,
    path: &Path,
    task: &Task,
) -> Result<(), RegistryError> {
    let what = format!("blob {}", at.digest);
    // Another place may have given a part of it.
    file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).at("write", path)?;
    let mut to = Hashing::new(file);
    let mut reading = Reading::new(session, at.digest, at.size, 0, &what)?.telling(task);
    while let Some(piece) = reading.next().await? {
        blob::blocking(|| to.write_all(&piece)).at("write", path)?;
        task.bytes(to.count(), Some(at.size));
    }
    let (_, found, _) = to.finish();
    if BlobDigest(found) != at.digest {
        return Err(RegistryError::Mismatch {
            host: session.host.clone(),
            what,
            expected: at.digest.to_string(),
            found: BlobDigest(found).to_string(),
        });
    }
    Ok(())
}

/// Where a blob's bytes come from.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    Origin(&'a Origin<'a>),
    /// A part of a file from byte `start` on.
    File {
        file: &'a Arc<File>,
        start: u64,
        path: &'a Path,
    },
}

/// A blob that the repository lacks.
pub struct Lacking {
    /// Where a mount became an upload.
    opened: Option<(Arc<Session>, Url)>,
}

/// A repository to copy to.
pub struct Target {
    destination: Destination,
    to: Reference,
}

impl Target {
    /// Finds out how the registry is spoken to.
    ///
    /// # Errors
    /// If it cannot be, or registries.conf blocks the name.
    pub async fn open(to: &Reference, at: &Registries) -> Result<Self, RegistryError> {
        Ok(Self { destination: Destination::open(to, at).await?, to: to.clone() })
    }

    fn session(&self) -> &Session {
        &self.destination.session
    }

    /// True if its name means a document already, and what that lists as manifests is there.
    /// The registry refused it when a part was lacking, and keeps the parts as long as it is
    /// there.
    ///
    /// # Errors
    /// If the registry does not say.
    pub async fn has(&self, root: &Raw) -> Result<bool, RegistryError> {
        let what = format!("manifest of {}", self.to.familiar());
        let selector = self.selector(root);
        if manifest::head(self.session(), &selector, &what).await? != Some(root.digest) {
            return Ok(false);
        }
        if !root.media_type.is_index() {
            return Ok(true);
        }
        let listed = Index::read(&root.bytes)
            .map_err(|source| RegistryError::Document { what: what.clone(), source })?;
        for entry in listed.manifests {
            // Of an index below, or a blob, the whole would have to be looked at.
            let is_there = entry.media_type.is_manifest()
                && manifest::exists(self.session(), entry.digest, &what).await?;
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn selector(&self, root: &Raw) -> String {
        self.to.tag().map_or_else(|| root.digest.to_string(), str::to_owned)
    }

    /// Finds out whether the repository lacks a blob. From another repository of the same
    /// registry it is mounted, which needs no question and moves nothing; the task is told.
    ///
    /// # Errors
    /// If the registry does not say.
    pub async fn lacks(
        &self,
        at: &Descriptor,
        origin: Option<&Origin<'_>>,
        task: &Task,
    ) -> Result<Option<Lacking>, RegistryError> {
        let what = format!("blob {}", at.digest);
        let session = self.session();
        if session.holds(at.digest) {
            return Ok(None);
        }
        let mut opened = None;
        let others = origin.into_iter().flat_map(|origin| origin.sources.all());
        let elsewhere =
            |(host, name): &(&str, &str)| *host == session.host && *name != session.repository;
        if let Some((_, other)) = others.into_iter().find(elsewhere) {
            match self.destination.mount(at.digest, other, &what).await? {
                Mount::Done => {
                    task.mounted_from(other);
                    session.set_held(at.digest);
                    return Ok(None);
                }
                Mount::Opened(session, url) => opened = Some((session, url)),
                Mount::Refused => {}
            }
        }
        if blob::exists(session, at.digest, &what).await? {
            session.set_held(at.digest);
            return Ok(None);
        }
        Ok(Some(Lacking { opened }))
    }

    /// Sends a blob.
    ///
    /// # Errors
    /// If it cannot be read, is not what its digest says, or the registry does not take it.
    pub async fn send(
        &self,
        at: &Descriptor,
        lacking: Lacking,
        from: Content<'_>,
        task: &Task,
    ) -> Result<(), RegistryError> {
        let what = format!("blob {}", at.digest);
        let mut opened = lacking.opened;
        match from {
            Content::File { file, start, path } => {
                let source = upload::Source::File { file, start, path };
                self.put(at, source, opened, &what, task).await?;
            }
            Content::Origin(Origin { sources, .. }) => {
                let mut turns = Turns::of(sources);
                loop {
                    let sent = match sources.session(turns.turn()).await {
                        Ok(session) => {
                            let source = upload::Source::Remote(session);
                            self.put(at, source, opened.take(), &what, task).await
                        }
                        Err(error) => Err(error),
                    };
                    let error = match sent {
                        Ok(()) => break,
                        Err(error) => error,
                    };
                    // What is wrong with the destination is so whoever gives the blob.
                    if !sources.is_of(turns.turn(), &error) {
                        return Err(error);
                    }
                    turns.after::<()>(Err(error), sources)?;
                }
            }
        }
        self.session().set_held(at.digest);
        Ok(())
    }

    async fn put(
        &self,
        at: &Descriptor,
        source: upload::Source<'_>,
        opened: Option<(Arc<Session>, Url)>,
        what: &str,
        task: &Task,
    ) -> Result<(), RegistryError> {
        let blob = Blob { digest: at.digest, size: at.size, source, kept: None };
        match opened {
            Some((session, url)) => upload::send(&session, &blob, Some(url), what, task).await,
            None => upload::send(self.session(), &blob, None, what, task).await,
        }
    }

    /// Sends a blob of a store, wherever its bytes are.
    ///
    /// # Errors
    /// As [`Target::send`], or if nobody has it.
    pub async fn send_stored(
        &self,
        at: &Descriptor,
        store: &Store,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        self.destination.layer(at.digest, at.size, store, progress).await
    }

    /// What refers to a manifest there.
    ///
    /// # Errors
    /// If the registry does not say.
    pub async fn referrers(&self, subject: BlobDigest) -> Result<Vec<Descriptor>, RegistryError> {
        referrers::list(self.session(), subject, None).await
    }

    /// Puts a document under its digest.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub async fn document(&self, raw: &Raw) -> Result<(), RegistryError> {
        let what = format!("manifest {}", raw.digest);
        referrers::put(self.session(), raw, &raw.digest.to_string(), &what).await
    }

    /// Puts a document under the name; what it holds then is read back by the digest that is
    /// given out.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub async fn name(&self, root: &Raw) -> Result<Pinned, RegistryError> {
        let what = format!("manifest of {}", self.to.familiar());
        referrers::put(self.session(), root, &self.selector(root), &what).await?;
        manifest::get(self.session(), &root.digest.to_string(), &what).await?;
        Ok(self.to.pin(root.digest))
    }

    /// The name with a digest.
    #[must_use]
    pub fn pinned(&self, root: &Raw) -> Pinned {
        self.to.pin(root.digest)
    }
}
