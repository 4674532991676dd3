//! The small grammars: references, platforms, modes, ports, mounts.
#![no_main]

use kiln::diagnostic::Span;
use kiln::dockerfile::{Chmod, Mount, Ports, Spanned, remote};
use kiln::platform::Platform;
use kiln::reference::Reference;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
        assert_eq!(reference.familiar().parse(), Ok(reference));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse(), Ok(platform.normalized()));
        assert!(platform.satisfies(&platform));
    }
    if let Ok(chmod) = text.parse::<Chmod>() {
        for mode in (0..0o10_000).step_by(73) {
            let (file, folder) = (chmod.apply(mode, false), chmod.apply(mode, true));
            assert!(file <= 0o7777 && folder <= 0o7777);
        }
        assert_eq!(chmod.to_string(), text);
    }
    if let Ok(ports) = text.parse::<Ports>() {
        assert!(ports.names().all(|name| name.parse::<Ports>().is_ok()));
    }
    let _ = remote(text);
    let flag = Spanned::new(text.to_owned(), Span::new(3, 3 + text.len()));
    let source = Mount::source(&flag);
    match Mount::parse(&flag, &mut |value| Ok(value.to_owned())) {
        Ok(mount) => assert_eq!(mount.from, source),
        Err(error) => assert!(error.span.start >= 3 && error.span.end <= 3 + text.len()),
    }
    Corpus::Keep
});
