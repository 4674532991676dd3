//! What a container printed.
//!
//! The file has the form of Kubernetes's container runtime interface: lines of
//! `TIME stdout|stderr F|P TEXT`; `P` marks a piece of a longer line whose rest
//! follows in the same stream. It is not rotated.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::ContainerError;
use super::state::{self, Container};
use crate::atomic::AtPath as _;
use crate::progress::Stream;
use crate::store::Store;

/// The runtime interface's own limit for a piece.
const MAX_PIECE: usize = 16 << 10;

/// Writes one stream's bytes as lines. Clones of the file are shared between
/// the streams, so that lines do not mix.
pub(super) struct LogWriter {
    file: Arc<Mutex<File>>,
    stream: Stream,
    rest: Vec<u8>,
}

fn word(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

impl LogWriter {
    pub(super) fn pair(path: &Path) -> Result<(Self, Self), ContainerError> {
        let file = File::options().append(true).open(path).at("open", path)?;
        let file = Arc::new(Mutex::new(file));
        let of = |stream| Self { file: Arc::clone(&file), stream, rest: Vec::new() };
        Ok((of(Stream::Stdout), of(Stream::Stderr)))
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let room = MAX_PIECE - self.rest.len();
            let window = &bytes[..bytes.len().min(room)];
            let end = window.iter().position(|byte| *byte == b'\n');
            let take = end.unwrap_or(window.len());
            self.rest.extend_from_slice(&window[..take]);
            bytes = &bytes[take + usize::from(end.is_some())..];
            if end.is_some() || self.rest.len() == MAX_PIECE {
                self.record(&mut records, end.is_some());
            }
        }
        self.put(&records)
    }

    /// Writes what stands without a newline.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut records = Vec::new();
        if !self.rest.is_empty() {
            self.record(&mut records, false);
        }
        self.put(&records)
    }

    fn record(&mut self, records: &mut Vec<u8>, full: bool) {
        let tag = if full { "F" } else { "P" };
        let head = format!("{} {} {tag} ", state::now(), word(self.stream));
        records.extend_from_slice(head.as_bytes());
        records.append(&mut self.rest);
        records.push(b'\n');
    }

    fn put(&self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(records)
    }
}

/// What of the log is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogRequest {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Each line after its time.
    pub timestamps: bool,
}

/// A line of the file, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Record<'a> {
    time: &'a [u8],
    stream: Stream,
    full: bool,
    text: &'a [u8],
}

fn record(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.strip_suffix(b"\n").unwrap_or(line).splitn(4, |byte| *byte == b' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let full = match tag {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Record { time, stream, full, text: parts.next()? })
}

/// Hands a container's output to `sink`, in order, as it was printed.
///
/// # Errors
/// If there is no such container, its log cannot be read, or what `sink` says.
pub fn logs(
    store: &Store,
    name: &str,
    ask: &LogRequest,
    sink: &mut dyn FnMut(Stream, &[u8]) -> io::Result<()>,
) -> Result<(), ContainerError> {
    let container = state::find(store, name)?;
    let path = container.file("log");
    let file = File::open(&path).at("open", &path)?;
    let mut reader = BufReader::new(file);
    if let Some(lines) = ask.tail {
        let start = tail(&mut reader, lines).at("read", &path)?;
        reader.seek(SeekFrom::Start(start)).at("read", &path)?;
    }
    let mut line = Vec::new();
    // Whether the stream's next text begins a line.
    let mut fresh = [true, true];
    loop {
        // Asked before the read: what was written before the end is then read.
        let live = ask.follow && is_live(&container)?;
        while reader.read_until(b'\n', &mut line).at("read", &path)? > 0 && line.ends_with(b"\n") {
            if let Some(found) = record(&line) {
                show(&found, ask.timestamps, &mut fresh, sink).at("pass on", &path)?;
            }
            line.clear();
        }
        if !live {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A container that is removed meanwhile has ended as well.
fn is_live(container: &Container) -> Result<bool, ContainerError> {
    match container.is_held() {
        Err(_) if !container.exists() => Ok(false),
        held => held,
    }
}

fn show(
    found: &Record<'_>,
    timestamps: bool,
    fresh: &mut [bool; 2],
    sink: &mut dyn FnMut(Stream, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let begins = match found.stream {
        Stream::Stdout => &mut fresh[0],
        Stream::Stderr => &mut fresh[1],
    };
    let mut text = Vec::with_capacity(found.text.len() + 1);
    if timestamps && *begins {
        text.extend_from_slice(found.time);
        text.push(b' ');
    }
    text.extend_from_slice(found.text);
    if found.full {
        text.push(b'\n');
    }
    *begins = found.full;
    sink(found.stream, &text)
}

/// Where the last so many lines begin.
fn tail(reader: &mut BufReader<File>, lines: u64) -> io::Result<u64> {
    let mut begins = VecDeque::new();
    let (mut at, mut line) = (0, Vec::new());
    let mut fresh = [true, true];
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(if lines == 0 { at } else { begins.front().copied().unwrap_or(at) });
        }
        if let Some(found) = record(&line) {
            let begins_line = match found.stream {
                Stream::Stdout => std::mem::replace(&mut fresh[0], found.full),
                Stream::Stderr => std::mem::replace(&mut fresh[1], found.full),
            };
            if begins_line {
                begins.push_back(at);
                if begins.len() as u64 > lines {
                    begins.pop_front();
                }
            }
        }
        at += read;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        File::create(&path).unwrap();
        let (mut out, mut err) = LogWriter::pair(&path).unwrap();
        out.write(b"one\ntw").unwrap();
        err.write(b"oops\n\n").unwrap();
        out.write(b"o\n").unwrap();
        let long = vec![b'x'; MAX_PIECE + 1];
        out.write(&long).unwrap();
        out.write(b"\nend").unwrap();
        out.finish().unwrap();
        err.finish().unwrap();
        let written = std::fs::read(&path).unwrap();
        let records: Vec<Record<'_>> = written
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| record(line).unwrap())
            .collect();
        let seen: Vec<(Stream, bool, usize)> =
            records.iter().map(|found| (found.stream, found.full, found.text.len())).collect();
        use Stream::{Stderr, Stdout};
        assert_eq!(
            seen,
            [
                (Stdout, true, 3),
                (Stderr, true, 4),
                (Stderr, true, 0),
                (Stdout, true, 3),
                (Stdout, false, MAX_PIECE),
                (Stdout, true, 1),
                (Stdout, false, 3),
            ]
        );
        let from = |lines| {
            let start = tail(&mut BufReader::new(File::open(&path).unwrap()), lines).unwrap();
            written[usize::try_from(start).unwrap()..].split(|byte| *byte == b'\n').count() - 1
        };
        assert_eq!([from(0), from(1), from(2), from(3), from(9)], [0, 1, 3, 4, 7]);
    }

    #[test]
    fn foreign_lines_are_no_records() {
        for bad in ["", "x", "t stdout F", "t stdin F x", "t stdout X x"] {
            assert!(record(bad.as_bytes()).is_none(), "{bad}");
        }
        assert_eq!(record(b"t stderr F  a b\n").unwrap().text, b" a b");
    }
}
