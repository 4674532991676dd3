use super::*;

const CONF: &str = r#"
    unqualified-search-registries = ["quay.io", "docker.io"]
    short-name-mode = "enforcing"
    [[registry]]
    location = "docker.io"
    [[registry.mirror]]
    location = "mirror.corp:5000/hub/"
    insecure = true
    [[registry.mirror]]
    location = "second.corp/hub"
    pull-from-mirror = "digest-only"
    [[registry.mirror]]
    location = "third.corp"
    pull-from-mirror = "tag-only"
    [[registry]]
    prefix = "docker.io/team"
    location = "registry.corp/moved"
    [[registry]]
    prefix = "bad.example"
    blocked = true
    [[registry]]
    prefix = "*.lab.example"
    insecure = true
    [[registry]]
    prefix = "*.deep.lab.example"
    [[registry]]
    prefix = "one.deep.lab.example"
    insecure = true
    [[registry]]
    prefix = "*.led.example"
    location = "all.example/led"
    [[registry]]
    prefix = "pins.example"
    mirror-by-digest-only = true
    mirror = [{ location = "m.example" }, { location = "bad.example/m" }]
    [[registry]]
    prefix = "led.example"
    location = "a.lab.example/x"
"#;

fn shown(places: &[Place]) -> Vec<String> {
    let mark = |place: &Place| match (place.insecure, &place.blocked) {
        (true, _) => "!",
        (_, Some(_)) => "-",
        _ => "",
    };
    places.iter().map(|place| format!("{}{}", mark(place), place.name())).collect()
}

#[test]
fn rewriting() {
    let mirrors = Mirrors::parse(&[CONF]).unwrap();
    assert_eq!(mirrors.warnings(), [] as [String; 0]);
    let digest = format!("sha256:{}", "a".repeat(64));
    for (name, expected) in [
        (
            "golang:1",
            vec![
                "!mirror.corp:5000/hub/library/golang",
                "third.corp/library/golang",
                "docker.io/library/golang",
            ],
        ),
        (
            &format!("golang@{digest}"),
            vec![
                "!mirror.corp:5000/hub/library/golang",
                "second.corp/hub/library/golang",
                "docker.io/library/golang",
            ],
        ),
        ("team/app", vec!["registry.corp/moved/app"]),
        (
            "teams/app",
            vec!["!mirror.corp:5000/hub/teams/app", "third.corp/teams/app", "docker.io/teams/app"],
        ),
        ("quay.io/a", vec!["quay.io/a"]),
        ("a.lab.example:5000/x", vec!["!a.lab.example:5000/x"]),
        ("a.deep.lab.example/x", vec!["a.deep.lab.example/x"]),
        ("one.deep.lab.example/x", vec!["!one.deep.lab.example/x"]),
        ("evillab.example/x", vec!["evillab.example/x"]),
        ("a.led.example:5000/x", vec!["all.example/led/x"]),
        // What is said of the place itself holds too.
        ("led.example/y", vec!["!a.lab.example/x/y"]),
        ("pins.example/x:1", vec!["pins.example/x"]),
        (
            &format!("pins.example/x@{digest}"),
            vec!["m.example/x", "-bad.example/m/x", "pins.example/x"],
        ),
    ] {
        let places = mirrors.for_pull(&name.parse().unwrap()).unwrap();
        assert_eq!(shown(&places), expected, "{name}");
    }
    let push = mirrors.for_push(&"team/app".parse().unwrap()).unwrap();
    assert_eq!(push.name(), "docker.io/team/app");
    let bad: Reference = "bad.example/x".parse().unwrap();
    assert!(matches!(mirrors.for_pull(&bad), Err(RegistryError::Blocked { .. })));
    assert!(matches!(mirrors.for_push(&bad), Err(RegistryError::Blocked { .. })));
    assert!(matches!(mirrors.insecure("bad.example"), Err(RegistryError::Blocked { .. })));
}

#[test]
fn later_files_replace_by_prefix() {
    let first = "[[registry]]\nprefix = \"a.b\"\nlocation = \"c.d\"\n\
                 [[registry]]\nprefix = \"e.f\"\nlocation = \"g.h\"\n[aliases]\nx = \"i.j/x\"";
    let second = "[[registry]]\nprefix = \"a.b\"\nlocation = \"k.l\"\n[aliases]\nx = \"\"";
    let mirrors = Mirrors::parse(&[first, second]).unwrap();
    for (name, place) in [("a.b/x", "k.l/x"), ("e.f/x", "g.h/x")] {
        assert_eq!(shown(&mirrors.for_pull(&name.parse().unwrap()).unwrap()), [place]);
    }
    assert_eq!(mirrors.meaning(&"x".parse().unwrap()).unwrap().name(), "docker.io/library/x");
}

