//! `testdata/plan`: each Dockerfile beside the text of its plan, or of what is
//! wrong. `# plan:` lines in a file say what is asked; `bases.json` has the
//! images that are known. `KILN_BLESS=1` writes the expected texts anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::diagnostic::{Diagnostic, Source};
use crate::digest::{BlobDigest, DiffId, Digest};
use crate::dockerfile;
use crate::epoch::Epoch;
use crate::image::{ImageConfig, assemble};
use crate::layer::{Compression, Layer};
use crate::platform::Platform;
use crate::reference::Reference;

mod lint;

fn layer(diff_id: DiffId) -> Layer {
    let digest = BlobDigest::of(diff_id.to_string().as_bytes());
    Layer { diff_id, digest, size: 1, compression: Compression::Gzip }
}

fn known() -> BTreeMap<String, ImageConfig> {
    serde_json::from_str(include_str!("../../testdata/plan/bases.json")).unwrap()
}

fn base(reference: &Reference, config: ImageConfig) -> Base {
    let layers = config.rootfs.diff_ids.iter().copied().map(layer).collect();
    let digest = BlobDigest::of(reference.to_string().as_bytes());
    Base { reference: reference.clone(), digest, config, layers }
}

fn request(text: &str) -> PlanRequest {
    let amd64 = Platform::new("linux", "amd64");
    let mut ask = PlanRequest { insecure: true, ..PlanRequest::new(amd64) };
    for line in text.lines().filter_map(|line| line.strip_prefix("# plan: ")) {
        let (what, rest) = line.split_once(' ').unwrap();
        let pairs = rest.split(' ').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        match what {
            "platform" => (ask.platform, ask.chosen) = (rest.parse().unwrap(), true),
            "several" => ask.several = rest == "yes",
            "anew" => ask.anew = rest.split(' ').map(str::to_owned).collect(),
            "context" => ask.contexts.extend(pairs.map(|(name, to)| match to.as_str() {
                "files" => (name, NamedContext::Files),
                "scratch" => (name, NamedContext::Scratch),
                image => (name, NamedContext::Image(image.parse().unwrap())),
            })),
            "target" => ask.target = Some(rest.to_owned()),
            "arg" => ask.build_args.extend(pairs),
            "label" => ask.labels.extend(pairs),
            other => panic!("{other}"),
        }
    }
    ask
}

/// Plans with the known images, asked for until nothing is missing.
fn planned(text: &str, told: &mut String) -> Result<Option<Plan>, PlanError> {
    let source = Source::new("Dockerfile", text);
    let (file, said) = dockerfile::parse(&source);
    assert!(!said.iter().any(Diagnostic::is_error), "{said:?}");
    let (ask, known, mut bases) = (request(text), known(), Bases::default());
    loop {
        let wants = match plan(&file, &ask, &bases)? {
            Planned::Ready(plan) => return Ok(Some(plan)),
            Planned::Missing(wants) => wants,
        };
        let before = bases.len();
        for want in wants {
            let line = source.line(want.span.start);
            writeln!(told, "line {line} wants {} for {}", want.reference, want.platform).unwrap();
            if let Some(config) = known.get(&want.reference.to_string()) {
                let base = base(&want.reference, config.clone());
                bases.insert(want.reference, want.platform, base);
            }
        }
        if bases.len() == before {
            return Ok(None);
        }
    }
}

fn ready(text: &str) -> Plan {
    planned(text, &mut String::new()).unwrap().unwrap()
}

fn text_of(said: &[Diagnostic], text: &str) -> String {
    let source = Source::new("Dockerfile", text);
    let mut all = String::new();
    for said in said {
        let place = &text[said.span.range()];
        let kind = match said.rule {
            _ if said.is_error() => "error".to_owned(),
            Some(rule) => format!("warning[{}]", rule.name),
            None => "warning".to_owned(),
        };
        let line = source.line(said.span.start);
        writeln!(all, "{kind}, line {line} `{place}`: {}", said.message).unwrap();
        if !said.label.is_empty() {
            writeln!(all, "  {}", said.label).unwrap();
        }
        if let Some(hint) = &said.hint {
            writeln!(all, "  hint: {hint}").unwrap();
        }
    }
    all
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn plans_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/plan");
    let bless = std::env::var_os("KILN_BLESS").is_some();
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "Dockerfile") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let mut found = String::new();
        match planned(&text, &mut found) {
            Ok(Some(plan)) => {
                consistent(&plan);
                found += &plan.to_string();
                found += &text_of(&plan.warnings, &text);
            }
            Ok(None) => found += "not known\n",
            Err(error) => found += &text_of(&error.diagnostics, &text),
        }
        let expected = path.with_extension("plan");
        if bless {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
    }
    assert!(count > 10);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What every plan promises.
