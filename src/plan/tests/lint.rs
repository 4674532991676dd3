//! `testdata/lint`: cases that break a rule and cases that do not, beside what is
//! said of them, and beside what BuildKit answered when `testdata/lint/record` asked
//! it. `KILN_BLESS=1` writes the former anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::dockerfile::Ignore;
use crate::dockerfile::lint::{self, RULES};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/lint")
}

/// Looks at every stage, and knows the images of `testdata/plan`.
fn found(text: &str, ignore: Option<Ignore>) -> (Dockerfile, Vec<Diagnostic>) {
    let (file, said) = dockerfile::parse(&Source::new("Dockerfile", text));
    assert!(!said.iter().any(Diagnostic::is_error), "{said:?}");
    let ask = PlanRequest { ignore, all_stages: true, ..request(text) };
    let (known, mut bases) = (known(), Bases::default());
    loop {
        let wants = match plan(&file, &ask, &bases).unwrap() {
            Planned::Ready(plan) => return (file, plan.warnings),
            Planned::Missing(wants) => wants,
        };
        for want in wants {
            let config = known[&want.reference.to_string()].clone();
            let base = base(&want.reference, config);
            bases.insert(want.reference, want.platform, base);
        }
    }
}

/// The rules with the lines where the instructions begin that break them.
fn lines(text: &str, file: &Dockerfile, said: &[Diagnostic]) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let mut lines: Vec<(usize, &str)> = said
        .iter()
        .filter_map(|said| {
            let rule = said.rule?;
            let around = file.notes.range(..=said.span.start).next_back();
            let line = match around {
                Some((_, note)) if rule != &lint::NO_EMPTY_CONTINUATION => *note.lines.start(),
                _ => source.line(said.span.start),
            };
            Some((line, rule.name))
        })
        .collect();
    lines.sort_unstable();
    lines.iter().map(|(line, rule)| format!("{line} {rule}")).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn cases() {
    let bless = std::env::var_os("KILN_BLESS").is_some();
    let mut wrong = Vec::new();
    for rule in RULES {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(folder().join(rule.name)).unwrap() {
            let path = entry.unwrap().path();
            let (name, kind) = path.file_name().unwrap().to_str().unwrap().split_once('.').unwrap();
            match kind {
                "Dockerfile" => {}
                "Dockerfile.dockerignore" | "buildkit" | "txt" => {
                    let case = path.with_file_name(format!("{name}.Dockerfile"));
                    assert!(case.exists(), "{} is unused", path.display());
                    continue;
                }
                _ => panic!("{} is no case", path.display()),
            }
            let text = fs::read_to_string(&path).unwrap();
            let ignore = fs::read_to_string(path.with_extension("Dockerfile.dockerignore"));
            let ignore = ignore.ok().map(|text| Ignore::parse(&text).unwrap());
            let (file, said) = found(&text, ignore);
            let (case, ours) = (path.display(), lines(&text, &file, &said));
            let theirs = fs::read_to_string(path.with_extension("buildkit")).unwrap();
            if ours.iter().map(String::as_str).ne(theirs.lines()) {
                wrong.push(format!("{case}: BuildKit says\n{theirs}and not\n{}", ours.join("\n")));
            }
            let breaks = ours.iter().any(|line| line.ends_with(&format!(" {}", rule.name)));
            if (name == "bad" && !breaks) || (name == "good" && breaks) {
                wrong.push(format!("{case}: {}", ours.join("\n")));
            }
            let (expected, told) = (path.with_extension("txt"), text_of(&said, &text));
            if bless {
                fs::write(&expected, &told).unwrap();
            } else if fs::read_to_string(&expected).unwrap_or_default() != told {
                wrong.push(format!("{case}: it is said\n{told}"));
            }
            names.insert(name.to_owned());
        }
        assert!(names.contains("bad") && names.contains("good"), "{} lacks a case", rule.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_is_described() {
    let mut names = BTreeSet::new();
    for rule in RULES {
        assert!(names.insert(rule.name), "{} is there twice", rule.name);
        assert!(rule.sentence.len() > 20 && rule.sentence.ends_with('.'), "{}", rule.name);
    }
    assert_eq!(names.len(), 22);
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(name.as_str()) || name == "record", "{name} is no rule");
    }
    let url = |rule| lint::url(rule).unwrap_or_default();
    let kebab = "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/";
    assert_eq!(url(&lint::JSON_ARGS_RECOMMENDED), kebab);
    let kebab = "https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/";
    assert_eq!(url(&lint::SECRETS_USED_IN_ARG_OR_ENV), kebab);
    assert_eq!(url(&lint::INVALID_BASE_IMAGE_PLATFORM), "");
}

/// Which rules `text` breaks.
fn rules(text: &str) -> Vec<&'static str> {
    found(text, None).1.iter().filter_map(|said| Some(said.rule?.name)).collect()
}

