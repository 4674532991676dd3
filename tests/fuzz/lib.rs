//! What the targets share: promises that hold for every input.

use std::fmt::Debug;

use kiln::diagnostic::{Diagnostic, Source, Span};

/// A place that can be drawn.
pub fn place(text: &str, span: Span) {
    assert!(span.start <= span.end && text.get(span.range()).is_some(), "{span:?} in {text:?}");
}

/// Messages that can be shown.
pub fn said(source: &Source, diagnostics: &[Diagnostic]) {
    for one in diagnostics {
        place(source.text(), one.span);
        assert!(!one.message.is_empty());
    }
}

/// Every span within something, by its debug text.
pub fn spans(text: &str, of: &impl Debug) {
    const MARK: &str = "Span { start: ";
    if text.contains("Span {") {
        return;
    }
    let shown = format!("{of:?}");
    for found in shown.split(MARK).skip(1) {
        let numbers = found.split_once(" }").map(|(numbers, _)| numbers);
        let (start, end) =
            numbers.and_then(|both| both.split_once(", end: ")).expect("two numbers");
        let number = |text: &str| text.parse().expect("a number");
        place(text, Span::new(number(start), number(end)));
    }
}
