//! Where the files of a context are: in a folder of the host, in a repository's
//! checkout, or in an archive.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::context::ContextError;
use super::git::Checkout;
use crate::atomic::AtPath as _;
use crate::layer::{
    Compression, Decompressor, Entry, Kind, Name, Packing, ReadError, Reader, View,
};
use crate::sandbox::Cancel;
use crate::store::{Scratch, Store, StoreError};

/// Files to build from.
#[derive(Debug, Clone)]
pub enum Files {
    /// No file at all.
    Nothing,
    Folder(PathBuf),
    Checkout(Arc<Checkout>),
    Unpacked(Arc<Unpacked>),
}

impl From<PathBuf> for Files {
    fn from(folder: PathBuf) -> Self {
        Self::Folder(folder)
    }
}

impl Files {
    /// Reads a file, links followed within. None if there is none of that name.
    ///
    /// # Errors
    /// If it is larger than `limit`, or cannot be read.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ContextError> {
        let (file, path) = match self {
            Self::Nothing => return Ok(None),
            Self::Folder(root) => (within(root, name)?, root.join(name)),
            Self::Checkout(checkout) => {
                (within(checkout.root(), name)?, checkout.root().join(name))
            }
            Self::Unpacked(archive) => (archive.find(name)?, PathBuf::from(name)),
        };
        let Some(file) = file else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).at("read", &path)?;
        if bytes.len() as u64 > limit {
            let why = io::Error::other(format!("it is larger than {limit} bytes"));
            return Err(why).at("read", &path)?;
        }
        Ok(Some(bytes))
    }
}

/// Opens a file below a folder as if that were the root.
fn within(root: &Path, name: &str) -> Result<Option<File>, ContextError> {
    let folder = File::open(root).at("open", root)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = root.join(name);
    match openat2(&folder, name, flags, Mode::empty(), resolve) {
        Ok(file) => {
            let file = File::from(file);
            Ok(if file.metadata().at("read", &path)?.is_file() { Some(file) } else { None })
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).at("open", &path)?,
    }
}

/// An archive whose files lie in a folder of the store under numbers: no name of
/// the archive is ever a path of this machine.
#[derive(Debug)]
pub struct Unpacked {
    folder: Scratch,
    /// In the archive's order; their places are the numbers.
    entries: Vec<Entry>,
}

/// Why an archive cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] crate::atomic::PathError),
    #[error("cancelled")]
    Cancelled,
}

impl Unpacked {
    /// Takes an archive apart, whatever it is packed with.
    ///
    /// # Errors
    /// If it is damaged, has what kiln does not take, or cannot be stored.
    pub fn of(from: impl Read, store: &Store, cancel: &Cancel) -> Result<Self, UnpackError> {
        let mut from = Watched { from, cancel };
        let done = Self::unpack(&mut from, store);
        if cancel.is_cancelled() { Err(UnpackError::Cancelled) } else { done }
    }

    fn unpack(mut from: impl Read, store: &Store) -> Result<Self, UnpackError> {
        let head = first(&mut from, 6).map_err(ReadError::Io)?;
        let packing = Decompressor::detect(&head);
        let whole = io::BufReader::with_capacity(1 << 16, head.as_slice().chain(from));
        let tar = Decompressor::new(whole, packing).map_err(ReadError::Io)?;
        let mut reader = Reader::new(io::BufReader::with_capacity(1 << 16, tar));
        let folder = store.scratch("context")?;
        let (mut entries, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while let Some(entry) = reader.next()? {
            if let Kind::File { .. } = entry.kind {
                let path = place(&folder, entries.len());
                let mut to = File::create(&path).at("create", &path)?;
                // Not `io::copy`: it does not tell whose error it was.
                loop {
                    let count = reader.read(&mut buffer).map_err(ReadError::Io)?;
                    if count == 0 {
                        break;
                    }
                    to.write_all(&buffer[..count]).at("write", &path)?;
                }
            }
            entries.push(entry);
        }
        Ok(Self { folder, entries })
    }

    /// One file without an archive around it, root's.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn single(
        name: &Name,
        mode: u32,
        mut content: impl Read,
        store: &Store,
    ) -> Result<Self, UnpackError> {
        let folder = store.scratch("context")?;
        let path = place(&folder, 0);
        let mut to = File::create(&path).at("create", &path)?;
        let size = io::copy(&mut content, &mut to).at("write", &path)?;
        let entry = Entry { kind: Kind::File { size }, mode, ..Entry::dir(name.clone(), 0) };
        Ok(Self { folder, entries: vec![entry] })
    }

    pub(super) fn view(&self) -> Result<View, ContextError> {
        Ok(View::plain(self.entries.iter().cloned())?)
    }

    /// Opens the content of an entry, by its number.
    pub(super) fn open(&self, number: usize) -> Result<File, ContextError> {
        let path = place(&self.folder, number);
        Ok(File::open(&path).at("open", &path)?)
    }

    fn find(&self, name: &str) -> Result<Option<File>, ContextError> {
        let view = self.view()?;
        let at = view.resolve(Path::new(name).as_os_str().as_bytes(), true)?;
        match view.get(&at) {
            Some(node) if matches!(node.entry.kind, Kind::File { .. }) => {
                self.open(node.content.ordinal).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }
}

fn place(folder: &Scratch, number: usize) -> PathBuf {
    folder.path().join(number.to_string())
}

/// The first bytes of a stream, fewer if it is shorter.
///
/// # Errors
/// If it cannot be read.
pub(super) fn first(mut from: impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(count);
    (&mut from).take(count as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Ends early once nobody wants the rest.
struct Watched<'a, R> {
    from: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.from.read(buf)
    }
}

/// True for the first bytes of something compressed.
pub(super) fn is_compressed(head: &[u8]) -> bool {
    Decompressor::detect(head) != Packing::Layer(Compression::None)
}

/// True if a stream begins with a tar header whose checksum is right.
pub(super) fn tar_begins(mut stream: impl Read) -> bool {
    let mut block = [0; 512];
    if stream.read_exact(&mut block).is_err() {
        return false;
    }
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(&block);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, &c)| if (148..156).contains(&at) { 32 } else { u32::from(c) })
        .sum();
    header.cksum().is_ok_and(|stated| stated == sum) && block.iter().any(|&c| c != 0)
}
