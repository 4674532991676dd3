//! Credentials and tokens stay with their registry, wherever answers point to.

use super::*;
use crate::support::tokens::{Gate, Signer, asked, base64, challenge, granted, refused, service};

fn carries(request: &Request) -> bool {
    let text = format!("{:?} {}", request.headers, String::from_utf8_lossy(&request.body));
    request.header("authorization").is_some()
        || ["hunter2", "t0", &base64(b"me:hunter2")].iter().any(|secret| text.contains(secret))
}

/// A server that takes all that it is sent, and wants a login now and then.
async fn elsewhere(greedy: bool) -> Server {
    Server::start(move |request| match request.method.as_str() {
        _ if greedy => {
            let wanted = [("WWW-Authenticate", "Basic realm=mine")];
            answer("401 Unauthorized", &wanted, b"")
        }
        "PUT" => answer("201 Created", &[], b""),
        _ => answer("404 Not Found", &[], b""),
    })
    .await
}

/// Uploads that go to another host carry no token, and no login there is answered.
#[tokio::test(flavor = "multi_thread")]
async fn rule_19_uploads_elsewhere_carry_nothing() {
    let here = here();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(100_000)]));
    for greedy in [false, true] {
        let tokens = service(|_| granted(&serde_json::json!({ "token": "t0" }))).await;
        let realm = format!("http://{}/token", tokens.addr);
        let other = elsewhere(greedy).await;
        let target = other.addr.clone();
        let registry = Server::start(move |request| {
            if request.path == "/v2/" {
                return answer("200 OK", &[], b"");
            }
            if request.header("authorization") != Some("Bearer t0") {
                let wanted = challenge(&realm, "repository:app:pull,push");
                return answer("401 Unauthorized", &[("WWW-Authenticate", &wanted)], b"");
            }
            let location = format!("http://{target}/upload/1?state=x");
            match request.method.as_str() {
                "POST" => answer("202 Accepted", &[("Location", &location)], b""),
                // The end of the story: all blobs are elsewhere.
                "PUT" => answer("400 Bad Request", &[], b"{\"errors\":[]}"),
                _ => answer("404 Not Found", &[], b""),
            }
        })
        .await;
        let to = name(format!("{}/app:1", registry.addr));
        let at = with(here.path(), &registry.addr, "me", "hunter2");
        let error = push(&image, &to, &here.store, &at, &Progress::silent()).await.unwrap_err();
        let says = if greedy { "it asks for a login there" } else { "answered 400" };
        assert!(error.to_string().contains(says), "{error}");
        let seen = other.seen();
        assert!(seen.iter().any(|seen| seen.method == "PUT"), "{seen:?}");
        assert!(!seen.iter().any(carries), "{seen:?}");
        // The password itself is for the token service alone.
        assert!(asked(&tokens).iter().all(|asked| asked.is("me", "hunter2")));
        let basic = |seen: &Request| {
            seen.header("authorization").is_some_and(|shown| shown.starts_with("Basic"))
        };
        assert!(!registry.seen().iter().any(basic));
    }
}

/// A blob that lies elsewhere is fetched without the token.
#[tokio::test(flavor = "multi_thread")]
async fn rule_19_redirects_carry_nothing() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(5000));
    let served = Arc::clone(&memory);
    let other = Server::start(move |request| served.get(request)).await;
    let tokens = service(|_| granted(&serde_json::json!({ "token": "t0" }))).await;
    let realm = format!("http://{}/token", tokens.addr);
    let target = other.addr.clone();
    let registry = Server::start(move |request| {
        if request.header("authorization") != Some("Bearer t0") {
            let wanted = challenge(&realm, "repository:app:pull");
            return answer("401 Unauthorized", &[("WWW-Authenticate", &wanted)], b"");
        }
        let location = format!("http://{target}{}", request.path);
        answer("307 Temporary Redirect", &[("Location", &location)], b"")
    })
    .await;
    let from = name(format!("{}/app:1", registry.addr));
    let at = with(here.path(), &registry.addr, "me", "hunter2");
    let into = here.other("into");
    pull(&from, &Want::One(amd64()), &into, &at, &Progress::silent()).await.unwrap();
    let seen = other.seen();
    assert!(seen.len() >= 3 && !seen.iter().any(carries), "{seen:?}");
    assert!(registry.seen().iter().filter(|seen| carries(seen)).count() >= 3);
}

