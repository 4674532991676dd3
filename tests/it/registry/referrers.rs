//! What refers to an image: lists that the registry keeps, and lists that clients keep.

use super::*;
use kiln::copy::{CopyError, Env, Place, Wanted};
use kiln::image::referrers_tag;
use kiln::registry::{Removal, delete, referrers};
use serde_json::{Value, json};

/// A place, from its text.
pub(super) fn place(text: impl AsRef<str>) -> Place {
    text.as_ref().parse().unwrap()
}

/// Copies, as by a program of its own.
pub(super) async fn copied(
    here: &Here,
    from: impl AsRef<str>,
    to: impl AsRef<str>,
    wanted: &Wanted,
) -> Result<kiln::copy::Copied, CopyError> {
    let (at, silent) = (anonymous(here.path()), Progress::silent());
    let env =
        Env { store: Some(&here.store), from: &at, to: &at, progress: &silent, stop: &|| false };
    kiln::copy::copy(&place(from), &place(to), wanted, &env).await
}

pub(super) fn with_referrers() -> Wanted {
    Wanted { referrers: true, ..Wanted::default() }
}

/// An image layout that a test makes by hand.
pub(super) struct Layout {
    pub(super) folder: std::path::PathBuf,
    entries: Vec<Value>,
}

impl Layout {
    pub(super) fn new(folder: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layout = Self { folder, entries: Vec::new() };
        layout.write();
        layout
    }

    fn write(&self) {
        let index = json!({ "schemaVersion": 2, "manifests": self.entries });
        std::fs::write(self.folder.join("index.json"), index.to_string()).unwrap();
    }

    pub(super) fn blob_path(&self, digest: &str) -> std::path::PathBuf {
        self.folder.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// Puts bytes in, and gives a descriptor of them.
    pub(super) fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = BlobDigest::of(bytes).to_string();
        std::fs::write(self.blob_path(&digest), bytes).unwrap();
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    /// Puts an artifact in: a config and a layer of types of their own.
    pub(super) fn artifact(&self, kind: &str, content: &[u8], subject: Option<&Value>) -> Value {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": self.blob("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [self.blob("text/spdx+json", content)],
            "annotations": { "made.by": kind },
        });
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    pub(super) fn index(&self, entries: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Names what a descriptor points to.
    pub(super) fn entry(&mut self, at: &Value, name: Option<&str>) {
        let mut entry = at.clone();
        if let Some(name) = name {
            entry["annotations"]["org.opencontainers.image.ref.name"] = name.into();
        }
        self.entries.push(entry);
        self.write();
    }

    pub(super) fn place(&self, name: &str) -> String {
        oci(&self.folder, name)
    }
}

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) fn digest_of(at: &Value) -> BlobDigest {
    at["digest"].as_str().unwrap().parse().unwrap()
}

/// The digests of what refers to a name's manifest.
pub(super) async fn referring(here: &Here, of: &str, kind: Option<&str>) -> Vec<BlobDigest> {
    let (at, silent) = (anonymous(here.path()), Progress::silent());
    let (_, found) = referrers(&name(of), kind, &at, &silent).await.unwrap();
    found.iter().map(|entry| entry.digest).collect()
}

/// The raw list that clients keep, as skopeo reads it.
fn kept(registry: &TestRegistry, repository: &str, subject: BlobDigest) -> Value {
    let tag = referrers_tag(subject);
    let from = format!("docker://{}/{repository}:{tag}", registry.addr);
    serde_json::from_str(&skopeo(&["inspect", "--raw", "--tls-verify=false", &from])).unwrap()
}

/// A layout with an artifact, `app`, and what refers to it, `sig`.
fn signed(here: &Here) -> (Layout, Value) {
    let mut layout = Layout::new(here.path().join("layout"));
    let app = layout.artifact("app/one", b"app", None);
    let signature = layout.artifact("sig/one", b"signature", Some(&app));
    layout.entry(&app, Some("app"));
    layout.entry(&signature, Some("sig"));
    (layout, app)
}

