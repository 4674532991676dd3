//! The texts of a build: the Dockerfile and its ignore file.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::atomic::AtPath as _;
use crate::cli::report::CliError;
use crate::diagnostic::Source;

/// The Dockerfile, and the ignore file that belongs to it: the one named after
/// it comes before the context's.
pub(super) fn read(
    file: Option<&Path>,
    context: &Path,
) -> Result<(Source, Option<Source>), CliError> {
    let (path, text) = match file {
        Some(path) if path == Path::new("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).at("read", "stdin")?;
            let ignore = ignore_file(&[context.join(".dockerignore")])?;
            return Ok((source("stdin", bytes)?, ignore));
        }
        Some(path) => (path.to_path_buf(), std::fs::read(path)),
        None => {
            let path = context.join("Dockerfile");
            // As BuildKit: the other spelling is as good, where the usual one is absent.
            let other = context.join("dockerfile");
            let path = if !path.exists() && other.exists() { other } else { path };
            (path.clone(), std::fs::read(path))
        }
    };
    let bytes = match text {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CliError::plain(format!("no Dockerfile at {}", path.display()))
                .hint("name it with --file, or the folder that has it as the last argument"));
        }
        other => other.at("read", &path)?,
    };
    let dockerfile = source(path.display().to_string(), bytes)?;
    let mut own = path.clone().into_os_string();
    own.push(".dockerignore");
    let ignore = ignore_file(&[PathBuf::from(own), context.join(".dockerignore")])?;
    Ok((dockerfile, ignore))
}

/// A Dockerfile's text.
pub(super) fn source(name: impl Into<String>, bytes: Vec<u8>) -> Result<Source, CliError> {
    let name = name.into();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            let said = format!("{name} is not UTF-8 text: line {line} has other bytes");
            Err(CliError::plain(said))
        }
    }
}

/// The first of these files that exists.
pub(super) fn ignore_file(paths: &[PathBuf]) -> Result<Option<Source>, CliError> {
    for path in paths {
        match std::fs::read(path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Some(Source::new(path.display().to_string(), text)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => return Err(Err::<(), _>(error).at("read", path).unwrap_err().into()),
        }
    }
    Ok(None)
}
