//! What is attached to images: on its way between stores, registries and archives, and how
//! long it lives; and what builds attach.

mod carried;
mod life;
mod provenance;

use kiln::digest::BlobDigest;
use kiln::image::{AnyImage, Artifact, Descriptor, MediaType, Raw};
use kiln::store::Store;

use crate::support::kiln::Kiln;

/// Attaches a few bytes to something, and gives the entry of what holds them.
fn attach(store: &Store, subject: &Descriptor, kind: &str, text: &str) -> Descriptor {
    let blob = Raw::new(text.into(), MediaType::from("application/x-text".to_owned()));
    store.put(&blob.bytes).unwrap();
    let notes = [("made.by".to_owned(), kind.to_owned())].into();
    let made = Artifact::about(subject, kind, vec![blob.descriptor()], notes).unwrap();
    store.attach(&made).unwrap()
}

fn attached(store: &Store, subject: BlobDigest) -> Vec<BlobDigest> {
    store.referrers(&subject, None).unwrap().iter().map(|entry| entry.digest).collect()
}

/// A home with an image for two platforms in its store, made without running anything.
fn two_platforms(name: &str) -> (Kiln, AnyImage) {
    let kiln = Kiln::new();
    std::fs::create_dir(kiln.path("context")).unwrap();
    std::fs::write(kiln.path("context/a"), "A").unwrap();
    std::fs::write(kiln.path("context/Dockerfile"), "FROM scratch\nCOPY a /a\n").unwrap();
    kiln.ok(&format!("build -t {name} --platform linux/amd64,linux/arm64 context"));
    let image = kiln.store().image_named(&name.parse().unwrap()).unwrap();
    assert_eq!(image.images().len(), 2);
    (kiln, image)
}
