//! What builds that push move: counted by a proxy before a real registry.

use std::fs;

use super::bench::{Bench, Caller, busybox, callers, file};
use super::cache::made;
use crate::support::kiln::Output;
use crate::support::proxy::{Counted, Proxy, Seen};
use crate::support::registry::{TestRegistry, skopeo};

/// A registry with an image of two layers, `base`, and the proxy before it.
struct World {
    registry: TestRegistry,
    proxy: Proxy,
}

impl World {
    fn new() -> Self {
        let registry = TestRegistry::start(None);
        let bench = Bench::new(Caller::Own);
        let big = file("etc/big", 0o644, vec![7; 300_000]);
        bench.base("base", &[busybox(), vec![big]]);
        let to = format!("{}/base:1", registry.addr);
        bench.run(&mut bench.call(["push", "base", &to])).success();
        let proxy = Proxy::before(&registry.addr);
        Self { registry, proxy }
    }

    fn at(&self) -> &str {
        &self.proxy.addr
    }

    /// What skopeo finds in the registry, which verifies nothing but reads all documents.
    fn layers(&self, name: &str) -> Vec<String> {
        let name = format!("docker://{}/{name}", self.registry.addr);
        let seen = skopeo(&["inspect", "--tls-verify=false", &name]);
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
        let layers = seen["Layers"].as_array().unwrap().iter();
        layers.map(|layer| layer.as_str().unwrap().to_owned()).collect()
    }
}

fn build(bench: &Bench, text: &str, flags: &str) -> Output {
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let args = "build --progress=plain -f Dockerfile context";
    bench.run(&mut bench.call(args.split(' ').chain(flags.split_whitespace())))
}

fn kiln(bench: &Bench, line: &str) -> Output {
    bench.run(&mut bench.call(line.split_whitespace()))
}

/// Bytes of the documents that a push sends: a config, and a manifest.
fn documents(counted: &Counted) -> (u64, u64) {
    let manifest = |seen: &&Seen| seen.is("PUT", "/manifests/");
    let manifests = counted.0.iter().filter(manifest).map(|seen| seen.sent).sum();
    (counted.sent().iter().sum(), manifests)
}

#[test]
fn a_base_of_the_same_registry_is_mounted_and_not_read() {
    for caller in callers() {
        let world = World::new();
        let (at, bench) = (world.at(), Bench::new(caller));
        bench.file("a", "A");
        // Of what the repository is known to have, it is asked whether that is still so.
        for (text, layers, asked) in [
            (format!("FROM {at}/base:1\nLABEL a=b\nCMD [\"true\"]\n"), 0, 0),
            (format!("FROM {at}/base:1\nCOPY --link a /usr/a\n"), 1, 3),
        ] {
            build(&bench, &text, &format!("-t {at}/app:1 --push")).success();
            let seen = world.proxy.take();
            let fetched = seen.fetched();
            assert_eq!(fetched.len(), 1, "the config alone: {:?}", seen.0);
            assert!(fetched[0] < 2000, "{fetched:?}");
            assert_eq!(seen.count("HEAD", "/blobs/sha256"), asked, "{:?}", seen.0);
            assert_eq!(seen.sent().len(), 1 + layers, "{:?}", seen.0);
            let (blobs, manifests) = documents(&seen);
            assert!(blobs < 2000 && manifests < 2000, "{:?}", seen.0);
            if layers == 0 {
                assert_eq!(seen.mounted(), 2, "{:?}", seen.0);
            }
            assert_eq!(world.layers("app:1")[..2], world.layers("base:1"));
        }
        // The name is in the store; what lacks is fetched when it is needed, once.
        let ran = kiln(&bench, &format!("run --rm {at}/app:1 cat /usr/a")).success();
        assert_eq!(ran.text(), "A");
        assert_eq!(world.proxy.take().fetched().len(), 2);
        kiln(&bench, &format!("run --rm {at}/app:1 true")).success();
        kiln(&bench, &format!("save -o saved.tar {at}/app:1")).success();
        assert!(world.proxy.take().0.is_empty());
        bench.clean();
    }
}

