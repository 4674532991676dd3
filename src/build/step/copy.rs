//! `COPY` and `ADD`: chosen files become a layer, at the place where the image's
//! own links lead. No unpacking, no privilege: the layer is written straight from
//! the source, and the image below is known from its layers' indexes.

use std::collections::VecDeque;

use super::super::fetch::Fetched;
use super::emit::{Bulk, Content, Out, Outs, dress, emit};
use super::lineage::Lineage;
use super::select::{Chosen, Origin};
use super::{StepError, write_layer};
use crate::dockerfile::Chmod;
use crate::epoch::Epoch;
use crate::layer::{Entry, Kind, Layer, Name, Node, View, whiteout_of};
use crate::plan::{self, CopyOp, RemoteSource};
use crate::rootfs::Rootfs;
use crate::sandbox::{Cancel, SandboxError};
use crate::store::Store;

/// As many as the kernel follows on one path.
const MAX_LINKS: usize = 40;

/// Where an entry comes from, and the time of its files, if they have one.
#[derive(Clone, Copy)]
enum Found {
    Archive,
    Context(Option<i64>),
    Layers,
}

/// What the places are made of and under which rules.
struct Plan<'a> {
    below: &'a View,
    owner: Option<(u32, u32)>,
    mode: Option<&'a Chmod>,
    epoch: i64,
    outs: Outs,
}

// Each of them is one of the step's inputs.
#[expect(clippy::too_many_arguments)]
pub(super) fn run(
    store: &Store,
    cancel: &Cancel,
    op: &CopyOp,
    origin: &Origin<'_>,
    chosen: &[&Chosen],
    fetched: &[(&RemoteSource, Fetched)],
    onto: &Rootfs,
    epoch: Epoch,
    lineage: &Lineage<'_>,
) -> Result<Layer, StepError> {
    let owner = match &op.owner {
        Some(owner) => Some(onto.owner(store, owner)?),
        None => None,
    };
    let mut plan = Plan {
        below: onto.view(),
        owner,
        mode: op.mode.as_ref(),
        epoch: epoch.seconds(),
        outs: Outs::default(),
    };
    plan.all(op, origin, chosen, fetched)?;
    let outs = plan.outs;
    let written = write_layer(store, lineage, |writer| {
        emit(store, cancel, op, origin, chosen, &outs, writer)
    });
    if written.is_err() && cancel.is_cancelled() {
        return Err(SandboxError::Cancelled.into());
    }
    written
}

