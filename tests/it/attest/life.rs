//! What is attached lives as long as what it is about.

use super::*;
use crate::registry::peers::Peer;

#[test]
fn it_goes_with_the_last_name() {
    let (kiln, image) = two_platforms("app:1");
    let (index, one) = (image.raw().descriptor(), image.images()[0].manifest().descriptor());
    let (sbom, upon) = {
        let store = kiln.store();
        let sbom = attach(&store, &one, "application/x-sbom", "an SBOM");
        (sbom.clone(), attach(&store, &sbom, "application/x-signature", "over it"))
    };
    let orphan = attach(
        &kiln.store(),
        &Descriptor::new(MediaType::OciManifest, BlobDigest::of(b"?"), 1),
        "a/b",
        "of nobody",
    );
    let stays = |yes: bool| {
        kiln.ok("prune --all --force");
        let store = kiln.store();
        for (subject, what) in [(one.digest, &sbom), (sbom.digest, &upon)] {
            let found = attached(&store, subject);
            assert_eq!(found, Vec::from_iter(yes.then_some(what.digest)));
            assert_eq!(store.hold_blob(&what.digest), yes);
        }
        assert!(!store.hold_blob(&orphan.digest));
        assert_eq!(store.subjects().unwrap().len(), if yes { 2 } else { 0 });
        assert!(yes || std::fs::read_dir(kiln.path("store/blobs/sha256")).unwrap().count() == 0);
    };
    let du = kiln.ok("du -v --format json").json();
    assert!(du.to_string().contains(&format!("referrers/{}", one.digest.hex())), "{du}");
    stays(true);
    kiln.ok("tag app:1 other:1");
    kiln.ok("rmi app:1");
    stays(true);
    // A name of the platform's manifest alone is enough for it.
    let single = one.digest;
    kiln.store().tag(&"single:1".parse().unwrap(), one.clone()).unwrap();
    kiln.ok("rmi other:1");
    stays(true);
    assert!(!kiln.store().hold_blob(&index.digest) && kiln.store().hold_blob(&single));
    kiln.ok("rmi single:1");
    stays(false);
}

/// As long as `kiln serve` gives the subject out, it gives out what is attached; deleting the
/// one or the other is what it says.
#[test]
fn a_server_deletes_what_it_is_told_to() {
    let peer = Peer::kilns();
    let (kiln, image) = two_platforms("app:1");
    let one = attach(&kiln.store(), &image.raw().descriptor(), "a/one", "one");
    let two = attach(&kiln.store(), &image.raw().descriptor(), "a/two", "two");
    kiln.ok(&format!("push app:1 {}/app:1", peer.addr));
    let pulled = || {
        let other = Kiln::new();
        other.ok(&format!("pull --all-platforms --referrers {}/app:1", peer.addr));
        attached(&other.store(), image.digest())
    };
    let mut both = vec![one.digest, two.digest];
    both.sort();
    assert_eq!(pulled(), both);
    kiln.ok(&format!("rm --remote {}/app@{}", peer.addr, one.digest));
    assert_eq!(pulled(), [two.digest]);
    kiln.fails(1, &format!("rm --remote {}/app@{}", peer.addr, one.digest));
}
