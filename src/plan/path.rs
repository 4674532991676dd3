//! Paths inside a root, as text: nothing is looked up, `..` stops at the root.

/// A path seen from a folder: absolute and clean.
pub(super) fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let folder = if path.starts_with('/') { "" } else { folder };
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A source of `COPY`: clean, without a slash at the front, `.` for the root.
pub(super) fn below_root(path: &str) -> String {
    match join("/", path).strip_prefix('/') {
        None | Some("") => ".".to_owned(),
        Some(path) => path.to_owned(),
    }
}

/// A destination of `COPY`: as [`join`], with a slash at the end where the text
/// means a folder.
pub(super) fn destination(folder: &str, path: &str) -> String {
    let mut joined = join(folder, path);
    let is_folder = path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    if is_folder && joined != "/" {
        joined.push('/');
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining() {
        for (folder, path, want) in [
            ("/", "a", "/a"),
            ("/app", "a/b/", "/app/a/b"),
            ("/app", "/x//y/./z", "/x/y/z"),
            ("/app", "../../../x", "/x"),
            ("/app", "", "/app"),
            ("/app", "..", "/"),
            ("/", "..", "/"),
        ] {
            assert_eq!(join(folder, path), want, "{folder} {path}");
        }
    }

    #[test]
    fn sources_and_destinations() {
        for (path, want) in [
            (".", "."),
            ("", "."),
            ("/", "."),
            ("./a/", "a"),
            ("../../etc", "etc"),
            ("/a/*", "a/*"),
        ] {
            assert_eq!(below_root(path), want, "{path}");
        }
        for (path, want) in [
            (".", "/app/"),
            ("", "/app/"),
            ("./", "/app/"),
            ("x", "/app/x"),
            ("x/", "/app/x/"),
            ("/x/.", "/x/"),
            ("/", "/"),
            ("..", "/"),
        ] {
            assert_eq!(destination("/app", path), want, "{path}");
        }
    }
}
