//! What rpm has installed. Its database is a store of headers, one for each package, in one of
//! three forms: SQLite (rpm 4.16 and later), rpm's own ndb, Berkeley DB (before).

mod bdb;
mod header;
mod ndb;
mod sqlite;

pub(super) use header::Package;

use super::content::Content;

/// Most packages of a database, and most bytes of all their headers.
const MOST_PACKAGES: usize = 200_000;
const MOST_BYTES: u64 = 2 << 30;
/// Most bytes of one header (rpm's own ceiling).
const MOST_HEADER: u64 = 256 << 20;

/// How a database is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Sqlite,
    Ndb,
    Bdb,
}

/// The packages, and what is wrong with the database.
pub(super) fn read(content: &Content<'_>, form: Form) -> (Vec<Package>, Vec<String>) {
    let mut packages = Vec::new();
    let mut wrong = Vec::new();
    let mut room = MOST_BYTES;
    let mut each = |blob: &[u8]| -> Result<(), String> {
        room = room.checked_sub(blob.len() as u64).ok_or("it has very many bytes of headers")?;
        if packages.len() >= MOST_PACKAGES {
            return Err(format!("it has more than {MOST_PACKAGES} packages"));
        }
        match header::read(blob) {
            Some(package) => packages.push(package),
            None if wrong.len() < 8 => {
                wrong.push(format!("a header behind the first {} is damaged", packages.len()));
            }
            None => return Err("many headers are damaged".into()),
        }
        Ok(())
    };
    let ended = match form {
        Form::Sqlite => sqlite::each(content, &mut each),
        Form::Ndb => ndb::each(content, &mut each),
        Form::Bdb => bdb::each(content, &mut each),
    };
    wrong.extend(ended.err());
    (packages, wrong)
}
