//! `--explain-cache`: why a step is made that an earlier build had made.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::bench::{Bench, busybox, callers, file};
use crate::support::kiln::Output;

const TEXT: &str = "FROM busybox AS one\nARG TOKEN\nRUN echo $TOKEN | wc -c >/n\n\
    COPY dir /dir\nFROM busybox\nWORKDIR /w\nCOPY a /a\n\
    RUN --mount=type=bind,source=m,target=/m cat /a /m >/b\nCOPY --from=one /dir /dir\n";

fn bench() -> Bench {
    let bench = Bench::with_busybox(callers()[0]);
    bench.file("a", "A").file("m", "M").file("dir/x", "X").file("dir/y", "Y");
    bench
}

/// What is said, each line behind the step's instruction.
fn told(output: &Output) -> Vec<String> {
    let lines: Vec<(&str, &str)> =
        output.stderr.lines().filter_map(|line| line.split_once(' ')).collect();
    let name = |number: &str| {
        let (_, name) = lines.iter().find(|(other, _)| *other == number).unwrap();
        name.split_once("] ").unwrap().1.split(' ').take(2).collect::<Vec<_>>().join(" ")
    };
    let said = lines.iter().filter_map(|(number, text)| {
        let why = text.strip_prefix("made anew: ")?;
        Some(format!("{}: {why}", name(number)))
    });
    let mut said: Vec<String> = said.collect();
    said.sort();
    said
}

#[test]
fn explain_each_change() {
    let bench = bench();
    let build = |text: &str, more: &str| {
        let more = format!("--explain-cache --build-arg TOKEN=first {more}");
        told(&bench.build(text, &more).success())
    };
    // The first time there is nothing to explain, and a step that is found needs no reason.
    assert_eq!(build(TEXT, ""), [""; 0]);
    assert_eq!(build(TEXT, ""), [""; 0]);

    bench.file("a", "A2");
    let parent = "`[stage-1 3/5] COPY a /a` gave another layer";
    assert_eq!(
        build(TEXT, ""),
        [
            format!("COPY --from=one: {parent}"),
            "COPY a: `a` was changed".to_owned(),
            format!("RUN --mount=type=bind,source=m,target=/m: {parent}"),
        ]
    );
    // Back again: all is known, and what is remembered is the latest.
    bench.file("a", "A");
    assert_eq!(build(TEXT, ""), [""; 0]);

    bench.file("dir/z", "Z");
    fs::remove_file(bench.context().join("dir/y")).unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(bench.context().join("dir/x"), mode).unwrap();
    let said = build(TEXT, "");
    let own: Vec<&String> = said.iter().filter(|line| line.starts_with("COPY dir")).collect();
    assert_eq!(
        own,
        [
            "COPY dir: `dir/x` has another mode",
            "COPY dir: `dir/y` was removed",
            "COPY dir: `dir/z` was added",
        ]
    );
    assert!(
        said.contains(
            &"COPY --from=one: what it copies from: `[one 3/3] COPY dir /dir` gave another layer"
                .to_owned()
        ),
        "{said:#?}"
    );

    bench.file("m", "M2");
    assert!(
        build(TEXT, "")
            .contains(&"RUN --mount=type=bind,source=m,target=/m: `m` was changed".to_owned())
    );

    // Not what it is, and that of no layer that is made with it.
    let said = bench.build(TEXT, "--explain-cache --build-arg TOKEN=geheimnis").success();
    let lines = told(&said);
    assert!(lines.contains(&"RUN echo: variable `TOKEN` was changed".to_owned()), "{lines:#?}");
    let parent = "`[one 2/3] RUN echo $TOKEN | wc -c >/n` gave another layer";
    assert!(lines.contains(&format!("COPY dir: {parent}")), "{lines:#?}");
    assert!(!said.stderr.contains("geheimnis"), "{}", said.stderr);
    bench.build(TEXT, "--build-arg TOKEN=first").success();

    // Another text in the same place; a line in between explains itself by nothing.
    for (old, new, expected) in [
        ("COPY a /a", "COPY --chown=3 a /a", "COPY --chown=3: --chown was changed"),
        ("echo $TOKEN", "echo  $TOKEN", "RUN echo: the command was changed"),
        ("COPY a /a", "RUN echo A > /a", "RUN echo: another instruction stood here"),
        (
            "COPY a /a",
            "RUN true > /t\nCOPY a /a",
            "COPY a: `[stage-1 3/6] RUN true > /t` gave another layer",
        ),
    ] {
        build(TEXT, "");
        let said = build(&TEXT.replace(old, new), "");
        assert!(said.iter().any(|line| line == expected), "{expected}: {said:#?}");
        assert!(!said.iter().any(|line| line.starts_with("RUN true: `")), "{said:#?}");
    }

    build(TEXT, "");
    let said = build(TEXT, "--build-arg SOURCE_DATE_EPOCH=1000000000");
    assert!(said.contains(&"WORKDIR /w: SOURCE_DATE_EPOCH was changed".to_owned()), "{said:#?}");
    bench.clean();
}

