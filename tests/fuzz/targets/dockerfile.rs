//! A Dockerfile, read and planned for several requests.
#![no_main]

use std::collections::BTreeMap;

use kiln::diagnostic::{Diagnostic, Source};
use kiln::digest::{BlobDigest, DiffId, Digest};
use kiln::dockerfile::{Dockerfile, Instruction, parse, parse_trigger};
use kiln::image::ImageConfig;
use kiln::layer::{Compression, Layer};
use kiln::plan::{
    Base, BaseRequest, Bases, Graph, InputKey, NamedContext, Plan, PlanRequest, Planned, plan,
};
use kiln::platform::Platform;
use kiln_fuzz::{said, spans};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    let source = Source::new("Dockerfile", text);
    let (file, diagnostics) = parse(&source);
    said(&source, &diagnostics);
    spans(text, &file);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Corpus::Keep;
    }
    again(&file);
    let plans: Vec<Plan> =
        requests().iter().filter_map(|ask| planned(&source, &file, ask)).collect();
    let graph = Graph::of(&plans);
    for (at, step) in graph.steps.iter().enumerate() {
        assert!(step.id.0 == at && step.inputs.iter().all(|input| input.0 < at));
        let roots = vec![InputKey::Rootfs(Vec::new()); step.inputs.len()];
        assert_eq!(step.key(&roots), step.clone().key(&roots));
    }
    Corpus::Keep
});

/// An instruction's text is that instruction.
fn again(file: &Dockerfile) {
    let place = Default::default();
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let text = instruction.text();
        // A text has no lines: neither those of heredocs, nor one to go on in.
        let one_line = !text.contains("<<") && !text.ends_with(file.escape);
        let trigger = !matches!(instruction, Instruction::Onbuild(_) | Instruction::Maintainer(_));
        if file.escape == '\\' && one_line && trigger {
            let read = parse_trigger(text, place).expect("it was read before");
            assert_eq!((read.keyword(), read.text()), (instruction.keyword(), text));
        }
    }
}

fn requests() -> [PlanRequest; 2] {
    let given =
        [("A", "1"), ("VERSION", "a b"), ("EMPTY", ""), ("http_proxy", "http://p"), ("X", "*")];
    let first = PlanRequest::new(Platform::new("linux", "amd64"));
    let second = PlanRequest {
        platform: Platform::new("linux", "arm64"),
        build_args: given.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        labels: BTreeMap::from([("l".to_owned(), "v".to_owned())]),
        contexts: vec![
            ("files".to_owned(), NamedContext::Files),
            ("nothing".to_owned(), NamedContext::Scratch),
        ],
        chosen: true,
        several: true,
        anew: vec!["a".to_owned()],
        ..first.clone()
    };
    [first, second]
}

fn planned(source: &Source, file: &Dockerfile, ask: &PlanRequest) -> Option<Plan> {
    let mut bases = Bases::default();
    // Triggers of a base bring in further ones, a few times.
    for _ in 0..10 {
        match plan(file, ask, &bases) {
            Err(error) => {
                said(source, &error.diagnostics);
                assert!(error.diagnostics.iter().any(Diagnostic::is_error));
                return None;
            }
            Ok(Planned::Ready(plan)) => {
                said(source, &plan.warnings);
                assert!(plan.to_string().ends_with('\n'));
                assert!(plan.steps.iter().all(|step| step.inputs.iter().all(|id| *id < step.id)));
                return Some(plan);
            }
            Ok(Planned::Missing(wants)) => {
                assert!(!wants.is_empty());
                for want in wants {
                    let base = base(&want);
                    bases.insert(want.reference, want.platform, base);
                }
            }
        }
    }
    panic!("the plan always asks for more");
}

/// An image for every name; what is in it depends on the name's length.
fn base(want: &BaseRequest) -> Base {
    let name = want.reference.to_string();
    let mut config = ImageConfig::scratch(&want.platform);
    let diff_ids = (0..name.len() % 3).map(|number| DiffId(Digest::of(&[number as u8])));
    config.rootfs.diff_ids = diff_ids.collect();
    let own = &mut config.config;
    if name.len().is_multiple_of(2) {
        own.env = vec!["PATH=/bin".to_owned(), "ODD".to_owned(), "A=b".to_owned()];
        own.working_dir = "rel/../ative".to_owned();
    }
    let triggers =
        ["COPY . $A", "RUN --mount=from=other,target=/x a", "ARG A", "COPY --from=b / /"];
    if name.contains("onbuild") {
        own.on_build = Some(triggers.map(str::to_owned).to_vec());
    }
    let layers = config.rootfs.diff_ids.iter().map(|diff_id| Layer {
        diff_id: *diff_id,
        digest: BlobDigest::of(diff_id.to_string().as_bytes()),
        size: 1,
        compression: Compression::Gzip,
    });
    let layers = layers.collect();
    let digest = BlobDigest::of(name.as_bytes());
    Base { reference: want.reference.clone(), digest, config, layers }
}
