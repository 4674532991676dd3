//! The history: an entry for each instruction, and as many with a layer as there
//! are layers. The texts are [`crate::dockerfile::history`]'s.

use crate::epoch::Epoch;
use crate::image::{History, ImageConfig};

/// Which program wrote an entry.
const COMMENT: &str = "kiln.dockerfile.v0";

/// Names, in the comment of a layer's entry, what was normalized in it. `at` counts the layers
/// from the lowest, and the history speaks of as many.
pub fn note_normalized<'r>(
    config: &mut ImageConfig,
    at: usize,
    rules: impl IntoIterator<Item = &'r str>,
) {
    let rules: Vec<&str> = rules.into_iter().collect();
    let entry = config.history.iter_mut().filter(|entry| !entry.empty_layer).nth(at);
    if let Some(entry) = entry.filter(|_| !rules.is_empty()) {
        entry.comment = Some(format!("{COMMENT}; normalized: {}", rules.join(", ")));
    }
}

/// Stands for a layer of which the base image's history says nothing.
const UNTOLD: &str = "layer of the base image, of which its history says nothing";

/// An entry of the file.
pub(super) fn entry(created_by: String, layer: bool, epoch: Epoch) -> History {
    History {
        created: Some(epoch.rfc3339()),
        created_by: Some(created_by),
        comment: Some(COMMENT.to_owned()),
        empty_layer: !layer,
        ..History::default()
    }
}

/// Makes a base's history speak of as many layers as it has. A history is
/// optional and often wrong: squashed images, images that a tool packed from
/// files. Its entries are kept as they came; layers that it does not mention
/// get an entry at its end, and claims of a layer that does not exist, seen from
/// the end, become entries without one.
pub(super) fn reconcile(config: &mut ImageConfig, layers: usize) {
    let told = config.history.iter().filter(|entry| !entry.empty_layer).count();
    let surplus = told.saturating_sub(layers);
    let claims = config.history.iter_mut().rev().filter(|entry| !entry.empty_layer);
    for entry in claims.take(surplus) {
        entry.empty_layer = true;
    }
    for _ in told..layers {
        config.history.push(History {
            created: config.created.clone(),
            comment: Some(UNTOLD.to_owned()),
            ..History::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    #[test]
    fn histories_that_disagree_with_the_layers() {
        // L: a layer, -: none.
        let of = |history: &str, layers: usize| {
            let mut config = ImageConfig::scratch(&Platform::new("linux", "amd64"));
            for c in history.chars() {
                config.history.push(History { empty_layer: c == '-', ..History::default() });
            }
            reconcile(&mut config, layers);
            let flag = |entry: &History| if entry.empty_layer { '-' } else { 'L' };
            config.history.iter().map(flag).collect::<String>()
        };
        assert_eq!(of("L-L", 2), "L-L");
        assert_eq!(of("", 2), "LL");
        assert_eq!(of("L-", 3), "L-LL");
        assert_eq!(of("L-LL", 1), "L---");
        assert_eq!(of("", 0), "");
    }
}
