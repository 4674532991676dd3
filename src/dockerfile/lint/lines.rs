//! Single instructions: empty lines within one, and one that is out of date.

use crate::diagnostic::Diagnostic;

use super::super::ast::Instruction;
use super::{Found, MAINTAINER_DEPRECATED, NO_EMPTY_CONTINUATION};

pub(super) fn check(found: &mut Found<'_>) {
    for note in found.file.notes.values() {
        if let Some(span) = note.continues_over_blank {
            let said = Diagnostic::warning(span, "an empty line stands within the instruction")
                .label("it ends here")
                .hint("remove the line, or end the one above without the escape character");
            found.add_whole(&NO_EMPTY_CONTINUATION, said);
        }
    }
    for instruction in found.file.stages.iter().flat_map(|stage| &stage.instructions) {
        if let Instruction::Maintainer(maintainer) = instruction {
            let said = Diagnostic::warning(maintainer.span, "MAINTAINER is out of date")
                .hint("write LABEL org.opencontainers.image.authors=\"NAME\"");
            found.add(&MAINTAINER_DEPRECATED, maintainer.span, said);
        }
    }
}
