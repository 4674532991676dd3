//! What builders attach to images and nobody has signed, and images of several platforms.

use kiln::digest::BlobDigest;
use kiln::image::{Annotations, Artifact, Index, MediaType};

use super::*;

const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Attaches a statement to one manifest that is about another, or the same.
fn attach(desk: &Desk, to: &Descriptor, about: BlobDigest) {
    let statement = serde_json::json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "a", "digest": {"sha256": about.hex()}}],
        "predicateType": "https://a/b",
        "predicate": {"said": true},
    });
    let bytes = statement.to_string().into_bytes();
    let store = desk.kiln.store();
    let digest = store.put(&bytes).unwrap();
    let layer = Descriptor::new(MediaType::from(IN_TOTO.to_owned()), digest, bytes.len() as u64);
    let made = Artifact::about(to, IN_TOTO, vec![layer], Annotations::new()).unwrap();
    store.attach(&made).unwrap();
}

#[test]
fn statements_are_signed_where_they_are() {
    let desk = Desk::new(&["k"]);
    crate::cli::keep_index(&desk.kiln, "app");
    let store = desk.kiln.store();
    let root = store.find(&"app".parse().unwrap()).unwrap().unwrap();
    let index = Index::read(&store.document(&root.digest).unwrap()).unwrap();
    let [amd, arm] = &index.manifests[..] else { panic!("two platforms") };
    let count = || [&root, amd, arm].map(|at| store.referrers(&at.digest, None).unwrap().len());
    attach(&desk, amd, amd.digest);
    let verify = "verify --key k.pub --type https://a/b app";
    desk.ok("sign --key k.key app");
    assert_eq!(count(), [1, 1, 0]);
    let unsigned = "linux/amd64: none is signed by k.pub; it has statements that nobody signed";
    desk.fails(verify, unsigned);
    desk.ok("sign --key k.key --attestations app");
    assert_eq!(count(), [1, 2, 0]);
    // Of each platform, not of one.
    desk.fails(verify, "linux/arm64: none is signed by k.pub");
    attach(&desk, arm, arm.digest);
    desk.ok("sign --key k.key --attestations app");
    desk.ok(verify);
    desk.ok("sign --key k.key --attestations app");
    assert_eq!(count(), [1, 2, 2]);
    desk.ok("sign --key k.key --recursive app");
    assert_eq!(count(), [1, 3, 3]);
    // Nobody signs what is about something else.
    attach(&desk, &root, amd.digest);
    desk.fails("sign --key k.key --attestations app", "it is about something else");
}
