//! `check`, and `build` with `--check` and `--call`.

use std::fs;

use super::keep;
use crate::support::kiln::{Kiln, Output};

/// A kiln with a context that has this Dockerfile.
fn with(text: &str) -> Kiln {
    let kiln = Kiln::new();
    fs::create_dir(kiln.path("context")).unwrap();
    write(&kiln, "Dockerfile", text);
    kiln
}

fn write(kiln: &Kiln, name: &str, text: &str) {
    fs::write(kiln.path("context").join(name), text).unwrap();
}

/// The rules that an answer in JSON tells of, with the first of their lines.
fn rules(output: &Output) -> Vec<(u64, String)> {
    let json = output.json();
    let warnings = json["warnings"].as_array().unwrap();
    let rule = |warning: &serde_json::Value| {
        let line = warning["location"]["ranges"][0]["start"]["line"].as_u64().unwrap();
        (line, warning["ruleName"].as_str().unwrap().to_owned())
    };
    warnings.iter().map(rule).collect()
}

fn own(rules: &[(u64, &str)]) -> Vec<(u64, String)> {
    rules.iter().map(|(line, rule)| (*line, (*rule).to_owned())).collect()
}

#[test]
fn check_tells_what_is_broken() {
    let kiln = with("FROM scratch as one\nCOPY a \\\n  $foo /a\nFROM scratch\nCOPY $bar /a\n");
    let found = kiln.fails(1, "check context");
    let text = found.text();
    for part in [
        "warning[FromAsCasing]: ",
        "Dockerfile:1:",
        "warning[UndefinedVar]: variable `foo` is not defined",
        "Dockerfile:3:3",
        "  $foo /a\n  |   ^^^^",
        "`bar`",
        "hint: ",
        "3 warnings\n",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    let found = kiln.fails(1, "check context --format json");
    let want = own(&[(1, "FromAsCasing"), (2, "UndefinedVar"), (5, "UndefinedVar")]);
    assert_eq!(rules(&found), want);
    let json = found.json();
    let warning = &json["warnings"][1];
    assert_eq!(
        warning["location"]["ranges"],
        serde_json::json!([
            {"start": {"line": 2}, "end": {"line": 2}},
            {"start": {"line": 3}, "end": {"line": 3}},
        ]),
    );
    assert_eq!(warning["url"], "https://docs.docker.com/go/dockerfile/rule/undefined-var/");
    assert!(warning["description"].as_str().unwrap().ends_with('.'));
    assert!(warning["detail"].as_str().unwrap().contains("`foo`"));
    assert_eq!(json["sources"][0]["language"], "Dockerfile");
    assert!(json.get("buildError").is_none());

    // The other spellings, and one target.
    for line in [
        "build --check context",
        "build --call=check context",
        "build --print=check context",
        "build --call=lint context",
    ] {
        assert_eq!(kiln.fails(1, line).text(), text, "{line}");
    }
    let found = kiln.fails(1, "build --call=check,format=json --target one context");
    assert_eq!(rules(&found), own(&[(1, "FromAsCasing"), (2, "UndefinedVar")]));
    kiln.ok("build --call=check,ignorestatus=true context");
    let file = kiln.path("context/Dockerfile");
    let by_stdin = kiln.args(["check", "-f", "-", "context"]).stdin(fs::read(file).unwrap());
    assert!(by_stdin.run().failure(1).text().contains("stdin:3:3"));

    write(&kiln, "good", "ARG x\nFROM scratch\nCOPY a /a\n");
    assert_eq!(kiln.ok("check -f context/good context").text(), "no warnings\n");
    let clean = kiln.ok("check -f context/good context --format json");
    assert_eq!(rules(&clean), []);
    for line in ["build --call=nothing context", "build --check --push -t x context"] {
        kiln.fails(2, line);
    }
    kiln.fails(1, "check nowhere").says("nowhere");
}

#[test]
fn check_tells_errors_too() {
    let kiln = with("FROM scratch AS One\nBAD\nMAINTAINER me\nCOPY x\n");
    let found = kiln.fails(1, "check context");
    for part in ["StageNameCasing", "MaintainerDeprecated", "`BAD`", "2 errors, 2 warnings"] {
        assert!(found.text().contains(part), "{part}");
    }
    let json = kiln.fails(1, "check context --format json");
    assert_eq!(rules(&json), own(&[(1, "StageNameCasing"), (3, "MaintainerDeprecated")]));
    let json = json.json();
    assert!(json["buildError"]["message"].as_str().unwrap().contains("`BAD`"));
    assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
    assert_eq!(json["buildErrors"].as_array().unwrap().len(), 2);

    write(&kiln, "Dockerfile", "FROM scratch as a\nSTOPSIGNAL no\nVOLUME $x\n");
    let json = kiln.fails(1, "check context --format json");
    assert_eq!(rules(&json), own(&[(1, "FromAsCasing"), (3, "UndefinedVar")]));
    assert_eq!(json.json()["buildErrors"].as_array().unwrap().len(), 2);
    for call in ["outline", "targets"] {
        write(&kiln, "Dockerfile", "FROM scratch as a\nNO\n");
        kiln.fails(1, &format!("build --call={call} context")).says("`NO`");
    }
}

#[test]
fn check_settings_count_in_builds_too() {
    let body = "FROM scratch as one\nCOPY Dockerfile /a\n";
    let kiln = with(body);
    let build = "build -t app context";
    kiln.ok(build).says("Dockerfile:1: FromAsCasing: ");
    kiln.ok("rmi app");
    write(&kiln, "Dockerfile", &format!("# check=error=true\n{body}"));
    let failed = kiln.fails(1, build).says("Dockerfile:2: FromAsCasing: ");
    assert!(failed.says("error: lint").says(": FromAsCasing\n").text().is_empty());
    kiln.fails(1, "inspect app");
    let json = kiln.fails(1, "check --format json context").json();
    assert!(json["buildError"]["message"].as_str().unwrap().contains("FromAsCasing"));

    for head in ["skip=FromAsCasing;error=true", "error=true;skip=all"] {
        write(&kiln, "Dockerfile", &format!("# check={head}\n{body}"));
        let built = kiln.ok(build);
        assert!(!built.stderr.contains("FromAsCasing"), "{}", built.stderr);
        kiln.ok("check context");
    }
    let by_argument = "--build-arg BUILDKIT_DOCKERFILE_CHECK=error=true";
    kiln.fails(1, &format!("{build} {by_argument}")).says("FromAsCasing");
    kiln.fails(1, &format!("check context {by_argument}"));
    write(&kiln, "Dockerfile", &format!("# check=error=true\n{body}"));
    kiln.ok(&format!("{build} --build-arg BUILDKIT_DOCKERFILE_CHECK=skip=all"));

    write(&kiln, "Dockerfile", &format!("# check=eror=true\n{body}"));
    kiln.fails(1, build).says("Dockerfile:1:9").says("`eror=true`");
    let json = kiln.fails(1, "check --format json context").json();
    assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], 1);
    kiln.fails(1, &format!("{build} --build-arg BUILDKIT_DOCKERFILE_CHECK=x"))
        .says("BUILDKIT_DOCKERFILE_CHECK");
}