/// Puts a list where clients keep it.
async fn put_list(registry: &TestRegistry, subject: BlobDigest, list: &Value) {
    let tag = referrers_tag(subject);
    let put = reqwest::Client::new()
        .put(format!("http://{}/v2/app/manifests/{tag}", registry.addr))
        .header("Content-Type", INDEX)
        .body(list.to_string());
    assert!(put.send().await.unwrap().status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_that_clients_keep() {
    // Debian's docker-registry knows no referrers.
    let registry = TestRegistry::start(None);
    let here = here();
    let mut layout = Layout::new(here.path().join("layout"));
    let app = layout.artifact("app/one", b"app", None);
    let signature = layout.artifact("sig/one", b"signature", Some(&app));
    let sbom = layout.artifact("sbom/one", b"sbom", Some(&app));
    for (at, tag) in [(&app, "app"), (&signature, "sig"), (&sbom, "sbom")] {
        layout.entry(at, Some(tag));
    }
    let to = format!("{}/app", registry.addr);
    let whole = Wanted::default();
    copied(&here, layout.place("app"), format!("{to}:1"), &whole).await.unwrap();
    assert!(referring(&here, &format!("{to}:1"), None).await.is_empty());
    for tag in ["sig", "sbom", "sig"] {
        copied(&here, layout.place(tag), format!("{to}:{tag}"), &whole).await.unwrap();
    }
    let both = vec![digest_of(&signature), digest_of(&sbom)];
    assert_eq!(referring(&here, &format!("{to}:1"), None).await, both);
    assert_eq!(referring(&here, &format!("{to}:1"), Some("sbom/one")).await, both[1..]);
    assert!(referring(&here, &format!("{to}:1"), Some("other")).await.is_empty());
    let list = kept(&registry, "app", digest_of(&app));
    assert_eq!(list["manifests"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(list["manifests"][0]["artifactType"], "sig/one");
    assert_eq!(list["manifests"][1]["annotations"]["made.by"], "sbom/one");

    // What others have put into it stays, even what nobody knows.
    let mut more = list.clone();
    more["manifests"][0]["x.unknown"] = "kept".into();
    put_list(&registry, digest_of(&app), &more).await;
    let third = layout.artifact("third", b"third", Some(&app));
    layout.entry(&third, Some("third"));
    copied(&here, layout.place("third"), format!("{to}:third"), &whole).await.unwrap();
    let list = kept(&registry, "app", digest_of(&app));
    assert_eq!(list["manifests"][0]["x.unknown"], "kept", "{list}");
    assert_eq!(list["manifests"].as_array().unwrap().len(), 3);

    // What goes is listed no more.
    let at = anonymous(here.path());
    let gone = name(format!("{to}@{}", digest_of(&signature)));
    delete(&gone, Removal::Name, &at).await.unwrap();
    let left = vec![digest_of(&sbom), digest_of(&third)];
    assert_eq!(referring(&here, &format!("{to}:1"), None).await, left);
    delete(&name(format!("{to}:sbom")), Removal::Manifest, &at).await.unwrap();
    assert_eq!(referring(&here, &format!("{to}:1"), None).await, left[1..]);
}

/// A signature might be what is left out of a list that is cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_too_long_is_refused() {
    let registry = TestRegistry::start(None);
    let here = here();
    let (layout, app) = signed(&here);
    let to = format!("{}/app", registry.addr);
    for (tag, to) in [("app", format!("{to}:1")), ("sig", format!("{to}:sig"))] {
        copied(&here, layout.place(tag), to, &Wanted::default()).await.unwrap();
    }
    let mut list = kept(&registry, "app", digest_of(&app));
    list["manifests"] = vec![list["manifests"][0].clone(); 5001].into();
    put_list(&registry, digest_of(&app), &list).await;
    let (at, silent) = (anonymous(here.path()), Progress::silent());
    let error = referrers(&name(format!("{to}:1")), None, &at, &silent).await.unwrap_err();
    assert!(error.to_string().contains("more than 5000 referrers"), "{error}");
}

/// Pages of few entries, each with very much to say.
#[tokio::test(flavor = "multi_thread")]
async fn lists_are_bounded_in_bytes() {
    let here = here();
    let entry = |number: usize| {
        json!({ "mediaType": MANIFEST, "size": 1, "annotations": { "a": "x".repeat(3 << 20) },
            "digest": BlobDigest::of(number.to_string().as_bytes()) })
    };
    let server = Server::start(move |request| {
        let number = request.path.split("n=").nth(1).map_or(0, |text| text.parse().unwrap());
        let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(number)] });
        let next = format!("<?n={}>; rel=\"next\"", number + 1);
        answer("200 OK", &[("Content-Type", INDEX), ("Link", &next)], list.to_string().as_bytes())
    })
    .await;
    let (at, silent) = (anonymous(here.path()), Progress::silent());
    let of = name(format!("{}/app@{}", server.addr, BlobDigest::of(b"app")));
    let error = referrers(&of, None, &at, &silent).await.unwrap_err();
    assert!(error.to_string().contains("is very long"), "{error}");
    assert!(server.seen().len() < 40, "{}", server.seen().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_no_list_is_left_alone() {
    let registry = TestRegistry::start(None);
    let here = here();
    let (layout, app) = signed(&here);
    let to = format!("{}/app", registry.addr);
    let tag = referrers_tag(digest_of(&app));
    let whole = Wanted::default();
    copied(&here, layout.place("app"), format!("{to}:{tag}"), &whole).await.unwrap();
    assert!(referring(&here, &format!("{to}@{}", digest_of(&app)), None).await.is_empty());
    let error = copied(&here, layout.place("sig"), format!("{to}:sig"), &whole).await.unwrap_err();
    assert!(error.to_string().contains("no list of referrers"), "{error}");
    let still =
        skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{to}:{tag}")]);
    assert_eq!(BlobDigest::of(still.as_bytes()), digest_of(&app));
}

/// A registry in memory that keeps lists of referrers itself, two in a page.
async fn listing(filters: bool) -> Server {
    let held: Mutex<HashMap<String, (String, Vec<u8>)>> = Mutex::default();
    Server::start(move |request| {
        let mut held = held.lock().unwrap();
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let digest = BlobDigest::of(&request.body);
        match (request.method.as_str(), path) {
            ("POST", _) => answer("202 Accepted", &[("Location", "/v2/app/up/1")], b""),
            ("PUT", path) => {
                let at = match path.contains("/manifests/") {
                    true => "manifests",
                    false => "blobs",
                };
                let kind = request.header("content-type").unwrap_or_default().to_owned();
                let body = || (kind.clone(), request.body.clone());
                held.insert(format!("/v2/app/{at}/{digest}"), body());
                held.insert(path.to_owned(), body());
                let subject = serde_json::from_slice::<Value>(&request.body).ok();
                let subject =
                    subject.and_then(|it| Some(it["subject"]["digest"].as_str()?.to_owned()));
                let header = subject.as_deref().map(|subject| ("OCI-Subject", subject));
                answer("201 Created", header.as_slice(), b"")
            }
            (_, path) if path.starts_with("/v2/app/referrers/") => {
                let subject = path.rsplit('/').next().unwrap();
                let kind = query.split('&').find_map(|part| part.strip_prefix("artifactType="));
                let kind = kind.map(|kind| kind.replace("%2F", "/"));
                let mut entries: Vec<Value> = held
                    .iter()
                    .filter(|(path, _)| path.contains("/manifests/sha256:"))
                    .filter_map(|(path, (_, bytes))| {
                        let manifest: Value = serde_json::from_slice(bytes).ok()?;
                        let wanted = manifest["subject"]["digest"] == subject
                            && (!filters
                                || kind.as_deref().is_none_or(|k| manifest["artifactType"] == k));
                        wanted.then(|| {
                            json!({
                                "mediaType": MANIFEST, "size": bytes.len(),
                                "digest": path.rsplit('/').next().unwrap(),
                                "artifactType": manifest["artifactType"],
                            })
                        })
                    })
                    .collect();
                entries.sort_by_key(|entry| entry["digest"].to_string());
                let from: usize = query
                    .split('&')
                    .find_map(|part| part.strip_prefix("from=")?.parse().ok())
                    .unwrap_or(0);
                let page: Vec<&Value> = entries.iter().skip(from).take(2).collect();
                let more = format!("<?from={}&{query}>; rel=\"next\"", from + 2);
                let mut headers = vec![("Content-Type", INDEX)];
                if from + 2 < entries.len() {
                    headers.push(("Link", &more));
                }
                if filters && kind.is_some() {
                    headers.push(("OCI-Filters-Applied", "artifactType"));
                }
                let index = json!({ "schemaVersion": 2, "manifests": page });
                answer("200 OK", &headers, index.to_string().as_bytes())
            }
            (_, "/v2/") => answer("200 OK", &[], b""),
            (_, path) => match held.get(path) {
                Some((kind, bytes)) => answer("200 OK", &[("Content-Type", kind)], bytes),
                None => answer("404 Not Found", &[], b""),
            },
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_that_a_registry_keeps() {
    for filters in [true, false] {
        let server = listing(filters).await;
        let here = here();
        let mut layout = Layout::new(here.path().join("layout"));
        let app = layout.artifact("app/one", b"app", None);
        layout.entry(&app, Some("app"));
        let mut all = Vec::new();
        for number in 0..5 {
            let kind = if number == 3 { "sbom/one" } else { "sig/one" };
            let one = layout.artifact(kind, format!("{number}").as_bytes(), Some(&app));
            layout.entry(&one, None);
            all.push(digest_of(&one));
        }
        let to = format!("{}/app:1", server.addr);
        copied(&here, layout.place("app"), &to, &with_referrers()).await.unwrap();
        let written = |request: &&Request| request.method == "PUT";
        let seen = server.seen();
        let lists: Vec<_> =
            seen.iter().filter(written).filter(|r| r.path.contains("sha256-")).collect();
        assert!(lists.is_empty(), "no client's list: {lists:?}");
        let sbom = all[3];
        all.sort();
        let mut found = referring(&here, &to, None).await;
        found.sort();
        assert_eq!(found, all, "{filters}");
        assert_eq!(referring(&here, &to, Some("sbom/one")).await, [sbom], "{filters}");
    }
}

/// The same from a place of one kind to one of the other, and back through files.
#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_copied_with_what_they_refer_to() {
    let registry = TestRegistry::start(None);
    let server = listing(true).await;
    let here = here();
    let mut layout = Layout::new(here.path().join("layout"));
    let one = layout.artifact("part", b"one", None);
    let two = layout.artifact("part", b"two", None);
    let app = layout.index(&[one.clone(), two]);
    let signature = layout.artifact("sig/one", b"signature", Some(&app));
    let sbom = layout.artifact("sbom/one", b"sbom", Some(&one));
    // A signature of the SBOM.
    let second = layout.artifact("sig/one", b"second", Some(&sbom));
    layout.entry(&app, Some("v1"));
    let lists = [(&app, &signature), (&one, &sbom), (&sbom, &second)].map(|(subject, entry)| {
        (referrers_tag(digest_of(subject)), layout.index(std::slice::from_ref(entry)))
    });
    for (tag, list) in &lists {
        layout.entry(list, Some(tag));
    }
    let first = format!("{}/app:1", registry.addr);
    let second_place = format!("{}/app:2", server.addr);
    let folder = oci(&here.path().join("new"), "v1");
    let archive = format!("oci-archive:{}:v1", here.path().join("new.tar").display());
    let last = format!("{}/last:1", registry.addr);
    let mut from = layout.place("v1");
    for to in [first.clone(), second_place, folder, archive, last] {
        let done = copied(&here, &from, &to, &with_referrers()).await;
        assert_eq!(
            done.unwrap_or_else(|error| panic!("{from} {to}: {error}")).digest,
            digest_of(&app)
        );
        from = to;
    }
    for repository in ["app", "last"] {
        let at = |at: &Value| format!("{}/{repository}@{}", registry.addr, digest_of(at));
        for (subject, entry) in [(&app, &signature), (&one, &sbom), (&sbom, &second)] {
            assert_eq!(
                referring(&here, &at(subject), None).await,
                [digest_of(entry)],
                "{repository}"
            );
        }
    }
    // Without being asked for they stay where they are.
    let bare = format!("{}/bare:1", registry.addr);
    copied(&here, &first, &bare, &Wanted::default()).await.unwrap();
    assert!(referring(&here, &bare, None).await.is_empty());
    let archive = format!("docker-archive:{}", here.path().join("a.tar").display());
    for (from, to) in [(first.as_str(), archive.as_str()), (&archive, &bare)] {
        let error = copied(&here, from, to, &with_referrers()).await.unwrap_err();
        assert!(matches!(error, CopyError::Holds { .. }), "{error}");
    }
}
