//! What `--build-context` names: folders, images, layouts, repositories, archives.

use std::fs::File;
use std::io;
use std::path::Path;

use super::sources::{opening, refused_later};
use super::texts;
use crate::atomic::AtPath as _;
use crate::build::{ContextSource, Files, Opening};
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::cli::value::{ContextArg, ContextFrom};
use crate::image::AnyImage;
use crate::output::{self, Found, Work};
use crate::progress::Progress;
use crate::reference::Reference;

/// Reads what has to be read before the build: layouts and archives go into the
/// store, without a name there.
pub(super) fn sources(
    args: &[ContextArg],
    how: &Opening<'_>,
    invocation: &Invocation,
) -> Result<Vec<(String, ContextSource)>, CliError> {
    let progress = how.progress;
    let mut sources: Vec<(String, ContextSource)> = Vec::with_capacity(args.len());
    for (at, arg) in args.iter().enumerate() {
        if sources.iter().any(|(name, _)| *name == arg.name) {
            return Err(CliError::usage(format!("context `{}` is named twice", arg.name)));
        }
        let source = match &arg.source {
            ContextFrom::Image(reference) => ContextSource::Image(reference.clone()),
            ContextFrom::Scratch => ContextSource::Scratch,
            ContextFrom::Path(path) if path.is_dir() => {
                let path = path.canonicalize().at("open", path)?;
                let ignore = texts::ignore_file(&[path.join(".dockerignore")])?;
                ContextSource::Folder { path, ignore }
            }
            ContextFrom::Path(path) if path.is_file() => match read(path, progress, invocation) {
                Ok(images) => loaded(at, path, &images, None, None)?,
                Err(error) => ContextSource::Files(files(path, error, how)?),
            },
            ContextFrom::Git(source) => {
                ContextSource::Files(refused_later(how.repository(source), how)?)
            }
            ContextFrom::Url(url) => {
                let files = how.url(url).and_then(|fetched| how.single(fetched));
                ContextSource::Files(refused_later(files, how)?)
            }
            ContextFrom::Path(path) => {
                let said = format!("context `{}`: there is no `{}`", arg.name, path.display());
                return Err(CliError::plain(said)
                    .hint("name a folder, an archive, a git URL, docker-image://REFERENCE or oci-layout://FOLDER"));
            }
            ContextFrom::Layout { path, tag, digest } => {
                let images = read(path, progress, invocation)?;
                loaded(at, path, &images, tag.as_deref(), digest.as_deref())?
            }
        };
        sources.push((arg.name.clone(), source));
    }
    Ok(sources)
}

/// The files of an archive that has no images; `error` says why it has none.
fn files(path: &Path, error: CliError, how: &Opening<'_>) -> Result<Files, CliError> {
    let file = File::open(path).at("open", path)?;
    let files = how.archive(file).map_err(|error| opening(error, how))?;
    for name in ["oci-layout", "manifest.json"] {
        if files.read(name, u64::MAX - 1).is_ok_and(|found| found.is_some()) {
            return Err(error);
        }
    }
    Ok(files)
}

/// Reads a layout, as a folder or in an archive, into the store.
fn read(path: &Path, progress: &Progress, invocation: &Invocation) -> Result<Found, CliError> {
    let store = invocation.store()?;
    let task = progress.task(format!("read {}", path.display()));
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let work = Work::new(&task, &stop);
    let found = if path.is_dir() {
        let (from, to) = io::pipe().at("make a pipe for", path)?;
        let folder = path.to_owned();
        let packer = std::thread::spawn(move || pack(&folder, to));
        let spooled = output::spool(from, store, &work);
        match packer.join() {
            Ok(packed) => packed.at("read", path)?,
            Err(_) => return Err(CliError::plain(format!("cannot read {}", path.display()))),
        }
        output::read_images(spooled?.file(), store, &work)?
    } else {
        let file = File::open(path).at("open", path)?;
        output::read_images(&file, store, &work)?
    };
    for (_, image) in &found {
        store.keep_documents(image)?;
    }
    task.done();
    Ok(found)
}

/// A layout's folder as an archive: what is read from both is the same.
fn pack(folder: &Path, to: impl io::Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(to));
    for name in ["oci-layout", "index.json"] {
        tar.append_path_with_name(folder.join(name), name)?;
    }
    let blobs = folder.join("blobs/sha256");
    for entry in std::fs::read_dir(&blobs)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = Path::new("blobs/sha256").join(entry.file_name());
            tar.append_path_with_name(entry.path(), name)?;
        }
    }
    io::Write::flush(&mut tar.into_inner()?)
}

/// The image that is meant: the one of a tag or digest, else the only one.
fn loaded(
    at: usize,
    path: &Path,
    images: &Found,
    tag: Option<&str>,
    digest: Option<&str>,
) -> Result<ContextSource, CliError> {
    let named = |one: &(Vec<Reference>, AnyImage), fits: &dyn Fn(&Reference) -> bool| {
        one.0.iter().any(fits)
    };
    // The whole name comes before the tag alone.
    let whole = tag.and_then(|tag| tag.parse::<Reference>().ok());
    let whole = whole.filter(|name| images.iter().any(|one| named(one, &|own| own == name)));
    let mut fit = images.iter().filter(|one| {
        let called = match (tag, &whole) {
            (None, _) => true,
            (Some(_), Some(name)) => named(one, &|own| own == name),
            (Some(tag), None) => named(one, &|own| own.tag() == Some(tag)),
        };
        called && digest.is_none_or(|digest| one.1.digest().to_string() == digest)
    });
    let only = match (fit.next(), fit.next()) {
        (Some((_, image)), None) => Ok(image),
        (None, _) => Err("no such image"),
        // The layout's own: a tag tells it apart.
        (Some(_), Some(_)) => Err("several images"),
    };
    let image = only.map_err(|what| {
        let known: Vec<String> = images
            .iter()
            .map(|(names, image)| match names.first() {
                Some(name) => format!("{} ({})", name.familiar(), image.digest()),
                None => image.digest().to_string(),
            })
            .collect();
        CliError::plain(format!("{}: {what}", path.display()))
            .hint(format!("write oci-layout://FOLDER:TAG or @DIGEST; it has {}", known.join(", ")))
    })?;
    let name: Reference = format!("build-context.invalid/{at}").parse()?;
    Ok(ContextSource::Loaded { name, image: Box::new(image.clone()) })
}
