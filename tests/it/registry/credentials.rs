//! Who may see a password.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn passwords() {
    let registry = TestRegistry::start(Some(("me", "secret word")));
    let here = here();
    let host = registry.addr.clone();
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let to = name(format!("{host}/app:1"));

    let nobody = anonymous(here.path());
    let error = push(&image, &to, &here.store, &nobody, &silent).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::Unauthorized { tried, .. } if tried == "no credentials")
    );
    assert!(error.hint().unwrap().contains(&format!("kiln login {host}")));

    let wrong = with(here.path(), &host, "me", "wrong word");
    let error = push(&image, &to, &here.store, &wrong, &silent).await.unwrap_err().to_string();
    assert!(
        error.contains("`me` from the command line") && !error.contains("wrong word"),
        "{error}"
    );

    // Credentials for another port of the same host stay at home.
    let elsewhere = with(here.path(), "127.0.0.1:1", "me", "secret word");
    assert!(push(&image, &to, &here.store, &elsewhere, &silent).await.is_err());

    let right = with(here.path(), &host, "me", "secret word");
    push(&image, &to, &here.store, &right, &silent).await.unwrap();
    let other = here.other("other");
    pull(&to, &Want::One(amd64()), &other, &right, &silent).await.unwrap();

    // A login is kept, found by later commands, and by skopeo.
    let file = here.path().join("auth.json");
    let bad = login(&host, &Credentials::password("me", "no"), &nobody).await.unwrap_err();
    assert!(matches!(bad, RegistryError::Unauthorized { .. }), "{bad}");
    assert!(!file.exists());
    std::fs::write(&file, r#"{"psFormat": "x", "auths": {"other": {"auth": "YTpi"}}}"#).unwrap();
    let kept = login(&host, &Credentials::password("me", "secret word"), &nobody).await.unwrap();
    assert_eq!(kept, Kept::File(file.clone()));
    pull(&to, &Want::One(amd64()), &here.other("third"), &nobody, &silent).await.unwrap();
    let auth = format!("--authfile={}", file.display());
    skopeo(&["inspect", "--tls-verify=false", &auth, &format!("docker://{to}")]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("psFormat") && text.contains("\"other\"") && !text.contains("secret"));

    assert!(logout(&host, &nobody).await.unwrap());
    assert!(!logout(&host, &nobody).await.unwrap());
    let error = resolve(&to, &amd64(), &anonymous(here.path()), &silent).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"other\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_19_credentials_stay_with_their_registry() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(5000));
    let served = Arc::clone(&memory);
    let elsewhere = Server::start(move |request| served.get(request)).await;
    let target = elsewhere.addr.clone();
    let served = Arc::clone(&memory);
    let registry = Server::start(move |request| {
        if request.header("authorization") != Some("Basic bWU6cHc=") {
            return answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b"");
        }
        if request.path.contains("/blobs/") {
            let location = format!("http://{target}{}", request.path);
            return answer("307 Temporary Redirect", &[("Location", &location)], b"");
        }
        served.get(request)
    })
    .await;
    let from = name(format!("{}/app:1", registry.addr));
    let at = with(here.path(), &registry.addr, "me", "pw");
    let into = here.other("redirected");
    pull(&from, &Want::One(amd64()), &into, &at, &Progress::silent()).await.unwrap();
    let seen = elsewhere.seen();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));

    // A login asked for on the other side is not answered, though the user has one.
    let greedy = Server::start(|_| {
        answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=mine")], b"")
    })
    .await;
    let target = format!("http://{}/x", greedy.addr);
    let registry = Server::start(move |_| answer("302 Found", &[("Location", &target)], b"")).await;
    let at = with(here.path(), &registry.addr, "me", "pw");
    let from = name(format!("{}/app:1", registry.addr));
    let error = resolve(&from, &amd64(), &at, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert!(greedy.seen().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls() {
    let here = here();
    let (key, chain) = certificate(here.path());
    let http =
        format!(", tls: {{certificate: \"{}\", key: \"{}\"}}", chain.display(), key.display());
    let registry = TestRegistry::configured(&http, |_| String::new());
    // More than fits into what is in memory of an upload at once.
    let content = noise(3 << 20);
    let layers: &[&[u8]] = &[b"one", &content];
    let image = AnyImage::Image(image(&here.store, &amd64(), layers));
    let to = name(format!("{}/app:1", registry.addr));
    let silent = Progress::silent();
    // A certificate that nobody vouches for ends it, even on this machine.
    let at = with(here.path(), &registry.addr, "me", "pw");
    let error = push(&image, &to, &here.store, &at, &silent).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { plain: false, .. }), "{error}");
    assert!(error.hint().unwrap().contains("root certificate"));

    let options = Options { insecure: vec![registry.addr.clone()], ..settings(here.path()) };
    let at = Registries::load(options).unwrap();
    push(&image, &to, &here.store, &at, &silent).await.unwrap();
    let other = here.other("tls");
    pull(&to, &Want::One(amd64()), &other, &at, &silent).await.unwrap();
    // What the store has that is damaged is found out here, too.
    let large = &image.images()[0].layers()[1];
    assert!(other.has_blob(&large.digest, large.size));
    let path = here.store.blob_path(&large.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2 << 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_dir_all(registry.data()).unwrap();
    let at = Registries::load(Options {
        insecure: vec![registry.addr.clone()],
        ..settings(here.path())
    });
    let error = push(&image, &to, &here.store, &at.unwrap(), &silent).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}
