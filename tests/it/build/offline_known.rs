//! What a build without a network needs of its inputs: those of steps that it makes, and no
//! other; and what such steps come to.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use kiln::digest::BlobDigest;

use super::bench::{Bench, Caller, busybox, callers, file};
use super::cache::made;
use super::offline::World;
use crate::support::kiln::Output;

fn kiln(bench: &Bench, line: &str) -> Output {
    bench.run(&mut bench.call(line.split_whitespace()))
}

/// The first lines of all errors.
fn errors(output: &Output) -> Vec<&str> {
    output.stderr.lines().filter(|line| line.starts_with("error: ")).collect()
}

/// A stage on a base, and a result that takes of all sorts without standing on it.
fn dockerfile(world: &World) -> String {
    let (base, url, git) = (world.registry(), world.files(), world.repositories());
    format!(
        "FROM {base}/base AS tools\nRUN echo made >/made\n\
         FROM scratch\nCOPY --from=tools /made /\nADD http://{url}/plain /p\n\
         ADD http://{git}/smart/parent/.git#v1 /g/\n"
    )
}

/// Takes the base's layers, the repositories and the file of an `ADD` out of a store.
fn lose(bench: &Bench) {
    let other = Bench::with_busybox(Caller::Own);
    let base = other.store();
    let layer =
        base.image_named(&"busybox".parse().unwrap()).unwrap().images()[0].layers()[0].digest;
    let store = bench.store();
    fs::remove_dir_all(bench.path("store/git")).unwrap();
    for digest in [BlobDigest::of(b"plain"), layer] {
        fs::remove_file(store.blob_path(&digest)).unwrap();
    }
}

#[test]
fn build_offline_asks_for_nothing_that_nobody_reads() {
    let world = World::new();
    let bench = Bench::new(Caller::Own);
    let text = dockerfile(&world);
    let made_online = "--cache-to type=local,dest=cache,mode=max";
    let online = bench.build(&text, made_online).success().text();
    kiln(&bench, "lock -f Dockerfile --lock-file l context").success();
    // Submodules are kept nowhere, and nobody needs them; nor where the layers were carried.
    assert_eq!(bench.build(&text, "--offline").success().text(), online);
    kiln(&bench, "bundle -f Dockerfile -o c.tar --cache --locked --lock-file l context").success();
    let other = Bench::new(Caller::Own);
    let bundle = format!("--offline --bundle {}", bench.path("c.tar").display());
    assert_eq!(other.build(&text, &bundle).success().text(), online);
    lose(&bench);
    for more in ["--offline", "--offline --locked --lock-file l"] {
        let again = bench.build(&text, more).success();
        assert_eq!((again.text(), made(&again)), (online.clone(), vec![false; 2]), "{more}");
    }
    // Nor can they be carried; of the lock's inputs all is told at once.
    let output = kiln(&bench, "--offline bundle -o in.tar --locked --lock-file l context");
    let output = output.failure(1);
    assert_eq!(errors(&output).len(), 3, "{}", output.stderr);
    // What is made is made of what is not here: all of it is told, and each once.
    let base = "base image";
    let output = bench.build(&text, "--offline --no-cache").failure(1);
    let said = errors(&output);
    assert_eq!(said.len(), 3, "{}", output.stderr);
    assert!(said[0].contains(base) && said[0].contains("is here without 1 of its 1 layers"));
    assert!(said[1].contains("/plain is not here"), "{}", said[1]);
    assert!(said[2].contains("parent/.git is not here: commit "), "{}", said[2]);
    // Only the step that is another needs something; those above may, and are not known.
    let changed = text.replace("echo made", "echo other");
    let output = bench.build(&changed, "--offline").failure(1).says("1 | FROM");
    assert_eq!(errors(&output).len(), 3, "{}", output.stderr);
    let linked =
        text.replace("ADD http://", "ADD --link http://").replace("/plain /p", "/plain /q");
    let output = bench.build(&linked, "--offline").failure(1).says("5 | ADD").says("6 | ADD");
    assert_eq!(errors(&output).len(), 2, "{}", output.stderr);
    // A result that is whole has its base's layers; one that is made on them, too.
    let on_base = format!("FROM {}/base\n", world.registry());
    bench.build(&on_base, "--offline").failure(1).says("is here without 1 of its 1 layers");
    // The steps are known from a folder that was given as well.
    fs::remove_dir_all(bench.path("store/records/steps")).unwrap();
    assert_eq!(errors(&bench.build(&text, "--offline").failure(1)).len(), 3);
    let from = "--offline --cache-from type=local,src=cache";
    assert_eq!(bench.build(&text, from).success().text(), online);
    bench.clean();
    other.clean();
}

