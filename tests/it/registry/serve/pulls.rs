//! What is read from a server.

use super::*;

/// An image and an index of two platforms under `app:1` and `both:1`.
fn two(kiln: &Kiln) -> (AnyImage, AnyImage) {
    let store = kiln.store();
    let big = noise(3 << 20);
    let arm = Platform::new("linux", "arm64");
    let one = AnyImage::Image(image(&store, &amd64(), &[b"one", &big]));
    let images = vec![image(&store, &amd64(), &[b"two"]), image(&store, &arm, &[b"three"])];
    let both = assemble_index(images, kiln::image::Dialect::Oci, Default::default()).unwrap();
    store.keep(&name("app:1"), &one).unwrap();
    store.keep(&name("registry.example/team/both:1"), &both).unwrap();
    (one, both)
}

#[test]
fn images_are_pulled_by_other_tools() {
    let kiln = Kiln::new();
    let (one, both) = two(&kiln);
    let serving = Serving::start(&kiln, &[]);
    for (path, image) in [("app:1", &one), ("registry.example/team/both:1", &both)] {
        let from = format!("docker://{}", serving.name(path));
        let layout = kiln.path(format!("copy-{}", image.digest().short()));
        skopeo_copy(&["--all", "--preserve-digests"], &from, &oci(&layout, "x"));
        for layer in image.images().iter().flat_map(Image::layers) {
            let copied = std::fs::read(layout.join("blobs/sha256").join(layer.digest.hex()));
            assert_eq!(BlobDigest::of(&copied.unwrap()), layer.digest);
        }
        let other = Kiln::new();
        let from = serving.name(path);
        other.ok(&format!("pull --platform linux/amd64 {from}"));
        let pulled = other.store().image_named(&name(&from)).unwrap();
        assert_eq!(pulled.images()[0].digest(), image.images()[0].digest());
    }
    if let Some(crane) = kiln::env::path("KILN_TEST_CRANE") {
        let crane = |words: &[&str]| {
            let call = kiln.program(&crane);
            let mut call = call;
            call.command.args(words).arg("--insecure");
            call.run().success().text()
        };
        crane(&["validate", "--remote", &serving.name("app:1")]);
        crane(&["validate", "--remote", &serving.name("team/both:1")]);
        assert_eq!(crane(&["catalog", &serving.addr]), "app\nregistry.example/team/both\n");
        assert_eq!(crane(&["ls", &serving.name("app")]), "1\n");
    }
    // docker-registry passes on what it does not have.
    let remote = format!("proxy: {{remoteurl: \"http://{}\"}}\n", serving.addr);
    let mirror = TestRegistry::configured("", |_| remote.clone());
    let layout = kiln.path("through");
    skopeo_copy(&[], &format!("docker://{}/app:1", mirror.addr), &oci(&layout, "x"));
    let log = serving.stop();
    assert!(log.contains("\"GET /v2/app/manifests/1\" 200"), "{log}");
}

