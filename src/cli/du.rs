//! `kiln du`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::invocation::Invocation;
use super::report::CliError;
use super::text;
use super::value::StoreKind;
use crate::prune::{self, Amount, Entry, Kind};

/// Show what the store takes on the disk, and what of it `kiln prune --all` would free;
/// -v lists the entries
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only entries of a kind: type=layers, type=trees, …; may be repeated
    #[arg(long, value_name = "type=KIND")]
    pub filter: Vec<StoreKind>,

    /// How to print: table or json
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub format: Form,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    #[default]
    Table,
    Json,
}

#[derive(Default)]
struct Sum {
    entries: usize,
    size: Amount,
    reclaimable: Amount,
    used: Option<SystemTime>,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        self.size = self.size + entry.size;
        if entry.need.is_reclaimable() {
            self.reclaimable = self.reclaimable + entry.size;
        }
        self.used = self.used.max(Some(entry.used));
    }
}

/// Prints the sums of each kind, or the entries.
///
/// # Errors
/// If the store cannot be read.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let mut found = prune::inventory(invocation.store()?)?;
    if found.is_partial() {
        invocation.warn("some folders belong to other IDs and could not be looked into: they take more than is shown");
    }
    let kinds: Vec<Kind> = args.filter.iter().map(|kind| kind.0).collect();
    if !kinds.is_empty() {
        found.entries.retain(|entry| kinds.contains(&entry.kind));
    }
    found.entries.sort_by_key(|entry| (entry.kind, entry.used));
    let mut sums: BTreeMap<Kind, Sum> = BTreeMap::new();
    for entry in &found.entries {
        sums.entry(entry.kind).or_default().add(entry);
    }
    let all =
        |part: fn(&Sum) -> Amount| sums.values().map(part).fold(Amount::default(), |a, b| a + b);
    // Names of one file in several entries are counted for each of them above.
    let total = if kinds.is_empty() { found.total } else { all(|sum| sum.size) };
    let reclaimable = all(|sum| sum.reclaimable);
    if args.format == Form::Json {
        let mut value = json!({
            "total": {"bytes": total.bytes, "inodes": total.inodes},
            "reclaimable": {"bytes": reclaimable.bytes, "inodes": reclaimable.inodes},
            "kinds": sums.iter().map(|(kind, sum)| of_kind(*kind, sum)).collect::<Vec<_>>(),
        });
        if invocation.verbose() > 0 {
            value["entries"] = found.entries.iter().map(entry_json).collect();
        }
        return invocation.print_json(&value);
    }
    if invocation.verbose() > 0 {
        let mut table =
            vec![["ENTRY", "TYPE", "SIZE", "INODES", "NEEDED BY", "LAST USED"].map(str::to_owned)];
        table.extend(found.entries.iter().map(entry_row));
        invocation.print(text::table(&table))?;
        invocation.print("")?;
    }
    let header = ["TYPE", "ENTRIES", "SIZE", "INODES", "RECLAIMABLE", "LAST USED"];
    let mut table = vec![header.map(str::to_owned)];
    for (kind, sum) in &sums {
        table.push([
            kind.name().to_owned(),
            sum.entries.to_string(),
            text::bytes(sum.size.bytes),
            sum.size.inodes.to_string(),
            text::bytes(sum.reclaimable.bytes),
            sum.used.map(age).unwrap_or_default(),
        ]);
    }
    table.push([
        "total".to_owned(),
        found.entries.len().to_string(),
        text::bytes(total.bytes),
        total.inodes.to_string(),
        text::bytes(reclaimable.bytes),
        String::new(),
    ]);
    invocation.print(text::table(&table))
}

fn of_kind(kind: Kind, sum: &Sum) -> Value {
    json!({
        "type": kind.name(),
        "entries": sum.entries,
        "bytes": sum.size.bytes,
        "inodes": sum.size.inodes,
        "reclaimable": {"bytes": sum.reclaimable.bytes, "inodes": sum.reclaimable.inodes},
        "last_used": sum.used.map(moment),
    })
}

/// The entry's fields for machines; times are RFC 3339 in UTC.
pub(super) fn entry_json(entry: &Entry) -> Value {
    json!({
        "id": entry.id,
        "type": entry.kind.name(),
        "bytes": entry.size.bytes,
        "inodes": entry.size.inodes,
        "reclaimable": entry.need.is_reclaimable(),
        "needed_by": entry.need.name(),
        "last_used": moment(entry.used),
        "partial": entry.partial,
    })
}

pub(super) fn entry_row(entry: &Entry) -> [String; 6] {
    [
        entry.id.clone(),
        entry.kind.name().to_owned(),
        text::bytes(entry.size.bytes),
        entry.size.inodes.to_string(),
        entry.need.name().to_owned(),
        age(entry.used),
    ]
}

fn moment(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().to_string()
}

/// How long ago, in its greatest unit.
fn age(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let unit = units.iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.copied().unwrap_or((1, "second"));
    let count = seconds / length;
    format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
}
