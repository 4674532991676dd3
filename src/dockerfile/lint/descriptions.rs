//! Comments right above `ARG` and `FROM`, which `outline` and `targets` show.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Instruction;
use super::super::instruction::Arg;
use super::{Found, INVALID_DEFINITION_DESCRIPTION};

pub(super) fn check(found: &mut Found<'_>) {
    let file = found.file;
    file.meta_args.iter().for_each(|arg| check_arg(found, arg));
    for stage in &file.stages {
        if let Some(name) = &stage.from.name {
            check_one(found, "FROM", &[name.as_str()], stage.from.span);
        }
        for instruction in &stage.instructions {
            if let Instruction::Arg(arg) = instruction {
                check_arg(found, arg);
            }
        }
    }
}

fn check_arg(found: &mut Found<'_>, arg: &Arg) {
    let names: Vec<&str> = arg.items.iter().map(|item| item.name.as_str()).collect();
    check_one(found, "ARG", &names, arg.span);
}

fn check_one(found: &mut Found<'_>, keyword: &str, names: &[&str], span: Span) {
    let last = found.file.note(span).and_then(|note| note.comments.last());
    let Some(first) = last.and_then(|comment| comment.split(' ').next()) else { return };
    if names.is_empty() || names.contains(&first) {
        return;
    }
    let name = if let [only] = names { only } else { "NAME" };
    let said = format!("the comment above {keyword} does not begin with the name it describes");
    let said = Diagnostic::warning(span, said).hint(format!(
        "write `# {name} TEXT`, or put a line with nothing but `#` between if it is no description"
    ));
    found.add(&INVALID_DEFINITION_DESCRIPTION, span, said);
}
