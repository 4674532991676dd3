//! Provenance of builds: what it says, and that it says the same whoever builds.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::build::bench::{Bench, Caller, callers};
use crate::support::git::{git, serve};
use crate::support::http::Server;
use crate::support::kiln::Output;
use crate::support::registry::TestRegistry;

/// A server with a file and a repository.
struct World {
    root: tempfile::TempDir,
    server: Server,
    // Dropped last: the server runs on it.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let root = tempfile::tempdir().unwrap();
        let server = serve(&runtime, root.path(), "none");
        let repo = root.path().join("lib");
        fs::create_dir(&repo).unwrap();
        git(&repo, "init --quiet");
        fs::write(repo.join("code"), "lib").unwrap();
        fs::write(repo.join("Dockerfile"), "FROM scratch\nCOPY code /\n").unwrap();
        git(&repo, "add .");
        git(&repo, "commit --quiet -m lib");
        git(&repo, "tag v1");
        git(&repo, "update-server-info");
        Self { root, server, _runtime: runtime }
    }

    fn url(&self) -> String {
        format!("http://{}/dumb/lib/.git", self.server.addr)
    }

    fn commit(&self) -> String {
        git(&self.root.path().join("lib"), "rev-parse v1^{commit}")
    }

    /// Takes something of every kind.
    fn dockerfile(&self) -> String {
        let url = self.url();
        format!(
            "FROM busybox AS made\nARG V\nRUN echo \"$V\" >/v\nFROM busybox\n\
             COPY --from=made /v /v\nCOPY a /a\nADD {url}/HEAD /head\nADD {url}#v1 /lib/\n"
        )
    }
}

fn bench(caller: Caller, world: &World) -> Bench {
    let bench = Bench::with_busybox(caller);
    bench.file("a", "A").file("Dockerfile", world.dockerfile());
    bench
}

fn build(bench: &Bench, more: &str) -> Output {
    let args = "build -q -t r.example/out:1 context";
    bench.run(&mut bench.call(args.split(' ').chain(more.split_whitespace())))
}

fn digest(output: Output) -> BlobDigest {
    output.success().text().trim().parse().unwrap()
}

/// The statements that are attached to something, as they are.
fn statements(store: &Store, subject: BlobDigest) -> Vec<Vec<u8>> {
    let entries = store.referrers(&subject, Some("application/vnd.in-toto+json")).unwrap();
    let read = |entry: &Descriptor| {
        assert_eq!(
            entry.annotations["in-toto.io/predicate-type"],
            "https://slsa.dev/provenance/v1"
        );
        let manifest: Value =
            serde_json::from_slice(&store.document(&entry.digest).unwrap()).unwrap();
        assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.in-toto+json");
        let digest: BlobDigest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
        fs::read(store.blob_path(&digest)).unwrap()
    };
    entries.iter().map(read).collect()
}

fn only(store: &Store, subject: BlobDigest) -> Value {
    let [one] = &statements(store, subject)[..] else { panic!("not one statement") };
    serde_json::from_slice(one).unwrap()
}

#[test]
fn build_provenance_is_the_same_whoever_builds() {
    let world = World::new();
    let mut first: Option<(BlobDigest, Vec<Vec<u8>>)> = None;
    for caller in callers() {
        let bench = bench(caller, &world);
        let plain = digest(build(&bench, "--build-arg V=1"));
        assert!(statements(&bench.store(), plain).is_empty(), "none unless it is asked for");
        let more = "--provenance=mode=max --build-arg V=1";
        assert_eq!(digest(build(&bench, more)), plain, "the image is the same with it");
        let warm = statements(&bench.store(), plain);
        assert_eq!(warm.len(), 1);
        assert_eq!(digest(build(&bench, &format!("{more} --no-cache"))), plain);
        assert_eq!(statements(&bench.store(), plain), warm, "attached once");
        // Another folder, another way to say where the Dockerfile is, a cold cache.
        let other = Bench::with_busybox(caller);
        other.file("a", "A").file("Dockerfile", world.dockerfile());
        fs::rename(other.context(), other.path("elsewhere")).unwrap();
        let args = "build -q -t r.example/out:2 -f Dockerfile --attest type=provenance,mode=max \
                    --build-arg V=1 .";
        let mut call = other.call(args.split_whitespace());
        call.current_dir(other.path("elsewhere")).env("TZ", "Asia/Tokyo");
        assert_eq!(digest(other.run(&mut call)), plain);
        let all = (plain, warm);
        assert_eq!(statements(&other.store(), plain), all.1, "{caller:?}");
        assert_eq!(first.get_or_insert_with(|| all.clone()), &all, "{caller:?}");
    }
}