/// An https registry that names a token service on plain http gets no answer there.
#[tokio::test(flavor = "multi_thread")]
async fn rule_20_no_realm_on_plain_http_for_https() {
    let here = here();
    let signer = Signer::new(here.path());
    let tokens = service(|_| granted(&serde_json::json!({ "token": "t0" }))).await;
    let plain = format!("http://{}/token", tokens.addr);
    let registry = signer.registry(&plain, "");
    let gate = Gate::before(&registry.addr, Some(&signer), |_| false);
    let credentials = vec![(gate.addr.clone(), Credentials::password("me", "hunter2"))];
    // Even if the user trusts both hosts.
    let insecure = vec![gate.addr.clone(), tokens.addr.clone()];
    let options = Options { insecure, credentials, ..settings(here.path()) };
    let at = Registries::load(options).unwrap();
    let from = name(format!("{}/app:1", gate.addr));
    let error = resolve(&from, &amd64(), &at, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert!(error.to_string().contains("from https to plain http"), "{error}");
    assert!(tokens.seen().is_empty());
}

/// The best of what is offered, for what there is.
#[tokio::test(flavor = "multi_thread")]
async fn challenges_are_chosen_among() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    // Offered; who asks; what the registry gets to see, or what the error says.
    for (offers, user, expected) in [
        ("basic bearer", Some("me"), Ok("Bearer t")),
        ("bearer basic", Some("me"), Ok("Bearer t")),
        ("basic bearer", None, Ok("Bearer t")),
        ("basic bearer", Some("<token>"), Ok("Bearer t")),
        ("unknown basic", Some("me"), Ok("Basic ")),
        // A token service that may not be asked is no way.
        ("evil basic", Some("me"), Ok("Basic ")),
        ("evil bearer", Some("me"), Ok("Bearer t")),
        ("evil", Some("me"), Err("where kiln does not follow")),
        ("basic", Some("<token>"), Err("takes user and password only")),
        ("basic", None, Err("no credentials")),
        ("unknown", Some("me"), Err("but not how")),
    ] {
        let tokens = service(|asked| {
            if asked.request.method == "POST" && asked.field("refresh_token") != Some("hunter2") {
                return refused("401 Unauthorized", "no");
            }
            granted(&serde_json::json!({ "token": format!("t{}", asked.turn) }))
        })
        .await;
        let realm = format!("http://{}/token", tokens.addr);
        let served = Arc::clone(&memory);
        let registry = Server::start(move |request| {
            if request.header("authorization").is_some() {
                return served.get(request);
            }
            let offered: Vec<String> = offers
                .split(' ')
                .map(|offer| match offer {
                    "basic" => "Basic realm=\"x\"".to_owned(),
                    "bearer" => challenge(&realm, "repository:app:pull"),
                    "evil" => challenge("file:///etc/passwd", ""),
                    _ => "Negotiate".to_owned(),
                })
                .collect();
            let headers: Vec<_> =
                offered.iter().map(|offer| ("WWW-Authenticate", offer.as_str())).collect();
            answer("401 Unauthorized", &headers, b"")
        })
        .await;
        let from = name(format!("{}/app:1", registry.addr));
        let at = match user {
            Some(user) => with(here.path(), &registry.addr, user, "hunter2"),
            None => anonymous(here.path()),
        };
        let resolved = resolve(&from, &amd64(), &at, &Progress::silent()).await;
        let case = format!("{offers} for {user:?}");
        match (resolved, expected) {
            (Ok(_), Ok(shown)) => {
                let seen = registry.seen();
                let last = seen.last().unwrap().header("authorization").unwrap();
                assert!(last.starts_with(shown), "{case}: {last}");
            }
            (Err(error), Err(says)) => {
                let text = format!("{error} {error:?}");
                assert!(text.contains(says), "{case}: {error}");
                assert!(!text.contains("hunter2"), "{case}");
            }
            (got, _) => panic!("{case}: {:?}", got.err()),
        }
    }
}

/// Each host, with its port, has credentials of its own; so has a mirror.
#[tokio::test(flavor = "multi_thread")]
async fn rule_19_credentials_are_of_one_host() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    let closed = |password: &'static str| {
        let served = Arc::clone(&memory);
        Server::start(move |request| {
            let pair = format!("Basic {}", base64(format!("me:{password}").as_bytes()));
            if request.header("authorization") == Some(&pair) {
                return served.get(request);
            }
            answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b"")
        })
    };
    let (home, mirror) = (closed("hunter2").await, closed("mirrored").await);
    let (silent, platform) = (Progress::silent(), amd64());
    let host = "127.0.0.1";
    let other_name = home.addr.replace(host, "localhost");

    // For the same host without its port, another port, another name of the machine.
    let key = |user: &str| base64(user.as_bytes());
    for wrong in [host, &mirror.addr, &other_name, "docker.io"] {
        let auths = serde_json::json!({ "auths": { wrong: { "auth": key("me:hunter2") } } });
        std::fs::write(here.path().join("auth.json"), auths.to_string()).unwrap();
        let from = name(format!("{}/app:1", home.addr));
        let error = resolve(&from, &platform, &anonymous(here.path()), &silent).await.unwrap_err();
        assert!(error.to_string().contains("no credentials"), "{wrong}: {error}");
        let at = with(here.path(), wrong, "me", "hunter2");
        assert!(resolve(&from, &platform, &at, &silent).await.is_err(), "{wrong}");
    }
    assert!(home.seen().iter().all(|seen| seen.header("authorization").is_none()));

    // Behind a mirror: each gets to see its own.
    let conf = format!(
        "[[registry]]\nprefix = \"{0}\"\nlocation = \"{0}\"\n\
         [[registry.mirror]]\nlocation = \"{1}\"\n",
        home.addr, mirror.addr
    );
    std::fs::write(here.path().join("registries.conf"), conf).unwrap();
    let from = name(format!("{}/app:1", home.addr));
    let at = with(here.path(), &home.addr, "me", "hunter2");
    // The mirror has no login of its own here, so the registry behind it is asked.
    resolve(&from, &platform, &at, &silent).await.unwrap();
    assert!(!mirror.seen().is_empty());
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
    let asked = home.seen().len();
    let auths = serde_json::json!({ "auths": { &mirror.addr: { "auth": key("me:mirrored") } } });
    std::fs::write(here.path().join("auth.json"), auths.to_string()).unwrap();
    resolve(&from, &platform, &with(here.path(), &home.addr, "me", "hunter2"), &silent)
        .await
        .unwrap();
    assert_eq!(home.seen().len(), asked, "the mirror had it");
    let leaks = |seen: &Request| {
        seen.header("authorization").is_some_and(|shown| shown.contains(&key("me:hunter2")))
    };
    assert!(!mirror.seen().iter().any(leaks));
}
