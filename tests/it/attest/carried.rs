//! What is attached goes where the image goes, with the digests that it has.

use std::path::Path;

use kiln::image::referrers_tag;
use serde_json::Value;

use super::*;
use crate::registry::peers::Peer;
use crate::support::registry::{oci, skopeo, skopeo_copy};

/// Something at each place where something can be: at the index, at a manifest, and at what is
/// attached.
struct Signed {
    kiln: Kiln,
    image: AnyImage,
    /// What is about what.
    all: Vec<(BlobDigest, BlobDigest)>,
}

impl Signed {
    fn new() -> Self {
        let (kiln, image) = two_platforms("app:1");
        let store = kiln.store();
        let (index, one) = (image.raw().descriptor(), image.images()[0].manifest().descriptor());
        let signature = attach(&store, &index, "application/x-signature", "of the index");
        let sbom = attach(&store, &one, "application/x-sbom", "of a manifest");
        let upon = attach(&store, &sbom, "application/x-signature", "of the SBOM");
        let all = vec![
            (index.digest, signature.digest),
            (one.digest, sbom.digest),
            (sbom.digest, upon.digest),
        ];
        Self { kiln, image, all }
    }

    /// All of it is attached there, and its bytes are there.
    #[track_caller]
    fn is_in(&self, store: &Store) {
        for (subject, what) in &self.all {
            assert_eq!(attached(store, *subject), [*what], "{subject}");
            let entry = &store.referrers(subject, None).unwrap()[0];
            assert_eq!(&entry.annotations["made.by"], entry.artifact_type.as_ref().unwrap());
        }
    }

    #[track_caller]
    fn is_not_in(&self, store: &Store) {
        for (subject, what) in &self.all {
            assert!(attached(store, *subject).is_empty(), "{subject}");
            assert!(!store.hold_blob(what));
        }
    }

    /// A registry lists all of it, to whoever asks.
    fn is_listed(&self, repository: &str, api: bool) {
        for (subject, what) in &self.all {
            let found = listed(repository, *subject, api);
            assert_eq!(found, [what.to_string()], "{repository} {subject}");
        }
    }
}

