//! What the store remembers of steps: layers, by the keys of those that made them.
//!
//! A `RUN` with the usual network sees that there is none where kiln works offline, and may
//! end well all the same (`curl … || true`). What it makes then is remembered under a key of
//! its own ([`Keys`]), which builds without a network alone look up: none that has one takes
//! it, nor does it from a cache that was given on. With [`RunNetwork::None`] a step is the
//! same either way, and so are the steps above: they are known by what they stand on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::atomic::AtPath as _;
use crate::digest::Digest;
use crate::dockerfile::RunNetwork;
use crate::layer::{Compression, Layer, LayerForm};
use crate::net;
use crate::plan::{CacheKey, Op, Step};
use crate::rootfs;
use crate::store::{Store, StoreError};

/// The records' area.
pub(super) const AREA: &str = "steps";

#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) layer: Layer,
    /// [`LayerForm::name`] of how it was compressed.
    pub(super) form: String,
    /// The rules that found something to normalize; none if nobody looked, as of what was
    /// made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) normalized: Option<BTreeSet<String>>,
}

/// A step's layer that is here.
pub(super) enum Found {
    /// In the form that is wanted.
    Wanted(Layer),
    Other(Layer),
}

impl Found {
    pub(super) fn layer(self) -> Layer {
        let (Self::Wanted(layer) | Self::Other(layer)) = self;
        layer
    }
}

impl Record {
    /// The layer, if it is here in any form.
    pub(super) fn at_hand(self, store: &Store, wanted: Option<LayerForm>) -> Option<Found> {
        let Self { layer, form, .. } = self;
        let here = store.has_blob(&layer.digest, layer.size);
        if here && wanted.is_none_or(|wanted| wanted.name() == form) {
            return Some(Found::Wanted(layer));
        }
        let other = |form: LayerForm| rootfs::known_form(store, layer.diff_id, form);
        if let Some(layer) = wanted.and_then(other) {
            return Some(Found::Wanted(layer));
        }
        let usual = [Compression::None, Compression::Gzip, Compression::Zstd].map(LayerForm::from);
        let any = || usual.into_iter().find_map(other);
        (if here { Some(layer) } else { any() }).map(Found::Other)
    }
}

/// The keys that a step's layer may be known by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    usual: Digest,
    /// That of what is made without a network, where it may be another.
    offline: Option<Digest>,
}

impl Keys {
    pub(super) fn of(step: &Step, key: CacheKey) -> Self {
        let sees = matches!(&step.op, Op::Run(run) if run.network == RunNetwork::Default);
        let offline = (sees && net::is_shut().is_some()).then(|| offline(key.0));
        Self { usual: key.0, offline }
    }

    /// Those to look up, in this order.
    pub(super) fn all(&self) -> impl Iterator<Item = Digest> + use<> {
        [Some(self.usual), self.offline].into_iter().flatten()
    }

    /// That of what is made now.
    pub(super) fn own(&self) -> Digest {
        self.offline.unwrap_or(self.usual)
    }
}

/// The key of what a step makes where there is no network.
pub(super) fn offline(key: Digest) -> Digest {
    Digest::of(format!("offline\n{key}").as_bytes())
}

/// Has the store remember a layer that was made elsewhere, unless it knows the step. It
/// waits for nobody who is making the step: of two that are right the last one holds.
pub(super) fn remember(
    store: &Store,
    key: &Digest,
    layer: &Layer,
    form: &str,
) -> Result<(), StoreError> {
    let whole = |known: &Record| {
        known.form == form && store.has_blob(&known.layer.digest, known.layer.size)
    };
    if store.record::<Record>(AREA, key).filter(whole).is_none() {
        let record = Record { layer: layer.clone(), form: form.to_owned(), normalized: None };
        let bytes = serde_json::to_vec(&record).map_err(std::io::Error::from);
        let bytes = bytes.at("write", store.record_path(AREA, key))?;
        store.set_record_bytes(AREA, key, &bytes)?;
    }
    Ok(())
}
