//! Whiteouts: entries that say what is gone (OCI image spec, layer.md).

use super::entry::Name;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's name says beyond itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whiteout {
    /// The entry of this name in lower layers is gone.
    Gone(Name),
    /// All entries of lower layers in this folder are gone.
    Opaque(Name),
    /// The name has the prefix of whiteouts but is none: after the prefix must
    /// come one ordinary component.
    Malformed,
}

/// Reads a name as a whiteout; `None` if it is an ordinary entry.
#[must_use]
pub fn whiteout_of(name: &Name) -> Option<Whiteout> {
    let base = name.base();
    let rest = base.strip_prefix(PREFIX)?;
    let folder = name.parent().unwrap_or_default();
    Some(match rest {
        _ if base == OPAQUE => Whiteout::Opaque(folder),
        b"" | b"." | b".." => Whiteout::Malformed,
        _ if rest.starts_with(PREFIX) => Whiteout::Malformed,
        _ => Whiteout::Gone(folder.join(rest)),
    })
}

/// The name of the entry that says `gone` is gone.
pub(crate) fn mark(gone: &Name) -> Name {
    let base = [PREFIX, gone.base()].concat();
    gone.parent().unwrap_or_default().join(&base)
}

/// The name of the entry that says the folder hides what is below it.
pub(crate) fn mark_opaque(folder: &Name) -> Name {
    folder.join(OPAQUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let of = |text: &str| whiteout_of(&Name::clean(text.as_bytes()).unwrap());
        let name = |text: &str| Name::clean(text.as_bytes()).unwrap();
        assert_eq!(of("a/b"), None);
        assert_eq!(of("a/.wh.b"), Some(Whiteout::Gone(name("a/b"))));
        assert_eq!(of(".wh.b"), Some(Whiteout::Gone(name("b"))));
        assert_eq!(of("a/.wh..wh..opq"), Some(Whiteout::Opaque(name("a"))));
        for bad in ["a/.wh.", "a/.wh..", "a/.wh...", "a/.wh..wh.x", "a/.wh..wh.plnk"] {
            assert_eq!(of(bad), Some(Whiteout::Malformed), "{bad}");
        }
        assert_eq!(mark(&name("a/b")), name("a/.wh.b"));
        assert_eq!(mark_opaque(&name("a")), name("a/.wh..wh..opq"));
    }
}
