//! Places that are not what they claim to be, and copies that end in the middle: nothing
//! gets a name, and nothing half-written stays.

use super::referrers::{INDEX, Layout, MANIFEST, copied, digest_of};
use super::*;
use kiln::copy::Wanted;
use serde_json::{Value, json};

/// A layout with one artifact, called `v1`.
fn honest(here: &Here, folder: &str) -> (Layout, Value) {
    let mut layout = Layout::new(here.path().join(folder));
    let at = layout.artifact("a/b", b"the content of a layer", None);
    layout.entry(&at, Some("v1"));
    (layout, at)
}

fn layer_path(layout: &Layout) -> std::path::PathBuf {
    layout.blob_path(&BlobDigest::of(b"the content of a layer").to_string())
}

/// Checks that a layout is refused wherever it is to go, and that nothing got a name there.
async fn refused(here: &Here, case: &str, layout: &Layout, says: &str) {
    let registry = TestRegistry::start(None);
    let out = here.path().join(format!("{case}-out"));
    let archive = here.path().join(format!("{case}.tar"));
    for to in [
        format!("{}/app:1", registry.addr),
        oci(&out, "v1"),
        format!("oci-archive:{}:v1", archive.display()),
        "store:app".to_owned(),
    ] {
        let error = copied(here, layout.place("v1"), &to, &Wanted::default()).await;
        let error = error.err().unwrap_or_else(|| panic!("{case} {to}: copied"));
        let holds = to == "store:app" && error.to_string().contains("cannot hold");
        assert!(holds || error.to_string().contains(says), "{case} {to}: {error}");
    }
    assert!(!out.join("index.json").exists(), "{case}");
    let blobs = std::fs::read_dir(out.join("blobs/sha256"));
    for blob in blobs.into_iter().flatten().map(Result::unwrap) {
        let found = BlobDigest::of(&std::fs::read(blob.path()).unwrap()).hex();
        assert_eq!(blob.file_name().to_str().unwrap(), found, "{case}: half of a blob");
    }
    assert!(!archive.exists(), "{case}");
    assert!(here.store.names().unwrap().is_empty(), "{case}");
    let tmp = std::fs::read_dir(here.store.root().join("tmp")).unwrap().count();
    assert_eq!(tmp, 0, "{case}");
    let at = anonymous(here.path());
    let of = name(format!("{}/app:1", registry.addr));
    assert!(resolve(&of, &amd64(), &at, &Progress::silent()).await.is_err(), "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_layouts() {
    let here = here();
    let secret = here.path().join("secret");
    std::fs::write(&secret, b"the content of a layer").unwrap();
    let swapped = |case: &str, swap: &dyn Fn(&std::path::Path)| {
        let (layout, _) = honest(&here, case);
        let path = layer_path(&layout);
        std::fs::remove_file(&path).unwrap();
        swap(&path);
        layout
    };
    use std::os::unix::fs::symlink;
    let layout = swapped("link", &|path| symlink(&secret, path).unwrap());
    refused(&here, "link", &layout, "is a link").await;
    let layout = swapped("dangling", &|path| symlink("/nonexistent", path).unwrap());
    refused(&here, "dangling", &layout, "is a link").await;
    let layout = swapped("folder", &|path| std::fs::create_dir(path).unwrap());
    refused(&here, "folder", &layout, "no regular file").await;
    let layout = swapped("pipe", &|path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
    });
    refused(&here, "pipe", &layout, "no regular file").await;
    let layout = swapped("absent", &|_| ());
    refused(&here, "absent", &layout, "does not have").await;
    let layout =
        swapped("longer", &|path| std::fs::write(path, b"the content of a layer!").unwrap());
    refused(&here, "longer", &layout, "does not match").await;
    let layout = swapped("other", &|path| std::fs::write(path, b"THE content of a layer").unwrap());
    refused(&here, "other", &layout, "").await;

    // The folder of blobs leads elsewhere.
    let (layout, _) = honest(&here, "moved");
    std::fs::rename(layout.folder.join("blobs"), here.path().join("elsewhere")).unwrap();
    symlink(here.path().join("elsewhere"), layout.folder.join("blobs")).unwrap();
    refused(&here, "moved", &layout, "is a link").await;
    let (layout, at) = honest(&here, "manifest");
    let path = layout.blob_path(at["digest"].as_str().unwrap());
    let text = std::fs::read_to_string(&path).unwrap().replace("a/b", "a/c");
    std::fs::write(&path, text).unwrap();
    refused(&here, "manifest", &layout, "does not match").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_documents() {
    let here = here();
    let entry = |case: &str, edit: &dyn Fn(&mut Value)| {
        let (mut layout, at) = honest(&here, case);
        let mut at = at;
        edit(&mut at);
        std::fs::write(layout.folder.join("index.json"), "{}").unwrap();
        layout = Layout::new(layout.folder);
        layout.entry(&at, Some("v1"));
        layout
    };
    let layout = entry("path", &|at| at["digest"] = "sha256:../../secret".into());
    refused(&here, "path", &layout, "not a digest").await;
    let layout = entry("size", &|at| at["size"] = 1.into());
    refused(&here, "size", &layout, "does not match").await;
    let layout = entry("huge", &|at| at["size"] = (u64::MAX / 2).into());
    refused(&here, "huge", &layout, "more than").await;
    let layout = entry("kind", &|at| at["mediaType"] = INDEX.into());
    refused(&here, "kind", &layout, "malformed").await;
    let layout = entry("odd", &|at| at["mediaType"] = "text/plain\u{1b}".into());
    refused(&here, "odd", &layout, "text/plain\\u{1b}").await;

    // An index that lists itself can only lie about its digest.
    let (mut layout, _) = honest(&here, "loop");
    let own =
        json!({ "mediaType": INDEX, "digest": format!("sha256:{}", "0".repeat(64)), "size": 9 });
    let made = layout.index(std::slice::from_ref(&own));
    std::fs::copy(
        layout.blob_path(made["digest"].as_str().unwrap()),
        layout.blob_path(own["digest"].as_str().unwrap()),
    )
    .unwrap();
    layout = Layout::new(layout.folder);
    layout.entry(&made, Some("v1"));
    refused(&here, "loop", &layout, "does not match").await;

    // As deep as anybody likes, and as wide.
    let (mut layout, mut at) = honest(&here, "deep");
    for _ in 0..20 {
        at = layout.index(&[at]);
    }
    layout = Layout::new(layout.folder);
    layout.entry(&at, Some("v1"));
    refused(&here, "deep", &layout, "more than 8 deep").await;
    let (mut layout, at) = honest(&here, "wide");
    let many: Vec<Value> = (0..3000)
        .map(|number| {
            let mut one = at.clone();
            one["digest"] = format!("sha256:{number:064x}").into();
            one
        })
        .collect();
    let at = layout.index(&many);
    layout = Layout::new(layout.folder);
    layout.entry(&at, Some("v1"));
    refused(&here, "wide", &layout, "more than 2000 manifests").await;

    let (mut layout, _) = honest(&here, "foreign");
    let mut layer = layout.blob("a/b", b"x");
    layer["urls"] = json!(["https://example.com/x"]);
    let config = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let at = layout.blob(MANIFEST, manifest.to_string().as_bytes());
    layout = Layout::new(layout.folder);
    layout.entry(&at, Some("v1"));
    refused(&here, "foreign", &layout, "outside the registry").await;

    let (layout, _) = honest(&here, "version");
    std::fs::write(layout.folder.join("oci-layout"), r#"{"imageLayoutVersion":"2\u001b"}"#)
        .unwrap();
    refused(&here, "version", &layout, "2\\u{1b}").await;
    let (layout, _) = honest(&here, "none");
    std::fs::remove_file(layout.folder.join("index.json")).unwrap();
    refused(&here, "none", &layout, "no `index.json`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_archives() {
    let here = here();
    let (layout, _) = honest(&here, "layout");
    let good = format!("oci-archive:{}:v1", here.path().join("good.tar").display());
    copied(&here, layout.place("v1"), &good, &Wanted::default()).await.unwrap();
    let bytes = std::fs::read(here.path().join("good.tar")).unwrap();
    // Deterministic: the same again.
    let again = good.replace("good", "again");
    copied(&here, &good, &again, &Wanted::default()).await.unwrap();
    assert!(std::fs::read(here.path().join("again.tar")).unwrap() == bytes);
    let registry = TestRegistry::start(None);
    let content = bytes.windows(22).position(|part| part == b"the content of a layer").unwrap();
    for (case, edit) in [
        ("flipped", &(|bytes: &mut Vec<u8>| bytes[content] ^= 1) as &dyn Fn(&mut Vec<u8>)),
        ("cut", &|bytes| bytes.truncate(content)),
        ("rubbish", &|bytes| bytes.fill(b'x')),
        ("empty", &|bytes| bytes.clear()),
    ] {
        let mut wrong = bytes.clone();
        edit(&mut wrong);
        let file = here.path().join(format!("{case}.tar"));
        std::fs::write(&file, wrong).unwrap();
        let out = here.path().join(format!("{case}-out"));
        for to in [oci(&out, "v1"), format!("{}/app:1", registry.addr)] {
            let from = format!("oci-archive:{}:v1", file.display());
            let copied = copied(&here, from, &to, &Wanted::default()).await;
            assert!(copied.is_err(), "{case} {to}");
        }
        assert!(!out.join("index.json").exists(), "{case}");
    }
}

/// Registries that give other bytes than they promise, in every document and blob.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_get_no_name() {
    let own = here();
    let memory = Memory::new(&own.store, &noise(100_000));
    let digests: Vec<String> = memory.files.keys().cloned().collect();
    for wrong in digests.iter().filter(|path| path.contains("sha256:") && path.contains("/blobs/"))
    {
        // Nothing of it is where it goes, nor on the way.
        let (here, target) = (here(), TestRegistry::start(None));
        let (memory, bad) = (Arc::clone(&memory), wrong.clone());
        let server = Server::start(move |request| {
            if request.path != bad {
                return memory.get(request);
            }
            let mut bytes = memory.files[&bad].1.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            answer("200 OK", &[], &bytes)
        })
        .await;
        let from = format!("{}/app:1", server.addr);
        let out = here.path().join(BlobDigest::of(wrong.as_bytes()).hex());
        for to in [oci(&out, "v1"), "store:app".to_owned(), format!("{}/app:1", target.addr)] {
            let error =
                copied(&here, &from, &to, &Wanted::default()).await.unwrap_err().to_string();
            assert!(error.contains("does not match"), "{wrong} {to}: {error}");
        }
        assert!(!out.join("index.json").exists());
        let bad = wrong.rsplit(':').next().unwrap();
        assert!(!out.join("blobs/sha256").join(bad).exists());
        assert!(here.store.names().unwrap().is_empty());
        let of = name(format!("{}/app:1", target.addr));
        let at = anonymous(here.path());
        assert!(resolve(&of, &amd64(), &at, &Progress::silent()).await.is_err());
    }
}

/// A copy that is given up in the middle, at every place where it can be.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_dies_leaves_nothing_half_written() {
    let here = here();
    let (mut layout, _) = honest(&here, "layout");
    let subject = layout.artifact("big", &noise(2 << 20), None);
    layout.entry(&subject, Some("big"));
    let out = here.path().join("out");
    let to = oci(&out, "v1");
    let whole = Wanted::default();
    for steps in 0.. {
        // Polled so often and then dropped, as by a signal.
        let mut copy = Box::pin(copied(&here, layout.place("big"), &to, &whole));
        let mut left = steps;
        let done = std::future::poll_fn(|context| match copy.as_mut().poll(context) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
            std::task::Poll::Pending => {
                left -= 1;
                std::task::Poll::Pending
            }
        })
        .await;
        drop(copy);
        if let Some(done) = done {
            assert_eq!(done.unwrap().digest, digest_of(&subject));
            assert!(steps > 2, "it was never given up");
            break;
        }
        assert!(!out.join("index.json").exists(), "{steps}");
        for blob in std::fs::read_dir(out.join("blobs/sha256")).into_iter().flatten() {
            let blob = blob.unwrap();
            let found = BlobDigest::of(&std::fs::read(blob.path()).unwrap()).hex();
            assert_eq!(blob.file_name().to_str().unwrap(), found, "{steps}: half of a blob");
        }
    }
}
