//! A layer's tar from somebody else.
#![no_main]

use std::io::{Read as _, copy, sink};

use kiln::layer::{Decompressor, Kind, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Headers whose sums are right are found by no mutation.
    let mut tar = bytes.to_vec();
    for header in tar.chunks_exact_mut(512) {
        if &header[257..262] == b"ustar" {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    read(tar.as_slice());
    if let Ok(plain) = Decompressor::new(bytes, Decompressor::detect(bytes)) {
        // Small archives of much are no fault of the reader.
        read(plain.take(1 << 20));
    }
});

fn read(from: impl std::io::Read) {
    let mut reader = Reader::new(from);
    while let Ok(Some(entry)) = reader.next() {
        assert!(entry.mode <= 0o7777);
        // Holes are read as zeros, of which a header may claim many.
        if matches!(entry.kind, Kind::File { size } if size > 1 << 24) {
            continue;
        }
        let Ok(content) = copy(&mut reader, &mut sink()) else { return };
        match entry.kind {
            Kind::File { size } => assert_eq!(content, size),
            _ => assert_eq!(content, 0),
        }
    }
}
