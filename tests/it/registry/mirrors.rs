//! registries.conf: which files are read, where names lead, and what short names mean.

use super::tls::home_with_image;
use super::*;
use crate::support::apart::apart;
use crate::support::kiln::Kiln;

fn write(path: impl AsRef<Path>, text: impl AsRef<str>) {
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    std::fs::write(path, text.as_ref()).unwrap();
}

fn entry(prefix: &str, location: &str) -> String {
    format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\n")
}

/// A registry with `team/app:1`, and a home whose image that is.
fn world() -> (Kiln, TestRegistry) {
    let (kiln, registry) = (home_with_image(), TestRegistry::start(None));
    kiln.ok(&format!("push localhost/app:1 {}/team/app:1", registry.addr));
    (kiln, registry)
}

#[test]
fn the_files_that_are_read() {
    apart("registry::mirrors::the_files_that_are_read", || {
        let (kiln, registry) = world();
        let there = format!("{}/team", registry.addr);
        let nowhere = "127.0.0.1:1/nowhere";
        let system = Path::new("/etc/containers");
        let own = kiln.path(".config/containers");
        let pulls = || kiln.args(["pull", "corp.example/app:1"]).run();

        write(system.join("registries.conf"), entry("corp.example", nowhere));
        pulls().failure(1).says("127.0.0.1:1");
        // Additions come in the order of their names and replace entries of one prefix.
        write(system.join("registries.conf.d/10-a.conf"), entry("corp.example", &there));
        write(system.join("registries.conf.d/20-b.conf"), entry("other.example", nowhere));
        write(system.join("registries.conf.d/30-c.txt"), entry("corp.example", nowhere));
        pulls().success();
        write(system.join("registries.conf.d/20-b.conf"), entry("corp.example", nowhere));
        pulls().failure(1).says("127.0.0.1:1");
        // The user's folder comes after the system's.
        write(own.join("registries.conf.d/a.conf"), entry("corp.example", &there));
        pulls().success();
        // The user's file stands in for all of the system's.
        write(own.join("registries.conf.d/a.conf"), "");
        pulls().failure(1);
        write(own.join("registries.conf"), entry("corp.example", &there));
        pulls().success();
        // Variables name others: a file to go with the folders, a folder instead of both.
        let (file, folder) = (kiln.path("my.conf"), kiln.path("my.d"));
        write(&file, entry("corp.example", nowhere));
        let with = |name: &str, path: &Path| {
            kiln.args(["pull", "corp.example/app:1"]).env(name, path).run()
        };
        with("CONTAINERS_REGISTRIES_CONF", &file).failure(1).says("127.0.0.1:1");
        write(own.join("registries.conf.d/a.conf"), entry("corp.example", &there));
        with("CONTAINERS_REGISTRIES_CONF", &file).success();
        write(folder.join("x.conf"), entry("corp.example", nowhere));
        with("CONTAINERS_REGISTRIES_CONF_DIR", &folder).failure(1).says("127.0.0.1:1");
        with("CONTAINERS_REGISTRIES_CONF", &kiln.path("absent")).failure(1).says("absent");

        // What is wrong is told with its place.
        write(own.join("registries.conf.d/b.conf"), "# one\n[[registry]]\nprefix = 1\n");
        pulls().failure(1).says("registries.conf.d/b.conf: line 3: invalid type");
        write(own.join("registries.conf.d/b.conf"), "[registries.search]\nregistries = ['a.b']");
        pulls().failure(1).says("b.conf").says("version 1");
        write(own.join("registries.conf.d/b.conf"), "mirrors = ['a.b']");
        pulls().success().says("b.conf: `mirrors` is not known");

        // Guesses that distributions ship are not read, others of that folder are.
        std::fs::remove_dir_all(&own).unwrap();
        let alias = format!("[aliases]\nshortly = \"{}/team/app\"\n", registry.addr);
        write(system.join("registries.conf"), entry("docker.io", nowhere));
        write(system.join("registries.conf.d/000-shortnames.conf"), &alias);
        let short = || kiln.args(["pull", "shortly:1"]).run();
        short().failure(1).says("127.0.0.1:1");
        write(system.join("registries.conf.d/corp.conf"), &alias);
        short().success();
    });
}