#[test]
fn settings() {
    let body = "FROM scratch as one\nCOPY a /a\ncopy b /b\n";
    let both = vec!["FromAsCasing", "ConsistentInstructionCasing"];
    for (head, want) in [
        ("", both.clone()),
        ("#check=skip=all\n", vec![]),
        ("# check=skip=FromAsCasing;error=true\n", vec!["ConsistentInstructionCasing"]),
        ("# check=error=true;skip=FromAsCasing,ConsistentInstructionCasing\n", vec![]),
        ("# check=skip=NoSuchRule\n", both.clone()),
        // The value ends at the first space.
        ("# check=skip=FromAsCasing, ConsistentInstructionCasing\n", vec![both[1]]),
        // Only where directives stand, or above an instruction.
        ("# text\n# check=skip=ConsistentInstructionCasing\n", both.clone()),
        ("# text\n# check=skip=FromAsCasing\n", vec![both[1]]),
        ("# text\n# check=nothing\n", both.clone()),
        // The argument takes the directive's place.
        (
            "# check=skip=all\n# plan: arg BUILDKIT_DOCKERFILE_CHECK=skip=FromAsCasing\n",
            vec![both[1]],
        ),
        ("# plan: arg BUILDKIT_DOCKERFILE_CHECK=skip=all\n", vec![]),
        // An experimental rule is not skipped, but asked for.
        ("# check=skip=all;experimental=all\n# text\n", vec!["InvalidDefinitionDescription"]),
    ] {
        assert_eq!(rules(&format!("{head}{body}")), want, "{head}");
    }
    for head in ["# check=nothing\n", "# check=skip\n", "# check=error=maybe\n"] {
        let text = format!("{head}{body}");
        let (file, _) = dockerfile::parse(&Source::new("Dockerfile", &*text));
        assert!(plan(&file, &request(&text), &Bases::default()).is_err(), "{head}");
    }
}

#[test]
fn unknown_images_are_asked_for_when_needed() {
    let wants = |text: &str| {
        let (file, _) = dockerfile::parse(&Source::new("Dockerfile", text));
        let ask = PlanRequest { all_stages: true, ..request(text) };
        let mut bases = Bases::default();
        let Planned::Missing(wants) = plan(&file, &ask, &bases).unwrap() else { panic!() };
        wants.iter().for_each(|want| bases.guess(want));
        let again = match plan(&file, &ask, &bases).unwrap() {
            Planned::Missing(again) => again,
            Planned::Ready(plan) => {
                assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
                return 0;
            }
        };
        again.iter().for_each(|want| bases.give_up(want));
        let Planned::Ready(plan) = plan(&file, &ask, &bases).unwrap() else { panic!() };
        // It is not known what they define, and unlikely that they name a shell.
        let others =
            plan.warnings.iter().filter(|it| it.rule != Some(&lint::JSON_ARGS_RECOMMENDED));
        assert_eq!(others.count(), 0, "{:?}", plan.warnings);
        again.len()
    };
    assert_eq!(wants("FROM a\nCOPY x /x\nCOPY --from=b /y /y\nCMD [\"x\"]\n"), 0);
    assert_eq!(wants("FROM a\nCOPY $x /x\nCOPY $y /y\n"), 1);
    assert_eq!(wants("FROM a AS one\nFROM one\nCMD x\nFROM b\nENV x=$y\n"), 2);
    assert_eq!(wants("# check=skip=JSONArgsRecommended\nFROM a\nCMD x\n"), 0);
}

