//! The main context: a folder, a repository, an archive, or what comes in on stdin.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

use super::texts;
use crate::atomic::AtPath as _;
use crate::build::{self, ContextError, Files, OpenError, Opening, Unlocked};
use crate::cli::failure;
use crate::cli::report::CliError;
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::dockerfile::GitSource;

/// A Dockerfile of more is none.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// What a build begins with.
pub(super) struct Opened {
    pub(super) files: Files,
    pub(super) dockerfile: Source,
    pub(super) ignore: Option<Source>,
}

/// Opens what was named as the context, and finds its Dockerfile.
pub(super) fn open(
    context: &Path,
    file: Option<&Path>,
    keep_git_dir: bool,
    how: &Opening<'_>,
) -> Result<Opened, CliError> {
    if context.is_dir() {
        let folder = context.canonicalize().at("open", context)?;
        let (dockerfile, ignore) = texts::read(file, &folder)?;
        return Ok(Opened { files: folder.into(), dockerfile, ignore });
    }
    let text = context.to_string_lossy();
    if text == "-" {
        return stdin(file, how);
    }
    if let Some(source) = GitSource::parse_context(&text) {
        let mut source = source.map_err(|error| CliError::usage(error.to_string()))?;
        if keep_git_dir {
            source.keep_git_dir = Some(true);
        }
        return within(or_nothing(how.repository(&source), file, how)?, file);
    }
    if is_http(&text) {
        let mut fetched = match how.url(&text) {
            Ok(fetched) => fetched,
            Err(error) => return within(or_nothing(Err(error), file, how)?, file),
        };
        let head = head(&mut fetched).at("read", context)?;
        fetched.rewind().at("read", context)?;
        if build::is_archive(&head) {
            return within(how.archive(fetched).map_err(|error| opening(error, how))?, file);
        }
        let dockerfile = dockerfile("context", &mut fetched)?;
        let files =
            how.single(dockerfile.text().as_bytes()).map_err(|error| opening(error, how))?;
        return Ok(Opened { files, dockerfile, ignore: None });
    }
    if context.is_file() {
        let mut archive = File::open(context).at("open", context)?;
        let head = head(&mut archive).at("read", context)?;
        if build::is_archive(&head) {
            archive.rewind().at("read", context)?;
            return within(how.archive(archive).map_err(|error| opening(error, how))?, file);
        }
    }
    Err(CliError::plain(format!("build context `{text}` is not a folder"))
        .hint("the last argument is the folder whose files COPY may take, often `.`; or a tar archive, the URL of one or of a git repository, or `-` for stdin"))
}

/// Whether a context comes from a server.
pub(super) fn is_remote(text: &str) -> bool {
    GitSource::parse_context(text).is_some() || is_http(text)
}

pub(super) fn is_http(text: &str) -> bool {
    let scheme =
        |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    scheme("http://") || scheme("https://")
}

/// What is said of a context that cannot be opened. Whatever else the lock lacks, or is not
/// here, is told with it.
pub(super) fn opening(error: OpenError, how: &Opening<'_>) -> CliError {
    let hint = match &error {
        OpenError::Unlocked(_) => return lacking(how),
        error if error.is_offline() => {
            lack(error, how);
            return lacking(how);
        }
        OpenError::Git(error) => failure::git_hint(error),
        OpenError::Absent { .. }
        | OpenError::Fetch(_)
        | OpenError::Unpack(_)
        | OpenError::Remote { .. }
        | OpenError::Io(_) => None,
    };
    let error = CliError::plain(error.to_string());
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// All that was refused so far.
fn lacking(how: &Opening<'_>) -> CliError {
    let refused = how.sources.refused();
    let refused = refused.iter().map(Unlocked::told);
    CliError::drawn(Source::new("", ""), how.sources.absent().into_iter().chain(refused).collect())
}

/// Keeps what only a network has.
fn lack(error: &OpenError, how: &Opening<'_>) {
    let hint = "build from a folder, or an archive, of it";
    how.sources.lack(Diagnostic::error(Span::default(), error.to_string()).hint(hint));
}

/// What the lock does not have, or only a network, is refused by the build, with all else
/// that it lacks.
pub(super) fn refused_later(
    files: Result<Files, OpenError>,
    how: &Opening<'_>,
) -> Result<Files, CliError> {
    match files {
        Err(OpenError::Unlocked(_)) => Ok(Files::Nothing),
        Err(error) if error.is_offline() => {
            lack(&error, how);
            Ok(Files::Nothing)
        }
        files => files.map_err(|error| opening(error, how)),
    }
}

/// The files of the main context. Without them there is a Dockerfile only if it is on stdin.
fn or_nothing(
    files: Result<Files, OpenError>,
    file: Option<&Path>,
    how: &Opening<'_>,
) -> Result<Files, CliError> {
    match file == Some(Path::new("-")) {
        true => refused_later(files, how),
        false => files.map_err(|error| opening(error, how)),
    }
}

/// An archive, or else a Dockerfile that needs no files.
fn stdin(file: Option<&Path>, how: &Opening<'_>) -> Result<Opened, CliError> {
    if file == Some(Path::new("-")) {
        return Err(CliError::usage("stdin cannot be both the context and the Dockerfile"));
    }
    let mut from = io::stdin().lock();
    let head = head(&mut from).at("read", "stdin")?;
    let mut whole = head.as_slice().chain(from);
    if build::is_archive(&head) {
        return within(how.archive(whole).map_err(|error| opening(error, how))?, file);
    }
    if file.is_some() {
        return Err(CliError::usage(
            "stdin is no archive, so it is the Dockerfile, and --file names another",
        )
        .hint("leave --file out; or give a tar archive on stdin, in which --file is found"));
    }
    let dockerfile = dockerfile("stdin", &mut whole)?;
    Ok(Opened { files: Files::Nothing, dockerfile, ignore: None })
}

fn head(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    from.take(build::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn dockerfile(name: &str, from: &mut impl Read) -> Result<Source, CliError> {
    let mut bytes = Vec::new();
    from.take(MAX_DOCKERFILE + 1).read_to_end(&mut bytes).at("read", name)?;
    if bytes.len() as u64 > MAX_DOCKERFILE {
        let said = format!("the Dockerfile from {name} is larger than {MAX_DOCKERFILE} bytes");
        return Err(CliError::plain(said));
    }
    texts::source(name, bytes)
}

/// The Dockerfile among the files themselves, or on stdin. No ignore file is for
/// what is no folder of the caller's, as with BuildKit.
fn within(files: Files, file: Option<&Path>) -> Result<Opened, CliError> {
    if file == Some(Path::new("-")) {
        let dockerfile = dockerfile("stdin", &mut io::stdin().lock())?;
        return Ok(Opened { files, dockerfile, ignore: None });
    }
    let name = file.map_or("Dockerfile".into(), Path::to_string_lossy);
    // Either spelling of the usual name is found.
    let lower = name.strip_suffix("Dockerfile").map(|folder| format!("{folder}dockerfile"));
    let lower = lower.filter(|lower| lower == "dockerfile" || lower.ends_with("/dockerfile"));
    for name in [Some(name.as_ref()), lower.as_deref()].into_iter().flatten() {
        let read = files.read(name, MAX_DOCKERFILE);
        if let Some(bytes) =
            read.map_err(|error: ContextError| CliError::plain(error.to_string()))?
        {
            let dockerfile = texts::source(name, bytes)?;
            return Ok(Opened { files, dockerfile, ignore: None });
        }
    }
    Err(CliError::plain(format!("no `{name}` in the context"))
        .hint("name it with --file, by its path within the context"))
}