#[test]
fn what_a_path_means() {
    let kiln = Kiln::new();
    two(&kiln);
    let store = kiln.store();
    let mut names = Vec::new();
    for (text, content) in [
        ("app:2", "a"),
        ("quay.io/team/app:1", "b"),
        ("ghcr.io/team/app:1", "c"),
        ("quay.io/team/app:2", "d"),
        ("ghcr.io/team/app:same", "e"),
        ("quay.io/team/app:same", "e"),
        ("127.0.0.1:5000/port:1", "f"),
        ("quay.io/app:2", "g"),
        ("quay.io/app:3", "h"),
    ] {
        let image = AnyImage::Image(image(&store, &amd64(), &[content.as_bytes()]));
        store.keep(&name(text), &image).unwrap();
        names.push((text, image.digest().to_string()));
    }
    let digest = |text: &str| names.iter().find(|(name, _)| *name == text).unwrap().1.clone();
    let serving = Serving::start(&kiln, &[]);
    let manifest = |path: &str| serving.get(&format!("/v2/{path}"));
    for (path, meant) in [
        ("app/manifests/2", "app:2"),
        ("library/app/manifests/2", "app:2"),
        ("docker.io/library/app/manifests/2", "app:2"),
        ("library/app/manifests/2?ns=docker.io", "app:2"),
        ("app/manifests/3", "quay.io/app:3"),
        ("quay.io/team/app/manifests/1", "quay.io/team/app:1"),
        ("team/app/manifests/1?ns=ghcr.io", "ghcr.io/team/app:1"),
        ("team/app/manifests/2", "quay.io/team/app:2"),
        ("team/app/manifests/same", "quay.io/team/app:same"),
        ("port/manifests/1", "127.0.0.1:5000/port:1"),
        ("127.0.0.1:5000/port/manifests/1", "127.0.0.1:5000/port:1"),
        (&format!("team/app/manifests/{}", digest("ghcr.io/team/app:1")), "ghcr.io/team/app:1"),
    ] {
        let reply = manifest(path).is(200);
        assert_eq!(reply.header("docker-content-digest"), Some(digest(meant).as_str()), "{path}");
        assert_eq!(BlobDigest::of(&reply.body).to_string(), digest(meant));
        assert_eq!(reply.header("content-type"), Some(MANIFEST.1));
    }
    manifest("team/app/manifests/1").refused(404, "MANIFEST_UNKNOWN", "ghcr.io/team/app:1 and ");
    manifest("app/manifests/2?ns=ghcr.io").refused(404, "NAME_UNKNOWN", "app");
    manifest("app/manifests/9").refused(404, "MANIFEST_UNKNOWN", "`9`");
    manifest("nothing/manifests/1").refused(404, "NAME_UNKNOWN", "`nothing`");
    manifest("nothing/tags/list").refused(404, "NAME_UNKNOWN", "`nothing`");
    let other = format!("port/manifests/{}", digest("app:2"));
    manifest(&other).refused(404, "MANIFEST_UNKNOWN", "has no manifest");

    // Only what a pull would find is listed.
    let tags = |path: &str| manifest(path).is(200).json()["tags"].clone();
    assert_eq!(tags("team/app/tags/list"), serde_json::json!(["2", "same"]));
    assert_eq!(tags("app/tags/list"), serde_json::json!(["1", "2", "3"]));
    let page = manifest("app/tags/list?n=2").is(200);
    assert_eq!(page.json()["tags"], serde_json::json!(["1", "2"]));
    assert_eq!(page.header("link"), Some("</v2/app/tags/list?n=2&last=2>; rel=\"next\""));
    let page = manifest("app/tags/list?n=2&last=2").is(200);
    assert_eq!((&page.json()["tags"], page.header("link")), (&serde_json::json!(["3"]), None));
    let all = manifest("_catalog").is(200).json();
    let expected = ["app", "ghcr.io/team/app", "port", "quay.io/app", "quay.io/team/app"];
    let expected = [&expected[..], &["registry.example/team/both"]].concat();
    assert_eq!(all["repositories"], serde_json::json!(expected));
    for path in all["repositories"].as_array().unwrap() {
        manifest(&format!("{}/tags/list", path.as_str().unwrap())).is(200);
    }
    let page = manifest("_catalog?n=1&last=port").is(200);
    assert_eq!(page.json()["repositories"], serde_json::json!(["quay.io/app"]));
    assert_eq!(page.header("link"), Some("</v2/_catalog?n=1&last=quay.io/app>; rel=\"next\""));
}

