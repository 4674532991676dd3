//! What is carried to machines without a network.

pub(super) mod hostile;
mod images;
mod inputs;
mod parts;

use std::path::Path;

use kiln::digest::BlobDigest;
use kiln::image::{Annotations, Artifact, Descriptor, MediaType, Raw};

use crate::cli::{image, keep_index};
use crate::support::kiln::Kiln;

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

/// Attaches an artifact of one blob; gives its manifest's descriptor.
fn attach(kiln: &Kiln, subject: &Descriptor, kind: &str, content: &str) -> Descriptor {
    let store = kiln.store();
    let blob = Raw::new(content.into(), MediaType::from("text/plain".to_owned()));
    store.put(&blob.bytes).unwrap();
    let blobs = vec![blob.descriptor()];
    let artifact = Artifact::about(subject, kind, blobs, Annotations::new()).unwrap();
    store.attach(&artifact).unwrap();
    artifact.manifest.descriptor()
}

/// `app:1` for two platforms; a signature of the index, an SBOM of one manifest, and a
/// signature of that. Gives the index's digest, and those of the three.
fn signed(kiln: &Kiln) -> (BlobDigest, [BlobDigest; 3]) {
    let digest = keep_index(kiln, "app:1").parse().unwrap();
    let store = kiln.store();
    let index = store.find(&"app:1".parse().unwrap()).unwrap().unwrap();
    let one = store.image(&index).unwrap().images()[0].manifest().descriptor();
    let signature = attach(kiln, &index, "x/signature", "signed");
    let sbom = attach(kiln, &one, "x/sbom", "parts");
    let upon = attach(kiln, &sbom, "x/signature", "signed too");
    (digest, [signature, sbom, upon].map(|at| at.digest))
}

/// What a layer of [`image`] holds most of.
fn large(kiln: &Kiln) -> BlobDigest {
    image(kiln, "linux/amd64").layers()[1].digest
}
