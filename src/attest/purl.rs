//! Package URLs of images (package-url specification, type `docker`), in the form that
//! BuildKit has in its provenance.

use std::fmt::Write as _;

use crate::platform::Platform;
use crate::reference::Reference;

/// The package URL of an image: `pkg:docker/NAME@TAG?platform=OS%2FARCH`; what was pinned has
/// the digest as a qualifier.
pub(super) fn image(name: &Reference, platform: &Platform) -> String {
    let bare = name.name();
    let hub = bare.strip_prefix("docker.io/");
    let path = hub.map_or(bare.as_str(), |rest| rest.strip_prefix("library/").unwrap_or(rest));
    let path: Vec<String> = path.split('/').map(encoded).collect();
    let mut url = format!("pkg:docker/{}", path.join("/"));
    if let Some(tag) = name.tag() {
        let _ = write!(url, "@{}", encoded(tag));
    }
    // Qualifiers are sorted by name.
    let mut join = '?';
    let digest = name.digest().map(|digest| ("digest", digest.to_string()));
    let platform = ("platform", platform.to_string());
    for (key, value) in digest.into_iter().chain([platform]) {
        let _ = write!(url, "{join}{key}={}", encoded(&value));
        join = '&';
    }
    url
}

/// Percent-encoding, with a colon as it is.
fn encoded(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~:".contains(&c);
    let mut out = String::new();
    for c in text.bytes() {
        if plain(c) {
            out.push(char::from(c));
        } else {
            let _ = write!(out, "%{c:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let amd = Platform::new("linux", "amd64");
        for (name, expected) in [
            ("alpine:3.20", "pkg:docker/alpine@3.20?platform=linux%2Famd64".to_owned()),
            ("alpine", "pkg:docker/alpine@latest?platform=linux%2Famd64".into()),
            ("me/app:1", "pkg:docker/me/app@1?platform=linux%2Famd64".into()),
            (
                "r.example:5000/a/b:c",
                "pkg:docker/r.example:5000/a/b@c?platform=linux%2Famd64".into(),
            ),
            (
                &format!("alpine:3.20@{digest}"),
                format!("pkg:docker/alpine@3.20?digest={digest}&platform=linux%2Famd64"),
            ),
            (
                &format!("alpine@{digest}"),
                format!("pkg:docker/alpine?digest={digest}&platform=linux%2Famd64"),
            ),
        ] {
            let name: Reference = name.parse().unwrap();
            assert_eq!(image(&name, &amd), expected);
        }
        assert_eq!(encoded("a b/ü%\n"), "a%20b%2F%C3%BC%25%0A");
    }
}
