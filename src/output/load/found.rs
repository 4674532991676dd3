//! What an archive is found to have: each image once, whatever its lists repeat, and no more
//! documents than there is memory for.

use std::collections::BTreeMap;

use super::Cargo;
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Raw};
use crate::output::OutputError;
use crate::reference::Reference;

/// Most bytes of manifests and configs of one archive: they are in memory all at once.
pub const MOST_DOCUMENTS: u64 = 512 << 20;

#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) cargo: Cargo,
    /// Where an image is among those of the cargo.
    at: BTreeMap<BlobDigest, usize>,
    held: u64,
}

impl Finding {
    /// Counts what is kept in memory.
    pub(super) fn hold(&mut self, raw: &Raw) -> Result<(), OutputError> {
        self.held += raw.bytes.len() as u64;
        if self.held > MOST_DOCUMENTS { Err(OutputError::Documents) } else { Ok(()) }
    }

    /// Gives an image that was found before further names; false if it was not.
    pub(super) fn again(&mut self, digest: &BlobDigest, names: &[Reference]) -> bool {
        let known = self.at.get(digest).and_then(|at| self.cargo.images.get_mut(*at));
        let is_known = known.is_some();
        if let Some((all, _)) = known {
            all.extend(
                names.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>(),
            );
        }
        is_known
    }

    pub(super) fn add(&mut self, names: Vec<Reference>, image: AnyImage) {
        if !self.again(&image.digest(), &names) {
            self.at.insert(image.digest(), self.cargo.images.len());
            self.cargo.images.push((names, image));
        }
    }
}