impl Plan<'_> {
    fn all(
        &mut self,
        op: &CopyOp,
        origin: &Origin<'_>,
        chosen: &[&Chosen],
        fetched: &[(&RemoteSource, Fetched)],
    ) -> Result<(), StepError> {
        let to = self.below.resolve(op.destination.as_bytes(), true)?;
        let slash = op.destination.ends_with('/');
        let made = if slash { Some(to.clone()) } else { to.parent() };
        for (number, one) in chosen.iter().enumerate() {
            if let Some(archive) = &one.archive {
                // No mode that is asked for is that of the folder it is unpacked to.
                self.made(&to, 0o755)?;
                for node in archive.view.below(&Name::root()).filter(|node| !node.implied) {
                    let target = self.inside(&to, &node.entry.name)?;
                    self.put(target, node, number, Found::Archive)?;
                }
                for node in &archive.strays {
                    let target = self.inside(&to, &node.entry.name)?;
                    self.put(target, node, number, Found::Archive)?;
                }
                continue;
            }
            self.folders(made.as_ref())?;
            let seen = one.seen(origin)?;
            let found = || match one.context(origin) {
                Some(context) => Found::Context(context.time()),
                None => Found::Layers,
            };
            if !one.is_dir {
                let target =
                    if slash || self.is_dir(&to) { to.join(&one.base) } else { to.clone() };
                if let Some(node) = seen.get(&one.at) {
                    self.put(target, &node, number, found())?;
                }
                continue;
            }
            // A folder's content goes to the destination, which is no copy of the
            // folder itself: it has the mode of any folder that is made.
            self.folders(Some(&to))?;
            let last = number + 1 == chosen.len() && fetched.is_empty() && op.contents.is_empty();
            if last && self.bulk(&to, one, number, origin)? {
                continue;
            }
            for node in one.nodes(seen) {
                let rest = node.entry.name.below(&one.at).unwrap_or_default();
                let target = to.join_name(&rest);
                if !(one.is_above(&node) && self.keep(&target, node.entry.mode)) {
                    self.put(target, &node, number, found())?;
                }
            }
        }
        for (remote, file) in fetched {
            self.folders(made.as_ref())?;
            let inside = slash || self.is_dir(&to);
            let name = if inside { to.join(remote.name.as_bytes()) } else { to.clone() };
            let kind = Kind::File { size: file.size };
            let entry = Entry { kind, mode: 0o600, ..Entry::dir(name, self.epoch) };
            let content = if file.size > 0 { Content::Blob(file.digest) } else { Content::None };
            self.place(entry, content, false)?;
        }
        for (number, content) in op.contents.iter().enumerate() {
            self.folders(made.as_ref())?;
            let inside = slash || self.is_dir(&to);
            let name = if inside { to.join(content.name.as_bytes()) } else { to.clone() };
            self.text(name, number, content)?;
        }
        self.parents();
        Ok(())
    }

    /// Puts a file there whose text the Dockerfile has.
    fn text(&mut self, to: Name, number: usize, content: &plan::Content) -> Result<(), StepError> {
        let size = content.text.len() as u64;
        let entry = Entry { kind: Kind::File { size }, mode: 0o644, ..Entry::dir(to, self.epoch) };
        self.place(entry, if size > 0 { Content::Text(number) } else { Content::None }, false)
    }

    /// Takes all that a folder of the context has, without a list of its own: the folder's
    /// will do, since nothing else is put below the destination. False if it will not.
    fn bulk(
        &mut self,
        to: &Name,
        one: &Chosen,
        number: usize,
        origin: &Origin<'_>,
    ) -> Result<bool, StepError> {
        let Some(context) = one.context(origin) else { return Ok(false) };
        if !one.is_whole() || self.outs.has_below(to) {
            return Ok(false);
        }
        let bulk = Bulk {
            to: to.clone(),
            at: one.at.clone(),
            number,
            time: context.time(),
            epoch: self.epoch,
            owner: self.owner,
            mode: self.mode.cloned(),
        };
        let alone = self.below.below(to).next().is_none() && self.is_dir(to);
        let mut some = false;
        for node in one.nodes(one.seen(origin)?) {
            let out = bulk.out(&node);
            let below = if alone { None } else { self.below.get(&out.entry.name) };
            fits(&out.entry, below.map(|node| node.entry.kind == Kind::Dir))?;
            some = true;
        }
        if some {
            self.outs.bulk = Some(bulk);
        }
        Ok(true)
    }

    fn is_dir(&self, name: &Name) -> bool {
        match self.outs.map.get(name) {
            Some(out) => out.entry.kind == Kind::Dir,
            None => self.below.is_dir(name) && !self.hidden(name),
        }
    }

    /// True if something that is put above a name hides what the image has there.
    fn hidden(&self, name: &Name) -> bool {
        let mut above = name.parent();
        while let Some(folder) = above {
            if self.outs.map.get(&folder).is_some_and(|out| out.entry.kind != Kind::Dir) {
                return true;
            }
            above = folder.parent();
        }
        false
    }

    /// Where an archive's entry goes. It is unpacked as tar does it with the destination
    /// for its root: links above the entry are followed, of the image and of what was
    /// unpacked before, and none leads out.
    fn inside(&mut self, to: &Name, name: &Name) -> Result<Name, StepError> {
        let whole = to.join_name(name);
        let parent = whole.parent().unwrap_or_default();
        if self.is_dir(&parent) {
            return Ok(whole);
        }
        let (mut at, mut followed) = (to.clone(), 0);
        let above = name.parent().unwrap_or_default();
        let mut parts: VecDeque<Vec<u8>> = above.parts().map(<[u8]>::to_vec).collect();
        while let Some(part) = parts.pop_front() {
            if matches!(part.as_slice(), b"" | b".") {
                continue;
            }
            if part == b".." {
                let up = at.parent().filter(|_| at != *to);
                at = up.unwrap_or_else(|| to.clone());
                continue;
            }
            let next = at.join(&part);
            let Some(target) = self.link(&next) else {
                at = next;
                continue;
            };
            followed += 1;
            if followed > MAX_LINKS {
                return Err(StepError::NotAFolder { name: next });
            }
            if target.starts_with(b"/") {
                at = to.clone();
            }
            for part in target.rsplit(|&c| c == b'/') {
                parts.push_front(part.to_vec());
            }
        }
        // Only what is not there at all is made: a link that leads nowhere is there.
        if !self.is_dir(&at) && self.link(&parent).is_some() {
            return Err(StepError::NotAFolder { name: parent });
        }
        self.made(&at, 0o755)?;
        Ok(at.join(whole.base()))
    }

    /// Where a symbolic link leads, if there is one.
    fn link(&self, name: &Name) -> Option<Vec<u8>> {
        let entry = match self.outs.map.get(name) {
            Some(out) => &out.entry,
            None => &self.below.get(name).filter(|_| !self.hidden(name))?.entry,
        };
        match &entry.kind {
            Kind::Symlink { target } => Some(target.0.clone()),
            _ => None,
        }
    }

    /// Makes a folder and those above it where they do not exist.
    fn folders(&mut self, folder: Option<&Name>) -> Result<(), StepError> {
        let Some(folder) = folder else { return Ok(()) };
        self.made(folder, self.mode.map_or(0o755, Chmod::made_folder))
    }

    fn made(&mut self, folder: &Name, mode: u32) -> Result<(), StepError> {
        let mut missing = Vec::new();
        let mut at = folder.clone();
        while !self.is_dir(&at) {
            if self.below.get(&at).is_some() || self.outs.map.contains_key(&at) {
                return Err(StepError::NotAFolder { name: at });
            }
            missing.push(at.clone());
            at = at.parent().unwrap_or_default();
        }
        for name in missing {
            let (uid, gid) = self.owner.unwrap_or((0, 0));
            let entry = Entry { uid, gid, mode, ..Entry::dir(name.clone(), self.epoch) };
            self.outs.map.insert(name, Out { entry, content: Content::None });
        }
        Ok(())
    }

    /// Gives a folder that is there a mode and nothing else; false if there is none.
    fn keep(&mut self, folder: &Name, mode: u32) -> bool {
        if !self.is_dir(folder) {
            return false;
        }
        let below = self.below.get(folder).map(|node| &node.entry);
        let there = self.outs.map.get(folder).map(|out| &out.entry).or(below);
        let Some(entry) = there.cloned() else { return false };
        let entry = Entry { mode, mtime: self.epoch, ..entry };
        self.outs.map.insert(folder.clone(), Out { entry, content: Content::None });
        true
    }

    fn put(&mut self, to: Name, node: &Node, number: usize, found: Found) -> Result<(), StepError> {
        let mut entry = Entry { name: to, ..node.entry.clone() };
        // Empty files too: they may have several names.
        let is_file = matches!(entry.kind, Kind::File { .. });
        let content = match found {
            _ if !is_file => Content::None,
            Found::Archive => Content::Archive(number, node.content.ordinal),
            Found::Context(_) => Content::Context(number, node.content),
            Found::Layers => Content::Layers(number, node.content),
        };
        entry.mtime = match found {
            // The times of files in a folder of the host are those of its checkout.
            Found::Context(None) => self.epoch,
            Found::Context(Some(time)) => time.min(self.epoch),
            Found::Archive | Found::Layers => entry.mtime.min(self.epoch),
        };
        self.place(entry, content, matches!(found, Found::Archive))
    }

    /// Puts an entry to its place, with the owner and mode that are asked for.
    fn place(
        &mut self,
        mut entry: Entry,
        content: Content,
        archive: bool,
    ) -> Result<(), StepError> {
        let to = entry.name.clone();
        let is_dir = entry.kind == Kind::Dir;
        let there = match self.outs.map.get(&to) {
            Some(out) => Some(out.entry.kind == Kind::Dir),
            None => self.below.get(&to).map(|node| node.entry.kind == Kind::Dir),
        };
        match (is_dir, there) {
            // What an archive lists replaces what is there.
            (false, Some(true)) if archive => {
                fits(&entry, None)?;
                self.outs.map.retain(|name, _| name.below(&to).is_none());
            }
            (true, Some(false)) if archive => fits(&entry, None)?,
            _ => fits(&entry, there)?,
        }
        // An archive's files keep their modes.
        dress(&mut entry, self.owner, self.mode.filter(|_| !archive));
        self.outs.map.insert(to, Out { entry, content });
        Ok(())
    }

    /// Lists the image's own folders above what is put into them: whoever unpacks
    /// the layer for itself would not know their mode and owner otherwise. One
    /// that something is put into has this layer's time.
    fn parents(&mut self) {
        let mut names: Vec<Name> = self.outs.map.keys().cloned().collect();
        // What is in the bulk stands in the same folders as its first name, or in its own.
        names.extend(self.outs.bulk.as_ref().map(|bulk| bulk.to.join(b"-")));
        for name in names {
            let mut direct = true;
            let mut above = name.parent();
            while let Some(folder) = above.filter(|folder| !folder.is_root()) {
                above = folder.parent();
                if let Some(node) = self.below.get(&folder)
                    && (direct || !self.outs.map.contains_key(&folder))
                    && self.outs.map.get(&folder).is_none_or(|out| out.content == Content::Below)
                {
                    let mut entry = node.entry.clone();
                    entry.mtime = if direct { self.epoch } else { entry.mtime.min(self.epoch) };
                    self.outs.map.insert(folder, Out { entry, content: Content::Below });
                }
                direct = false;
            }
        }
    }
}

/// Refuses what cannot be put to a place; `there` says whether what is there is a folder.
/// Folders are merged; one below the destination takes on what the copied one has, as with
/// BuildKit.
fn fits(entry: &Entry, there: Option<bool>) -> Result<(), StepError> {
    let name = || entry.name.clone();
    if whiteout_of(&entry.name).is_some() {
        return Err(StepError::WhiteoutName { name: name() });
    }
    match (entry.kind == Kind::Dir, there) {
        (true, Some(false)) => Err(StepError::NotAFolder { name: name() }),
        (false, Some(true)) => Err(StepError::IsAFolder { name: name() }),
        (_, None) | (true, Some(true)) | (false, Some(false)) => Ok(()),
    }
}
