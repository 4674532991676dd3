//! How much a push asks and sends: counted by a proxy before a real registry.

use super::*;
use crate::support::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_asks_no_more_than_it_must() {
    let registry = TestRegistry::start(None);
    let (proxy, here, silent) = (Proxy::before(&registry.addr), here(), Progress::silent());
    let to = |tag: &str| name(format!("{}/app:{tag}", proxy.addr));
    // Each push as by a program of its own.
    let fresh = || anonymous(here.path());
    let single = AnyImage::Image(image(&here.store, &amd64(), &[b"one", &noise(2 << 20)]));
    push(&single, &to("1"), &here.store, &fresh(), &silent).await.unwrap();
    let first = proxy.take();
    assert_eq!(first.sent().len(), 3, "{:?}", first.0);
    assert_eq!(first.count("HEAD", ""), 2, "the config is sent without a question");
    assert_eq!(first.count("POST", ""), 3);
    assert!(first.sent().iter().sum::<u64>() > 2 << 20);

    push(&single, &to("1"), &here.store, &fresh(), &silent).await.unwrap();
    let again = proxy.take();
    assert_eq!((again.writes(), again.count("HEAD", "")), (0, 0), "{:?}", again.0);
    assert_eq!(again.count("GET", "/app/"), 1, "{:?}", again.0);

    // Another name for it, by the same program: what it saw there it does not ask for.
    let at = fresh();
    push(&single, &to("2"), &here.store, &at, &silent).await.unwrap();
    assert_eq!(proxy.take().count("HEAD", "/blobs/"), 2);
    push(&single, &to("3"), &here.store, &at, &silent).await.unwrap();
    let third = proxy.take();
    assert_eq!((third.count("HEAD", ""), third.writes()), (0, 1), "{:?}", third.0);

    // A name that means something else is moved.
    let other = AnyImage::Image(image(&here.store, &amd64(), &[b"other"]));
    push(&other, &to("1"), &here.store, &fresh(), &silent).await.unwrap();
    let found = resolve(&to("1"), &amd64(), &fresh(), &silent).await.unwrap();
    assert_eq!(found.raw.digest, other.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_there_only_with_all_that_it_lists() {
    let registry = TestRegistry::start(None);
    let (proxy, here, silent) = (Proxy::before(&registry.addr), here(), Progress::silent());
    let at = anonymous(here.path());
    let arm = Platform::new("linux", "arm64");
    let images = vec![image(&here.store, &amd64(), &[b"amd"]), image(&here.store, &arm, &[b"arm"])];
    let gone = images[1].digest();
    let index = assemble_index(images, kiln::image::Dialect::Oci, Default::default()).unwrap();
    let to = name(format!("{}/multi:1", proxy.addr));
    push(&index, &to, &here.store, &at, &silent).await.unwrap();
    proxy.take();
    push(&index, &to, &here.store, &at, &silent).await.unwrap();
    let again = proxy.take();
    assert_eq!((again.writes(), again.count("HEAD", "/manifests/")), (0, 2), "{:?}", again.0);
    // Somebody removed one platform's manifest: the push brings it back.
    let listed = format!("docker://{}/multi@{gone}", registry.addr);
    skopeo(&["delete", "--tls-verify=false", &listed]);
    push(&index, &to, &here.store, &at, &silent).await.unwrap();
    let found = resolve(&to, &arm, &at, &silent).await.unwrap();
    assert_eq!(found.image.digest(), gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_is_not_had_becomes_an_upload() {
    let registry = TestRegistry::start(None);
    let (proxy, here, silent) = (Proxy::before(&registry.addr), here(), Progress::silent());
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(100_000)]));
    let layer = &image.images()[0].layers()[0];
    // What is remembered is not so any more.
    let slot = here.store.slot("blob-origins", &layer.digest.0).unwrap();
    slot.write(&[format!("{}/gone", proxy.addr)]).unwrap();
    let to = name(format!("{}/app:1", proxy.addr));
    push(&image, &to, &here.store, &anonymous(here.path()), &silent).await.unwrap();
    let seen = proxy.take();
    assert_eq!((seen.count("POST", "from=gone"), seen.mounted()), (1, 0), "{:?}", seen.0);
    assert_eq!(seen.count("POST", ""), 2, "its session serves for the bytes: {:?}", seen.0);
    assert_eq!(seen.sent().len(), 2, "the layer and the config: {:?}", seen.0);
    let there = pull(&to, &Want::All, &here.other("o"), &anonymous(here.path()), &silent).await;
    assert_eq!(there.unwrap().digest(), image.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_mounts_gets_the_bytes() {
    let here = here();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(100_000)]));
    let layer = image.images()[0].layers()[0].clone();
    for refusal in ["400 Bad Request", "403 Forbidden", "405 Method Not Allowed"] {
        let held: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
        let server = Server::start(move |request| {
            let mut held = held.lock().unwrap();
            let path = request.path.split('?').next().unwrap_or_default().to_owned();
            let digest = BlobDigest::of(&request.body);
            match (request.method.as_str(), path.as_str()) {
                ("POST", _) if request.path.contains("mount=") => answer(refusal, &[], b""),
                ("POST", _) => answer("202 Accepted", &[("Location", "/v2/app/up/1")], b""),
                ("PUT", path) => {
                    let kind = if path.contains("/manifests/") { "manifests" } else { "blobs" };
                    held.insert(format!("/v2/app/{kind}/{digest}"), request.body.clone());
                    answer("201 Created", &[], b"")
                }
                (_, "/v2/") => answer("200 OK", &[], b""),
                (_, path) => match held.get(path) {
                    Some(bytes) => answer("200 OK", &[], bytes),
                    None => answer("404 Not Found", &[], b""),
                },
            }
        })
        .await;
        let slot = here.store.slot("blob-origins", &layer.digest.0).unwrap();
        slot.write(&[format!("{}/gone", server.addr)]).unwrap();
        let to = name(format!("{}/app:1", server.addr));
        let at = anonymous(here.path());
        push(&image, &to, &here.store, &at, &Progress::silent()).await.unwrap();
        let mounts = server.seen().iter().filter(|seen| seen.path.contains("mount=")).count();
        assert_eq!(mounts, 1, "{refusal}");
    }
}