/// Of a base those layers are read that have what is copied.
#[test]
fn build_offline_copies_from_a_base_that_is_here_in_part() {
    let bench = Bench::new(Caller::Own);
    bench.base("two", &[busybox(), vec![file("number", 0o644, "1")]]);
    let text = "FROM scratch\nCOPY --from=two /number /n\n";
    let online = bench.built(text);
    let image = bench.store().image_named(&"two".parse().unwrap()).unwrap();
    let lower = &image.images()[0].layers()[0];
    fs::remove_file(bench.store().blob_path(&lower.digest)).unwrap();
    let again = bench.build(text, "--offline --no-cache").success();
    assert_eq!(again.text().trim(), online);
    let other = text.replace("number", "bin/cat");
    bench.build(&other, "--offline").failure(1).says("is here without 1 of its 2 layers");
    bench.clean();
}

#[test]
fn build_offline_refuses_an_agent_that_a_step_would_reach() {
    let bench = Bench::with_busybox(Caller::Own);
    let _agent = UnixListener::bind(bench.path("agent")).unwrap();
    let text = "FROM busybox\nRUN --mount=type=ssh,target=/a test ! -e /b; touch /b\n";
    bench.build(text, "--ssh default=agent").success();
    bench.build(text, "--ssh default=agent --offline").success();
    bench
        .build(text, "--ssh default=agent --offline --no-cache")
        .failure(1)
        .says("2 | RUN")
        .says("offline, no RUN reaches the ssh agent `default`");
    bench.build(text, "--offline --no-cache").success();
    bench.clean();
}

/// What a step came to that found no network is for builds without one.
#[test]
fn what_is_made_offline_is_not_taken_by_a_build_with_a_network() {
    let name = format!("kiln-test-known-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let text = format!(
        "FROM busybox\nRUN --network=none echo n >/none\n\
         RUN grep -c {name} /proc/net/unix >/seen || true\nRUN cat /seen >/copy\n"
    );
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let build = |more: &str| {
            let output = bench.build(&text, more).success();
            (made(&output), bench.content("copy"), output)
        };
        let (none, one) = ("0\n".to_owned(), "1\n".to_owned());
        let (all, first, _) = build("--offline --cache-to type=local,dest=cache,mode=max");
        assert_eq!((all, first), (vec![true; 3], none.clone()));
        let (again, same, _) = build("--offline");
        assert_eq!((again, same), (vec![false; 3], none));
        // The step without a network is the same for both, the others are not.
        let from = "--cache-from type=local,src=cache";
        let (online, seen, said) = build(&format!("--explain-cache {from}"));
        assert_eq!((online, seen), (vec![false, true, true], one.clone()));
        assert!(said.stderr.contains("made anew: it was made with --offline"), "{}", said.stderr);
        // What a build with a network has made comes first.
        let (again, same, after) = build("--offline");
        assert_eq!((again, same, after.text()), (vec![false; 3], one, said.text()));
        bench.clean();
    }
}

#[test]
fn a_locked_build_offline_tells_in_one_list_what_is_lacking_and_what_is_refused() {
    let world = World::new();
    let bench = Bench::new(Caller::Own);
    let (base, url, git) = (world.registry(), world.files(), world.repositories());
    fs::write(bench.path("Dockerfile"), format!("FROM {base}/base\nADD http://{url}/plain /p\n"))
        .unwrap();
    kiln(&bench, "lock -f Dockerfile --lock-file l context").success();
    let locked = "--locked --lock-file l";
    let text = format!(
        "FROM {base}/base\nFROM {base}/base:2 AS two\nADD http://{url}/plain /p\n\
         COPY --from=0 /bin /b\nADD http://{url}/new /n\nADD http://{git}/smart/repo/.git#v1 /g\n"
    );
    let other = Bench::new(Caller::Own);
    fs::copy(bench.path("l"), other.path("l")).unwrap();
    let contexts = format!(
        "--build-context a=http://{url}/context --build-context b=http://{git}/smart/repo/.git"
    );
    let output = other.build(&text, &format!("--offline {locked} {contexts}")).failure(1);
    let said = errors(&output);
    let expected = [
        "/context is not in the lock",
        "smart/repo/.git is not in the lock",
        "base:latest for linux/amd64 is not here",
        "base:2 for linux/amd64 is not in the lock",
        "/plain is not here",
        "/new is not in the lock",
        ".git#v1 is not in the lock",
    ];
    assert_eq!(said.len(), expected.len(), "{}", output.stderr);
    for text in expected {
        assert!(said.iter().any(|one| one.contains(text)), "{text}: {said:#?}");
    }
    // A lock makes --pull moot, and a cache that is not looked at is none.
    let text = format!("FROM {base}/base\nADD http://{url}/plain /p\n");
    bench.build(&text, locked).success();
    bench.build(&text, &format!("--offline --pull {locked}")).success();
    let far = "--cache-from type=registry,ref=r.example/c";
    bench.build(&text, &format!("--offline --no-cache {far}")).success();
    bench.build(&text, &format!("--offline {far}")).failure(1).says("no cache is taken from");
    bench.clean();
    other.clean();
}