#[test]
fn blobs_leave_only_with_an_image_that_has_a_name() {
    let kiln = Kiln::new();
    let (one, both) = two(&kiln);
    let store = kiln.store();
    let cache = store.put(b"of a build that nobody named").unwrap();
    // As after a pull for one platform.
    std::fs::remove_file(store.blob_path(&both.images()[1].digest())).unwrap();
    // As of an image that was only pushed: its base is elsewhere.
    let base = one.images()[0].layers()[0].digest;
    std::fs::remove_file(store.blob_path(&base)).unwrap();
    store.set_record_bytes("blob-origins", &base.0, br#"["registry.example/base"]"#).unwrap();
    let serving = Serving::start(&kiln, &[]);
    let blob = |path: &str, digest: &BlobDigest| serving.get(&format!("/v2/{path}/blobs/{digest}"));

    let layer = &one.images()[0].layers()[1];
    let reply = blob("app", &layer.digest).is(200);
    assert_eq!(BlobDigest::of(&reply.body), layer.digest);
    assert_eq!(reply.header("content-length"), Some(layer.size.to_string().as_str()));
    let path = format!("/v2/app/blobs/{}", layer.digest);
    let head = serving.ask("HEAD", &path, &[], b"").is(200);
    assert_eq!(head.header("content-length"), Some(layer.size.to_string().as_str()));
    assert!(head.body.is_empty());
    // A range is for GET.
    for range in ["bytes=0-9", "bytes=9999999999-"] {
        let head = serving.ask("HEAD", &path, &[("Range", range)], b"").is(200);
        assert_eq!(head.header("content-length"), Some(layer.size.to_string().as_str()));
    }
    blob("app", &one.images()[0].config_raw().digest).is(200);
    blob("app", &cache).refused(404, "BLOB_UNKNOWN", "no image called `app`");
    blob("team/both", &layer.digest).refused(404, "BLOB_UNKNOWN", "`team/both`");
    blob("nothing", &cache).refused(404, "BLOB_UNKNOWN", "`nothing`");
    blob("app", &one.digest()).refused(404, "BLOB_UNKNOWN", "`app`");
    blob("app", &base).refused(404, "BLOB_UNKNOWN", "it is in registry.example/base");
    blob("app", &base).refused(404, "BLOB_UNKNOWN", "`kiln save -o FILE app:1`");
    let child = both.images()[1].digest();
    serving.get(&format!("/v2/team/both/manifests/{child}")).refused(
        404,
        "MANIFEST_UNKNOWN",
        "other platforms only",
    );
    serving.get(&format!("/v2/team/both/manifests/{}", both.images()[0].digest())).is(200);
    assert!(serving.said().contains("1 layers of app:1 are in another registry only"));

    // Parts of it.
    let whole = std::fs::read(store.blob_path(&layer.digest)).unwrap();
    for (range, expected) in [
        ("bytes=10-19", &whole[10..20]),
        ("bytes=-7", &whole[whole.len() - 7..]),
        ("bytes=3000000-", &whole[3_000_000..]),
    ] {
        let reply = serving.ask("GET", &path, &[("Range", range)], b"").is(206);
        assert!(reply.body == expected, "{range}");
        let size = format!("/{}", whole.len());
        assert!(reply.header("content-range").unwrap().ends_with(&size));
    }
    let beyond = serving.ask("GET", &path, &[("Range", "bytes=9999999999-")], b"").is(416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{}", whole.len()).as_str()));
}

/// As `kiln up` serves: what else is in the store is nobody's business.
#[test]
fn a_server_of_one_name_has_no_other() {
    let kiln = Kiln::new();
    let (one, both) = two(&kiln);
    let store = kiln.store();
    store.keep(&name("app:2"), &both).unwrap();
    store.keep(&name("registry.example/app:1"), &both).unwrap();
    let options = kiln::serve::Options {
        addr: "127.0.0.1:0".parse().unwrap(),
        writable: false,
        only: Some(name("app:1")),
        tls: None,
        passwords: None,
        logger: Arc::new(|_| ()),
        progress: Progress::silent(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(kiln::serve::Server::bind(&store, options)).unwrap();
    let addr = server.address().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = runtime.spawn(server.run(async { drop(stopped.await) }));
    let get = |path: &str| ask(&addr, "GET", &format!("/v2/{path}"), &[], b"");
    for tag in ["1".to_owned(), one.digest().to_string()] {
        let manifest = get(&format!("app/manifests/{tag}")).is(200);
        assert_eq!(BlobDigest::of(&manifest.body), one.digest());
    }
    for layer in one.images()[0].layers() {
        get(&format!("app/blobs/{}", layer.digest)).is(200);
    }
    let (child, other) = (&both.images()[0], both.digest());
    for path in [
        "app/manifests/2".to_owned(),
        "registry.example/app/manifests/1".into(),
        "registry.example/team/both/manifests/1".into(),
        "team/both/tags/list".into(),
        format!("app/manifests/{other}"),
        format!("app/manifests/{}", child.digest()),
        format!("app/blobs/{}", child.layers()[0].digest),
        format!("app/blobs/{}?ns=registry.example", child.layers()[0].digest),
    ] {
        get(&path).is(404);
    }
    assert_eq!(get("_catalog").json()["repositories"], serde_json::json!(["app"]));
    assert_eq!(get("app/tags/list").json()["tags"], serde_json::json!(["1"]));
    drop(stop);
    runtime.block_on(serving).unwrap();
}

/// `kiln up` is such a server, for as long as its cluster takes.
#[test]
fn up_serves_its_image_alone() {
    let kiln = Kiln::new();
    two(&kiln);
    let folder = kiln.path("own");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    // A cluster that never says a word.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", mute.local_addr().unwrap());
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "users": [{"name": "a", "user": {}}],
    });
    std::fs::write(kiln.path("config"), config.to_string()).unwrap();
    let config = kiln.path("config");
    let flags = ["up", "-t", "own", "--serve", "127.0.0.1:0", "--kubeconfig"];
    let more = [config.to_str().unwrap(), folder.to_str().unwrap()];
    let mut call = kiln.args([&flags[..], &more].concat());
    call.command.stderr(Stdio::from(std::fs::File::create(kiln.path("up.log")).unwrap()));
    let mut child = call.command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let serving = lines.find_map(|line| Some(line.strip_prefix("serving ")?.to_owned()));
    let pinned = serving.unwrap_or_else(|| {
        panic!("{}", std::fs::read_to_string(kiln.path("up.log")).unwrap());
    });
    let (addr, digest) = pinned.split_once("/own@").unwrap();
    let get = |path: &str| ask(addr, "GET", &format!("/v2/{path}"), &[], b"");
    let manifest = get(&format!("own/manifests/{digest}")).is(200).json();
    get(&format!("own/blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap())).is(200);
    get("app/manifests/1").refused(404, "NAME_UNKNOWN", "");
    assert_eq!(get("_catalog").json()["repositories"], serde_json::json!(["own"]));
    drop(mute);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Many clients, while another process gives names, takes them away and cleans up.
#[test]
fn many_pull_while_the_store_changes() {
    let kiln = Kiln::new();
    let (one, _) = two(&kiln);
    let serving = Serving::start(&kiln, &[]);
    let layers: Vec<_> = one.images()[0].layers().iter().map(|layer| layer.digest).collect();
    let before = serving.memory("VmRSS");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    let manifest = serving.get("/v2/app/manifests/1").is(200);
                    assert_eq!(BlobDigest::of(&manifest.body), one.digest());
                    for digest in &layers {
                        let blob = serving.get(&format!("/v2/app/blobs/{digest}")).is(200);
                        assert_eq!(BlobDigest::of(&blob.body), *digest);
                    }
                })
            })
            .collect();
        let changer = scope.spawn(|| {
            let mut rounds = 0;
            while rounds < 2 || !over.load(Ordering::Relaxed) && rounds < 50 {
                kiln.ok("tag app:1 other:2");
                kiln.ok("prune --all --force");
                kiln.ok("rmi other:2");
                rounds += 1;
            }
        });
        clients.into_iter().for_each(|client| client.join().unwrap());
        over.store(true, Ordering::Relaxed);
        changer.join().unwrap();
    });
    // The binary's own pages, which are read as they are needed, are the most of it.
    let grown = serving.memory("VmHWM") - before;
    assert!(grown < 24 << 10, "{grown} KiB more for 50 pulls");
    serving.stop();
}

/// A client that knows the manifest gets the layers though the name is gone by then.
#[test]
fn what_was_begun_can_be_finished() {
    let kiln = Kiln::new();
    let (one, _) = two(&kiln);
    let serving = Serving::start(&kiln, &[]);
    let layer = &one.images()[0].layers()[1];
    serving.get("/v2/app/manifests/1").is(200);
    // Another process needs it no more, and would take it.
    kiln.ok("tag app:1 app:2");
    kiln.ok("rmi app:1");
    kiln.ok("prune --all --force");
    serving.get(&format!("/v2/app/blobs/{}", layer.digest)).is(200);
    kiln.ok("rmi app:2");
    kiln.ok("prune --all --force");
    let held = kiln.store().blob_path(&layer.digest);
    assert!(held.exists(), "the server's session holds it");
    serving.stop();
    kiln.ok("prune --all --force");
    assert!(!held.exists());
}