#[test]
fn check_fetches_only_what_a_rule_needs() {
    let kiln =
        with("FROM nowhere.invalid/x\nENTRYPOINT [\"a\"]\nCOPY --from=nowhere.invalid/y /a /a\n");
    assert_eq!(kiln.ok("check context").text(), "no warnings\n");
    kiln.ok("build --call=outline context");
    write(&kiln, "Dockerfile", "FROM nowhere.invalid/x\nCOPY $a /a\nCMD x\n");
    let found = kiln.fails(1, "check --format json context");
    assert_eq!(rules(&found), own(&[(3, "JSONArgsRecommended")]));
    let error = &found.json()["buildError"];
    assert!(error["message"].as_str().unwrap().contains("nowhere.invalid/x"));
    assert_eq!(error["location"]["ranges"][0]["start"]["line"], 1);

    // What the store has is known.
    keep(&kiln, "local.invalid/app:v1");
    write(&kiln, "Dockerfile", "FROM local.invalid/app:v1\nCOPY $PATH$a /a\nCMD x\n");
    let found = kiln.fails(1, "check --format json context");
    assert_eq!(rules(&found), own(&[(2, "UndefinedVar"), (3, "JSONArgsRecommended")]));
    assert!(found.json().get("buildError").is_none());
}

#[test]
fn check_looks_at_the_ignore_file() {
    let kiln = with("FROM scratch\nCOPY a b /x/\n");
    kiln.ok("check context");
    write(&kiln, ".dockerignore", "b\n");
    let found = kiln.fails(1, "check --format json context");
    assert_eq!(rules(&found), own(&[(2, "CopyIgnoredFile")]));
    write(&kiln, "a", "");
    write(&kiln, "b", "");
    kiln.fails(1, "build context").says("CopyIgnoredFile: COPY finds no `b`");
}

#[test]
fn call_outline_and_targets() {
    let kiln = with(
        "# tool is what runs\nARG tool=scratch\nFROM ${tool} AS first\n# other text\nFROM scratch\n\
         # last is what is built\nFROM first AS last\nARG mode password\n\
         RUN --mount=type=secret,id=key,required --mount=type=cache,target=/c true\n",
    );
    let table = kiln.ok("build --call=targets context").text();
    assert_eq!(
        table,
        "TARGET          BASE     DESCRIPTION\nfirst           ${tool}\n1               scratch\n\
         last (default)  first    is what is built\n"
    );
    let json = kiln.ok("build --call=targets,format=json context").json();
    assert_eq!(json["targets"][2]["name"], "last");
    assert_eq!(json["targets"][2]["default"], true);
    assert_eq!(json["targets"][2]["base"], "first");
    assert_eq!(json["targets"][2]["description"], "is what is built");
    assert_eq!(json["targets"][2]["location"]["ranges"][0]["start"]["line"], 7);
    assert!(json["targets"][1].get("name").is_none());

    let line = "build --print=outline --build-arg mode=fast context";
    assert_eq!(
        kiln.ok(line).text(),
        "TARGET:       last\nDESCRIPTION:  is what is built\n\n\
         BUILD ARG  VALUE    DESCRIPTION\ntool       scratch  is what runs\n\
         mode       fast\npassword\n\nSECRET  REQUIRED\nkey     true\n\nCACHE  REQUIRED\n/c\n"
    );
    let json = kiln.ok("build --call=outline,format=json --build-arg mode=fast context").json();
    assert_eq!(json["name"], "last");
    assert_eq!(json["args"][0]["name"], "tool");
    assert_eq!(json["args"][1]["value"], "fast");
    assert_eq!(json["args"][2]["location"]["ranges"][0]["start"]["line"], 8);
    assert_eq!(
        json["secrets"][0],
        serde_json::json!({
            "name": "key",
            "required": true,
            "location": {"ranges": [{"start": {"line": 9}, "end": {"line": 9}}]},
        })
    );
    assert_eq!(json["cache"][0]["ID"], "/c");
    let json = kiln.ok("build --call=outline,format=json --target first context").json();
    assert_eq!(json["args"].as_array().unwrap().len(), 1);
    assert!(json.get("secrets").is_none());
    kiln.fails(1, "build --call=outline --target nothing context").says("`nothing`");
}
