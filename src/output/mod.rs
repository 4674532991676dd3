//! Images leaving the store as files, and coming back from them.
//!
//! Writing is deterministic: the same images under the same names give the same
//! archive. Layers stream through; memory does not depend on their size. What
//! is read from the store is verified again on its way out, unless this process made it.
//!
//! Reading takes archives of strangers: nothing is unpacked, a strict reader
//! looks entries up by the names that the formats know, and every blob gets its
//! name in the store only after its digest was checked.

mod archive;
mod docker;
mod layout;
mod lists;
mod load;
mod local;
mod oci;
mod parts;
mod sink;
mod tar;
mod tree;
mod work;

pub use layout::{LayoutWriter, write_artifact, write_layout};
pub use lists::referrers_list;
pub use load::{
    Cargo, Found, Lacking, Loaded, MOST_DOCUMENTS, Opened, ReadAt, Spooled, Volume, load,
    read_images, spool,
};
pub use local::{LeftOut, write_local};
pub use oci::{CONTAINERD_NAME, Contents, INPUT, REF_NAME, SINCE, subject_of_list, write_contents};
pub use parts::{PartsWriter, Written, archive_name, refuse_other_form, to_parts};
pub use sink::Sink;
pub use tar::write_tar;
pub use work::Work;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::atomic::{self, AtPath as _, PathError};
use crate::digest::{BlobDigest, DiffId};
use crate::image::{Annotations, AnyImage, ImageError};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::rootfs::RootfsError;
use crate::store::{Store, StoreError};

/// Where a result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    Path(PathBuf),
    Stdout,
}

/// The archives that hold whole images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// An OCI image layout (OCI image spec, image-layout.md) in a tar.
    Oci,
    /// docker's image archive: `manifest.json`, configs, uncompressed layers. It
    /// has room for one platform of an image only.
    Docker,
}

/// An image under the names it is to have in an archive; there may be none.
#[derive(Debug, Clone)]
pub struct Named {
    pub names: Vec<Reference>,
    pub image: AnyImage,
    /// What its entries in the index of an OCI layout carry besides their names.
    pub annotations: Annotations,
    pub referrers: Referrers,
}

/// What of what is attached to an image goes with it, where the form has room for that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Referrers {
    #[default]
    None,
    /// These alone, whatever else the store has.
    These(BTreeSet<BlobDigest>),
    All,
}

impl Referrers {
    fn take(&self, digest: &BlobDigest) -> bool {
        match self {
            Self::None => false,
            Self::These(digests) => digests.contains(digest),
            Self::All => true,
        }
    }
}

/// Whether the files of each platform have a folder of their own, named like
/// `linux_arm64`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Split {
    /// Where there are several platforms.
    #[default]
    Several,
    Always,
    /// All in one folder; a name of two platforms is an error.
    Never,
}

/// What can go wrong with archives.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    #[error("layer {layer} of `{image}` is not in the store")]
    LayerAbsent { image: String, layer: BlobDigest },
    #[error("layer {layer} cannot be unpacked: {source}")]
    LayerUnreadable { layer: BlobDigest, source: io::Error },
    #[error("layer {layer} unpacks to {found}, the image says {expected}")]
    DiffId { layer: String, expected: DiffId, found: DiffId },
    #[error("`{image}` has no image for {wanted}, only for {}", .have.join(", "))]
    NoPlatform { image: String, wanted: String, have: Vec<String> },
    #[error("this is no image archive: {0}")]
    NotAnArchive(String),
    #[error("the archive is malformed at byte {at}: {why}")]
    Malformed { at: u64, why: String },
    #[error("the archive has no {0}")]
    Absent(String),
    #[error("the archive has the inputs of a build, and no result")]
    InputsOnly,
    #[error("the archive has more than {} MiB of manifests and configs", MOST_DOCUMENTS >> 20)]
    Documents,
    #[error("{name} in the archive: {source}")]
    Document { name: String, source: ImageError },
    #[error("blob {digest} in the archive: {source}")]
    Blob { digest: BlobDigest, source: Box<StoreError> },
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error("`{name}` is in the image for {one} and in that for {other}")]
    Twice { name: String, one: String, other: String },
    #[error("{} is no image layout: {why}", folder.display())]
    NotALayout { folder: PathBuf, why: String },
    #[error("`{image}`: {source}")]
    Image { image: String, source: Box<OutputError> },
    #[error("{}", told_lacking(.0))]
    Lacking(Vec<Lacking>),
    #[error("{}: {why}", path.display())]
    Parts { path: PathBuf, why: String },
    #[error("{}{}", told_parts(.parts), .source.as_ref().map_or_else(String::new, |e| format!("; {e}")))]
    PartsDamaged { parts: Vec<(PathBuf, String)>, source: Option<Box<OutputError>> },
    #[error("the work was stopped")]
    Stopped,
}