#[test]
fn contexts_that_are_not_here_are_told_with_all_else() {
    let world = World::new();
    let bench = Bench::new(Caller::Own);
    let (url, git) = (world.files(), world.repositories());
    let contexts = format!(
        "--build-context a=http://{url}/context --build-context b=http://{git}/smart/repo/.git"
    );
    let text = "FROM nowhere.example/a\nCOPY --from=a / /\n";
    let line = format!("--offline {contexts}");
    for more in ["", " --push -t r.example/x"] {
        let output = bench.build(text, &format!("{line}{more}")).failure(1);
        let said = errors(&output).join("\n");
        assert_eq!(
            said.lines().count(),
            3 + 2 * usize::from(!more.is_empty()),
            "{}",
            output.stderr
        );
        for text in ["/context: fetching it", "`HEAD` is was not asked", "nowhere.example/a:"] {
            assert!(said.contains(text), "{text}: {said}");
        }
    }
    // The main context has the Dockerfile, and nothing is known of what that takes.
    let main = kiln(&bench, &format!("build --offline {contexts} http://{url}/main")).failure(1);
    assert_eq!(errors(&main).len(), 3, "{}", main.stderr);
    for command in ["lock", "bundle -o out.tar"] {
        fs::write(bench.path("context/Dockerfile"), dockerfile(&world)).unwrap();
        let output = kiln(&bench, &format!("--offline {command} {contexts} context")).failure(1);
        assert_eq!(errors(&output).len(), 5, "{command}: {}", output.stderr);
    }
    bench.clean();
}

/// An image for one platform that stands for another, as some registries have them.
#[test]
fn build_offline_takes_an_image_of_another_platform_as_it_was_taken() {
    let world = World::new();
    let bench = Bench::new(Caller::Own);
    let base = world.registry();
    let text = format!(
        "FROM --platform=linux/arm64 {base}/base AS far\nFROM scratch\nCOPY --from=far /etc /etc\n"
    );
    let warned = "is an image for linux/amd64, not for linux/arm64";
    let online = bench.build(&text, "").success().says(warned).text();
    kiln(&bench, "lock -f Dockerfile --lock-file l context").success();
    for more in ["--offline --no-cache", "--offline --no-cache --locked --lock-file l"] {
        let output = bench.build(&text, more).success();
        assert_eq!(output.text(), online);
        assert_eq!(output.stderr.matches(warned).count(), 1, "{}", output.stderr);
    }
    kiln(&bench, "bundle -o in.tar --lock-file l --locked context").success();
    let other = Bench::new(Caller::Own);
    let in_tar = bench.path("in.tar");
    let line = format!("--offline --bundle {}", in_tar.display());
    assert_eq!(other.build(&text, &line).success().text(), online);
    bench.clean();
    other.clean();
}

/// The index that the lock names is kept, though no build reads it.
#[test]
fn a_bundle_is_made_offline_of_what_a_build_has_taken() {
    let world = World::new();
    let bench = Bench::new(Caller::Own);
    let name = format!("{}/several:1", world.registry());
    fs::write(bench.path("context/Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let both = "--platform linux/amd64,linux/arm64";
    let pushing = Bench::new(Caller::Own);
    fs::write(pushing.path("context/Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    kiln(&pushing, &format!("build --push {both} -t {name} context")).success();
    fs::write(bench.path("context/Dockerfile"), format!("FROM {name}\nCOPY Dockerfile /d\n"))
        .unwrap();
    kiln(&bench, "build -t out context").success();
    kiln(&bench, "--offline bundle -o in.tar context").success();
    let listed = kiln(&bench, "bundle --list in.tar").success().text();
    assert!(listed.contains(&name), "{listed}");
    bench.clean();
}
