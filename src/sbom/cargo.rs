//! Crates: those of a `Cargo.lock`, and those that cargo-auditable notes in a program (section
//! `.dep-v0`: JSON, compressed by zlib).

use std::io::Read as _;

use serde::Deserialize;

use super::component::Kind;
use super::elf::Elf;
use super::find::Draft;

/// Most bytes of a lock file, and of a program's list as it is unpacked.
const MOST_LOCK: usize = 16 << 20;
const MOST_LIST: u64 = 16 << 20;

#[derive(Deserialize)]
struct Lock {
    #[serde(default, rename = "package")]
    packages: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

#[derive(Deserialize)]
struct List {
    packages: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    version: String,
    /// `runtime` if it is left out.
    kind: Option<String>,
}

/// Reads a lock file.
pub(super) fn lock(bytes: &[u8]) -> Result<Vec<Draft>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if bytes.len() > MOST_LOCK {
        return Err(format!("it has more than {} MiB", MOST_LOCK >> 20));
    }
    let lock: Lock = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let draft = |one: Locked| {
        let mut draft = Draft::new(Kind::Cargo, "", &one.name, &one.version);
        if let Some(git) = one.source.filter(|source| source.starts_with("git+")) {
            // SPDX's form: the address and the commit, without what cargo asked for.
            let (url, commit) = git.split_once('#').unwrap_or((&git, ""));
            let url = url.split('?').next().unwrap_or(url);
            let at = if commit.is_empty() { "" } else { "@" };
            draft.qualifiers.push(("vcs_url", format!("{url}{at}{commit}")));
        }
        draft
    };
    Ok(lock.packages.into_iter().map(draft).collect())
}

/// Reads the list of a program, if it has one. What only its build used is not in it.
pub(super) fn in_program(elf: &Elf<'_>) -> Result<Vec<Draft>, String> {
    let Some(section) = elf.section(".dep-v0") else { return Ok(Vec::new()) };
    let packed = section
        .filter(|section| section.1 <= MOST_LIST)
        .and_then(|(at, size)| elf.content.part(at, size))
        .ok_or("its section .dep-v0 is cut off, or very long")?;
    let mut text = Vec::new();
    let mut unpacked = flate2::read::ZlibDecoder::new(packed.as_slice()).take(MOST_LIST + 1);
    unpacked
        .read_to_end(&mut text)
        .map_err(|error| format!("its section .dep-v0 cannot be unpacked: {error}"))?;
    if text.len() as u64 > MOST_LIST {
        return Err("its section .dep-v0 is very long".into());
    }
    let list: List = serde_json::from_slice(&text)
        .map_err(|error| format!("its section .dep-v0 cannot be read: {error}"))?;
    let runs = |one: &Listed| one.kind.as_deref().is_none_or(|kind| kind == "runtime");
    let draft = |one: Listed| Draft::new(Kind::Cargo, "", &one.name, &one.version);
    Ok(list.packages.into_iter().filter(runs).map(draft).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kiln's own.
    #[test]
    fn own_lock() {
        let text = include_str!("../../Cargo.lock");
        let drafts = lock(text.as_bytes()).unwrap();
        assert_eq!(drafts.len(), text.matches("[[package]]").count());
        assert!(drafts.iter().any(|one| one.name == "kiln"));
        assert!(lock(b"[[package]]\nname = 1").is_err());
        assert!(lock(b"\xff").is_err());
        assert!(lock(&b"a=[".repeat(100_000)).is_err());
        let git = b"[[package]]\nname=\"a\"\nversion=\"1\"\nsource=\"git+https://h/a?rev=1#2\"";
        assert_eq!(lock(git).unwrap()[0].qualifiers[0].1, "git+https://h/a@2");
    }
}