#[test]
fn what_an_image_lacks_is_fetched_by_whoever_reads_it() {
    let world = World::new();
    let at = world.at();
    let pushed = || {
        let bench = Bench::new(Caller::Own);
        build(&bench, &format!("FROM {at}/base:1\nLABEL a=b\n"), &format!("-t {at}/app:1 --push"))
            .success();
        world.proxy.take();
        bench
    };
    let fetched = |what: &str, bench: &Bench, line: &str| {
        kiln(bench, line).success();
        assert_eq!(world.proxy.take().fetched().len(), 2, "{what}");
    };
    fetched("save", &pushed(), &format!("save -o saved.tar {at}/app:1"));
    // A clean-up leaves what tells where a named image's layers are.
    let bench = pushed();
    kiln(&bench, "prune --all --force").success();
    world.proxy.take();
    fetched("save after a clean-up", &bench, &format!("save -o saved.tar {at}/app:1"));
    let bench = pushed();
    build(&bench, &format!("FROM {at}/app:1\nRUN true\n"), "-t local").success();
    assert_eq!(world.proxy.take().fetched().len(), 2, "a step that runs");
    let bench = pushed();
    let out = "-o type=oci,dest=out.tar";
    build(&bench, &format!("FROM {at}/app:1\nLABEL c=d\n"), out).success();
    assert_eq!(world.proxy.take().fetched().len(), 2, "an archive");
    let bench = pushed();
    build(&bench, &format!("FROM {at}/app:1\nLABEL c=d\n"), "-t local").success();
    assert_eq!(world.proxy.take().fetched().len(), 2, "an image that stays here");
    kiln(&bench, "run --rm local true").success();
    assert!(world.proxy.take().0.is_empty(), "it runs without the network");
    // Pushed within the registry it is mounted, to another one it is carried.
    let bench = pushed();
    kiln(&bench, &format!("push {at}/app:1 {at}/again:1")).success();
    let seen = world.proxy.take();
    assert_eq!((seen.fetched().len(), seen.mounted()), (0, 2), "{:?}", seen.0);
    let other = TestRegistry::start(None);
    fetched("push", &bench, &format!("push {at}/app:1 {}/app:1", other.addr));
    // Nobody has it any more.
    let mut world = World::new();
    let (at, bench) = (world.at().to_owned(), Bench::new(Caller::Own));
    build(&bench, &format!("FROM {at}/base:1\nLABEL a=b\n"), &format!("-t {at}/app:1 --push"))
        .success();
    world.registry.stop();
    let line = format!("run --rm {at}/app:1 true");
    let failed = kiln(&bench, &line).failure(125).says("is not in the store");
    assert!(failed.stderr.contains("pull or build it again"), "{}", failed.stderr);
}

#[test]
fn a_known_table_of_contents_is_enough_to_copy_onto_a_base() {
    let world = World::new();
    let (at, bench) = (world.at(), Bench::new(Caller::Own));
    bench.file("a", "A");
    let text = |name: &str| {
        format!("FROM {at}/base:1\nWORKDIR /bin/{name}\nCOPY --chown=web a /bin/{name}/\n")
    };
    let push = format!("-t {at}/app:1 --push");
    build(&bench, &text("x"), &push).success();
    let first = world.proxy.take();
    assert_eq!(first.fetched().len(), 3, "the config and what nothing is known of: {:?}", first.0);
    let blobs = bench.path("store/blobs/sha256");
    for layer in world.layers("base:1") {
        fs::remove_file(blobs.join(layer.strip_prefix("sha256:").unwrap())).unwrap();
    }
    build(&bench, &text("y"), &push).success();
    let second = world.proxy.take();
    assert_eq!(second.fetched().len(), 1, "the config: {:?}", second.0);
    // Of the image above, only the layer that has the file.
    let above = format!("FROM scratch\nCOPY --from={at}/base:1 /etc/big /big\n");
    build(&bench, &above, &push).success();
    assert_eq!(world.proxy.take().fetched().len(), 2, "the config and one layer");
}

