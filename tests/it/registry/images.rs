//! What honest registries hold, and what kiln and other tools make of it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn pushed_images_are_read_by_skopeo_and_pulled_back() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let big = noise(3 << 20);
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one", &big]));
    let to = name(format!("{}/team/app:v1", registry.addr));
    let pinned = push(&image, &to, &here.store, &at, &Progress::silent()).await.unwrap();
    assert_eq!(pinned.digest(), image.digest());

    let shown = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{to}")]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["Digest"], image.digest().to_string());
    let layout = here.path().join("copy");
    skopeo_copy(&[], &format!("docker://{to}"), &oci(&layout, "v1"));
    for layer in image.images()[0].layers() {
        let copied = std::fs::read(layout.join("blobs/sha256").join(layer.digest.hex())).unwrap();
        assert_eq!(BlobDigest::of(&copied), layer.digest);
    }

    let other = here.other("other");
    let want = Want::One(amd64());
    let pulled = pull(&to, &want, &other, &at, &Progress::silent()).await.unwrap();
    assert_eq!(pulled.digest(), image.digest());
    assert_eq!(other.image_named(&to).unwrap().digest(), image.digest());
    for layer in image.images()[0].layers() {
        assert!(other.has_blob(&layer.digest, layer.size));
    }
    // By digest, too, and under that name.
    let by_digest = pinned.reference();
    pull(&by_digest, &want, &other, &at, &Progress::silent()).await.unwrap();
    assert_eq!(other.image_named(&by_digest).unwrap().digest(), image.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_moved_again() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one", b"two"]));
    let (first, second) =
        (name(format!("{}/a:1", registry.addr)), name(format!("{}/b:1", registry.addr)));
    push(&image, &first, &here.store, &at, &Progress::silent()).await.unwrap();

    let ends = Arc::new(Mutex::new(HashMap::new()));
    let watch = {
        let (ends, names) = (Arc::clone(&ends), Mutex::new(HashMap::new()));
        Progress::new(move |event| match event {
            Event::Begin { id, name } => drop(names.lock().unwrap().insert(id, name)),
            Event::End { id, end } => {
                let name = names.lock().unwrap().remove(&id).unwrap();
                ends.lock().unwrap().insert(name, end);
            }
            _ => {}
        })
    };
    let cached = |verb: &str, count: usize| {
        let ends = std::mem::take(&mut *ends.lock().unwrap());
        let of: Vec<_> = ends.iter().filter(|(name, _)| name.starts_with(verb)).collect();
        assert_eq!(of.len(), count, "{ends:?}");
        assert!(of.iter().all(|(_, end)| **end == End::Cached), "{ends:?}");
    };
    // The name means this image: that is all there is to see.
    push(&image, &first, &here.store, &at, &watch).await.unwrap();
    cached("push ", 1);
    // Another repository of the same registry: mounted.
    push(&image, &second, &here.store, &at, &watch).await.unwrap();
    cached("push sha256:", 2);
    pull(&second, &Want::One(amd64()), &here.store, &at, &watch).await.unwrap();
    cached("pull sha256:", 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_and_platforms() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let silent = Progress::silent();
    let arm = Platform::new("linux", "arm64");
    let images = vec![image(&here.store, &amd64(), &[b"amd"]), image(&here.store, &arm, &[b"arm"])];
    let index =
        assemble_index(images.clone(), kiln::image::Dialect::Oci, Default::default()).unwrap();
    let to = name(format!("{}/multi:1", registry.addr));
    push(&index, &to, &here.store, &at, &silent).await.unwrap();

    // One platform: the name means its manifest, and the store has all of it.
    let one = here.other("one");
    let pulled = pull(&to, &Want::One(arm.clone()), &one, &at, &silent).await.unwrap();
    assert_eq!(pulled.digest(), images[1].digest());
    assert_eq!(one.image_named(&to).unwrap().digest(), images[1].digest());
    let amd = &images[0].layers()[0];
    assert!(!one.has_blob(&amd.digest, amd.size), "the other platform's layer was fetched");
    // By the index's digest: the name keeps its word, the image is the platform's.
    let pinned = name(format!("{}/multi@{}", registry.addr, index.digest()));
    pull(&pinned, &Want::One(arm.clone()), &one, &at, &silent).await.unwrap();
    assert_eq!(one.image_named(&pinned).unwrap().digest(), index.digest());
    assert_eq!(one.image_for(&pinned, &arm).unwrap().digest(), images[1].digest());

    let all = here.other("all");
    let pulled = pull(&to, &Want::All, &all, &at, &silent).await.unwrap();
    assert_eq!((pulled.digest(), pulled.images().len()), (index.digest(), 2));
    // What was pulled whole can be pushed whole.
    let again = name(format!("{}/again:1", registry.addr));
    let pulled = all.image_named(&to).unwrap();
    assert_eq!(push(&pulled, &again, &all, &at, &silent).await.unwrap().digest(), index.digest());

    // The same registry by its name.
    let by_name = name(to.to_string().replace("127.0.0.1", "localhost"));
    let found = resolve(&by_name, &arm, &at, &silent).await.unwrap();
    assert_eq!((found.raw.digest, found.image.digest()), (index.digest(), images[1].digest()));
    let missing = resolve(&to, &Platform::new("linux", "s390x"), &at, &silent).await.unwrap_err();
    let text = missing.to_string();
    assert!(text.contains("linux/amd64, linux/arm64"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_other_tools() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let silent = Progress::silent();
    let arm = Platform::new("linux", "arm64");
    let images = vec![image(&here.store, &amd64(), &[b"x"]), image(&here.store, &arm, &[b"y"])];
    let index =
        assemble_index(images.clone(), kiln::image::Dialect::Oci, Default::default()).unwrap();
    let from = name(format!("{}/from:1", registry.addr));
    push(&index, &from, &here.store, &at, &silent).await.unwrap();
    let to = |tag: &str| name(format!("{}/to:{tag}", registry.addr));
    let copy = |options: &[&str], tag: &str| {
        skopeo_copy(options, &format!("docker://{from}"), &format!("docker://{}", to(tag)));
    };
    copy(&["--all", "--format", "v2s2"], "docker");
    copy(&["--all"], "oci");
    copy(&["--dest-compress-format", "zstd"], "zstd");
    copy(&["--format", "v2s2"], "single");

    for (tag, kind, compression) in [
        ("docker", MediaType::DockerList, Compression::Gzip),
        ("oci", MediaType::OciIndex, Compression::Gzip),
        ("zstd", MediaType::OciManifest, Compression::Zstd),
        ("single", MediaType::DockerManifest, Compression::Gzip),
    ] {
        let store = here.other(tag);
        let found = resolve(&to(tag), &amd64(), &at, &silent).await.unwrap();
        assert_eq!(found.raw.media_type, kind, "{tag}");
        let pulled = pull(&to(tag), &Want::One(amd64()), &store, &at, &silent).await.unwrap();
        let layers = pulled.images()[0].layers();
        assert_eq!(layers[0].diff_id, images[0].layers()[0].diff_id, "{tag}");
        assert!(store.has_blob(&layers[0].digest, layers[0].size), "{tag}");
        if tag == "zstd" {
            let bytes = std::fs::read(store.blob_path(&layers[0].digest)).unwrap();
            // skopeo re-compresses only if it must; the media type follows the bytes.
            let magic = bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
            assert_eq!(magic, layers[0].compression == Compression::Zstd);
        } else {
            assert_eq!(layers[0].compression, compression, "{tag}");
        }
        let whole = pull(&to(tag), &Want::All, &store, &at, &silent).await.unwrap();
        assert_eq!(whole.digest(), found.raw.digest, "{tag}");
        // And back again, byte for byte.
        let back = name(format!("{}/back:{tag}", registry.addr));
        push(&whole, &back, &store, &at, &silent).await.unwrap();
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{back}")]);
        assert_eq!(BlobDigest::of(raw.as_bytes()), whole.digest(), "{tag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let mut registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let to = name(format!("{}/app:1", registry.addr));
    push(&image, &to, &here.store, &at, &silent).await.unwrap();

    let tag = name(format!("{}/app:2", registry.addr));
    let error = resolve(&tag, &amd64(), &at, &silent).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::NotFound { what, .. } if what.ends_with("app:2")),
        "{error}"
    );
    let repository = name(format!("{}/nothing:1", registry.addr));
    let error = resolve(&repository, &amd64(), &at, &silent).await.unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");

    // A layer that neither side has.
    let lost = image.images()[0].layers()[0].digest;
    let new = name(format!("{}/new:1", registry.addr));
    std::fs::remove_file(here.store.blob_path(&lost)).unwrap();
    std::fs::remove_dir_all(registry.data()).unwrap();
    let error = push(&image, &new, &here.store, &at, &silent).await.unwrap_err();
    assert!(error.to_string().contains(&lost.to_string()), "{error}");

    registry.stop();
    let at = anonymous(here.path());
    let error = resolve(&to, &amd64(), &at, &silent).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");

    let error = resolve(&to, &amd64(), &Registries::offline(), &silent).await.unwrap_err();
    assert!(error.to_string().contains("offline"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_layer_is_not_pushed() {
    let registry = TestRegistry::start(None);
    let here = here();
    let at = anonymous(here.path());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(1 << 20)]));
    let layer = &image.images()[0].layers()[0];
    let path = here.store.blob_path(&layer.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let to = name(format!("{}/app:1", registry.addr));
    let error = push(&image, &to, &here.store, &at, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_come_first_and_may_fail() {
    let registry = TestRegistry::start(None);
    let here = here();
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let home = name(format!("{}/team/app:1", registry.addr));
    push(&image, &home, &here.store, &anonymous(here.path()), &silent).await.unwrap();
    // A mirror that has the manifest but wrong layers, and one that is down.
    let broken = {
        let documents = image.images()[0].manifest().clone();
        let config = image.images()[0].config_raw().clone();
        Server::start(move |request| {
            if request.path.contains("/manifests/") {
                let kind = documents.media_type.to_string();
                return answer("200 OK", &[("Content-Type", &kind)], &documents.bytes);
            }
            if request.path.ends_with(&config.digest.to_string()) {
                return answer("200 OK", &[], &config.bytes);
            }
            answer("200 OK", &[], b"garbage that is longer than the layer ".repeat(50).as_slice())
        })
        .await
    };
    let conf = format!(
        "[[registry]]\nprefix = \"registry.example/apps\"\nlocation = \"{}/team\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1/down\"\n\
         [[registry.mirror]]\nlocation = \"{}/broken\"\n",
        registry.addr, broken.addr
    );
    std::fs::write(here.path().join("registries.conf"), conf).unwrap();
    let from = name("registry.example/apps/app:1");
    let notes = Arc::new(Mutex::new(Vec::new()));
    let progress = {
        let notes = Arc::clone(&notes);
        Progress::new(move |event| {
            if let Event::Note(text) = event {
                notes.lock().unwrap().push(text);
            }
        })
    };
    let into = here.other("mirrored");
    let at = anonymous(here.path());
    let pulled = pull(&from, &Want::One(amd64()), &into, &at, &progress).await.unwrap();
    assert_eq!(pulled.digest(), image.digest());
    assert!(into.find(&from).unwrap().is_some(), "the name is the one that was asked for");
    assert!(broken.seen().iter().any(|request| request.path == "/v2/broken/app/manifests/1"));
    let notes = notes.lock().unwrap().join("\n");
    assert!(notes.contains("127.0.0.1:1") && notes.contains("does not match"), "{notes}");
}
