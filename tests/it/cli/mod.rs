//! The command line as a user or script meets it.

mod archives;
mod check;
mod commands;
mod diff;
mod hostile;
mod remote;
mod sbom;

use kiln::digest::{BlobDigest, DiffId};
use kiln::image::{Annotations, AnyImage, Dialect, History, ImageConfig, assemble, assemble_index};
use kiln::layer::{Compression, Layer};
use kiln::platform::Platform;

use crate::support::kiln::Kiln;

/// Files as a layer's tar.
pub(crate) fn layer_tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
            set(&mut header, 0);
        }
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Puts a tar into the store as a layer.
fn put_layer(kiln: &Kiln, tar: &[u8], compression: Compression) -> Layer {
    use std::io::Write as _;
    let bytes = match compression {
        Compression::None => tar.to_vec(),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(tar).unwrap();
            gzip.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(tar, 1).unwrap(),
    };
    let digest: BlobDigest = kiln.store().put(&bytes).unwrap();
    Layer { diff_id: DiffId::of(tar), digest, size: bytes.len() as u64, compression }
}

/// An image with a layer of each compression, one of them twice.
pub(crate) fn image(kiln: &Kiln, platform: &str) -> kiln::image::Image {
    let platform: Platform = platform.parse().unwrap();
    let arch = platform.architecture.clone();
    let one = layer_tar(&[("etc/one", arch.as_bytes())]);
    let two = layer_tar(&[("two", &vec![b'2'; 100_000])]);
    let three = layer_tar(&[("three", b"3")]);
    let layers = [
        put_layer(kiln, &one, Compression::Gzip),
        put_layer(kiln, &two, Compression::Zstd),
        put_layer(kiln, &three, Compression::None),
        put_layer(kiln, &one, Compression::Gzip),
    ];
    let mut config = ImageConfig::scratch(&platform);
    config.config.cmd = Some(vec!["/three".into()]);
    config.config.labels.insert("a".into(), "b".into());
    config.history = layers
        .iter()
        .map(|_| History { created_by: Some("COPY".into()), ..History::default() })
        .collect();
    assemble(config, &layers).unwrap()
}

/// Keeps an image for amd64 under a name; gives its digest.
pub(crate) fn keep(kiln: &Kiln, name: &str) -> String {
    let image = AnyImage::Image(image(kiln, "linux/amd64"));
    kiln.store().keep(&name.parse().unwrap(), &image).unwrap();
    image.digest().to_string()
}

/// Keeps an image for amd64 and arm64 under a name; gives the index's digest.
pub(crate) fn keep_index(kiln: &Kiln, name: &str) -> String {
    let images = vec![image(kiln, "linux/amd64"), image(kiln, "linux/arm64")];
    let index = assemble_index(images, Dialect::Oci, Annotations::new()).unwrap();
    kiln.store().keep(&name.parse().unwrap(), &index).unwrap();
    index.digest().to_string()
}