#[test]
fn outlines() {
    let outline = |text: &str| {
        let (file, said) = dockerfile::parse(&Source::new("Dockerfile", text));
        assert!(!said.iter().any(Diagnostic::is_error), "{said:?}");
        let Planned::Ready(plan) = plan(&file, &request(text), &Bases::default()).unwrap() else {
            panic!()
        };
        plan.outline
    };
    let args = |outline: &Outline| -> BTreeMap<String, String> {
        let pairs = outline.args.iter().map(|arg| (arg.name.clone(), arg.value.clone()));
        pairs.collect()
    };
    let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };

    // Arguments that use one another, and themselves.
    let said = outline(
        "ARG FOO=123\nARG ABC=abc\nARG DEF=def\nARG FOO=${FOO}${ABC}\nARG BAR=${FOO}456\n\
         ARG FOO=${FOO}456${BAR}\nFROM scratch\nARG FOO\nARG INFOO=123\nARG INBAR=${INFOO}456\n\
         ARG INFOO=${INFOO}456${INBAR}\n",
    );
    let want = of(&[
        ("ABC", "abc"),
        ("BAR", "123abc456"),
        ("FOO", "123abc456123abc456"),
        ("INBAR", "123456"),
        ("INFOO", "123456123456"),
    ]);
    assert_eq!(args(&said), want);
    assert_eq!((said.name.clone(), said.description.clone()), (None, None));

    // Only of stages that the target needs.
    let text = "ARG base=scr\nARG unused=${base}\n# full is the whole name\nARG full=${base}atch\n\
         FROM ${full} AS first\nARG FOO=1\n\
         RUN --mount=type=secret,target=/etc/x,required --mount=type=ssh \
         --mount=type=cache,target=/c true\n\
         FROM scratch AS second\nARG BAZ\nRUN --mount=type=secret,id=no true\n\
         FROM scratch AS third\nARG ABC=a\nARG TARGETPLATFORM\n\
         RUN --mount=type=secret,id=s$ABC --mount=type=secret,id=x true\n\
         # target is what is built\nFROM third AS target\nCOPY --from=first /a /a\n\
         FROM second\n# plan: target target\n# plan: arg ABC=given\n";
    let said = outline(text);
    let want = of(&[("base", "scr"), ("full", "scratch"), ("FOO", "1"), ("ABC", "given")]);
    assert_eq!(args(&said), want);
    assert_eq!(said.name.as_deref(), Some("target"));
    assert_eq!(said.description.as_deref(), Some("is what is built"));
    let described: Vec<_> = said.args.iter().filter_map(|arg| arg.description.clone()).collect();
    assert_eq!(described, ["is the whole name"]);
    let names = |uses: &[OutlineUse]| -> Vec<(String, bool)> {
        uses.iter().map(|it| (it.name.clone(), it.required)).collect()
    };
    let own = |pairs: &[(&str, bool)]| -> Vec<(String, bool)> {
        pairs.iter().map(|(name, required)| ((*name).to_owned(), *required)).collect()
    };
    // What the target starts from comes before what it copies from.
    assert_eq!(names(&said.secrets), own(&[("sgiven", false), ("x", false)]));
    assert_eq!(names(&said.ssh), own(&[("default", false)]));
    assert_eq!(names(&said.caches), own(&[("/c", false)]));
}
