//! `--locked`: the lock that a build is held to.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::atomic::AtPath as _;
use crate::build::Sources;
use crate::cli::report::CliError;
use crate::lock::{self, Lock};

/// A lock of more is none.
const MAX: u64 = 16 << 20;

/// Which lock a build is held to.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LockFlags {
    /// Take the base images, files and commits that `kiln lock` has written down, and
    /// nothing else [default: take what there is now]
    #[arg(long)]
    pub locked: bool,

    /// The file for --locked [default: CONTEXT/kiln.lock]
    #[arg(long, value_name = "FILE")]
    pub lock_file: Option<PathBuf>,
}

impl LockFlags {
    /// What a build of a context may take from outside.
    pub(super) fn sources(&self, context: &Path) -> Result<Sources, CliError> {
        self.check()?;
        match self.locked {
            true => Ok(Sources::locked(self.read(context)?)),
            false => Ok(Sources::default()),
        }
    }

    /// That no file is named for nothing.
    pub(super) fn check(&self) -> Result<(), CliError> {
        if self.lock_file.is_some() && !self.locked {
            return Err(CliError::usage("--lock-file is for builds that are --locked"));
        }
        Ok(())
    }

    /// The lock of a context, which is there.
    fn read(&self, context: &Path) -> Result<Lock, CliError> {
        let path = self.lock_file.clone().unwrap_or_else(|| beside(context));
        read(&path)?.ok_or_else(|| {
            CliError::plain(format!("there is no lock at {}", path.display()))
                .hint("`kiln lock` writes it; --lock-file names another")
        })
    }

    /// The lock of a context, if there is one; one that the flags ask for is.
    pub(in crate::cli) fn known(&self, context: &Path) -> Result<Option<Lock>, CliError> {
        if self.locked || self.lock_file.is_some() {
            return self.read(context).map(Some);
        }
        read(&beside(context))
    }
}

/// Where the lock of a context lies: in its folder, or in the current one if it is none.
pub(in crate::cli) fn beside(context: &Path) -> PathBuf {
    if context.is_dir() { context.join(lock::FILE) } else { lock::FILE.into() }
}

/// Reads a lock, if there is one.
pub(in crate::cli) fn read(path: &Path) -> Result<Option<Lock>, CliError> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.at("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > MAX {
        return Err(CliError::plain(format!("{} is larger than 16 MiB", path.display())));
    }
    let source = super::texts::source(path.display().to_string(), bytes)?;
    match Lock::parse(source.text()) {
        Ok(lock) => Ok(Some(lock)),
        Err(said) => Err(CliError::drawn(source, vec![said])),
    }
}
