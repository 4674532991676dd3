//! Tokens: from fetching one to renewing it in the middle of a push, before a real
//! registry that verifies them wherever that can show it.

use std::time::Duration;

use super::*;
use crate::support::tokens::{
    Asked, Gate, SERVICE, Signer, asked, challenge, granted, refused, service,
};

const ME: (&str, &str) = ("me", "pw");

/// Tokens for `me`; anybody else may read.
fn honest(signer: &Signer, seconds: i64, asked: &Asked) -> Vec<u8> {
    let known = asked.is(ME.0, ME.1);
    if !known && asked.request.header("authorization").is_some() {
        return refused("401 Unauthorized", "who?");
    }
    let mut scopes = asked.scopes();
    if !known {
        scopes = scopes.iter().map(|scope| scope.replace(",push", "")).collect();
    }
    let token = signer.sign(&scopes, seconds);
    granted(&serde_json::json!({ "token": token, "expires_in": seconds }))
}

/// The token service of a signer.
async fn honest_service(signer: &Signer) -> (Server, String) {
    let own = signer.clone();
    let tokens = service(move |asked| honest(&own, 300, asked)).await;
    let realm = format!("http://{}/token", tokens.addr);
    (tokens, realm)
}

fn me(here: &Here, host: &str) -> Registries {
    with(here.path(), host, ME.0, ME.1)
}

