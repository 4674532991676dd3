//! `kiln prune`, and the limit that builds keep.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::SystemTime;

use super::du::{Form, entry_json};
use super::invocation::Invocation;
use super::report::CliError;
use super::text;
use super::value::{PruneFilter, Size, StoreLimitArg, size};
use crate::env;
use crate::progress::Progress;
use crate::prune::{self, Pruned, Room, Selection, StoreLimit, When};
use crate::store::Store;

/// Remove what no image's name, no container and no running process needs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also what was made for images with a name and can be made again, and what only saves
    /// time: their unpacked trees and records, cache mounts, git repositories
    #[arg(short, long)]
    pub all: bool,

    /// Only what fits: until=24h (not used for so long), type=KIND (a type that `kiln du`
    /// lists); may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<PruneFilter>,

    /// Remove the least recently used until the store holds no more than this
    #[arg(long, value_name = "SIZE")]
    pub max_used_space: Option<Size>,

    /// Remove the least recently used until the disk has this much free
    #[arg(long, value_name = "SIZE")]
    pub min_free_space: Option<Size>,

    /// Leave this much, whatever the others say
    #[arg(long, alias = "keep-storage", value_name = "SIZE")]
    pub reserved_space: Option<Size>,

    /// Do not ask
    #[arg(short, long)]
    pub force: bool,

    /// How to print: table or json
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub format: Form,
}

impl Args {
    fn selection(&self) -> Selection {
        let mut selection = Selection {
            all: self.all,
            room: Room {
                max_used: self.max_used_space.map(|size| size.0),
                max_inodes: None,
                min_free: self.min_free_space.map(|size| size.0),
                reserved: self.reserved_space.map(|size| size.0),
            },
            ..Selection::default()
        };
        for filter in &self.filter {
            match filter {
                PruneFilter::Until(age) => {
                    let until = now().checked_sub(*age).unwrap_or(SystemTime::UNIX_EPOCH);
                    // Of several all hold.
                    selection.until = Some(selection.until.map_or(until, |other| other.min(until)));
                }
                PruneFilter::Kind(kind) => selection.kinds.push(*kind),
            }
        }
        selection
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with times of files, and in no output")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Removes, and prints what the disk got back; with -v every entry.
///
/// # Errors
/// If nobody agreed, or something that should have gone could not be removed.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    if !args.force {
        agreed(args.all)?;
    }
    let pruned = prune::prune(invocation.store()?, &args.selection())?;
    print(&pruned, args.format, invocation)?;
    for (what, why) in &pruned.failed {
        invocation.warn(&format!("not removed: {what}: {why}"));
    }
    match pruned.failed.len() {
        0 => Ok(()),
        count => Err(CliError::plain(format!("{count} entries could not be removed")).hint(
            "what belongs to other IDs is removed where `kiln doctor` finds a sandbox, or as root",
        )),
    }
}

fn print(pruned: &Pruned, form: Form, invocation: &Invocation) -> Result<(), CliError> {
    let Pruned { removed, freed, left, failed } = pruned;
    if form == Form::Json {
        return invocation.print_json(&serde_json::json!({
            "removed": removed.iter().map(entry_json).collect::<Vec<_>>(),
            "freed": {"bytes": freed.bytes, "inodes": freed.inodes},
            "left": {"bytes": left.bytes, "inodes": left.inodes},
            "failed": failed.iter().map(|(what, why)| {
                serde_json::json!({"id": what, "why": why})
            }).collect::<Vec<_>>(),
        }));
    }
    if invocation.verbose() > 0 {
        for entry in removed {
            let size = text::bytes(entry.size.bytes);
            invocation.print(format!("removed {} {} ({size})", entry.kind.name(), entry.id))?;
        }
    }
    invocation.print(format!(
        "freed {} and {} inodes of {} entries; {} left",
        text::bytes(freed.bytes),
        freed.inodes,
        removed.len(),
        text::bytes(left.bytes),
    ))
}

fn agreed(all: bool) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::usage("there is nobody to ask whether all of that is to be removed")
            .hint("--force does not ask; `kiln du` shows what there is"));
    }
    let what = if all {
        "everything that no image's name, container or running process needs at once"
    } else {
        "everything in the store that no image's name and no container was made of"
    };
    let mut stderr = io::stderr().lock();
    write!(stderr, "This removes {what}.\nGo on? [y/N] ").and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::plain("nothing was removed")),
    }
}

/// The limit of a flag, else that of the environment.
pub(super) fn limit(flag: Option<StoreLimitArg>) -> Result<Option<StoreLimit>, CliError> {
    if let Some(StoreLimitArg(limit)) = flag {
        return Ok(Some(limit));
    }
    let Some(text) = env::text(env::STORE_LIMIT) else { return Ok(None) };
    let read = StoreLimit::read(&text, size).map(Some);
    read.map_err(|error| CliError::usage(format!("{}=`{text}`: {error}", env::STORE_LIMIT)))
}

/// Keeps the store below a limit, and says what that took. A clean-up that fails is no
/// reason for a build to fail.
pub(super) fn keep(store: &Store, limit: Option<StoreLimit>, when: When, progress: &Progress) {
    let Some(limit) = limit else { return };
    match prune::keep_below(store, limit, when) {
        Ok(None) => {}
        Ok(Some(kept)) => {
            let Pruned { removed, freed, left, failed } = &kept.pruned;
            if !removed.is_empty() {
                let (freed, count) = (text::bytes(freed.bytes), removed.len());
                progress
                    .note(format!("the store is limited: {count} entries were removed, {freed}"));
            }
            for (what, why) in failed {
                progress.warn(format!("not removed: {what}: {why}"));
            }
            if kept.over && when == When::After {
                let (bytes, inodes) = (text::bytes(left.bytes), left.inodes);
                progress.warn(format!(
                    "the store is limited to {limit} and holds {bytes} in {inodes} inodes: \
                     images with names, containers or running processes need them"
                ));
            }
        }
        Err(error) => progress.warn(format!("the store cannot be kept below its limit: {error}")),
    }
}