/// All that is lacking, by image; of very much the beginning.
fn told_lacking(lacking: &[Lacking]) -> String {
    const SHOWN: usize = 20;
    let mut told = format!("the archive leaves out {} blobs that the store lacks:", lacking.len());
    for one in lacking.iter().take(SHOWN) {
        let _ = write!(told, "\n  {} ({} bytes) of `{}`", one.digest, one.size, one.image);
        let since: Vec<String> = one.since.iter().map(ToString::to_string).collect();
        if !since.is_empty() {
            let _ = write!(told, ", which is in bundle {}", since.join(" or "));
        }
    }
    if lacking.len() > SHOWN {
        let _ = write!(told, "\n  … and {} more", lacking.len() - SHOWN);
    }
    told
}

fn told_parts(parts: &[(PathBuf, String)]) -> String {
    let told: Vec<String> =
        parts.iter().map(|(path, why)| format!("{} {why}", path.display())).collect();
    told.join("; ")
}

impl OutputError {
    /// What to try, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LayerAbsent { image, .. } => {
                Some(format!("`kiln pull {image}` fetches what is missing"))
            }
            Self::NoPlatform { have, .. } => Some(format!(
                "choose with --platform, or use --format oci: it holds all of {}",
                have.join(", ")
            )),
            Self::NotAnArchive(_) => Some(
                "an OCI archive or a docker archive is expected, plain or compressed with gzip \
                 or zstd"
                    .into(),
            ),
            Self::Twice { .. } => {
                Some("leave out platform-split=false: each platform has a folder then".into())
            }
            Self::Image { source, .. } => source.hint(),
            Self::Lacking(all) if all.iter().any(|one| !one.since.is_empty()) => Some(
                "give the bundles that this one was made --since of as well: --bundle OLD --bundle \
                 NEW; or `kiln load` them before it. `kiln bundle --list FILE` prints the digest \
                 of one"
                    .into(),
            ),
            Self::InputsOnly => {
                Some("`kiln build --bundle FILE` takes them; they get no name".into())
            }
            Self::Lacking(_) => Some("make the archive anew, with all of the image".into()),
            Self::PartsDamaged { .. } => Some(
                "copy these parts anew; `sha256sum --check` with the list tries them, too".into(),
            ),
            Self::NotALayout { .. } => {
                Some("name a folder that is empty or not there, or a layout to add to".into())
            }
            Self::Store(_)
            | Self::Path(_)
            | Self::Write(_)
            | Self::Read(_)
            | Self::LayerUnreadable { .. }
            | Self::DiffId { .. }
            | Self::Malformed { .. }
            | Self::Absent(_)
            | Self::Documents
            | Self::Document { .. }
            | Self::Blob { .. }
            | Self::Rootfs(_)
            | Self::Parts { .. }
            | Self::Stopped => None,
        }
    }
}

/// Writes images as an archive. `platform` chooses where the form has room for
/// one only.
///
/// # Errors
/// If a layer is absent or damaged, or nothing can be written.
pub fn write_archive(
    form: Archive,
    images: &[Named],
    platform: &Platform,
    store: &Store,
    to: impl Sink,
    work: &Work<'_>,
) -> Result<(), OutputError> {
    match form {
        Archive::Oci => oci::write(images, store, to, work),
        Archive::Docker => docker::write(images, platform, store, to, work),
    }
}

/// Makes a file that appears whole or not at all: what `fill` writes is beside
/// it under another name until `fill` has succeeded. Its mode follows the umask.
///
/// It is not waited for to be on disk: a result can be made again, and whoever wants it to
/// outlive a crash of the machine calls `sync`, as after `tar` or `docker save`.
///
/// # Errors
/// Those of `fill`, or of the file system; nothing stays behind then.
pub fn to_file(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    place(path, fill, false)
}

/// As [`to_file`], and the file is on disk then: others name it, and were there before.
fn to_durable_file(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    place(path, fill, true)
}

fn place(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), OutputError>,
    durable: bool,
) -> Result<(), OutputError> {
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory)).at("write", path)?;
    }
    if is_special(path) {
        let mut file = File::options().write(true).truncate(true).open(path).at("open", path)?;
        return fill(&mut file);
    }
    let folder = folder_of(path);
    let mut file = temporary(folder)?;
    fill(file.as_file_mut())?;
    if durable {
        file.as_file().sync_all().at("write", path)?;
    }
    file.persist(path).map_err(|error| error.error).at("create", path)?;
    if durable {
        atomic::sync_folder(folder)?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file in a folder that is gone unless it gets a name; its mode follows the umask.
fn temporary(folder: &Path) -> Result<NamedTempFile, PathError> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix(".kiln-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .at("create a file in", folder)
}

/// True for devices and pipes, which have no half-written state that a rename
/// could hide, and for `/dev/stdout` and its kind: links that stand for an open
/// file and must not be replaced, as other links are.
fn is_special(path: &Path) -> bool {
    let link = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
    let system = path.starts_with("/dev") || path.starts_with("/proc");
    (link && system) || fs::metadata(path).is_ok_and(|meta| !meta.is_file())
}

/// The name of an image for messages.
fn shown(named: &Named) -> String {
    match named.names.first() {
        Some(name) => name.familiar(),
        None => named.image.digest().to_string(),
    }
}