#[test]
fn malformed() {
    for (bad, says) in [
        ("[[registry]]\ninsecure = true", "line 1: a [[registry]] has neither"),
        ("\n[[registry]]\nprefix = 1", "line 3: invalid type"),
        ("[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\n", "missing field `location`"),
        ("[[registry", "line 1"),
        ("[registries.search]\nregistries = [\"a.b\"]", "version 1"),
        ("[registries.block]\nregistries = [\"a.b\"]", "version 1"),
        ("\n[[registry]]\nlocation = \"https://a.b\"", "line 2: `https://a.b` is an address"),
        ("[[registry]]\nprefix = \"*.a.b/c\"", "*.example.com"),
        ("[[registry]]\nprefix = \"a.*.b\"", "*.example.com"),
        ("[[registry]]\nlocation = \"*.b\"", "is a prefix"),
        ("[[registry]]\nlocation = \"a.b\"\npull-from-mirror = \"all\"", "belongs to a mirror"),
        (
            "[[registry]]\nlocation = \"a.b\"\nmirror = [{location = \"c\", pull-from-mirror = \"x\"}]",
            "unknown variant `x`",
        ),
        (
            "[[registry]]\nlocation = \"a.b\"\nmirror-by-digest-only = true\n\
             mirror = [{location = \"c\", pull-from-mirror = \"all\"}]",
            "exclude each other",
        ),
        (
            "[[registry]]\nlocation = \"a.b\"\n[[registry]]\nprefix = \"c\"\nlocation = \"a.b\"\n\
             blocked = true",
            "by `blocked`",
        ),
        ("unqualified-search-registries = [\"a.b/c\"]", "no host[:port]"),
        ("short-name-mode = \"odd\"", "unknown variant `odd`"),
        ("[aliases]\n\"a.b/c\" = \"d.e/f\"", "is no short name"),
        ("[aliases]\n\"c:1\" = \"d.e/f\"", "is no short name"),
        ("[aliases]\nc = \"d\"", "REGISTRY/REPOSITORY"),
        ("[aliases]\nc = \"d.e/f:1\"", "REGISTRY/REPOSITORY"),
    ] {
        let error = Mirrors::parse(&[bad]).unwrap_err().to_string();
        assert!(error.starts_with("0.conf: ") && error.contains(says), "{bad}: {error}");
    }
    let odd = "[[registry]]\nprefix = \"a.b\"\nlocation = \"c.d/../e\"";
    let odd = Mirrors::parse(&[odd]).unwrap();
    let error = odd.for_pull(&"a.b/x".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("0.conf") && error.contains("no place"), "{error}");
}

#[test]
fn what_is_told() {
    let conf = "odd = 1\ncredential-helpers = [\"pass\"]\n[registries.search]\nregistries = []\n\
                [[registry]]\nlocation = \"a.b\"\nBlocked = true\n\
                [[registry.mirror]]\nlocation = \"c.d\"\nweight = 1\n\
                [[registry]]\nlocation = \"a.b\"";
    let told = Mirrors::parse(&[conf]).unwrap().warnings().join("\n");
    for says in [
        "`odd` is",
        "`credential-helpers`",
        "`Blocked` of a [[",
        "`weight` of a mirror",
        "line 11: not used",
    ] {
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn short_names() {
    let alias = "[aliases]\n\"golang\" = \"g.corp/lang\"\n\"a/b\" = \"docker.io/c\"\n";
    let one = "unqualified-search-registries = [\"r.corp:5000\"]\n";
    let hub = "unqualified-search-registries = [\"r.corp\", \"docker.io\"]\n";
    let none = "unqualified-search-registries = []\n";
    let digest = format!("@sha256:{}", "a".repeat(64));
    for (conf, name, expected) in [
        ("", "golang:1", "docker.io/library/golang:1"),
        (alias, "golang:1", "g.corp/lang:1"),
        (alias, &format!("golang{digest}"), &format!("g.corp/lang{digest}")),
        (alias, "a/b", "docker.io/library/c:latest"),
        // Only that very name.
        (alias, "library/golang", "docker.io/library/golang:latest"),
        (alias, "docker.io/golang", "docker.io/library/golang:latest"),
        (alias, "docker.io/library/golang", "docker.io/library/golang:latest"),
        (alias, "x/golang", "docker.io/x/golang:latest"),
        (one, "golang:1", "r.corp:5000/golang:1"),
        (one, "a/b", "r.corp:5000/a/b:latest"),
        (one, "docker.io/a/b", "docker.io/a/b:latest"),
        (hub, "golang", "docker.io/library/golang:latest"),
        (none, "golang", "docker.io/library/golang:latest"),
        (&format!("{one}{alias}"), "golang:1", "g.corp/lang:1"),
    ] {
        let mirrors = Mirrors::parse(&[conf]).unwrap();
        let found = mirrors.meaning(&name.parse().unwrap()).unwrap();
        assert_eq!(found.to_string(), expected, "{conf}: {name}");
    }
    let two = "unqualified-search-registries = [\"r.corp\", \"s.corp\"]";
    let two = Mirrors::parse(&[two]).unwrap();
    let error = two.meaning(&"golang:1".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("r.corp/golang, s.corp/golang"), "{error}");
    assert!(two.meaning(&"docker.io/golang".parse().unwrap()).is_ok());
    for (name, guess) in [
        ("/etc/containers/registries.conf.d/000-shortnames.conf", true),
        ("shortnames.conf", true),
        ("my-shortnames.conf", false),
        ("00-corp.conf", false),
    ] {
        assert_eq!(short::is_guess(Path::new(name)), guess, "{name}");
    }
}