/// A registry that takes one token.
async fn guarded(memory: &Arc<Memory>, realm: &str, accepts: &'static str) -> Server {
    let (memory, realm) = (Arc::clone(memory), realm.to_owned());
    Server::start(move |request| match request.header("authorization") {
        Some(shown) if shown == accepts => memory.get(request),
        _ => {
            let wanted = challenge(&realm, "repository:app:pull");
            answer("401 Unauthorized", &[("WWW-Authenticate", &wanted)], b"")
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_with_tokens() {
    let here = here();
    let signer = Signer::new(here.path());
    let (tokens, realm) = honest_service(&signer).await;
    let registry = signer.registry(&realm, "");
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one", &noise(1 << 20)]));
    let to = name(format!("{}/team/app:1", registry.addr));
    let me = me(&here, &registry.addr);
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
    let scopes: Vec<_> = asked(&tokens).iter().flat_map(Asked::scopes).collect();
    assert!(scopes.contains(&"repository:other/app:pull,push".to_owned()), "{scopes:?}");
    assert!(scopes.contains(&"repository:team/app:pull".to_owned()), "{scopes:?}");
    let first = asked(&tokens).into_iter().find(|asked| asked.is(ME.0, ME.1)).unwrap();
    assert_eq!((first.field("service"), first.field("account")), (Some(SERVICE), Some("me")));
    login(&registry.addr, &Credentials::password("me", "pw"), &nobody).await.unwrap();
    let error =
        login(&registry.addr, &Credentials::password("me", "x"), &nobody).await.unwrap_err();
    assert!(matches!(error, RegistryError::Token { status: 401, .. }), "{error}");
}

/// Tokens that are good for a few requests only, while several blobs go up and come down
/// at once, and are mounted elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn rule_23_tokens_run_out_in_the_middle() {
    let here = here();
    let signer = Signer::new(here.path());
    let (tokens, realm) = honest_service(&signer).await;
    let registry = signer.registry(&realm, ", relativeurls: true");
    let gate = Gate::before(&registry.addr, None, |shown| shown.uses >= 8);
    let silent = Progress::silent();
    let contents: Vec<Vec<u8>> = (0..8).map(|n| noise(200_000 + n)).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let image = AnyImage::Image(image(&here.store, &amd64(), &contents));
    let me = me(&here, &gate.addr);
    let to = name(format!("{}/team/app:1", gate.addr));
    push(&image, &to, &here.store, &me, &silent).await.unwrap();
    let pushed = (gate.refusals(), tokens.seen().len());
    // Eight layers are a HEAD, a POST and a PUT each.
    assert!(pushed.0 >= 3 && pushed.1 >= 4, "{pushed:?}");
    let second = name(format!("{}/second/app:1", gate.addr));
    push(&image, &second, &here.store, &me, &silent).await.unwrap();
    let into = here.other("pulled");
    let pulled = pull(&second, &Want::All, &into, &me, &silent).await.unwrap();
    assert_eq!(pulled.digest(), image.digest());
    assert!(gate.refusals() > pushed.0);
    // Each renewal is asked for once, whoever waits for it.
    let seen = tokens.seen().len();
    assert!(seen <= gate.refusals() + 20, "{seen} tokens, {} refusals", gate.refusals());
}

/// A stream goes out once: the upload begins anew with another token. So does a blob that
/// the kernel sends, to a registry without TLS.
#[tokio::test(flavor = "multi_thread")]
async fn rule_23_uploads_begin_anew_with_a_new_token() {
    let here = here();
    let signer = Signer::new(here.path());
    let (tokens, realm) = honest_service(&signer).await;
    let silent = Progress::silent();
    let contents: [&[u8]; 3] = [&noise(3 << 20), &noise(300_000), b"small"];
    let image = AnyImage::Image(image(&here.store, &amd64(), &contents));
    let layers = image.images()[0].layers().iter().map(|layer| layer.digest.0.hex());
    let layers: Vec<String> = layers.collect();
    for tls in [false, true] {
        // An https registry may name no other realm.
        let own = signer.clone();
        let realm_tls = Gate::before(&tokens.addr, Some(&own), |_| false);
        let realm = if tls { format!("https://{}/token", realm_tls.addr) } else { realm.clone() };
        let registry = signer.registry(&realm, ", relativeurls: true");
        // The token that each layer comes with at first, which nothing but that renews.
        let (first, layers) = (Mutex::new(HashMap::new()), layers.clone());
        let gate = Gate::before(&registry.addr, tls.then_some(&signer), move |shown| {
            let digest = shown.path.rsplit("sha256%3A").next().unwrap_or_default().to_owned();
            let token = || shown.token.to_owned();
            shown.method == "PUT"
                && layers.contains(&digest)
                && *first.lock().unwrap().entry(digest).or_insert_with(token) == shown.token
        });
        let insecure = vec![gate.addr.clone(), realm_tls.addr.clone()];
        let credentials = vec![(gate.addr.clone(), Credentials::password(ME.0, ME.1))];
        let options = Options { insecure, credentials, ..settings(here.path()) };
        let at = Registries::load(options).unwrap();
        let to = name(format!("{}/app:1", gate.addr));
        let before = tokens.seen().len();
        push(&image, &to, &here.store, &at, &silent).await.unwrap();
        assert!(gate.refusals() >= 3, "tls: {tls}");
        assert!(tokens.seen().len() - before >= 2, "tls: {tls}");
        let into = here.other(if tls { "tls" } else { "plain" });
        let pulled = pull(&to, &Want::All, &into, &at, &silent).await.unwrap();
        assert_eq!(pulled.digest(), image.digest());
    }
}

/// A real registry refuses these: one has long run out, one allows nothing.
#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_asked_for_again() {
    let here = here();
    let signer = Signer::new(here.path());
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one", &noise(200_000)]));
    for fault in ["dead", "narrow"] {
        let own = signer.clone();
        let tokens = service(move |asked| match (asked.turn, fault) {
            (0, "dead") => {
                let token = own.sign(&asked.scopes(), -1000);
                granted(&serde_json::json!({ "token": token, "expires_in": 3600 }))
            }
            (0, _) => granted(&serde_json::json!({ "token": own.sign(&[], 300) })),
            _ => honest(&own, 300, asked),
        })
        .await;
        let registry = signer.registry(&format!("http://{}/token", tokens.addr), "");
        let to = name(format!("{}/app:1", registry.addr));
        push(&image, &to, &here.store, &me(&here, &registry.addr), &silent).await.unwrap();
        assert_eq!(tokens.seen().len(), 2, "{fault}");
    }
}

/// Nobody waits for the registry to say that a token has run out.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_before_they_run_out() {
    let here = here();
    let signer = Signer::new(here.path());
    let own = signer.clone();
    let tokens = service(move |asked| {
        let token = own.sign(&asked.scopes(), 300);
        // What is said counts: kiln takes the first ones for short-lived.
        let seconds = if asked.turn == 0 { 1 } else { 300 };
        granted(&serde_json::json!({ "access_token": token, "expires_in": seconds }))
    })
    .await;
    let registry = signer.registry(&format!("http://{}/token", tokens.addr), "");
    let gate = Gate::before(&registry.addr, None, |_| false);
    let at = me(&here, &gate.addr);
    let to = name(format!("{}/app:1", gate.addr));
    let silent = Progress::silent();
    let one = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    push(&one, &to, &here.store, &at, &silent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let two = AnyImage::Image(image(&here.store, &amd64(), &[b"two"]));
    push(&two, &to, &here.store, &at, &silent).await.unwrap();
    push(&one, &to, &here.store, &at, &silent).await.unwrap();
    assert_eq!(tokens.seen().len(), 2, "one that ran out, one that did not");

    // A registry that counts the seconds itself, and a service that says nothing of them.
    let own = signer.clone();
    let tokens = service(move |asked| {
        let seconds = if asked.turn == 0 { 2 } else { 300 };
        granted(&serde_json::json!({ "token": own.sign(&asked.scopes(), seconds) }))
    })
    .await;
    let registry = signer.registry(&format!("http://{}/token", tokens.addr), "");
    let at = me(&here, &registry.addr);
    let to = name(format!("{}/app:1", registry.addr));
    push(&one, &to, &here.store, &at, &silent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    push(&two, &to, &here.store, &at, &silent).await.unwrap();
    assert_eq!(tokens.seen().len(), 2);
}

/// A registry that takes the token of a turn and of one scope.
async fn choosy(memory: Arc<Memory>, realm: String, scope: &'static str) -> Server {
    Server::start(move |request| {
        let shown = request.header("authorization").unwrap_or_default();
        if shown.contains(scope) {
            return memory.get(request);
        }
        let wanted = challenge(&realm, scope);
        let wanted = if shown.is_empty() {
            wanted.replace(scope, "repository:app:pull")
        } else {
            format!(r#"{wanted},error="insufficient_scope""#)
        };
        answer("401 Unauthorized", &[("WWW-Authenticate", &wanted)], b"")
    })
    .await
}

/// Tokens that say which scopes they are for.
async fn telling() -> (Server, String) {
    let tokens = service(|asked| {
        let token = format!("{}.{}", asked.turn, asked.scopes().join(";"));
        granted(&serde_json::json!({ "token": token }))
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    (tokens, realm)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_scope_is_asked_for_once() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    let (tokens, realm) = telling().await;
    let wider = "repository:base/of:pull";
    let registry = choosy(Arc::clone(&memory), realm.clone(), wider).await;
    let from = name(format!("{}/app:1", registry.addr));
    let at = anonymous(here.path());
    let want = Want::One(amd64());
    let silent = Progress::silent();
    pull(&from, &want, &here.other("a"), &at, &silent).await.unwrap();
    // Another session of the kind knows it already.
    pull(&from, &want, &here.other("b"), &at, &silent).await.unwrap();
    let scopes: Vec<_> = asked(&tokens).iter().map(Asked::scopes).collect();
    let own = "repository:app:pull";
    assert_eq!(scopes, [vec![own.to_owned()], vec![own.to_owned(), wider.to_owned()]]);
    let seen = registry.seen();
    let refused = seen.iter().filter(|seen| {
        !seen.header("authorization").unwrap_or_default().contains(wider) && seen.path != "/v2/"
    });
    assert_eq!(refused.count(), 2, "one without a token, one with the narrow one");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewing_has_an_end() {
    let here = here();
    // One that takes no token, one that always wants another scope, one that wants far
    // too much.
    for (kind, most) in [("never", 2), ("other", 4), ("many", 1)] {
        let (tokens, realm) = telling().await;
        let turn = AtomicUsize::new(0);
        let registry = Server::start(move |_| {
            let turn = turn.fetch_add(1, Ordering::SeqCst);
            let scope = match kind {
                "never" => "repository:app:pull".to_owned(),
                "other" => format!("repository:app{turn}:pull"),
                _ => (0..200).map(|n| format!("repository:a{n}:pull ")).collect(),
            };
            let wanted = challenge(&realm, &scope);
            answer("401 Unauthorized", &[("WWW-Authenticate", &wanted)], b"")
        })
        .await;
        let from = name(format!("{}/app:1", registry.addr));
        let at = me(&here, &registry.addr);
        let error = resolve(&from, &amd64(), &at, &Progress::silent()).await.unwrap_err();
        let text = error.to_string();
        let expected = if kind == "many" { "more than 32 scopes" } else { "asks for a login" };
        assert!(text.contains(expected), "{kind}: {text}");
        let seen = tokens.seen().len();
        assert!(seen <= most, "{kind}: {seen} tokens");
        assert!(kind == "many" || seen > 1 && text.contains("`me` from the command line"));
    }
}

/// Many requests at once, of several sessions: one fetch.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_for_all() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    let tokens = service(|asked| {
        // Slow enough for all to want it.
        std::thread::sleep(Duration::from_millis(300));
        granted(&serde_json::json!({ "token": format!("t{}", asked.turn) }))
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let registry = guarded(&memory, &realm, "Bearer t0").await;
    let from = name(format!("{}/app:1", registry.addr));
    let at = me(&here, &registry.addr);
    let silent = Progress::silent();
    let platform = amd64();
    let all = (0..12).map(|_| resolve(&from, &platform, &at, &silent));
    for resolved in futures_util::future::join_all(all).await {
        resolved.unwrap();
    }
    assert_eq!(tokens.seen().len(), 1);
    // What is nobody's is not taken from what is somebody's.
    let nobody = resolve(&from, &platform, &anonymous(here.path()), &silent).await;
    assert!(nobody.is_err());
    assert!(asked(&tokens).last().unwrap().request.header("authorization").is_none());
}

/// Credentials of one repository's path, nobody's beside it, with one service.
#[tokio::test(flavor = "multi_thread")]
async fn paths_have_tokens_of_their_own() {
    let here = here();
    let signer = Signer::new(here.path());
    let (tokens, realm) = honest_service(&signer).await;
    let registry = signer.registry(&realm, "");
    let host = &registry.addr;
    let auths = serde_json::json!({ "auths": {
        format!("{host}/team"): { "auth": crate::support::tokens::base64(b"me:pw") },
    }});
    std::fs::write(here.path().join("auth.json"), auths.to_string()).unwrap();
    let at = anonymous(here.path());
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let team = name(format!("{host}/team/app:1"));
    push(&image, &team, &here.store, &at, &silent).await.unwrap();
    let other = name(format!("{host}/teams/app:1"));
    let error = push(&image, &other, &here.store, &at, &silent).await.unwrap_err().to_string();
    assert!(error.contains("asks for a login") && error.contains("no credentials"), "{error}");
    for asked in asked(&tokens) {
        let own = asked.scopes().contains(&"repository:team/app:pull,push".to_owned());
        assert_eq!(asked.is(ME.0, ME.1), own, "{:?}", asked.scopes());
    }
}

/// Refresh tokens, and services that know one way to ask only.
#[tokio::test(flavor = "multi_thread")]
async fn ways_to_ask() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    for (kind, user, methods) in [
        // Each refresh token is good once; the service gives the next one.
        ("rotating", "<token>", "POST POST POST"),
        ("no post", "<token>", "POST GET POST GET POST GET"),
        ("no get", "me", "GET POST GET POST GET POST"),
        ("both", "me", "GET GET GET"),
    ] {
        let tokens = service(move |asked| {
            let missing = || answer("405 Method Not Allowed", &[], b"");
            let turn = asked.turn;
            let post = asked.request.method == "POST";
            let field = |name| asked.field(name).unwrap_or_default();
            let good = match (kind, post) {
                ("no post", true) | ("no get", false) => return missing(),
                ("rotating", true) => {
                    let due = if turn == 0 { "secret".into() } else { format!("secret{turn}") };
                    field("grant_type") == "refresh_token"
                        && field("client_id") == "kiln"
                        && field("refresh_token") == due
                        && field("service") == SERVICE
                        && field("scope") == "repository:app:pull"
                        && asked.request.header("authorization").is_none()
                }
                ("no get", true) => {
                    field("grant_type") == "password"
                        && (field("username"), field("password")) == ("me", "secret")
                }
                ("no post", false) => asked.is("<token>", "secret"),
                ("both", false) => asked.is("me", "secret"),
                _ => false,
            };
            if !good || asked.request.path.contains("secret") {
                return refused("401 Unauthorized", "no");
            }
            let next = format!("secret{}", turn + 1);
            let token = format!("t{turn}");
            granted(&serde_json::json!({ "access_token": token, "refresh_token": next }))
        })
        .await;
        let realm = format!("http://{}/token", tokens.addr);
        let served = Arc::clone(&memory);
        let used = Mutex::new(std::collections::HashSet::new());
        // A token is good once.
        let registry = Server::start(move |request| {
            let shown = request.header("authorization").unwrap_or_default().to_owned();
            if shown.starts_with("Bearer t") && used.lock().unwrap().insert(shown) {
                return served.get(request);
            }
            let wanted = challenge(&realm, "repository:app:pull");
            answer("401 Unauthorized", &[("WWW-Authenticate", &wanted)], b"")
        })
        .await;
        let from = name(format!("{}/app:1", registry.addr));
        let at = with(here.path(), &registry.addr, user, "secret");
        let want = Want::One(amd64());
        pull(&from, &want, &here.other(kind), &at, &Progress::silent()).await.unwrap();
        let seen: Vec<_> = tokens.seen().into_iter().map(|seen| seen.method).collect();
        assert_eq!(seen.join(" "), methods, "{kind}");
        let shown = registry.seen();
        let basic = |seen: &Request| {
            let shown = seen.header("authorization").unwrap_or_default();
            shown.starts_with("Basic") || shown.contains("secret")
        };
        assert!(!shown.iter().any(basic), "{kind}");
    }
}

/// What a service answers instead of a token is said, without what it may hold.
#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_no_good() {
    let here = here();
    let answers: [(&str, Vec<u8>, &str); 9] = [
        ("words", refused("403 Forbidden", "no \u{1b}[31mmore"), "no \\u{1b}[31mmore"),
        ("huge", answer("200 OK", &[], &vec![b' '; 2 << 20]), "more than 1048576 bytes"),
        ("malformed", answer("200 OK", &[], b"{\"token\":\"swordfish"), "no valid JSON"),
        ("a text", answer("200 OK", &[], b"\"swordfish\""), "not an object"),
        ("no token", granted(&serde_json::json!({ "tokens": "swordfish" })), "neither `token`"),
        ("odd", granted(&serde_json::json!({ "token": "sword\nfish" })), "no header can carry"),
        (
            "redirecting",
            answer("302 Found", &[("Location", "http://127.0.0.1:1/swordfish")], b""),
            "does not follow",
        ),
        (
            "busy",
            answer("429 Too Many Requests", &[("Retry-After", "3600")], b""),
            "(429) (it says: wait 3600 s)",
        ),
        ("closing", Vec::new(), "the token"),
    ];
    for (kind, bytes, says) in answers {
        let tokens = service(move |_| bytes.clone()).await;
        let realm = format!("http://{}/token", tokens.addr);
        let registry = Server::start(move |_| {
            let wanted = challenge(&realm, "repository:app:pull");
            answer("401 Unauthorized", &[("WWW-Authenticate", &wanted)], b"")
        })
        .await;
        let from = name(format!("{}/app:1", registry.addr));
        let at = with(here.path(), &registry.addr, "me", "hunter2");
        let error = resolve(&from, &amd64(), &at, &Progress::silent()).await.unwrap_err();
        let text = format!("{error} {error:?} {:?}", error.hint());
        assert!(error.to_string().contains(says), "{kind}: {text}");
        let secret = ["hunter2", "swordfish", "sword\\nfish", "Basic"];
        assert!(!secret.iter().any(|secret| text.contains(secret)), "{kind}: {text}");
        if matches!(error, RegistryError::Token { .. }) {
            assert!(text.contains("`me` from the command line"), "{kind}: {text}");
        }
    }

    // What passes is waited for.
    let tokens = service(|asked| match asked.turn {
        0 => answer("503 Service Unavailable", &[], b""),
        1 => Vec::new(),
        turn => granted(&serde_json::json!({ "token": format!("t{turn}") })),
    })
    .await;
    let memory = Memory::new(&here.store, b"x");
    let realm = format!("http://{}/token", tokens.addr);
    let registry = guarded(&memory, &realm, "Bearer t2").await;
    let from = name(format!("{}/app:1", registry.addr));
    let at = me(&here, &registry.addr);
    resolve(&from, &amd64(), &at, &Progress::silent()).await.unwrap();
}
