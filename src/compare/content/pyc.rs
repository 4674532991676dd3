//! Compiled Python: what the header says of the source, and the code after it (PEP 552).

use std::io;

use super::super::Work;
use super::super::files::time;
use super::super::report::FieldChange;
use super::super::spool::Section;
use super::Difference;

const HEADER: u64 = 16;

/// True if it may be one: two bytes of the version are followed by a line's end.
pub(super) fn is(head: &[u8]) -> bool {
    head.get(2..4) == Some(b"\r\n") && head.len() as u64 >= HEADER
}

pub(super) fn compare(
    a: &Section<'_>,
    b: &Section<'_>,
    first: Difference,
    work: Work<'_>,
) -> io::Result<Option<Vec<FieldChange>>> {
    let (Some(one), Some(other)) = (a.exact::<16>(0), b.exact::<16>(0)) else { return Ok(None) };
    let word = |head: &[u8; 16], at: usize| {
        let bytes: [u8; 4] = head[at..at + 4].try_into().unwrap_or_default();
        u32::from_le_bytes(bytes)
    };
    let mut changes = Vec::new();
    let mut field = |name: &str, a: serde_json::Value, b: serde_json::Value| {
        if a != b {
            changes.push(FieldChange::new(name, a, b));
        }
    };
    let version = |head: &[u8; 16]| u16::from_le_bytes([head[0], head[1]]).into();
    field("python.version", version(&one), version(&other));
    let by = |head: &[u8; 16]| if word(head, 4) & 1 == 0 { "time" } else { "hash" };
    field("python.checkedBy", by(&one).into(), by(&other).into());
    match (by(&one), by(&other)) {
        ("time", "time") => {
            let mtime = |head: &[u8; 16]| time(word(head, 8).into(), 0).into();
            field("python.mtime", mtime(&one), mtime(&other));
            field("python.size", word(&one, 12).into(), word(&other, 12).into());
        }
        ("hash", "hash") => {
            let hash = |head: &[u8; 16]| {
                head[8..].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
            };
            field("python.hash", hash(&one), hash(&other));
        }
        _ => (),
    }
    let code = |file: &Section<'_>| file.size() - HEADER;
    let mut at = first.offset;
    if at < HEADER {
        let parts = (a.part(HEADER, code(a)), b.part(HEADER, code(b)));
        let (Some(one), Some(other)) = parts else { return Ok(None) };
        let Some(found) = super::difference(&one, &other, work)? else { return Ok(Some(changes)) };
        at = HEADER + found.offset;
    }
    changes
        .push(FieldChange::new("python.code", code(a), code(b)).note(format!("from byte {at} on")));
    Ok(Some(changes))
}
