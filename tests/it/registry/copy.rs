//! Images from place to place: what other tools read of them, what is moved, what stays.

use super::referrers::{INDEX, Layout, MANIFEST, copied, digest_of, place, referring};
use super::*;
use crate::support::kiln::Kiln;
use crate::support::proxy::Proxy;
use crate::support::registry::tool;
use crate::support::skip;
use kiln::copy::{Copied, CopyError, Env, Wanted};
use kiln::registry::tags;
use serde_json::{Value, json};

/// An index of two platforms, one with a layer of zstd, and an attestation as BuildKit
/// lists it.
fn index(here: &Here) -> (AnyImage, Value) {
    let store = &here.store;
    let arm = Platform::new("linux", "arm64");
    let mut config = ImageConfig::scratch(&arm);
    config.history.push(History { created_by: Some("COPY".into()), ..History::default() });
    let images = vec![
        image(store, &amd64(), &[b"one", &noise(300_000)]),
        assemble(config, &[layer(store, b"zstd", Compression::Zstd)]).unwrap(),
    ];
    let put = |kind: &str, bytes: &[u8]| {
        let digest = store.put(bytes).unwrap();
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    };
    let statement = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put("application/vnd.oci.image.config.v1+json",
            br#"{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}"#),
        "layers": [put("application/vnd.in-toto+json", b"{\"predicate\":1}")],
    });
    let mut statement = put(MANIFEST, statement.to_string().as_bytes());
    statement["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    statement["annotations"] = json!({ "vnd.docker.reference.digest": images[0].digest() });
    let made = assemble_index(images.clone(), kiln::image::Dialect::Oci, Default::default());
    let mut list: Value = serde_json::from_slice(&made.unwrap().raw().bytes).unwrap();
    list["manifests"].as_array_mut().unwrap().push(statement.clone());
    let raw = kiln::image::Raw::new(list.to_string().into_bytes(), MediaType::OciIndex);
    (AnyImage::Index { raw, images }, statement)
}

fn raw(place: &str) -> BlobDigest {
    BlobDigest::of(skopeo(&["inspect", "--raw", "--tls-verify=false", place]).as_bytes())
}