fn consistent(plan: &Plan) {
    for (place, step) in plan.steps.iter().enumerate() {
        assert_eq!(step.id, StepId(place));
        assert!(step.inputs.iter().all(|input| *input < step.id), "{step}");
        assert_eq!(step.inputs.is_empty(), matches!(step.op, Op::Base(_)), "{step}");
        if let Op::Copy(CopyOp { from: CopyFrom::Input(index), .. }) = step.op {
            assert!(step.inputs.get(index).is_some_and(|_| index > 0), "{step}");
        }
    }
    // The config can be assembled with the layers that the steps will make.
    let mut layers = Vec::new();
    let graph = Graph::of(std::slice::from_ref(plan));
    assert_eq!((graph.steps.len(), graph.results[0]), (plan.steps.len(), plan.result));
    for id in graph.chain(plan.result) {
        match &graph.step(id).op {
            Op::Base(base) => {
                layers.extend(base.image.iter().flat_map(|image| image.layers.clone()));
            }
            Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => {
                layers.push(layer(DiffId::of(id.to_string().as_bytes())));
            }
        }
    }
    let image = assemble(plan.config.clone(), &layers).unwrap();
    assert_eq!(image.layers().len(), layers.len());
}

const FILE: &str = "FROM alpine:3.20 AS s\nFROM alpine:3.20\nARG A=1\nUSER u\n\
    WORKDIR /w\nCOPY x y /d/\nCOPY --from=s --chown=u --chmod=600 x /d\nRUN make\n";

fn keys(text: &str) -> Vec<(String, CacheKey)> {
    let plan = ready(text);
    let steps = plan.steps.iter().filter(|step| !matches!(step.op, Op::Base(_)));
    steps.map(|step| (step.name.clone(), key(step))).collect()
}

/// As if every input had the same content.
fn key(step: &Step) -> CacheKey {
    let root = || InputKey::Rootfs(vec![DiffId::of(b"a"), DiffId::of(b"b")]);
    let mut inputs: Vec<InputKey> = step.inputs.iter().map(|_| root()).collect();
    if matches!(step.op, Op::Copy(CopyOp { from: CopyFrom::Context, .. })) {
        inputs.push(InputKey::Context(Digest::of(b"files")));
    }
    step.key(&inputs)
}

/// Which of the steps WORKDIR, COPY, COPY --from and RUN have another key.
fn changed(edit: impl Fn(&str) -> String) -> String {
    let (before, after) = (keys(FILE), keys(&edit(FILE)));
    assert_eq!(before.len(), 4);
    assert_eq!(after.len(), 4, "{after:?}");
    let letters = "WCFR".chars();
    letters
        .zip(before.iter().zip(&after))
        .filter(|(_, (a, b))| a.1 != b.1)
        .map(|(c, _)| c)
        .collect()
}

