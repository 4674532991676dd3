//! Layers that go to registries while the image is still being built.
//!
//! Each layer of the image to come is brought to each repository as soon as it is known, a
//! few at once. What names them is not put before [`push`](super::push()), which finds them
//! there; a build that fails leaves blobs without a name, which registries clear away.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use super::destination::Destination;
use super::pull::AT_ONCE;
use super::{Registries, RegistryError, origin};
use crate::digest::BlobDigest;
use crate::layer::Layer;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::Store;

/// Uploads under way; those that are not ended by [`Uploads::end`] are given up.
pub struct Uploads {
    with: Arc<With>,
    /// One for each repository.
    targets: Vec<Arc<Target>>,
    runtime: Handle,
    state: Mutex<State>,
}

/// What every upload works with.
struct With {
    store: Arc<Store>,
    at: Registries,
    progress: Progress,
    room: Semaphore,
    failed: Box<dyn Fn() + Send + Sync>,
}

struct Target {
    name: Reference,
    /// `host/repository`, as what is known of blobs has it.
    place: String,
    opened: OnceCell<Destination>,
}

#[derive(Default)]
struct State {
    begun: BTreeSet<BlobDigest>,
    running: JoinSet<Result<(), RegistryError>>,
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploads").field("targets", &self.targets.len()).finish_non_exhaustive()
    }
}

impl Uploads {
    /// Prepares uploads to the repositories of these names, and asks nothing yet. `failed`
    /// is called when an upload fails: the image need not be finished then.
    ///
    /// # Errors
    /// If registries.conf blocks a name.
    pub fn new(
        to: &[Reference],
        store: &Arc<Store>,
        at: &Registries,
        progress: &Progress,
        runtime: &Handle,
        failed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, RegistryError> {
        at.tell(progress);
        let mut targets: Vec<Arc<Target>> = Vec::new();
        for name in to {
            let place = at.mirrors().for_push(name)?;
            let place = format!("{}/{}", place.host, place.repository);
            if targets.iter().all(|target| target.place != place) {
                let opened = OnceCell::new();
                targets.push(Arc::new(Target { name: name.clone(), place, opened }));
            }
        }
        Ok(Self {
            with: Arc::new(With {
                store: Arc::clone(store),
                at: at.clone(),
                progress: progress.clone(),
                room: Semaphore::new(AT_ONCE),
                failed: Box::new(failed),
            }),
            targets,
            runtime: runtime.clone(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to bring a layer that the image will have. Of a repository that is known to
    /// have it nothing is asked: [`push`](super::push()) does that, if it has to.
    pub fn layer(&self, layer: &Layer) {
        let mut state = self.state();
        if !state.begun.insert(layer.digest) {
            return;
        }
        let known = origin::known(&self.with.store, layer.digest);
        for target in self.targets.iter().filter(|target| !known.contains(&target.place)) {
            let (with, target) = (Arc::clone(&self.with), Arc::clone(target));
            let (digest, size) = (layer.digest, layer.size);
            let work = async move {
                let brought = bring(&with, &target, digest, size).await;
                if brought.is_err() {
                    (with.failed)();
                }
                brought
            };
            state.running.spawn_on(work, &self.runtime);
        }
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// The first that failed; the others are given up.
    pub async fn end(self) -> Result<(), RegistryError> {
        let mut running = std::mem::take(&mut self.state().running);
        while let Some(ended) = running.join_next().await {
            ended.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Why an upload has failed, if one has; none is waited for.
    #[must_use]
    pub fn failure(&self) -> Option<RegistryError> {
        let mut state = self.state();
        while let Some(ended) = state.running.try_join_next() {
            if let Ok(Err(error)) = ended {
                return Some(error);
            }
        }
        None
    }
}

async fn bring(
    with: &With,
    target: &Target,
    digest: BlobDigest,
    size: u64,
) -> Result<(), RegistryError> {
    // Nobody closes it.
    let _room = with.room.acquire().await;
    let open = || Destination::open(&target.name, &with.at);
    let destination = target.opened.get_or_try_init(open).await?;
    destination.layer(digest, size, &with.store, &with.progress).await
}
