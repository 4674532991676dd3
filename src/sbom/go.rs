//! What a program of Go's says of its modules (Go, `debug/buildinfo` and
//! `runtime/debug.BuildInfo`).

use super::component::Kind;
use super::content::number;
use super::elf::Elf;
use super::find::Draft;

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The header begins at a multiple of it.
const ALIGN: u64 = 16;
const HEADER: u64 = 32;
/// Most bytes of the section or segment that are searched for it, and of a text.
const MOST_SEARCHED: u64 = 1 << 20;
const MOST_TEXT: u64 = 16 << 20;

/// The modules of a program; none if it is not Go's.
pub(super) fn read(elf: &Elf<'_>) -> Result<Vec<Draft>, String> {
    let Some(at) = header(elf) else {
        return match elf.section(".go.buildinfo") {
            Some(_) => Err("its section .go.buildinfo has no build information".into()),
            None => Ok(Vec::new()),
        };
    };
    let (version, modules) = texts(elf, at).ok_or("its build information is cut off")?;
    let modules =
        String::from_utf8(modules).map_err(|_| "its build information is no text".to_owned())?;
    let version = String::from_utf8_lossy(&version);
    drafts(&version, &modules)
}

/// Where the header is: in its section, else at the begin of what can be written to.
fn header(elf: &Elf<'_>) -> Option<u64> {
    let place = match elf.section(".go.buildinfo") {
        Some(place) => place?,
        None => {
            let data = elf.segments.iter().find(|segment| segment.writable)?;
            (data.at, data.size)
        }
    };
    let (at, size) = place;
    let bytes = elf.content.part(at, size.min(MOST_SEARCHED))?;
    let places = (0..bytes.len()).step_by(ALIGN as usize);
    let found =
        places.into_iter().find(|from| bytes.get(*from..).is_some_and(|b| b.starts_with(MAGIC)));
    at.checked_add(found? as u64)
}

/// Go's version, and the modules as a text.
fn texts(elf: &Elf<'_>, at: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let head = elf.content.part(at, HEADER)?;
    let flags = *head.get(15)?;
    let (version, modules) = if flags & 2 != 0 {
        let (version, next) = counted(elf, at.checked_add(HEADER)?)?;
        (version, counted(elf, next)?.0)
    } else {
        // Before Go 1.18: addresses of Go's strings, each an address and a length.
        let wide = usize::from(*head.get(14)?);
        if wide != 4 && wide != 8 {
            return None;
        }
        let big = flags & 1 != 0;
        let text = |place: usize| {
            let string = elf.at(number(&head, place, wide, big)?, 2 * wide as u64)?;
            let length = number(&string, wide, wide, big)?;
            if length > MOST_TEXT {
                return None;
            }
            elf.at(number(&string, 0, wide, big)?, length)
        };
        (text(16)?, text(16 + wide).unwrap_or_default())
    };
    // Sixteen bytes before and behind the text mark it.
    let marked = modules.len() >= 33 && modules.get(modules.len() - 17) == Some(&b'\n');
    let modules = match modules.get(16..modules.len().saturating_sub(16)) {
        Some(inner) if marked => inner.to_vec(),
        _ => Vec::new(),
    };
    Some((version, modules))
}

/// A text behind its length (a varint), and where it ends.
fn counted(elf: &Elf<'_>, at: u64) -> Option<(Vec<u8>, u64)> {
    let left = elf.content.size().checked_sub(at)?;
    let bytes = elf.content.part(at, left.min(10))?;
    let mut length: u64 = 0;
    for (count, byte) in bytes.iter().enumerate() {
        length |= u64::from(byte & 0x7f).checked_shl(7 * count as u32)?;
        if byte & 0x80 == 0 {
            let at = at.checked_add(count as u64 + 1)?;
            let text = (length <= MOST_TEXT).then(|| elf.content.part(at, length))??;
            return Some((text, at.checked_add(length)?));
        }
    }
    None
}

/// The lines: `mod` is the main module, `dep` one that it uses, `=>` what stands in for the one
/// before.
fn drafts(version: &str, modules: &str) -> Result<Vec<Draft>, String> {
    let mut drafts = Vec::new();
    // `go1.25.3 X:experiment` is a release too; `devel …` is none.
    let release = version.split(' ').next().unwrap_or_default().strip_prefix("go");
    let mut library = Draft::new(Kind::Golang, "", "stdlib", release.unwrap_or_default());
    library.licence = super::licence::Licence::of("BSD-3-Clause");
    drafts.push(library);
    for line in modules.lines() {
        let mut fields = line.split('\t');
        let kind = fields.next();
        let (Some("mod" | "dep" | "=>"), Some(path)) = (kind, fields.next()) else { continue };
        let version = fields.next().unwrap_or_default();
        if kind == Some("=>") {
            let replaced = drafts.pop().filter(|_| !drafts.is_empty());
            let Some(mut replaced) = replaced else {
                return Err("its build information replaces a module that is not there".into());
            };
            // A folder of whoever built it is no module that others could have: it keeps its name.
            if !path.starts_with(['.', '/']) {
                let of = replaced.name_and_version();
                replaced = module(path, version);
                replaced.source = Some(of);
            }
            drafts.push(replaced);
            continue;
        }
        drafts.push(module(path, version));
    }
    Ok(drafts)
}

fn module(path: &str, version: &str) -> Draft {
    // A build of a work tree has no version.
    let version = if version == "(devel)" { "" } else { version };
    let (space, name) = path.rsplit_once('/').unwrap_or(("", path));
    Draft::new(Kind::Golang, space, name, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules() {
        let text = "path\tx\nmod\texample.com/app\t(devel)\t\ndep\tgithub.com/A/b\tv1.2.3\th1:x=\n\
            dep\told.org/c\tv1.0.0\n=>\tnew.org/c\tv2.0.0\th1:y=\ndep\tl.org/d\tv0.0.0\n\
            =>\t../d\t(devel)\t\nbuild\t-compiler=gc\n";
        let all = drafts("go1.25.0 X:x", text).unwrap();
        let names: Vec<String> = all.iter().map(Draft::name_and_version).collect();
        let expected = [
            "stdlib 1.25.0",
            "example.com/app",
            "github.com/A/b v1.2.3",
            "new.org/c v2.0.0",
            "l.org/d v0.0.0",
        ];
        assert_eq!(names, expected);
        assert_eq!(all[3].source.as_deref(), Some("old.org/c v1.0.0"));
        assert!(drafts("go1", "=>\ta\tv1").is_err());
    }
}
