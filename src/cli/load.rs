//! `kiln load`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use crate::atomic::AtPath as _;
use crate::output::{self, Volume, Work};
use crate::reference::Reference;

/// Read images from an OCI or docker archive; prints their names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive, plain or compressed with gzip or zstd, or the first of its parts; `-` is
    /// stdin
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub input: PathBuf,

    /// Print digests instead of names
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Loads the archive.
///
/// # Errors
/// If it is no such archive or is damaged, or the store cannot be written.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let from_stdin = args.input == Path::new("-");
    if from_stdin && io::stdin().is_terminal() {
        return Err(CliError::usage("an archive is not read from a terminal")
            .hint("name a file with --input, or redirect stdin"));
    }
    let progress = invocation.progress(args.progress.progress)?;
    // Of an archive in parts there may be no file of that name.
    let file = match File::open(&args.input) {
        _ if from_stdin => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        file => Some(file.at("open", &args.input)?),
    };
    let store = invocation.store()?;
    let shown = if from_stdin { "stdin".into() } else { args.input.display().to_string() };
    let task = progress.task(format!("load {shown}"));
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let work = Work::new(&task, &stop);
    let spool = |from: &mut dyn Read| output::spool(from, store, &work);
    let loaded = match file {
        Some(pipe) if !pipe.metadata().at("read", &args.input)?.is_file() => {
            let spooled = spool(&mut Patient { from: pipe, stop: &stop })?;
            output::load(spooled.file(), store, &work)?
        }
        _ if !from_stdin => output::load(&Volume::open(&args.input, &work)?, store, &work)?,
        _ => {
            let spooled = spool(&mut Patient { from: io::stdin().lock(), stop: &stop })?;
            output::load(spooled.file(), store, &work)?
        }
    };
    task.done();
    for one in &loaded {
        if args.quiet {
            invocation.print(one.digest.to_string())?;
        } else {
            let names: Vec<String> = one.names.iter().map(Reference::familiar).collect();
            invocation.print(names.join("\n"))?;
        }
    }
    Ok(())
}

/// Waits for a pipe without being deaf to signals meanwhile.
struct Patient<'a, R> {
    from: R,
    stop: &'a dyn Fn() -> bool,
}

impl<R: Read + AsFd> Read for Patient<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // std buffers stdin, but this is its only reader and asks for more than the
        // buffer holds, which passes it by.
        let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            if (self.stop)() {
                return Err(io::Error::other("the work was stopped"));
            }
            match poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&tenth)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => (),
                Ok(_) => return self.from.read(buf),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