/// What a registry lists, as other programs read it: by the API, or in the list that clients
/// keep under a tag.
fn listed(repository: &str, subject: BlobDigest, api: bool) -> Vec<String> {
    let list = if api {
        let (addr, path) = repository.split_once('/').unwrap();
        let url = format!("http://{addr}/v2/{path}/referrers/{subject}");
        crate::support::kiln::tool("curl", &["-sSf", &url])
    } else {
        let place = format!("docker://{repository}:{}", referrers_tag(subject));
        skopeo(&["inspect", "--raw", "--tls-verify=false", &place])
    };
    let list: Value = serde_json::from_str(&list).unwrap();
    let entries = list["manifests"].as_array().unwrap().iter();
    entries.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

macro_rules! peers {
    ($($name:ident => $start:expr, $api:expr;)*) => {$(
        #[test]
        fn $name() {
            if let Some(peer) = $start {
                suite(&peer, $api);
            }
        }
    )*};
}

peers! {
    carried_by_docker_registry => Some(Peer::debians()), false;
    carried_by_distribution_3 => Peer::distribution(), false;
    carried_by_kiln_serve => Some(Peer::kilns()), true;
}

/// To a registry, within it, and back.
fn suite(peer: &Peer, api: bool) {
    let signed = Signed::new();
    let Signed { kiln, image, .. } = &signed;
    let at = |path: &str| format!("{}/{path}", peer.addr);
    kiln.ok(&format!("push --referrers=false app:1 {}", at("bare:1")));
    kiln.ok(&format!("push app:1 {}", at("app:1")));
    signed.is_listed(&at("app"), api);
    // The image is there already, and so is what is attached.
    let again = kiln.ok(&format!("push --progress rawjson app:1 {}", at("app:1")));
    assert!(!again.stderr.contains("\"sent\""), "{}", again.stderr);
    // To an image that is there.
    kiln.ok(&format!("push app:1 {}", at("bare:1")));
    signed.is_listed(&at("bare"), api);

    let other = Kiln::new();
    other.ok(&format!("pull --all-platforms {}", at("app:1")));
    signed.is_not_in(&other.store());
    other.ok(&format!("pull --all-platforms --referrers {}", at("app:1"))).says("3 manifests");
    signed.is_in(&other.store());
    other.ok(&format!("copy --referrers {} {}", at("app:1"), at("copied:1")));
    signed.is_listed(&at("copied"), api);
    let third = Kiln::new();
    third.ok(&format!("copy --referrers {} store:again:1", at("copied:1")));
    signed.is_in(&third.store());
    third.ok(&format!("copy store:again:1 {}", at("third:1")));
    signed.is_listed(&at("third"), api);
    third.ok(&format!("copy --referrers=false store:again:1 {}", at("none:1")));
    // kiln's server lists what the store has, in each repository that has the subject.
    if !api {
        let none = Kiln::new();
        none.ok(&format!("pull --all-platforms --referrers {}", at("none:1")))
            .says("nothing is attached");
    }
    let shown = third.ok("inspect again:1").json();
    assert_eq!(shown[0]["referrers"][0]["digest"], signed.all[0].1.to_string());
    assert_eq!(shown[0]["images"][0]["referrers"][0]["digest"], signed.all[1].1.to_string());
    assert_eq!(shown[0]["digest"], image.digest().to_string());
    // No image's name is made of it.
    assert_eq!(third.ok("images --json").json().as_array().unwrap().len(), 1);
}

/// Who pushes with a subject that the server lacks keeps it by its digest; once the subject is
/// there, it is found.
#[test]
fn what_comes_before_its_subject_is_found_later() {
    let peer = Peer::kilns();
    let signed = Signed::new();
    let Signed { kiln, image, .. } = &signed;
    let (store, index) = (kiln.store(), image.raw().descriptor());
    let note = store.referrers(&index.digest, None).unwrap().remove(0);
    kiln.ok(&format!("copy store:app:1 {}", oci(&kiln.path("layout"), "app")));
    // The artifact alone, under its digest.
    let entry = format!(
        r#"{{"mediaType":"{}","digest":"{}","size":{}"#,
        note.media_type, note.digest, note.size
    );
    let at = kiln.path("layout/index.json");
    let mut text: Value = serde_json::from_slice(&std::fs::read(&at).unwrap()).unwrap();
    let mut entry: Value = serde_json::from_str(&format!("{entry}}}")).unwrap();
    entry["annotations"]["org.opencontainers.image.ref.name"] = "note".into();
    text["manifests"].as_array_mut().unwrap().push(entry);
    std::fs::write(&at, text.to_string()).unwrap();
    let to = format!("{}/app@{}", peer.addr, note.digest);
    kiln.ok(&format!("copy {} {to}", oci(&kiln.path("layout"), "note")));
    assert_eq!(
        listed(&format!("{}/app", peer.addr), index.digest, true),
        [note.digest.to_string()]
    );
    kiln.ok(&format!("push --referrers=false app:1 {}/app:1", peer.addr));
    assert_eq!(
        listed(&format!("{}/app", peer.addr), index.digest, true),
        [note.digest.to_string()]
    );
}

#[test]
fn archives_and_layouts_carry_it() {
    let signed = Signed::new();
    let Signed { kiln, image, .. } = &signed;
    kiln.ok("save -o app.tar app:1");
    let first = std::fs::read(kiln.path("app.tar")).unwrap();
    kiln.ok("save -o again.tar app:1");
    assert_eq!(std::fs::read(kiln.path("again.tar")).unwrap(), first, "the same bytes");
    kiln.ok("save --referrers=false -o bare.tar app:1");
    kiln.ok(&format!("copy store:app:1 {}", oci(&kiln.path("layout"), "app")));
    kiln.ok("copy store:app:1 oci-archive:copied.tar:app");
    // Other tools read the image, and the list, of each.
    let place = |path: &Path, kind: &str, name: &str| format!("{kind}:{}:{name}", path.display());
    let subject = image.digest();
    for (path, kind, name) in [
        ("app.tar", "oci-archive", "docker.io/library/app:1"),
        ("copied.tar", "oci-archive", "app"),
        ("layout", "oci", "app"),
    ] {
        let read = |name: &str| skopeo(&["inspect", "--raw", &place(&kiln.path(path), kind, name)]);
        assert_eq!(BlobDigest::of(read(name).as_bytes()), subject, "{path}");
        let list: Value = serde_json::from_str(&read(&referrers_tag(subject))).unwrap();
        assert_eq!(list["manifests"][0]["digest"], signed.all[0].1.to_string(), "{path}");
        skopeo_copy(&["--all"], &place(&kiln.path(path), kind, name), &oci(&kiln.path("s"), "s"));
    }
    for archive in ["app.tar", "copied.tar"] {
        let other = Kiln::new();
        other.ok(&format!("load -i {}", kiln.path(archive).display()));
        signed.is_in(&other.store());
        assert_eq!(other.ok("images --json").json().as_array().unwrap().len(), 1);
    }
    let other = Kiln::new();
    other.ok(&format!("load -i {}", kiln.path("bare.tar").display()));
    signed.is_not_in(&other.store());
    other.ok(&format!("copy --referrers {} store:x", oci(&kiln.path("layout"), "app")));
    signed.is_in(&other.store());
    // A form that has no room for it says so.
    kiln.ok("save --format docker -o docker.tar app:1").says("left out what is attached");
    kiln.ok("save --format docker --referrers=false -o docker.tar app:1");
    let said = kiln.ok("copy --platform linux/amd64 store:app:1 docker-archive:d.tar:app:1");
    said.says("left out what is attached");
    let to = "copy --referrers --platform linux/amd64 store:app:1 docker-archive:e.tar:app:1";
    kiln.fails(1, to).says("cannot hold what refers to an image");
}

/// What is listed and is about something else, or is not whole, is refused.
#[test]
fn archives_that_lie_are_refused() {
    let signed = Signed::new();
    let kiln = &signed.kiln;
    for (change, says) in [
        // A list under the tag of another manifest.
        ("subject", "it is listed as referring to"),
        ("absent", "has no blobs/sha256/"),
    ] {
        let folder = kiln.path(change);
        kiln.ok(&format!("copy store:app:1 {}", oci(&folder, "app")));
        let at = folder.join("index.json");
        let text = std::fs::read_to_string(&at).unwrap();
        if change == "subject" {
            let (of, to) = (signed.all[0].0.hex(), BlobDigest::of(b"other").hex());
            std::fs::write(&at, text.replace(&format!("sha256-{of}"), &format!("sha256-{to}")))
                .unwrap();
        } else {
            std::fs::remove_file(folder.join("blobs/sha256").join(signed.all[2].1.hex())).unwrap();
        }
        let tar = kiln.path(format!("{change}.tar"));
        let (folder, tar) = (folder.to_str().unwrap(), tar.to_str().unwrap());
        crate::support::kiln::tool("tar", &["-C", folder, "-cf", tar, "."]);
        let other = Kiln::new();
        other.fails(1, &format!("load -i {tar}")).says(says);
        assert!(other.store().names().unwrap().is_empty());
    }
}
