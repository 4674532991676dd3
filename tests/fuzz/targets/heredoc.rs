//! The first line announces heredocs, the others are their text.
#![no_main]

use kiln::diagnostic::{Diagnostic, Source};
use kiln::dockerfile::{Instruction, parse, parse_trigger};
use kiln_fuzz::{said, spans};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    for keyword in ["RUN", "COPY", "ADD --link", "ONBUILD RUN", "ONBUILD COPY"] {
        let source = Source::new("Dockerfile", format!("FROM scratch\n{keyword} {text}"));
        let (file, diagnostics) = parse(&source);
        said(&source, &diagnostics);
        spans(source.text(), &file);
        let wrong = diagnostics.iter().any(Diagnostic::is_error);
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            match instruction {
                Instruction::Run(run) => {
                    for heredoc in &run.heredocs {
                        assert!(heredoc.content.is_empty() || heredoc.content.ends_with('\n'));
                        assert!(source.text().contains(&heredoc.content));
                        assert!(heredoc.text().len() <= heredoc.content.len());
                    }
                    assert!(run.script().is_none() || !run.heredocs.is_empty());
                }
                // What a trigger was, an image that starts from this one reads again.
                Instruction::Onbuild(onbuild) if !wrong && diagnostics.is_empty() => {
                    let _ = parse_trigger(&onbuild.trigger, onbuild.span);
                }
                _ => {}
            }
        }
    }
    Corpus::Keep
});
