//! Why there is no plan.

use crate::diagnostic::Diagnostic;

/// What is wrong with the file or the request. A span of nothing at byte 0
/// means the request and not the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", summary(.diagnostics))]
pub struct PlanError {
    /// At least one of them is an error.
    pub diagnostics: Vec<Diagnostic>,
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors: Vec<&Diagnostic> = diagnostics.iter().filter(|said| said.is_error()).collect();
    match errors[..] {
        [] => "the Dockerfile cannot be planned".to_owned(),
        [only] => only.message.clone(),
        [first, ..] => format!("{} (and {} more)", first.message, errors.len() - 1),
    }
}
