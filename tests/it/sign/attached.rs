//! What builders attach to images and nobody has signed, and images of several platforms.

use kiln::digest::BlobDigest;
use kiln::image::{Annotations, Artifact, Index, MediaType};

use super::*;

const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Attaches a statement to one manifest that is about another, or the same.
fn attach(desk: &Desk, to: &Descriptor, about: BlobDigest) {
    attach_as(desk, to, &[about], "https://a/b");
}

fn attach_as(desk: &Desk, to: &Descriptor, about: &[BlobDigest], kind: &str) {
    let subject =
        |one: &BlobDigest| serde_json::json!({"name": "a", "digest": {"sha256": one.hex()}});
    let statement = serde_json::json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": about.iter().map(subject).collect::<Vec<_>>(),
        "predicateType": kind,
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

/// Whoever may attach something would have a signature of what else it speaks of, or of what it
/// is called.
#[test]
fn no_stranger_words_become_signatures() {
    let subjects = [BlobDigest::of(b"evil")];
    for (others, kind, says) in [
        (&subjects[..], "https://a/b", "something else as well"),
        (&[], "https://sigstore.dev/cosign/sign/v1", "a signature that nobody has signed"),
    ] {
        let desk = Desk::new(&["k"]);
        desk.image("app");
        let root = desk.kiln.store().find(&"app".parse().unwrap()).unwrap().unwrap();
        attach_as(&desk, &root, &[&[root.digest], others].concat(), kind);
        desk.fails("sign --key k.key --attestations app", says);
        desk.ok("sign --key k.key app");
    }
    // A file that is a manifest: a signature of it would be one of the image.
    let desk = Desk::new(&["k"]);
    desk.image("app");
    let store = desk.kiln.store();
    let root = store.find(&"app".parse().unwrap()).unwrap().unwrap();
    desk.write("m.json", &String::from_utf8(store.document(&root.digest).unwrap()).unwrap());
    desk.fails("sign-blob --key k.key --bundle m.sigstore.json m.json", "kiln sign");
    assert!(!desk.kiln.path("m.sigstore.json").exists());
}
