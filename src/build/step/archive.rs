//! Archives that `ADD` unpacks: read in place, never unpacked to names of their own.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::PathBuf;

use super::super::context::Context;
use super::super::files::{first, tar_begins};
use super::StepError;
use crate::atomic::AtPath as _;
use crate::digest::Hashing;
use crate::layer::{
    Decompressor, Entry, Kind, LayerIndex, Located, Name, Node, Packing, Reader, View,
};

/// An archive that `ADD` unpacks.
pub(super) struct Archive {
    /// For messages; of one of the context, where it is there.
    pub name: Name,
    from: Packed,
    pub packing: Packing,
    pub view: View,
    /// What is listed below a symbolic link of the archive's own: it goes where that
    /// leads once it is unpacked.
    pub strays: Vec<Node>,
}

/// Where an archive is.
pub(super) enum Packed {
    /// A file of the context.
    Context(Located),
    Blob(PathBuf),
}

/// Looks whether a file is an archive: by its content, as BuildKit does.
pub(super) fn archive(context: &Context, node: &Node) -> Result<Option<Archive>, StepError> {
    let Kind::File { .. } = node.entry.kind else { return Ok(None) };
    let file = context.open(node.content)?.file;
    unpackable(file, &node.entry.name, Packed::Context(node.content))
}

/// The archive that a file is, if it is one.
pub(super) fn unpackable(
    mut file: File,
    name: &Name,
    from: Packed,
) -> Result<Option<Archive>, StepError> {
    let read = |error| StepError::Archive { name: name.clone(), why: io::Error::to_string(&error) };
    let head = first(&mut file, 6).map_err(read)?;
    file.rewind().map_err(read)?;
    let packing = Decompressor::detect(&head);
    let is_tar = tar_begins(Decompressor::new(&file, packing).map_err(read)?);
    if !is_tar {
        return Ok(None);
    }
    file.rewind().map_err(read)?;
    let tar = Decompressor::new(io::BufReader::new(file), packing).map_err(read)?;
    let wrong = |why: String| StepError::Archive { name: name.clone(), why };
    let index = LayerIndex::of(Reader::of_archive(tar)).map_err(|e| wrong(e.to_string()))?;
    let (strays, tree) = strays(index.iter().collect());
    let stray = |(ordinal, entry): (usize, Entry)| match entry.kind {
        Kind::Hardlink { .. } => {
            Err(wrong(format!("`{}` is a hard link below a link", entry.name.display())))
        }
        _ => Ok(Node { entry, content: Located { layer: 0, ordinal }, implied: false }),
    };
    let strays = strays.into_iter().map(stray).collect::<Result<_, _>>()?;
    let view = View::numbered(tree)?;
    Ok(Some(Archive { name: name.clone(), from, packing, view, strays }))
}

type Numbered = Vec<(usize, Entry)>;

/// Tells apart what an archive lists below a symbolic link of its own.
fn strays(entries: Vec<Entry>) -> (Numbered, Numbered) {
    let mut links: HashSet<Name> = HashSet::new();
    entries.into_iter().enumerate().partition(|(_, entry)| {
        let mut above = entry.name.parent();
        while let Some(folder) = above {
            if links.contains(&folder) {
                return true;
            }
            above = folder.parent();
        }
        match &entry.kind {
            Kind::Symlink { .. } => links.insert(entry.name.clone()),
            _ => links.remove(&entry.name),
        };
        false
    })
}

impl Archive {
    /// Calls `each` for the wanted entries, by their place in the archive.
    pub(super) fn contents<T>(
        &self,
        context: Option<&Context>,
        wanted: &BTreeMap<usize, T>,
        mut each: impl FnMut(&T, &mut dyn io::Read) -> io::Result<()>,
    ) -> Result<(), StepError> {
        let wrong = |why: String| StepError::Archive { name: self.name.clone(), why };
        let (file, opened) = match (&self.from, context) {
            (Packed::Blob(path), _) => (File::open(path).at("open", path)?, None),
            (Packed::Context(at), Some(context)) => {
                let opened = context.open(*at)?;
                let file = opened.file.try_clone().at("open", context.path(&self.name))?;
                (file, Some((context, *at, opened)))
            }
            (Packed::Context(_), None) => return Ok(()),
        };
        let tar = Decompressor::new(io::BufReader::new(file), self.packing)
            .map_err(|e| wrong(e.to_string()))?;
        let mut reader = Reader::of_archive(tar);
        let mut ordinal = 0;
        while let Some(_entry) = reader.next().map_err(|e| wrong(e.to_string()))? {
            if let Some(what) = wanted.get(&ordinal) {
                each(what, &mut reader).map_err(|e| wrong(e.to_string()))?;
            }
            ordinal += 1;
        }
        // The key was made of what it was.
        if let Some((context, at, mut opened)) = opened {
            let hashed = context.hashed(at, &|| false)?;
            let mut same = context.is_same(at, &opened)?;
            if same && !hashed.sure {
                // Its stamp says too little.
                let path = context.path(&self.name);
                let mut whole = Hashing::new(io::sink());
                opened.file.rewind().at("read", &path)?;
                io::copy(&mut opened.file, &mut whole).at("read", &path)?;
                same = whole.finish().1 == hashed.digest;
            }
            if !same {
                return Err(StepError::Changed { name: self.name.clone() });
            }
        }
        Ok(())
    }
}
