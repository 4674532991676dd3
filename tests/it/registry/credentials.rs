//! Who may see a password, and what becomes of tokens.

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

/// A token service and a registry that takes its tokens.
async fn with_tokens(memory: Arc<Memory>, fresh: usize) -> (Server, Server) {
    let issued = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let tokens = Server::start(move |request| {
        if request.path == "/v2/" {
            return answer("404 Not Found", &[], b"");
        }
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let basic = request.header("authorization") == Some("Basic bWU6cHc=");
        let refresh = request.method == "POST" && form.contains("refresh_token=idtoken");
        if !basic && !refresh {
            return answer(
                "401 Unauthorized",
                &[],
                br#"{"details":"incorrect username or password"}"#,
            );
        }
        let turn = count.fetch_add(1, Ordering::SeqCst);
        let name = if refresh { "access_token" } else { "token" };
        answer("200 OK", &[], format!(r#"{{"{name}":"t{turn}","expires_in":60}}"#).as_bytes())
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let used = AtomicUsize::new(0);
    let registry = Server::start(move |request| {
        let latest = issued.load(Ordering::SeqCst);
        let token = latest.checked_sub(1).map(|turn| format!("Bearer t{turn}"));
        let good = token.is_some() && request.header("authorization") == token.as_deref();
        // A token is good for a few requests only.
        if !good || used.fetch_add(1, Ordering::SeqCst) % (fresh + 1) == fresh {
            let challenge = format!(
                r#"Bearer realm="{realm}",service="the registry",scope="repository:app:pull""#
            );
            return answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"");
        }
        memory.get(request)
    })
    .await;
    (registry, tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_23_tokens_are_fetched_and_renewed() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    let (registry, tokens) = with_tokens(Arc::clone(&memory), 2).await;
    let from = name(format!("{}/app:1", registry.addr));
    let into = here.other("tokens");
    let at = with(here.path(), &registry.addr, "me", "pw");
    pull(&from, &Want::One(amd64()), &into, &at, &Progress::silent()).await.unwrap();
    let asked = tokens.seen();
    assert!(asked.iter().filter(|request| request.path.starts_with("/token")).count() >= 2);
    let first = asked.iter().find(|request| request.path.starts_with("/token")).unwrap();
    assert_eq!(first.path, "/token?service=the+registry&scope=repository%3Aapp%3Apull&account=me");
    // The password went to the token service only.
    let basic = |request: &Request| {
        request.header("authorization").is_some_and(|text| text.starts_with("Basic"))
    };
    assert!(!registry.seen().iter().any(basic));

    // An identity token is exchanged with a POST.
    let auths = format!(
        r#"{{"auths": {{"{}": {{"auth": "PHRva2VuPjo=", "identitytoken": "idtoken"}}}}}}"#,
        registry.addr
    );
    std::fs::write(here.path().join("auth.json"), auths).unwrap();
    pull(
        &from,
        &Want::One(amd64()),
        &here.other("id"),
        &anonymous(here.path()),
        &Progress::silent(),
    )
    .await
    .unwrap();
    let posted = tokens.seen().into_iter().find(|request| request.method == "POST").unwrap();
    let form = String::from_utf8(posted.body).unwrap();
    assert!(form.contains("grant_type=refresh_token") && form.contains("client_id=kiln"), "{form}");
    assert!(posted.path == "/token" && !form.contains("idtoken&idtoken"));

    // What the service says when it refuses is not swallowed.
    let wrong = with(here.path(), &registry.addr, "me", "wrong");
    let error = resolve(&from, &amd64(), &wrong, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("incorrect username or password"), "{error}");
    assert!(error.hint().is_some());
    let error =
        login(&registry.addr, &Credentials::password("me", "no"), &wrong).await.unwrap_err();
    assert!(matches!(error, RegistryError::Token { status: 401, .. }), "{error}");
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

/// Base64 without padding, as JSON web tokens have it.
fn base64(bytes: &[u8], url: bool) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let last = if url { b"-_" } else { b"+/" };
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let index = (group >> (18 - 6 * at) & 63) as usize;
            text.push(char::from(*alphabet.get(index).unwrap_or_else(|| &last[index - 62])));
        }
        if !url {
            text.push_str(&"=="[..3 - chunk.len()]);
        }
    }
    text
}

/// A token that docker-registry accepts, signed with the certificate's key.
fn web_token(folder: &Path, audience: &str, scopes: &[String]) -> String {
    let pem = std::fs::read_to_string(folder.join("cert.pem")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let access: Vec<_> = scopes
        .iter()
        .filter_map(|scope| {
            let mut parts = scope.splitn(3, ':');
            let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
            let actions: Vec<_> = actions.split(',').collect();
            Some(serde_json::json!({ "type": kind, "name": name, "actions": actions }))
        })
        .collect();
    let header = serde_json::json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
    let claims = serde_json::json!({
        "iss": "kiln-test", "sub": "me", "aud": audience, "jti": "1",
        "nbf": 1_000_000_000, "iat": 1_000_000_000, "exp": 4_000_000_000_u64, "access": access,
    });
    let signed = format!(
        "{}.{}",
        base64(header.to_string().as_bytes(), true),
        base64(claims.to_string().as_bytes(), true)
    );
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    std::fs::write(file.path(), &signed).unwrap();
    let (key, path) = (folder.join("key.pem"), file.path().to_str().unwrap().to_owned());
    let sign = ["dgst", "-sha256", "-sign", key.to_str().unwrap(), &path];
    format!("{signed}.{}", base64(&tool("openssl", "openssl", &sign).stdout, true))
}

/// What a query asks for; `+` and `%XX` undone.
fn asked_scopes(path: &str) -> Vec<String> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    scopes.map(|text| text.replace("%3A", ":").replace("%2C", ",").replace("%2F", "/")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_with_tokens() {
    let here = here();
    let (_, chain) = certificate(here.path());
    let keys = here.path().to_owned();
    // Anybody may read; to write one must be known.
    let tokens = Server::start(move |request| {
        let known = match request.header("authorization") {
            None => false,
            Some(text) if text == format!("Basic {}", base64(b"me:pw", false)) => true,
            Some(_) => {
                return answer(
                    "401 Unauthorized",
                    &[],
                    br#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#,
                );
            }
        };
        let mut scopes = asked_scopes(&request.path);
        if !known {
            scopes = scopes.into_iter().map(|scope| scope.replace(",push", "")).collect();
        }
        let token = web_token(&keys, "test registry", &scopes);
        answer("200 OK", &[], serde_json::json!({ "token": token }).to_string().as_bytes())
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let registry = TestRegistry::configured("", |_| {
        format!(
            "auth: {{token: {{realm: \"{realm}\", service: \"test registry\", \
             issuer: kiln-test, rootcertbundle: \"{}\"}}}}\n",
            chain.display()
        )
    });
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one", &noise(1 << 20)]));
    let to = name(format!("{}/team/app:1", registry.addr));
    let me = with(here.path(), &registry.addr, "me", "pw");
    let nobody = anonymous(here.path());

    let error = push(&image, &to, &here.store, &nobody, &silent).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    push(&image, &to, &here.store, &me, &silent).await.unwrap();
    pull(&to, &Want::One(amd64()), &here.other("any"), &nobody, &silent).await.unwrap();
    let stranger = with(here.path(), &registry.addr, "you", "pw");
    let error = resolve(&to, &amd64(), &stranger, &silent).await.unwrap_err();
    assert!(error.to_string().contains("who?"), "{error}");

    // To mount, the token must allow reading the other repository.
    let second = name(format!("{}/other/app:1", registry.addr));
    push(&image, &second, &here.store, &me, &silent).await.unwrap();
    let asked: Vec<_> = tokens.seen().iter().flat_map(|one| asked_scopes(&one.path)).collect();
    assert!(asked.contains(&"repository:other/app:pull,push".to_owned()), "{asked:?}");
    assert!(asked.contains(&"repository:team/app:pull".to_owned()), "{asked:?}");
    login(&registry.addr, &Credentials::password("me", "pw"), &nobody).await.unwrap();
    let error =
        login(&registry.addr, &Credentials::password("me", "x"), &nobody).await.unwrap_err();
    assert!(matches!(error, RegistryError::Token { .. }), "{error}");
}