#[test]
fn build_provenance_has_all_materials() {
    let world = World::new();
    for caller in callers() {
        let bench = bench(caller, &world);
        fs::write(bench.path("token"), "hush-hush").unwrap();
        let more = "--provenance=true --build-arg V=argued --secret id=token,src=token \
                    --build-arg HTTP_PROXY=http://me:pw@127.0.0.1:1 --label l=labelled \
                    --build-arg NO_PROXY=127.0.0.1 --metadata-file meta";
        let subject = digest(build(&bench, more));
        let min = only(&bench.store(), subject);
        assert_eq!(
            min["subject"],
            json!([{"name": "r.example/out", "digest": {"sha256": subject.hex()}}])
        );
        let base = bench.store().find(&"busybox".parse().unwrap()).unwrap().unwrap().digest;
        let head = BlobDigest::of(&fs::read(world.root.path().join("lib/.git/HEAD")).unwrap());
        let (url, commit) = (world.url(), world.commit());
        let platform = kiln::platform::Platform::host().to_string().replace('/', "%2F");
        let mut expected = [
            json!({
                "uri": format!("pkg:docker/busybox@latest?platform={platform}"),
                "digest": {"sha256": base.hex()},
            }),
            json!({"uri": format!("{url}/HEAD"), "digest": {"sha256": head.hex()}}),
            json!({"uri": format!("{url}#v1"), "digest": {"gitCommit": commit, "sha1": commit}}),
        ];
        expected.sort_by_key(|one| one["uri"].as_str().unwrap().to_owned());
        let definition = &min["predicate"]["buildDefinition"];
        assert_eq!(definition["resolvedDependencies"], json!(expected));
        assert_eq!(definition["externalParameters"]["configSource"]["path"], "Dockerfile");
        assert_eq!(
            definition["externalParameters"]["request"],
            json!({"frontend": "dockerfile.v0", "args": {}, "locals": [{"name": "context"}]})
        );
        let meta: Value = serde_json::from_slice(&fs::read(bench.path("meta")).unwrap()).unwrap();
        assert_eq!(meta["buildx.build.provenance"], min["predicate"]);

        let more = more.replace("=true ", "=mode=max,builder-id=https://ci.example/7 ");
        assert_eq!(digest(build(&bench, &more)), subject);
        let both = statements(&bench.store(), subject);
        let max = both.iter().map(|text| String::from_utf8(text.clone()).unwrap());
        let max = max.clone().find(|text| text.contains("ci.example")).unwrap();
        for (text, is_told) in [
            ("hush-hush", false),
            ("me:pw", false),
            ("PROXY", false),
            ("build-arg:V\":\"argued", true),
            ("label:l\":\"labelled", true),
            ("\"secrets\":[{\"id\":\"token\"}]", true),
            ("COPY --from=made", true),
            (bench.path("").to_str().unwrap(), false),
        ] {
            assert_eq!(max.contains(text), is_told, "{text}: {max}");
        }
        assert_eq!(both.len(), 2, "each is true");
    }
}