async fn done(here: &Here, from: impl AsRef<str>, to: impl AsRef<str>) -> Copied {
    let (from, to) = (from.as_ref(), to.as_ref());
    let copied = copied(here, from, to, &Wanted::default()).await;
    copied.unwrap_or_else(|error| panic!("{from} {to}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_place_keeps_the_digest() {
    let (one, two) = (TestRegistry::start(None), TestRegistry::start(None));
    let here = here();
    let (image, statement) = index(&here);
    here.store.keep(&name("app:1"), &image).unwrap();
    let folder = here.path().join("layout");
    let archive = here.path().join("a.tar").display().to_string();
    let places = [
        "store:app:1".to_owned(),
        format!("{}/app:1", one.addr),
        format!("docker://{}/app:1", two.addr),
        oci(&folder, "v1"),
        format!("oci-archive:{archive}:v1"),
        format!("{}/again", two.addr),
        "store:again".to_owned(),
        oci(&here.path().join("second"), "v1"),
    ];
    for pair in places.windows(2) {
        let copied = done(&here, &pair[0], &pair[1]).await;
        assert_eq!(copied.digest, image.digest(), "{pair:?}");
        assert_eq!(copied.pinned.is_some(), place(&pair[1]).registry().is_some());
    }
    let others = [
        format!("docker://{}/app:1", one.addr),
        format!("docker://{}/again:latest", two.addr),
        oci(&folder, "v1"),
        format!("oci-archive:{archive}:v1"),
        oci(&here.path().join("second"), "v1"),
    ];
    for other in &others {
        assert_eq!(raw(other), image.digest(), "{other}");
    }
    // All that is listed is everywhere: the attestation and its blob too.
    let statement = digest_of(&statement).to_string();
    let at = format!("docker://{}/again@{statement}", two.addr);
    assert_eq!(raw(&at).to_string(), statement);
    let mut blobs: Vec<_> = std::fs::read_dir(folder.join("blobs/sha256")).unwrap().collect();
    assert_eq!(blobs.len(), 11, "index, three manifests, three configs, four blobs");
    for blob in blobs.drain(..).map(Result::unwrap) {
        let found = BlobDigest::of(&std::fs::read(blob.path()).unwrap()).hex();
        assert_eq!(blob.file_name().to_str().unwrap(), found, "whole, and nothing else");
    }
    let shown = tool("umoci", "umoci", &["ls", "--layout", folder.to_str().unwrap()]);
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), "v1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_tools_wrote_and_read() {
    let registry = TestRegistry::start(None);
    let here = here();
    let silent = Progress::silent();
    let images = vec![
        image(&here.store, &amd64(), &[b"x", &noise(100_000)]),
        image(&here.store, &Platform::new("linux", "arm64"), &[b"y"]),
    ];
    let made = assemble_index(images, kiln::image::Dialect::Oci, Default::default()).unwrap();
    let first = name(format!("{}/from:1", registry.addr));
    push(&made, &first, &here.store, &anonymous(here.path()), &silent).await.unwrap();
    let from = format!("docker://{first}");
    let at = |file: &str| here.path().join(file).display().to_string();
    let theirs = [
        (vec!["--all"], format!("oci:{}:v1", at("lay"))),
        (vec!["--all"], format!("oci-archive:{}:v1", at("o.tar"))),
        (vec!["--all", "--format", "v2s2"], format!("docker://{}/docker:1", registry.addr)),
        (vec!["--dest-compress-format", "zstd"], format!("docker://{}/zstd:1", registry.addr)),
    ];
    for (turn, (options, place)) in theirs.iter().enumerate() {
        skopeo_copy(options, &from, place);
        let digest = raw(place);
        for to in [
            format!("{}/to:{turn}", registry.addr),
            format!("oci:{}:t{turn}", at("all")),
            format!("oci-archive:{}:t{turn}", at("x.tar")),
        ] {
            assert_eq!(done(&here, place, &to).await.digest, digest, "{place} {to}");
            match to.starts_with("oci") {
                // In a layout skopeo knows no media types of docker's.
                true if place.contains("/docker:") => {
                    let back = format!("{}/{turn}:back", registry.addr);
                    assert_eq!(done(&here, &to, &back).await.digest, digest, "{to}");
                }
                true => assert_eq!(raw(&to), digest, "{to}"),
                false => assert_eq!(raw(&format!("docker://{to}")), digest, "{to}"),
            }
        }
    }
    // One folder has got all of them, and each blob once.
    let tags = tool("umoci", "umoci", &["ls", "--layout", &at("all")]);
    assert_eq!(String::from_utf8(tags.stdout).unwrap(), "t0\nt1\nt2\nt3\n");

    // docker's archives, theirs and kiln's.
    let theirs = format!("docker-archive:{}:app:1", at("d.tar"));
    skopeo_copy(&[], &from, &theirs);
    let copied = done(&here, &theirs, "store:loaded").await;
    let ours = format!("docker-archive:{}:mine:2", at("mine.tar"));
    done(&here, "store:loaded", &ours).await;
    let back = format!("docker-archive:{}", at("mine.tar"));
    let config = |place: &str| skopeo(&["inspect", "--config", "--raw", place]);
    assert_eq!(config(&back), config(&format!("docker-archive:{}", at("d.tar"))));
    let again = done(&here, &back, format!("{}/back", registry.addr)).await;
    let read = format!("docker://{}/back", registry.addr);
    assert_eq!(raw(&read), again.digest);
    assert_ne!(copied.digest, made.digest(), "one platform of it");
    let error = copied_to(&here, &format!("{back}:other")).await;
    assert!(matches!(&error, CopyError::NoEntry { .. }), "{error}");
    assert!(error.to_string().contains("mine:2"), "{error}");
}

async fn copied_to(here: &Here, from: &str) -> CopyError {
    copied(here, from, "store:x", &Wanted::default()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_moved_that_is_there() {
    let (one, two) = (TestRegistry::start(None), TestRegistry::start(None));
    let (from, to) = (Proxy::before(&one.addr), Proxy::before(&two.addr));
    let here = here();
    let (image, _) = index(&here);
    here.store.keep(&name("app:1"), &image).unwrap();
    let blobs = 7;
    done(&here, "store:app:1", format!("{}/app:1", from.addr)).await;
    from.take();
    let (source, target) = (format!("{}/app:1", from.addr), format!("{}/app:1", to.addr));
    done(&here, &source, &target).await;
    let (read, written) = (from.take(), to.take());
    assert_eq!((read.fetched().len(), read.writes()), (blobs, 0), "{:?}", read.0);
    assert_eq!(written.sent().len(), blobs, "{:?}", written.0);

    // Again: the root is read, and what it lists is asked for.
    done(&here, &source, &target).await;
    let (read, written) = (from.take(), to.take());
    assert_eq!((read.count("GET", "/app/"), read.fetched().len()), (1, 0), "{:?}", read.0);
    assert_eq!((written.writes(), written.count("GET", "/app/")), (0, 0), "{:?}", written.0);
    // Under another tag: documents only.
    done(&here, &source, format!("{}/app:2", to.addr)).await;
    assert!(from.take().fetched().is_empty());
    let written = to.take();
    assert!(written.sent().is_empty() && written.count("POST", "") == 0, "{:?}", written.0);
    // Another repository of the same registry mounts them all.
    done(&here, &target, format!("{}/other:1", to.addr)).await;
    let seen = to.take();
    assert_eq!(
        (seen.mounted(), seen.sent().len(), seen.fetched().len()),
        (blobs, 0, 0),
        "{:?}",
        seen.0
    );
    // A layout gets what it lacks.
    let folder = oci(&here.path().join("layout"), "v1");
    done(&here, &target, &folder).await;
    assert_eq!(to.take().fetched().len(), blobs);
    done(&here, &target, &folder).await;
    assert!(to.take().fetched().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_and_names() {
    let registry = TestRegistry::start(None);
    let here = here();
    let (image, statement) = index(&here);
    here.store.keep(&name("app:1"), &image).unwrap();
    let from = format!("{}/app:1", registry.addr);
    done(&here, "store:app:1", &from).await;
    let wanted = |all: &[&str]| Wanted {
        platforms: all.iter().map(|text| text.parse().unwrap()).collect(),
        referrers: false,
    };
    let folder = here.path().join("layout");
    let arm = copied(&here, &from, oci(&folder, "arm"), &wanted(&["linux/arm64"])).await.unwrap();
    assert_eq!(arm.digest, image.images()[1].digest());
    assert_eq!(raw(&oci(&folder, "arm")), arm.digest);
    // Of several an index is made: with what speaks of them, without the others.
    let both = wanted(&["linux/arm64", "linux/amd64"]);
    let index = copied(&here, &from, oci(&folder, "both"), &both).await.unwrap();
    let list = skopeo(&["inspect", "--raw", &oci(&folder, "both")]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let listed: Vec<BlobDigest> =
        list["manifests"].as_array().unwrap().iter().map(digest_of).collect();
    assert_eq!(listed.len(), 3);
    assert!(listed.contains(&digest_of(&statement)) && listed.contains(&arm.digest));
    assert_ne!(index.digest, arm.digest);
    let error = copied(&here, &from, "store:x", &wanted(&["linux/s390x"])).await.unwrap_err();
    assert!(error.to_string().contains("linux/amd64, linux/arm64"), "{error}");
    let docker = format!("docker-archive:{}:app:1", here.path().join("d.tar").display());
    let error = copied(&here, &from, &docker, &Wanted::default()).await.unwrap_err();
    assert!(matches!(&error, CopyError::Holds { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--platform"), "{error}");
    assert!(!here.path().join("d.tar").exists());
    copied(&here, &from, &docker, &wanted(&["linux/arm64"])).await.unwrap();

    // A name of the layout is replaced, all others stay, and what nobody knows.
    let index_path = folder.join("index.json");
    let mut entries: Value = serde_json::from_slice(&std::fs::read(&index_path).unwrap()).unwrap();
    entries["annotations"] = json!({ "x": "y" });
    entries["manifests"][0]["unknown"] = "kept".into();
    std::fs::write(&index_path, entries.to_string()).unwrap();
    done(&here, &from, oci(&folder, "both")).await;
    done(&here, &from, format!("oci:{}", folder.display())).await;
    done(&here, &from, format!("oci:{}", folder.display())).await;
    let after: Value = serde_json::from_slice(&std::fs::read(&index_path).unwrap()).unwrap();
    assert_eq!(after["annotations"]["x"], "y");
    assert_eq!(after["manifests"][0]["unknown"], "kept");
    let entries = after["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 3, "{after}");
    assert_eq!(digest_of(&entries[1]), image.digest());
    // Without a name it has to be clear which one is meant.
    let error = copied_to(&here, &format!("oci:{}", folder.display())).await;
    assert!(matches!(&error, CopyError::Several { .. }), "{error}");
    let error = copied_to(&here, &oci(&folder, "other")).await;
    assert!(error.to_string().contains("arm, both"), "{error}");
    // A digest is a promise on both sides.
    let pinned = format!("{}/pinned@{}", registry.addr, arm.digest);
    let error = copied(&here, &from, &pinned, &Wanted::default()).await.unwrap_err();
    assert!(matches!(&error, CopyError::OtherDigest { .. }), "{error}");
    copied(&here, &from, &pinned, &wanted(&["linux/arm64"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_is_it_is_carried_as_it_is() {
    let registry = TestRegistry::start(None);
    let here = here();
    let mut layout = Layout::new(here.path().join("layout"));
    let artifact = layout.artifact("text/spdx+json", b"anything", None);
    let inner = layout.index(std::slice::from_ref(&artifact));
    let outer = layout.index(&[inner, artifact.clone()]);
    layout.entry(&artifact, Some("artifact"));
    layout.entry(&outer, Some("nested"));
    for (tag, at) in [("artifact", &artifact), ("nested", &outer)] {
        let to = format!("{}/any:{tag}", registry.addr);
        let archive = format!("oci-archive:{}:{tag}", here.path().join(tag).display());
        let second = oci(&here.path().join("second"), tag);
        let mut from = layout.place(tag);
        for to in [to, archive, second] {
            assert_eq!(done(&here, &from, &to).await.digest, digest_of(at), "{to}");
            from = to;
        }
        for to in ["store:any", "docker-archive:any.tar"] {
            let error = copied(&here, layout.place(tag), to, &Wanted::default()).await.unwrap_err();
            assert!(matches!(&error, CopyError::Holds { .. }), "{tag} {to}: {error}");
            assert!(error.hint().unwrap().contains("oci"), "{error}");
        }
    }
    assert!(here.store.names().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tags_of_a_repository() {
    let (one, two) = (TestRegistry::start(None), TestRegistry::start(None));
    let here = here();
    let (at, silent) = (anonymous(here.path()), Progress::silent());
    let env = Env { store: None, from: &at, to: &at, progress: &silent, stop: &|| false };
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"x"]));
    for tag in ["a", "b"] {
        let to = name(format!("{}/app:{tag}", one.addr));
        push(&image, &to, &here.store, &at, &silent).await.unwrap();
    }
    // A list of referrers is a tag among the others.
    let mut layout = Layout::new(here.path().join("own"));
    let subject = serde_json::to_value(image.raw().descriptor()).unwrap();
    let signature = layout.artifact("sig/one", b"signature", Some(&subject));
    layout.entry(&signature, Some("s"));
    let from = format!("{}/app", one.addr);
    done(&here, layout.place("s"), format!("{from}@{}", digest_of(&signature))).await;
    let folder = format!("oci:{}", here.path().join("layout").display());
    let to = format!("{}/copy", two.addr);
    for (from, to) in [(&from, &folder), (&folder, &to)] {
        let pairs = kiln::copy::all_tags(&place(from), &place(to), &env).await.unwrap();
        assert_eq!(pairs.len(), 3);
        for (from, to) in pairs {
            let copied = kiln::copy::copy(&from, &to, &Wanted::default(), &env).await.unwrap();
            let list = to.to_string().contains(":sha256-");
            assert_eq!(copied.digest == image.digest(), !list, "{to}");
        }
    }
    let list = kiln::image::referrers_tag(image.digest());
    assert_eq!(tags(&name(&to), &at, &silent).await.unwrap(), ["a", "b", &list]);
    assert_eq!(referring(&here, &format!("{to}:a"), None).await, [digest_of(&signature)]);
    for (from, to) in [(format!("{from}:a"), to.clone()), (from, "store:x".to_owned())] {
        let error = kiln::copy::all_tags(&place(from), &place(to), &env).await.unwrap_err();
        assert!(matches!(&error, CopyError::Holds { .. }), "{error}");
    }
}

/// Bytes of a blob for the test of memory: more than could be in memory by accident.
const LARGE: u64 = 200 << 20;

/// KiB. What is in memory does not depend on a blob's size.
const MOST_MEMORY: u64 = 16 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_little_memory() {
    let (one, two) = (TestRegistry::start(None), TestRegistry::start(None));
    let kiln = Kiln::new();
    let mut layout = Layout::new(kiln.path("layout"));
    // A hole: the disk need not hold it.
    let file = std::fs::File::create(kiln.path("large")).unwrap();
    file.set_len(LARGE).unwrap();
    let mut hash = kiln::digest::Hashing::new(std::io::sink());
    std::io::copy(&mut std::fs::File::open(kiln.path("large")).unwrap(), &mut hash).unwrap();
    let digest = BlobDigest(hash.finish().1);
    std::fs::rename(kiln.path("large"), layout.blob_path(&digest.to_string())).unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.blob("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [{ "mediaType": "a/b", "digest": digest, "size": LARGE }],
    });
    let at = layout.blob(MANIFEST, manifest.to_string().as_bytes());
    layout.entry(&at, Some("v1"));
    let places = [
        layout.place("v1"),
        format!("{}/large:1", one.addr),
        format!("{}/large:1", two.addr),
        oci(&kiln.path("back"), "v1"),
        format!("oci-archive:{}:v1", kiln.path("a.tar").display()),
    ];
    let mut own = u64::MAX;
    for pair in places.windows(2) {
        let copy = || {
            let (output, peak) = kiln.peak(&["copy", &pair[0], &pair[1]]);
            let said = output.success().text();
            assert_eq!(said.trim().rsplit('@').next().unwrap(), digest_of(&at).to_string());
            peak
        };
        let peak = copy();
        // The second time all is there (but in an archive), and only the program's own pages
        // count.
        own = own.min(copy());
        assert!(peak < own + MOST_MEMORY, "{pair:?}: {peak} KiB, {own} when nothing moves");
    }
    let tmp = std::fs::read_dir(kiln.store_path().join("tmp")).unwrap().count();
    assert_eq!(tmp, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn crane_reads_what_was_copied() {
    let Some(program) = kiln::env::path("KILN_TEST_CRANE") else {
        return skip("KILN_TEST_CRANE is not set; tests/run builds crane and sets it");
    };
    let registry = TestRegistry::start(None);
    let here = here();
    let read =
        |arguments: &[&str]| crate::support::registry::crane(&program, here.path(), arguments);
    let images = vec![
        image(&here.store, &amd64(), &[b"x"]),
        image(&here.store, &Platform::new("linux", "arm64"), &[b"y"]),
    ];
    let made = assemble_index(images, kiln::image::Dialect::Oci, Default::default()).unwrap();
    here.store.keep(&name("app:1"), &made).unwrap();
    let to = format!("{}/app:1", registry.addr);
    done(&here, "store:app:1", &to).await;
    read(&["validate", "--remote", &to]);
    let second = format!("{}/crane:1", registry.addr);
    read(&["copy", &to, &second]);
    let folder = oci(&here.path().join("layout"), "v1");
    assert_eq!(done(&here, &second, &folder).await.digest, made.digest());
    // What crane wrote as a layout, which has no names.
    let theirs = here.path().join("theirs");
    read(&["pull", "--format", "oci", &to, theirs.to_str().unwrap()]);
    let back = format!("{}/back:1", registry.addr);
    assert_eq!(done(&here, format!("oci:{}", theirs.display()), &back).await.digest, made.digest());
    let listed = String::from_utf8(read(&["ls", &format!("{}/back", registry.addr)])).unwrap();
    assert_eq!(listed, "1\n");
    let index = String::from_utf8(read(&["manifest", &back])).unwrap();
    assert!(index.contains(INDEX));
    let kept = done(&here, &back, format!("{}/kept:1", registry.addr)).await;
    assert_eq!(kept.digest, made.digest());
}
