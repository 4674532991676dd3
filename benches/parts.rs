//! The parts that decide how long a build takes, each alone: `cargo bench`.
//! What a run of it said is in `benches/README.md`, as ratios.

use std::io;

use divan::Bencher;
use divan::counter::BytesCount;
use kiln::diagnostic::Source;
use kiln::digest::Digest;
use kiln::layer::{Compression, Entry, Kind, LayerForm, LayerIndex, LayerWriter, Name};

fn main() {
    divan::main();
}

const FILE: usize = 64 << 10;
const FILES: usize = 256;

/// Half text, half noise: what layers are made of, roughly.
fn content() -> Vec<u8> {
    let mut state = 7_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let text = b"the quick brown fox jumps over the lazy dog; ";
    (0..FILE).map(|at| if at < FILE / 2 { text[at % text.len()] } else { noise() }).collect()
}

fn layer(content: &[u8], compression: Compression) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new(), LayerForm::from(compression));
    for number in 0..FILES {
        let name =
            Name::clean(format!("usr/share/file-{number:05}").as_bytes()).unwrap_or_default();
        let kind = Kind::File { size: content.len() as u64 };
        let entry = Entry { kind, mode: 0o644, ..Entry::dir(name, 0) };
        writer.entry(&entry, &mut &*content).expect("memory takes it");
    }
    writer.finish().expect("memory takes it").0
}

/// The limit that writing a layer is compared with.
#[divan::bench]
fn sha256_alone(bencher: Bencher) {
    let bytes = content().repeat(FILES);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| Digest::of(&bytes));
}

/// The other limit: one thread, one stream.
#[divan::bench]
fn gzip_alone(bencher: Bencher) {
    let bytes = content().repeat(FILES);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        io::copy(&mut bytes.as_slice(), &mut to).expect("memory takes it");
        to.finish().expect("memory takes it")
    });
}

#[divan::bench(args = [Compression::None, Compression::Gzip, Compression::Zstd])]
fn write_layer(bencher: Bencher, compression: Compression) {
    let content = content();
    bencher.counter(BytesCount::new(FILE * FILES)).bench(|| layer(&content, compression));
}

#[divan::bench]
fn read_index(bencher: Bencher) {
    let tar = layer(&content(), Compression::None);
    bencher.counter(BytesCount::of_slice(&tar)).bench(|| LayerIndex::read(tar.as_slice()));
}

#[divan::bench]
fn parse_dockerfile(bencher: Bencher) {
    let mut text = String::from("FROM scratch\n");
    for number in 0..1000 {
        text.push_str(&format!(
            "ENV NAME_{number}=\"value $NAME_0\"\nCOPY --chown=1:2 a{number} /b/\n"
        ));
    }
    let source = Source::new("Dockerfile", text);
    bencher.bench(|| kiln::dockerfile::parse(&source));
}
