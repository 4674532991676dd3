//! Names of stages that mean something else already.

use std::collections::BTreeSet;

use crate::diagnostic::Diagnostic;

use super::{DUPLICATE_STAGE_NAME, Found, RESERVED_STAGE_NAME};

/// What `FROM scratch` and a build context's name mean.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(found: &mut Found<'_>) {
    let mut seen = BTreeSet::new();
    for name in found.file.stages.iter().filter_map(|stage| stage.from.name.as_ref()) {
        if RESERVED.contains(&name.as_str()) {
            let said = format!("`{}` cannot tell a stage: it has a meaning of its own", name.value);
            let said = Diagnostic::warning(name.span, said).hint("give the stage another name");
            found.add_whole(&RESERVED_STAGE_NAME, said);
        }
        if !seen.insert(name.as_str()) {
            let said = format!("an earlier stage is called `{}`, too", name.value);
            let said = Diagnostic::warning(name.span, said)
                .hint("give one of them another name: below, the name means this one");
            found.add_whole(&DUPLICATE_STAGE_NAME, said);
        }
    }
}