#[test]
fn what_changes_a_key() {
    let swap = |from: &'static str, to: &'static str| {
        move |text: &str| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        }
    };
    let cases = [
        // Metadata, names, places and the way a command is told.
        ("COPY x", "LABEL a=b\nCMD x\nEXPOSE 1\nVOLUME /v\nCOPY x", ""),
        ("AS s", "AS t", "-"),
        ("FROM", "# a comment\nFROM", ""),
        ("RUN make", "RUN [\"/bin/sh\", \"-c\", \"make\"]", ""),
        ("COPY x y /d/", "COPY ./x/ /y ../d/", ""),
        ("RUN", "STOPSIGNAL 9\nHEALTHCHECK CMD x\nENTRYPOINT y\nRUN", ""),
        ("ARG A=1", "ARG A=1\nARG UNSET", ""),
        // The environment reaches RUN alone.
        ("ARG A=1", "ARG A=2", "R"),
        ("ARG A=1", "ENV A=1 B=2", "R"),
        ("RUN", "SHELL [\"bash\", \"-c\"]\nRUN", "R"),
        ("RUN make", "RUN make all", "R"),
        ("RUN make", "RUN --network=none make", "R"),
        ("RUN make", "RUN --security=insecure make", "R"),
        ("RUN make", "RUN --mount=target=/x make", "R"),
        ("RUN make", "RUN --mount=type=cache,target=/x make", "R"),
        ("RUN make", "RUN --mount=type=secret,id=x make", "R"),
        ("RUN make", "RUN --mount=type=ssh make", "R"),
        ("RUN make", "RUN --mount=type=tmpfs,target=/x make", "R"),
        ("RUN make", "RUN <<E\nmake\nE", "R"),
        ("RUN make", "RUN <<E\n#!/bin/make\nE", "R"),
        ("RUN", "ENV B=2\nRUN", "R"),
        ("USER u\nWORKDIR /w", "WORKDIR /w\nUSER u", "W"),
        ("USER u", "USER v", "WR"),
        ("RUN", "USER root\nRUN", "R"),
        ("WORKDIR /w", "WORKDIR /v", "WR"),
        ("COPY x y /d/", "COPY y x /d/", "C"),
        ("COPY x y /d/", "COPY x y /d", "C"),
        ("COPY x y /d/", "ADD x y /d/", "C"),
        ("COPY x y /d/", "COPY xy /d/", "C"),
        ("COPY x y /d/", "COPY --chown=0 x y /d/", "C"),
        ("COPY x y /d/", "COPY --chmod=0 x y /d/", "C"),
        ("COPY x y /d/", "COPY --exclude=z x y /d/", "C"),
        ("COPY x y /d/", "COPY --parents x y /d/", "C"),
        ("COPY x y /d/", "COPY --chmod=u=r x y /d/", "C"),
        ("COPY x y /d/", "COPY x y <<z /d/\nz", "C"),
        ("COPY x y /d/", "ADD --unpack=false x y /d/", ""),
        ("--chown=u", "--chown=v", "F"),
        ("--chown=u ", "", "F"),
        ("600", "601", "F"),
        ("x /d\n", "x /e\n", "F"),
    ];
    for (from, to, want) in cases {
        if want == "-" {
            let renamed = |text: &str| text.replace("AS s", "AS t").replace("=s", "=t");
            assert_eq!(changed(renamed), "", "{from}");
        } else {
            assert_eq!(changed(swap(from, to)), want, "{from} -> {to}");
        }
    }
    // A copy of the same files from the context and from a root.
    assert_eq!(changed(swap("--from=s ", "")), "F");
    let with = |line: &'static str| move |text: &str| format!("# plan: {line}\n{text}");
    assert_eq!(changed(with("label a=b")), "");
    assert_eq!(changed(with("arg A=3")), "R");
    assert_eq!(changed(with("arg HTTP_PROXY=x")), "", "hints are not hashed");
    assert_eq!(changed(with("platform linux/arm64")), "R");
}

#[test]
fn inputs_and_time_change_a_key() {
    let plan = ready(FILE);
    let root =
        |layers: &[&[u8]]| InputKey::Rootfs(layers.iter().map(|layer| DiffId::of(layer)).collect());
    for step in &plan.steps {
        let all = [
            vec![root(&[b"a", b"b"])],
            vec![root(&[b"b", b"a"])],
            vec![root(&[b"a"]), root(&[b"b"])],
            vec![root(&[b"a"])],
            vec![root(&[])],
            vec![],
            vec![InputKey::Context(Digest::of(b"a"))],
            vec![InputKey::Context(Digest::of(b"b"))],
            vec![root(&[]), root(&[])],
        ];
        let mut keys: Vec<CacheKey> = all.iter().map(|inputs| step.key(inputs)).collect();
        keys.push(Step { epoch: "1".parse().unwrap(), ..step.clone() }.key(&all[0]));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count, "{step}");
        let renamed = Step { id: StepId(99), name: "x".into(), span: None, ..step.clone() };
        assert_eq!(renamed.key(&all[0]), step.key(&all[0]));
    }
}

