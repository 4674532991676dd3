//! What an honest registry holds, and does not.

use super::*;

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

    // The same registry by its name.
    let by_name = name(to.to_string().replace("127.0.0.1", "localhost"));
    let found = resolve(&by_name, &arm, &at, &silent).await.unwrap();
    assert_eq!((found.raw.digest, found.image.digest()), (index.digest(), images[1].digest()));
    let missing = resolve(&to, &Platform::new("linux", "s390x"), &at, &silent).await.unwrap_err();
    let text = missing.to_string();
    assert!(text.contains("linux/amd64, linux/arm64"), "{text}");
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
