//! A `.dockerignore` and, behind a NUL, paths.
#![no_main]

use kiln::dockerfile::Ignore;
use kiln::dockerfile::glob::{self, Glob};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..cut]);
    let paths: Vec<&[u8]> = bytes[cut..].split(|byte| *byte <= b'\n').collect();
    for pattern in text.lines().take(20) {
        for path in paths.iter().take(20) {
            if let Ok(matched) = glob::matches(pattern, path) {
                assert_eq!(Glob::new(pattern).map(|glob| glob.matches(path)), Ok(matched));
                assert!(
                    glob::has_wildcard(pattern)
                        || !matched
                        || !pattern.is_empty()
                        || path.is_empty()
                );
            }
        }
    }
    for ignore in [Ignore::parse(&text), Ignore::of_patterns(text.lines())] {
        let ignore = match ignore {
            Ok(ignore) => ignore,
            Err(error) => {
                assert!(error.line >= 1 && error.line <= text.split('\n').count());
                continue;
            }
        };
        for path in paths.iter().take(20) {
            let Some(rule) = ignore.excluded(path) else {
                // Whoever prunes must not lose it.
                for at in (0..path.len()).filter(|at| path[*at] == b'/') {
                    let folder = &path[..at];
                    let walked = folder.is_empty()
                        || ignore.excluded(folder).is_none()
                        || ignore.may_reinclude_below(folder);
                    assert!(walked, "{ignore:?} {path:?}");
                }
                continue;
            };
            assert!(text.contains(rule.pattern.trim()));
        }
    }
});