#[test]
fn cold_warm_and_one_file_changed() {
    let world = World::new();
    let (at, bench) = (world.at(), Bench::new(Caller::Own));
    bench.file("a", "A").file("b", "B");
    let text = format!("FROM {at}/base:1\nCOPY --link a /a\nCOPY --link b /b\n");
    let push = format!("-t {at}/app:1 --push");
    build(&bench, &text, &push).success();
    let cold = world.proxy.take();
    assert_eq!((cold.sent().len(), cold.mounted()), (3, 2), "{:?}", cold.0);
    assert_eq!(cold.count("PUT", "/manifests/"), 1);

    build(&bench, &text, &push).success();
    let warm = world.proxy.take();
    assert_eq!(warm.writes(), 0, "{:?}", warm.0);
    assert_eq!(warm.count("HEAD", ""), 0, "{:?}", warm.0);
    assert_eq!(warm.count("GET", "/app/"), 1, "{:?}", warm.0);
    assert_eq!(warm.count("GET", "/base/"), 2, "its manifest and config: {:?}", warm.0);

    bench.file("b", "C");
    build(&bench, &text, &push).success();
    let changed = world.proxy.take();
    assert_eq!(changed.sent().len(), 2, "a layer and the config: {:?}", changed.0);
    assert_eq!(changed.count("POST", "/blobs/uploads/"), 2, "{:?}", changed.0);
    assert_eq!(changed.count("HEAD", "/app/blobs/"), 4, "{:?}", changed.0);
    assert_eq!(changed.count("PUT", "/app/manifests/"), 1);
}

#[test]
fn layers_go_up_while_later_steps_run() {
    let world = World::new();
    let (at, bench) = (world.at(), Bench::new(Caller::Own));
    bench.file("a", "A");
    // The step ends only if the layer below it was sent by then.
    let wait = format!(
        "for i in $(seq 600); do busybox wget -q -O- http://{at}/sent && exit; sleep 0.1; done; false"
    );
    let text = format!("FROM {at}/base:1\nCOPY --link a /a\nRUN {wait}\n");
    // Two names in one repository are one destination.
    build(&bench, &text, &format!("-t {at}/app:1 -t {at}/app:2 -t {at}/more:1 --push")).success();
    let seen = world.proxy.take();
    for name in ["/app/", "/more/"] {
        let of: Vec<&Seen> = seen.0.iter().filter(|seen| seen.path.contains(name)).collect();
        let manifest = of.iter().position(|seen| seen.is("PUT", "/manifests/"));
        let last = of.iter().rposition(|seen| seen.path.contains("/blobs/uploads/"));
        assert!(manifest > last, "a name before its parts: {:?}", seen.0);
    }
    assert_eq!(seen.count("PUT", "/app/manifests/"), 2);
    for name in ["app:1", "app:2", "more:1"] {
        assert_eq!(world.layers(name)[..2], world.layers("base:1"), "{name}");
    }
    // Of each layer one copy: the second repository mounts or gets its own.
    let puts = |name: &str| seen.count("PUT", &format!("/{name}/blobs/uploads/"));
    assert_eq!(puts("app"), 3, "{:?}", seen.0);
    assert!(puts("more") <= 3, "{:?}", seen.0);
}

#[test]
fn layers_go_to_every_registry() {
    let world = World::new();
    let (other, bench) = (TestRegistry::start(None), Bench::new(Caller::Own));
    let (at, second) = (world.at(), Proxy::before(&other.addr));
    bench.file("a", "A");
    let text = format!("FROM {at}/base:1\nCOPY --link a /a\n");
    build(&bench, &text, &format!("-t {at}/app:1 -t {}/app:1 --push", second.addr)).success();
    let (here, there) = (world.proxy.take(), second.take());
    assert_eq!((here.mounted(), here.sent().len()), (2, 2), "{:?}", here.0);
    // Only there the base's layers are carried, each fetched once.
    assert_eq!((there.mounted(), there.sent().len()), (0, 4), "{:?}", there.0);
    assert_eq!(here.fetched().len(), 3, "the config and two layers: {:?}", here.0);
    assert_eq!(world.layers("app:1").len(), 3);
}