#[test]
fn build_of_a_repository_names_its_commit() {
    let world = World::new();
    for caller in callers() {
        let bench = Bench::new(caller);
        let context = format!("{}#v1", world.url());
        let args = ["build", "-q", "--provenance=true", "-t", "out", &context];
        let subject = digest(bench.run(&mut bench.call(args)));
        let said = only(&bench.store(), subject);
        let commit = world.commit();
        assert_eq!(
            said["predicate"]["buildDefinition"]["externalParameters"]["configSource"],
            json!({
                "uri": world.url(),
                "digest": {"gitCommit": commit, "sha1": commit},
                "path": "Dockerfile",
            })
        );
        let whole = &said["predicate"]["runDetails"]["metadata"]["kiln_completeness"];
        assert_eq!(whole["resolvedDependencies"], true);
    }
}

#[test]
fn builds_write_it_where_there_is_room() {
    let registry = TestRegistry::start(None);
    for caller in callers() {
        let bench = Bench::new(caller);
        bench.file("a", "A").file("Dockerfile", "FROM scratch\nCOPY a /\n");
        let run = |line: &str| bench.run(&mut bench.call(line.split_whitespace()));
        let both = "--platform linux/amd64,linux/arm64 --provenance=true";
        let name = format!("{}/both:1", registry.addr);
        run(&format!("build --push -t {name} {both} context")).success();
        // The index and each manifest have one.
        let other = Kiln::new();
        other.ok(&format!("pull --all-platforms --referrers {name}")).says("3 manifests");
        let image = other.store().image_named(&name.parse().unwrap()).unwrap();
        let named = image.images().iter().map(|one| one.digest()).chain([image.digest()]);
        for subject in named {
            let said = only(&other.store(), subject);
            assert_eq!(said["subject"][0]["digest"]["sha256"], subject.hex());
            let args = &said["predicate"]["buildDefinition"]["externalParameters"]["request"];
            assert_eq!(args["args"]["platform"], "linux/amd64,linux/arm64");
        }
        // An archive has what its build attached, and not what else the store has.
        run(&format!("build -o type=oci,dest=one.tar {both} context")).success();
        run(&format!("build -o type=oci,dest=again.tar {both} context")).success();
        let one = fs::read(bench.path("one.tar")).unwrap();
        assert_eq!(fs::read(bench.path("again.tar")).unwrap(), one);
        run("build -o type=oci,dest=bare.tar --platform linux/amd64,linux/arm64 context").success();
        for (archive, count) in [("one.tar", 1), ("bare.tar", 0)] {
            let other = Kiln::new();
            other.ok(&format!("load -i {}", bench.path(archive).display()));
            assert_eq!(statements(&other.store(), image.digest()).len(), count, "{archive}");
        }
        run("build --provenance=true -o type=docker,dest=d.tar -t d context")
            .success()
            .says("docker archives have no room");
        for (flags, says) in [
            ("--provenance=true -o out", "no output of this build can hold"),
            ("--provenance=true -o type=cacheonly", "no output of this build can hold"),
            ("--provenance=true --attest type=provenance", "say one thing twice"),
            ("--provenance=version=v0.2", "SLSA v1 only"),
            ("--attest type=vuln", "type=vuln"),
            ("--sbom=generator=x", "runs no image"),
        ] {
            run(&format!("build {flags} context")).failure(2).says(says);
        }
        run("build --sbom=true --attest type=provenance -t listed context").success();
        let store = bench.store();
        let listed = store.image_named(&"listed".parse().unwrap()).unwrap();
        let kinds: BTreeSet<String> = store
            .referrers(&listed.digest(), None)
            .unwrap()
            .iter()
            .map(|entry| entry.annotations["in-toto.io/predicate-type"].clone())
            .collect();
        let expected = ["https://slsa.dev/provenance/v1", "https://spdx.dev/Document"];
        assert!(kinds.iter().eq(expected.iter()), "{kinds:?}");
        run("build --provenance=false --attest type=sbom,disabled=true -o out context").success();
    }
}
