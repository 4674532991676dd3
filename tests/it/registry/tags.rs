//! What a repository has, what a tag means without fetching it, and how it goes.

use super::*;
use crate::support::proxy::Proxy;
use kiln::registry::{Removal, delete, resolve_known, tags};

async fn tags_of(server: &Server, here: &Here) -> Result<Vec<String>, RegistryError> {
    let of = name(format!("{}/app", server.addr));
    tags(&of, &anonymous(here.path()), &Progress::silent()).await
}

/// Requests for pages of tags.
fn pages(server: &Server) -> Vec<String> {
    let seen = server.seen().into_iter();
    seen.filter(|request| request.path.contains("/tags/")).map(|request| request.path).collect()
}

fn list(tags: &[String]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({ "name": "app", "tags": tags })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_in_pages() {
    let here = here();
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => answer("200 OK", &[], b"{}"),
        "/v2/app/tags/list?n=1000" => {
            let next = r#"</v2/app/tags/list?n=1000&last=b>; rel="next""#;
            answer("200 OK", &[("Link", next)], br#"{"name":"app","tags":["b","a"]}"#)
        }
        "/v2/app/tags/list?n=1000&last=b" => {
            let next =
                r#"<http://example.com/v2/app/tags/list?last=c>; rel="prev", <?last=c>; rel=next"#;
            answer("200 OK", &[("Link", next)], br#"{"tags":["c\u001b[31m","c","a"]}"#)
        }
        "/v2/app/tags/list?last=c" => {
            // Back to where it has been: that is the end.
            let next = r#"</v2/app/tags/list?n=1000>; rel="next""#;
            answer("200 OK", &[("Link", next)], br#"{"tags":null}"#)
        }
        _ => answer("404 Not Found", &[], b""),
    })
    .await;
    let warned = Arc::new(Mutex::new(Vec::new()));
    let progress = {
        let warned = Arc::clone(&warned);
        Progress::new(move |event| {
            if let Event::Warning(text) = event {
                warned.lock().unwrap().push(text);
            }
        })
    };
    let of = name(format!("{}/app", server.addr));
    let found = tags(&of, &anonymous(here.path()), &progress).await.unwrap();
    assert_eq!(found, ["a", "b", "c"]);
    assert_eq!(pages(&server).len(), 3);
    let warned = warned.lock().unwrap().join("\n");
    assert!(warned.contains("c\\u{1b}[31m") && !warned.contains('\u{1b}'), "{warned}");
}

/// Before version 1.1 of the specification nothing but a full page said that there are more.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_page_without_a_link_may_not_be_all() {
    let here = here();
    let numbers = |range: std::ops::Range<usize>| -> Vec<String> {
        range.map(|number| format!("t{number:06}")).collect()
    };
    let server = Server::start(move |request| match request.path.as_str() {
        "/v2/app/tags/list?n=1000" => answer("200 OK", &[], &list(&numbers(0..1000))),
        "/v2/app/tags/list?n=1000&last=t000999" => {
            answer("200 OK", &[], &list(&numbers(1000..1500)))
        }
        _ => answer("200 OK", &[], b""),
    })
    .await;
    assert_eq!(tags_of(&server, &here).await.unwrap().len(), 1500);
    assert_eq!(pages(&server).len(), 2);
    // One that always gives the same is asked twice.
    let server = Server::start(move |_| answer("200 OK", &[], &list(&numbers(0..1000)))).await;
    assert_eq!(tags_of(&server, &here).await.unwrap().len(), 1000);
    assert_eq!(pages(&server).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_tags_that_lie() {
    let here = here();
    for (link, body, says) in [
        (r#"<http://example.com/v2/app/tags/list>; rel="next""#, "{}", "is elsewhere"),
        (r#"</v2/other/tags/list>; rel="next""#, "{}", "is elsewhere"),
        ("", "[", "malformed"),
        ("", r#"{"tags":[1]}"#, "malformed"),
    ] {
        let server = Server::start(move |_| answer("200 OK", &[("Link", link)], body.as_bytes()));
        let error = tags_of(&server.await, &here).await.unwrap_err().to_string();
        assert!(error.contains(says), "{link} {body}: {error}");
    }
    // Each page has a new address, and none has an end.
    let turn = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let turn = turn.fetch_add(1, Ordering::SeqCst);
        let next = format!(r#"<?last={turn}>; rel="next""#);
        let all: Vec<String> = (0..40_000).map(|n| format!("t{turn}-{n}")).collect();
        match request.path.contains("/tags/") {
            true => answer("200 OK", &[("Link", &next)], &list(&all)),
            false => answer("200 OK", &[], b""),
        }
    })
    .await;
    let error = tags_of(&server, &here).await.unwrap_err().to_string();
    assert!(error.contains("more than 200000 tags"), "{error}");
    assert_eq!(pages(&server).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_a_real_registry_and_what_goes() {
    let registry = TestRegistry::start(None);
    let (here, silent) = (here(), Progress::silent());
    let at = anonymous(here.path());
    let one = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let two = AnyImage::Image(image(&here.store, &amd64(), &[b"two"]));
    let to = |tag: &str| name(format!("{}/app:{tag}", registry.addr));
    for (tag, image) in [("v2", &one), ("v1", &one), ("other", &two)] {
        push(image, &to(tag), &here.store, &at, &silent).await.unwrap();
    }
    let all = async || tags(&to("x"), &at, &silent).await.unwrap();
    assert_eq!(all().await, ["other", "v1", "v2"]);

    // docker's registry deletes no tag alone: nothing is gone then.
    let error = delete(&to("v1"), Removal::Name, &at).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoDeletion { tag: true, .. }), "{error}");
    assert!(error.hint().unwrap().contains("--manifest"));
    assert_eq!(all().await.len(), 3);
    delete(&to("v1"), Removal::Manifest, &at).await.unwrap();
    assert_eq!(all().await, ["other"]);
    let pinned = name(format!("{}/app@{}", registry.addr, two.digest()));
    delete(&pinned, Removal::Name, &at).await.unwrap();
    assert!(all().await.is_empty());
    let error = delete(&pinned, Removal::Name, &at).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    let nothing = name(format!("{}/nothing", registry.addr));
    let error = tags(&nothing, &at, &silent).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoRepository { .. }), "{error}");
}

/// Where a tag can go alone, the manifest and its other tags stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_goes_alone() {
    let here = here();
    let server = Server::start(|request| match request.method.as_str() {
        "DELETE" => answer("202 Accepted", &[], b""),
        _ => answer("200 OK", &[], b""),
    })
    .await;
    let tag = name(format!("{}/app:v1", server.addr));
    delete(&tag, Removal::Name, &anonymous(here.path())).await.unwrap();
    let seen: Vec<_> = server.seen().into_iter().filter(|seen| seen.path != "/v2/").collect();
    let asked: Vec<_> =
        seen.iter().map(|seen| (seen.method.as_str(), seen.path.as_str())).collect();
    assert_eq!(asked, [("DELETE", "/v2/app/manifests/v1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_delete_says_so() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    let digest =
        memory.files.keys().find_map(|path| path.strip_prefix("/v2/app/manifests/sha256:"));
    let digest = digest.unwrap().to_owned();
    let server = Server::start(move |request| match request.method.as_str() {
        "DELETE" => {
            let body =
                br#"{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}"#;
            answer("405 Method Not Allowed", &[], body)
        }
        _ => memory.get(request),
    })
    .await;
    let pinned = name(format!("{}/app@sha256:{digest}", server.addr));
    let error = delete(&pinned, Removal::Name, &anonymous(here.path())).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoDeletion { tag: false, .. }), "{error}");
    assert!(error.to_string().contains("The operation is unsupported"), "{error}");
    assert!(error.hint().unwrap().contains("REGISTRY_STORAGE_DELETE_ENABLED"));
}

/// Registries count what is fetched: a tag whose image is here costs no GET.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_of_what_is_here_fetches_nothing() {
    let registry = TestRegistry::start(None);
    let (proxy, here, silent) = (Proxy::before(&registry.addr), here(), Progress::silent());
    let fresh = || anonymous(here.path());
    let arm = Platform::new("linux", "arm64");
    let images = vec![image(&here.store, &amd64(), &[b"amd"]), image(&here.store, &arm, &[b"arm"])];
    let index = assemble_index(images, kiln::image::Dialect::Oci, Default::default()).unwrap();
    let to = name(format!("{}/multi:1", proxy.addr));
    push(&index, &to, &here.store, &fresh(), &silent).await.unwrap();
    let into = here.other("into");
    for (want, gets) in [(Want::One(amd64()), 4), (Want::All, 3)] {
        proxy.take();
        let first = pull(&to, &want, &into, &fresh(), &silent).await.unwrap();
        let seen = proxy.take();
        assert_eq!(seen.count("GET", "/multi/"), gets, "{want:?}: {:?}", seen.0);
        let again = pull(&to, &want, &into, &fresh(), &silent).await.unwrap();
        assert_eq!(again.digest(), first.digest());
        let seen = proxy.take();
        assert_eq!(seen.count("GET", "/multi/"), 0, "{want:?}: {:?}", seen.0);
        assert_eq!(seen.count("HEAD", "/manifests/1"), 1, "{want:?}: {:?}", seen.0);
    }
    let found = resolve_known(&to, &arm, &into, &fresh(), &silent).await.unwrap();
    assert_eq!(found.raw.digest, index.digest());
    assert_eq!(proxy.take().count("GET", "/multi/"), 0);
    // By digest nothing is asked at all.
    let pinned = name(format!("{}/multi@{}", proxy.addr, index.digest()));
    pull(&pinned, &Want::One(arm.clone()), &into, &fresh(), &silent).await.unwrap();
    assert!(proxy.take().0.iter().all(|seen| !seen.path.contains("/multi/")));

    // The tag moves, and what is new is fetched.
    let moved = AnyImage::Image(image(&here.store, &amd64(), &[b"amd", b"more"]));
    push(&moved, &to, &here.store, &fresh(), &silent).await.unwrap();
    proxy.take();
    let pulled = pull(&to, &Want::One(amd64()), &into, &fresh(), &silent).await.unwrap();
    assert_eq!(pulled.digest(), moved.digest());
    let seen = proxy.take();
    assert_eq!(seen.count("GET", "/multi/"), 3, "manifest, config, one layer: {:?}", seen.0);
}

/// Registries that do not answer HEAD, or do not say the digest, are asked as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_says_nothing_is_no_answer() {
    let here = here();
    let memory = Memory::new(&here.store, b"x");
    for (status, digest) in [
        ("405 Method Not Allowed", None),
        ("404 Not Found", None),
        ("200 OK", None),
        ("200 OK", Some("rubbish")),
        ("hangs up", None),
        // What it says is not here.
        ("200 OK", Some("sha256:0000000000000000000000000000000000000000000000000000000000000000")),
    ] {
        let memory = Arc::clone(&memory);
        let server = Server::start(move |request| match request.method.as_str() {
            "HEAD" if status == "hangs up" => Vec::new(),
            "HEAD" => {
                let header = digest.map(|digest| ("Docker-Content-Digest", digest));
                answer(status, header.as_slice(), b"")
            }
            _ => memory.get(request),
        })
        .await;
        let into = here.other(&server.addr);
        let first = pull_app(&server, &here, &into).await.unwrap();
        let again = pull_app(&server, &here, &into).await.unwrap();
        assert_eq!(again.digest(), first.digest(), "{status}");
        let gets = |request: &&Request| request.method == "GET" && request.path.ends_with("/1");
        assert_eq!(server.seen().iter().filter(gets).count(), 2, "{status} {digest:?}");
    }
}