#[test]
fn a_build_that_fails_names_nothing() {
    let world = World::new();
    let (at, bench) = (world.at(), Bench::new(Caller::Own));
    bench.file("a", "A");
    let wait = format!(
        "for i in $(seq 600); do busybox wget -q -O- http://{at}/sent && exit 3; sleep 0.1; done"
    );
    let text = format!("FROM {at}/base:1\nCOPY --link a /a\nRUN {wait}\n");
    build(&bench, &text, &format!("-t {at}/app:1 --push"))
        .failure(1)
        .says("failed with exit code 3");
    let seen = world.proxy.take();
    assert!(!seen.sent().is_empty(), "nothing was begun: {:?}", seen.0);
    assert_eq!(seen.count("PUT", "/manifests/"), 0, "{:?}", seen.0);
    assert!(bench.store().find(&format!("{at}/app:1").parse().unwrap()).unwrap().is_none());
    bench.clean();
}

#[test]
fn a_failed_upload_ends_the_build() {
    let world = World::new();
    let (at, bench) = (world.at(), Bench::new(Caller::Own));
    bench.file("a", "A");
    // The step would outlive the test.
    let text = format!("FROM {at}/base:1\nCOPY --link a /a\nRUN sleep 3600\n");
    let mut closed = TestRegistry::start(None);
    closed.stop();
    let push = format!("-t {at}/app:1 -t {}/app:1 --push", closed.addr);
    let failed = build(&bench, &text, &push).failure(1);
    let says = format!("cannot reach {}", closed.addr);
    assert!(failed.stderr.contains(&says), "{}", failed.stderr);
    assert_eq!(world.proxy.take().count("PUT", "/manifests/"), 0);
    bench.clean();
}

/// What is known from a cache comes for the image; the base stays where it is until a step
/// runs on it.
#[test]
fn a_cache_is_fetched_and_its_base_is_not() {
    for caller in callers() {
        let world = World::new();
        let at = world.at();
        let text = format!("FROM {at}/base:1\nCOPY a /a\nCOPY b /b\n");
        let fresh = || {
            let bench = Bench::new(caller);
            bench.file("a", "A").file("b", "B");
            bench
        };
        let one = fresh();
        let image = build(&one, &text, &format!("--cache-to {at}/cache:1")).success().text();
        world.proxy.take();

        let from = format!("--cache-from {at}/cache:1");
        let two = fresh();
        let push = format!("{from} -t {at}/app:1 --push --cache-to {at}/cache:2");
        let pushed = build(&two, &text, &push).success();
        assert_eq!(made(&pushed), [false; 2], "{}", pushed.stderr);
        let digest = |text: &str| text.trim().rsplit('@').next().unwrap().to_owned();
        assert_eq!(digest(&pushed.text()), digest(&image));
        let seen = world.proxy.take();
        assert_eq!(seen.fetched().len(), 2 + 2, "two configs and two layers: {:?}", seen.0);
        // The base's and the steps' layers are mounted; the caches are of one repository.
        assert_eq!((seen.mounted(), seen.sent().len()), (4, 2), "two configs: {:?}", seen.0);
        assert_eq!(world.layers("app:1")[..2], world.layers("base:1"));

        let three = fresh();
        let changed = text.replace("COPY b /b", "RUN cat /a /etc/big >/c");
        build(&three, &changed, &format!("{from} -t {at}/app:2 --push")).success();
        let seen = world.proxy.take();
        assert_eq!(seen.fetched().len(), 2 + 2 + 1, "the base and a step: {:?}", seen.0);
        three.clean();
    }
}