#[test]
fn what_is_blocked_is_not_asked() {
    let (kiln, registry) = world();
    let conf = kiln.path("registries.conf");
    let run =
        |line: &str| kiln.args(line.split(' ')).env("CONTAINERS_REGISTRIES_CONF", &conf).run();
    let blocked = format!("[[registry]]\nprefix = \"{}/team\"\nblocked = true\n", registry.addr);
    write(&conf, &blocked);
    let name = format!("{}/team/app:1", registry.addr);
    let said = format!("`{}/team/app` is blocked by {}", registry.addr, conf.display());
    run(&format!("pull {name}")).failure(1).says(&said);
    run(&format!("push localhost/app:1 {name}")).failure(1).says(&said);
    run(&format!("push localhost/app:1 {}/other:1", registry.addr)).success();
    // A place that a name is led to, and a mirror: the next one is asked.
    let led = entry("corp.example", &registry.addr);
    write(&conf, format!("{blocked}{led}"));
    run("pull corp.example/team/app:1").failure(1).says(&said);
    let mirror = format!("[[registry.mirror]]\nlocation = \"{}/team\"\n", registry.addr);
    write(&conf, format!("{blocked}{led}{mirror}"));
    run("pull corp.example/other:1").success();
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_in_trouble_are_all_named() {
    let registry = TestRegistry::start(None);
    let here = here();
    let silent = Progress::silent();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[b"one"]));
    let to = name(format!("{}/team/app:1", registry.addr));
    push(&image, &to, &here.store, &anonymous(here.path()), &silent).await.unwrap();
    let mut servers = Vec::new();
    let mut mirrors = "[[registry.mirror]]\nlocation = \"127.0.0.1:1/down\"\n".to_owned();
    for status in ["502 Bad Gateway", "404 Not Found", "401 Unauthorized", "200 OK"] {
        let server = Server::start(move |request| match request.path.as_str() {
            "/v2/" => answer("200 OK", &[], b"{}"),
            _ => answer(status, &[("WWW-Authenticate", "Basic realm=\"x\"")], b"{\"wrong\":1}"),
        });
        servers.push(server.await);
        let addr = &servers.last().unwrap().addr;
        mirrors += &format!("[[registry.mirror]]\nlocation = \"{addr}/m\"\n");
    }
    let notes = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&notes);
    let progress = Progress::new(move |event| {
        if let Event::Note(text) = event {
            log.lock().unwrap().push(text);
        }
    });
    let from = name("corp.example/app:1");
    for (location, works) in [("team", true), ("absent", false)] {
        let conf = entry("corp.example", &format!("{}/{location}", registry.addr));
        write(here.path().join("registries.conf"), format!("{conf}{mirrors}"));
        let at = anonymous(here.path());
        let got = pull(&from, &Want::One(amd64()), &here.other(location), &at, &progress).await;
        assert_eq!(got.is_ok(), works, "{got:?}");
        let said = match got {
            Ok(_) => {
                let notes = notes.lock().unwrap();
                // A place that cannot be reached is not waited for again.
                let down = notes.iter().filter(|note| note.contains("cannot reach 127.0.0.1:1"));
                assert_eq!(down.count(), 1, "{notes:?}");
                notes.join("\n")
            }
            Err(error) => {
                assert!(matches!(error, RegistryError::Everywhere { .. }), "{error}");
                assert!(error.to_string().starts_with(&registry.addr), "{error}");
                error.to_string()
            }
        };
        for words in ["cannot reach 127.0.0.1:1", "failed with 502", "has no", "asks for a login"] {
            assert!(said.contains(words), "`{words}` is not in {said}");
        }
        for server in &servers {
            assert!(said.contains(&server.addr), "{}: {said}", server.addr);
        }
    }
}

#[test]
fn short_names() {
    let (kiln, registry) = world();
    let other = TestRegistry::start(None);
    kiln.ok(&format!("push localhost/app:1 {}/app:1", registry.addr));
    let conf = kiln.path("registries.conf");
    let hub = entry("docker.io", &format!("{}/hub", other.addr));
    let run =
        |line: &str| kiln.args(line.split(' ')).env("CONTAINERS_REGISTRIES_CONF", &conf).run();
    let has = |name: &str| kiln.store().find(&name.parse().unwrap()).unwrap().is_some();
    let clear = || {
        for (name, _) in kiln.store().names().unwrap() {
            if name.to_string() != "localhost/app:1" {
                kiln.store().untag(&name).unwrap();
            }
        }
    };

    // By an alias, for that very name only.
    let alias = format!("[aliases]\nshort = \"{}/team/app\"\n", registry.addr);
    write(&conf, format!("{hub}{alias}"));
    run("pull short:1").success();
    let full = format!("{}/team/app:1", registry.addr);
    assert!(has(&full) && !has("docker.io/library/short:1"));
    run("pull docker.io/library/short:1").failure(1).says(&other.addr);
    run("pull library/short:1").failure(1).says(&other.addr);
    // Commands of all kinds mean the same by it.
    run("tag short:1 localhost/tagged:1").success();
    assert!(has("localhost/tagged:1"));
    run("inspect short:1").success();
    assert!(
        run("images short:1").success().text().contains(&format!("{}/team/app", registry.addr))
    );
    write(kiln.path("context/Dockerfile"), "FROM short:1\nCOPY hello /more\n");
    run("build -q -t localhost/from:1 context").success();
    clear();
    run("build -q --pull -t localhost/from:1 context").success();
    let both = "FROM short:1\nCOPY --from=docker.io/library/short:1 /hello /x\n";
    write(kiln.path("context/Dockerfile"), both);
    run("build -q -t localhost/both:1 context").failure(1).says(&other.addr);
    run("pull short:1").success();
    run("rmi short:1").success();
    assert!(!has(&full));
    // What was built under the name is that.
    write(kiln.path("context/Dockerfile"), "FROM scratch\nCOPY hello /own\n");
    let built = run("build -q -t short:1 context").success();
    assert!(has("docker.io/library/short:1"));
    let shown = run("inspect short:1").success().text();
    assert!(shown.contains(built.text().trim()), "{shown}");
    clear();

    // By a search list of one registry.
    write(&conf, format!("unqualified-search-registries = [\"{}\"]\n{hub}", registry.addr));
    run("pull app:1").success();
    assert!(has(&format!("{}/app:1", registry.addr)));
    run("pull team/app:1").success();
    // Docker Hub if it is one of several; else nobody is asked.
    let several = |other: &str| {
        format!("unqualified-search-registries = [\"{}\", \"{other}\"]\n{hub}", registry.addr)
    };
    write(&conf, several("docker.io"));
    run("pull app:2").failure(1).says(&other.addr);
    write(&conf, several("quay.example"));
    run("pull app:2")
        .failure(1)
        .says(&format!("{}/app, quay.example/app", registry.addr))
        .says("[aliases]");
    run("build -q -t untouched:1 context").success();
    assert!(has("docker.io/library/untouched:1"));
}
