//! Package URLs (purl-spec, PURL-SPECIFICATION.rst and the types' own rules).

use super::component::Kind;

/// Writes one. Parts that are empty are left out; the namespace may have slashes.
pub(super) fn purl(
    kind: Kind,
    namespace: &str,
    name: &str,
    version: &str,
    qualifiers: &[(&str, &str)],
) -> String {
    let mut url = format!("pkg:{}/", kind.as_str());
    for part in namespace.split('/').filter(|part| !part.is_empty()) {
        url.push_str(&encoded(part));
        url.push('/');
    }
    url.push_str(&encoded(name));
    if !version.is_empty() {
        url.push('@');
        url.push_str(&encoded(version));
    }
    let mut qualifiers: Vec<_> = qualifiers.iter().filter(|(_, value)| !value.is_empty()).collect();
    qualifiers.sort_unstable();
    for (at, (key, value)) in qualifiers.into_iter().enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(key);
        url.push('=');
        url.push_str(&encoded(value));
    }
    url
}

/// All but letters, digits and `.-_~:` is written as `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of the specification's own, and what it says of encoding.
    #[test]
    fn forms() {
        for (kind, namespace, name, version, qualifiers, expected) in [
            (
                Kind::Deb,
                "debian",
                "curl",
                "7.50.3-1",
                &[("distro", "jessie"), ("arch", "i386")][..],
                "pkg:deb/debian/curl@7.50.3-1?arch=i386&distro=jessie",
            ),
            (
                Kind::Rpm,
                "fedora",
                "curl",
                "7.50.3-1.fc25",
                &[("arch", "i386"), ("distro", "fedora-25"), ("epoch", "")],
                "pkg:rpm/fedora/curl@7.50.3-1.fc25?arch=i386&distro=fedora-25",
            ),
            (
                Kind::Golang,
                "google.golang.org",
                "genproto",
                "v0.0.0+incompatible",
                &[],
                "pkg:golang/google.golang.org/genproto@v0.0.0%2Bincompatible",
            ),
            (
                Kind::Npm,
                "@angular",
                "animation",
                "12.3.1",
                &[],
                "pkg:npm/%40angular/animation@12.3.1",
            ),
            (Kind::Deb, "debian", "git", "1:2.39.5", &[], "pkg:deb/debian/git@1:2.39.5"),
            (Kind::Cargo, "", "a b", "", &[], "pkg:cargo/a%20b"),
        ] {
            assert_eq!(purl(kind, namespace, name, version, qualifiers), expected);
        }
    }
}