/// `SOURCE_DATE_EPOCH` as an argument of the build, of the file, and as a context's name.
#[test]
fn times_that_are_asked_for() {
    let file = |default: &str| format!("ARG SOURCE_DATE_EPOCH{default}\nFROM scratch\nLABEL a=b\n");
    let commit: Epoch = "1500000000".parse().unwrap();
    for (text, given, committed, want) in [
        (file("=1600000000"), None, None, Ok("2020-09-13T12:26:40Z")),
        (file("=1600000000"), Some("1700000000"), None, Ok("2023-11-14T22:13:20Z")),
        (file(""), None, None, Ok("1980-01-01T00:00:00Z")),
        (
            "FROM scratch\nARG SOURCE_DATE_EPOCH=1".to_owned(),
            None,
            None,
            Ok("1980-01-01T00:00:00Z"),
        ),
        (file("=context"), None, Some(commit), Ok("2017-07-14T02:40:00Z")),
        (file("=context"), None, None, Ok("1980-01-01T00:00:00Z")),
        (file("=files"), None, None, Ok("1980-01-01T00:00:00Z")),
        (file(""), Some("context"), Some(commit), Ok("2017-07-14T02:40:00Z")),
        (file(""), Some("context"), None, Err("time of `context`, which has none: a folder")),
        (file(""), Some("files"), None, Err("time of `files`, which has none: an image")),
        (file("=today"), None, None, Err("`today` is not a SOURCE_DATE_EPOCH")),
        (file("=s") + "FROM scratch AS s\n", None, None, Err("does not look up the time")),
    ] {
        let time = committed.ok_or_else(|| "a folder without git".to_owned());
        let times = std::iter::once(("context".to_owned(), time)).collect();
        let mut ask = PlanRequest { times, ..request("") };
        ask.contexts = vec![("files".to_owned(), NamedContext::Files)];
        ask.build_args
            .extend(given.map(|given| ("SOURCE_DATE_EPOCH".to_owned(), given.to_owned())));
        let (parsed, _) = dockerfile::parse(&Source::new("Dockerfile", text.as_str()));
        match (plan(&parsed, &ask, &Bases::default()), want) {
            (Ok(Planned::Ready(plan)), Ok(want)) => {
                assert_eq!(plan.config.created.as_deref(), Some(want), "{text}");
            }
            (Err(error), Err(want)) => {
                let said = &error.diagnostics[0].message;
                assert!(said.contains(want), "{text}: {said}");
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
}

/// Recorded: keys name results on other machines and in older stores. If one
/// changes on purpose, [`FORMAT`] is raised.
#[test]
fn keys_stay() {
    let all: Vec<String> = keys(FILE).iter().map(|(_, key)| key.0.short()).collect();
    assert_eq!(
        (FORMAT, all.join(" ").as_str()),
        (3, "f02676e373b8 aaf1ff7efc40 59d0668b3647 2826cde0feda")
    );
}

#[test]
fn proxies_have_no_debug_text() {
    let plan = ready("# plan: arg HTTP_PROXY=http://user:hush@p\nFROM alpine:3.20\nRUN x\n");
    assert!(format!("{plan:?}").contains("HTTP_PROXY"));
    for text in [format!("{plan:?}"), plan.to_string()] {
        assert!(!text.contains("hush"));
    }
}

#[test]
fn platforms_share_what_is_the_same() {
    let text = "FROM --platform=$BUILDPLATFORM alpine:3.20 AS tools\nRUN prepare\n\
        FROM tools AS build\nARG TARGETARCH\nRUN make\n\
        FROM alpine:3.20\nCOPY --from=build /out /out\n";
    let plan = |platform: &str| {
        let flags = format!("{text}# plan: platform {platform}\n# plan: several yes\n");
        planned(&flags, &mut String::new()).unwrap().unwrap()
    };
    let graph = Graph::of(&[plan("linux/amd64"), plan("linux/arm64")]);
    let names: Vec<&str> = graph.steps.iter().map(|step| step.name.as_str()).collect();
    let names: Vec<&str> =
        names.iter().map(|name| name.split("docker.io/").next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "[linux/amd64 tools 1/2] FROM ",
            "[linux/amd64 tools 2/2] RUN prepare",
            "[linux/amd64 build 1/1] RUN make",
            "[linux/amd64 stage-2 2/2] COPY --from=build /out /out",
            "[linux/amd64->arm64 build 1/1] RUN make",
            "[linux/arm64 stage-2 1/2] FROM ",
            "[linux/arm64 stage-2 2/2] COPY --from=build /out /out",
        ]
    );
}