#[test]
fn explain_what_is_no_change() {
    let bench = bench();
    let build = |more: &str| told(&bench.build(TEXT, &format!("--explain-cache {more}")).success());
    assert_eq!(build(""), [""; 0]);
    let said = build("--no-cache");
    assert_eq!(said.len(), 6, "{said:#?}");
    assert!(said.iter().all(|line| line.ends_with(": --no-cache")), "{said:#?}");
    assert_eq!(
        build("--no-cache-filter one"),
        ["COPY dir: --no-cache-filter", "RUN echo: --no-cache-filter"]
    );
    build("");
    let layers = bench.image().layers().to_vec();
    fs::remove_file(bench.store().blob_path(&layers[2].digest)).unwrap();
    assert_eq!(build(""), ["COPY a: its layer is no longer in the store"]);
    fs::remove_dir_all(bench.path("store/records/steps")).unwrap();
    let said = build("");
    assert_eq!(said.len(), 6, "{said:#?}");
    let gone = ": the record of the step is no longer in the store";
    assert!(said.iter().all(|line| line.ends_with(gone)), "{said:#?}");
    // What is remembered for people is no reason to fail.
    for record in fs::read_dir(bench.path("store/records/traces")).unwrap() {
        fs::write(record.unwrap().path(), "rubbish").unwrap();
    }
    bench.file("a", "A2");
    assert_eq!(build(""), [""; 0]);
    bench.clean();
    // Another form is no reason to make a step anew.
    assert_eq!(build("--compression zstd"), Vec::<String>::new());
}

#[test]
fn explain_a_base_that_changed() {
    let bench = bench();
    let before = bench.store().image_named(&"busybox".parse().unwrap()).unwrap().digest();
    bench.build(TEXT, "").success();
    let mut layer = busybox();
    layer.push(file("new", 0o644, "new"));
    bench.base("busybox", &[layer]);
    let after = bench.store().image_named(&"busybox".parse().unwrap()).unwrap().digest();
    // In one line, also for those who did not ask.
    let said = told(&bench.build(TEXT, "").success());
    let expected = format!("WORKDIR /w: base image busybox:latest: {before} → {after}");
    assert!(said.contains(&expected), "{said:#?}");
    bench.clean();
}

/// One of many files, and nothing that is secret.
#[test]
fn explain_among_many_files() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        for number in 0..500 {
            bench.file(format!("many/{number:03}"), format!("content {number}"));
        }
        let text = "FROM busybox\nARG TOKEN\nCOPY many /many\n\
            RUN --mount=type=secret,id=s cat /run/secrets/s | wc -c >/n\n";
        fs::write(bench.path("secret"), "geheim").unwrap();
        let more = "--secret id=s,src=secret --build-arg TOKEN=vertraulich";
        bench.build(text, more).success();
        let traces = || {
            let all = walkdir::WalkDir::new(bench.path("store/records")).into_iter().flatten();
            let files = all.filter(|entry| entry.file_type().is_file());
            files
                .filter(|entry| entry.path().to_string_lossy().contains("/trace"))
                .collect::<Vec<_>>()
        };
        // The fields of all steps, and a list of files.
        assert_eq!(traces().len(), 2);
        for entry in traces() {
            let bytes = fs::read(entry.path()).unwrap();
            let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
            assert!(!has(b"geheim") && !has(b"vertraulich"), "{}", entry.path().display());
        }
        bench.file("many/321", "other");
        fs::remove_file(bench.context().join("many/123")).unwrap();
        let said = bench.build(text, more).success();
        assert_eq!(told(&said)[0], "COPY many: `many/321` was changed; `many/123` was removed");
        for number in 0..30 {
            bench.file(format!("many/{number:03}"), "other");
        }
        let said = told(&bench.build(text, &format!("{more} --explain-cache")).success());
        assert_eq!((said.len(), said[0].as_str()), (12, "COPY many: 20 more files"), "{said:#?}");
        let json = format!("{more} --progress=rawjson");
        bench.file("many/400", "other");
        fs::write(bench.path("Dockerfile"), text).unwrap();
        let args = format!("build -f Dockerfile context {json}");
        let said = bench.run(&mut bench.call(args.split(' '))).success();
        let causes = said.stderr.lines().find(|line| line.contains("\"causes\"")).unwrap();
        let causes: serde_json::Value = serde_json::from_str(causes).unwrap();
        assert_eq!(
            causes["vertexes"][0]["causes"],
            serde_json::json!([{
                "kind": "file", "name": "many/400", "change": "changed", "text": "`many/400` was changed",
            }])
        );
        bench.clean();
    }
}
