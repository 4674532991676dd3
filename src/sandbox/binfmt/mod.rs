//! Which other architectures' programs this machine can run.
//!
//! The kernel hands foreign programs to an interpreter, as `qemu-user`, that is
//! registered in binfmt_misc. Only a handler with flag `F` works in a sandbox: the
//! kernel then holds the interpreter open and does not look for it inside the root.
//! Handlers are known by what they take, not by their names.

mod elf;

use std::fmt;
use std::fs;
use std::path::Path;

use crate::platform::Platform;

const FOLDER: &str = "/proc/sys/fs/binfmt_misc";

/// A handler, as its file tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    pub name: String,
    pub enabled: bool,
    pub interpreter: String,
    /// Letters: `F` for an interpreter that is held open.
    pub flags: String,
    takes: Takes,
}

/// Which files a handler is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Takes {
    /// Those that have these bytes, under the mask, at the offset.
    Magic {
        offset: usize,
        magic: Vec<u8>,
        mask: Vec<u8>,
    },
    Extension,
}

/// All handlers that can be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handlers {
    /// False where binfmt_misc is not mounted, as in containers: handlers may work, but
    /// cannot be seen.
    pub visible: bool,
    /// All of them are switched on.
    pub enabled: bool,
    /// In the order of their names.
    pub all: Vec<Handler>,
}

/// Why programs of a platform cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// Not Linux.
    System(String),
    /// The kernel is of that family, but was built or booted without 32-bit programs.
    Narrow,
    /// No handler takes them.
    Unknown {
        architecture: String,
    },
    /// There are no handlers to be seen, and one of these programs does not run.
    Hidden {
        architecture: String,
    },
    Disabled {
        handler: String,
    },
    /// It has no flag `F`.
    Loose {
        handler: String,
        interpreter: String,
    },
}

/// Finds out whether programs of a platform can be run here, in a sandbox.
///
/// # Errors
/// Why not.
pub fn can_run(platform: &Platform) -> Result<(), Foreign> {
    let host = Platform::host();
    let architecture = &platform.architecture;
    if platform.os != host.os {
        return Err(Foreign::System(platform.os.clone()));
    }
    if *architecture == host.architecture {
        return Ok(());
    }
    let handlers = Handlers::of_machine();
    if (host.architecture.as_str(), architecture.as_str()) == ("amd64", "386") {
        // Where that cannot be found out it is so on nearly every machine.
        return match elf::runs(architecture) {
            Some(false) => handlers.judge(architecture).map_err(|_| Foreign::Narrow),
            Some(true) | None => Ok(()),
        };
    }
    if !handlers.visible && elf::runs(architecture) == Some(true) {
        return Ok(());
    }
    handlers.judge(architecture)
}

impl Handlers {
    #[must_use]
    pub fn of_machine() -> Self {
        Self::of(Path::new(FOLDER))
    }

    fn of(folder: &Path) -> Self {
        let Ok(status) = fs::read_to_string(folder.join("status")) else { return Self::default() };
        let mut all: Vec<Handler> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                // `register` cannot be read, and `status` is no handler.
                let text = fs::read_to_string(entry.path()).ok()?;
                Handler::parse(name, &text)
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Self { visible: true, enabled: status.trim() == "enabled", all }
    }

    /// Whether one of them runs programs of an architecture in a sandbox.
    fn judge(&self, architecture: &str) -> Result<(), Foreign> {
        if !self.visible {
            return Err(Foreign::Hidden { architecture: architecture.to_owned() });
        }
        let ours = || self.all.iter().filter(|handler| handler.takes_programs_of(architecture));
        let on = |handler: &&Handler| self.enabled && handler.enabled;
        if ours().filter(on).any(Handler::is_fixed) {
            return Ok(());
        }
        Err(match (ours().find(on), ours().next()) {
            (Some(Handler { name, interpreter, .. }), _) => {
                Foreign::Loose { handler: name.clone(), interpreter: interpreter.clone() }
            }
            (None, Some(off)) => Foreign::Disabled { handler: off.name.clone() },
            (None, None) => Foreign::Unknown { architecture: architecture.to_owned() },
        })
    }
}

impl Handler {
    /// Reads a handler's file; none for what is not one.
    fn parse(name: String, text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let enabled = match lines.next()? {
            "enabled" => true,
            "disabled" => false,
            _ => return None,
        };
        let (mut interpreter, mut flags, mut magic, mut mask) = (None, "", None, None);
        let (mut offset, mut extension) = (0, false);
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "interpreter" => interpreter = Some(value.to_owned()),
                "flags:" => flags = value,
                "offset" => offset = value.parse().ok()?,
                "magic" => magic = Some(bytes(value)?),
                "mask" => mask = Some(bytes(value)?),
                "extension" => extension = true,
                // A newer kernel's.
                _ => {}
            }
        }
        let takes = match magic {
            Some(magic) => {
                let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
                if mask.len() != magic.len() {
                    return None;
                }
                Takes::Magic { offset, magic, mask }
            }
            None if extension => Takes::Extension,
            None => return None,
        };
        let flags = flags.to_owned();
        Some(Self { name, enabled, interpreter: interpreter?, flags, takes })
    }

    /// Its interpreter is held open, so that it works in a sandbox.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.flags.contains('F')
    }

    /// The architectures whose programs it takes.
    pub fn architectures(&self) -> impl Iterator<Item = &'static str> {
        elf::architectures().filter(|architecture| self.takes_programs_of(architecture))
    }

    /// Programs with a fixed address, and those without (ET_EXEC and ET_DYN).
    fn takes_programs_of(&self, architecture: &str) -> bool {
        let Some(program) = elf::program(architecture) else { return false };
        let mut movable = program.clone();
        for (at, byte) in [(16, 2), (17, 2)] {
            if let Some(kind) = movable.get_mut(at).filter(|kind| **kind == byte) {
                *kind = 3;
            }
        }
        self.takes(&program) && self.takes(&movable)
    }

    fn takes(&self, program: &[u8]) -> bool {
        let Takes::Magic { offset, magic, mask } = &self.takes else { return false };
        let Some(part) = program.get(*offset..).and_then(|rest| rest.get(..magic.len())) else {
            return false;
        };
        part.iter().zip(magic).zip(mask).all(|((have, want), mask)| (have ^ want) & mask == 0)
    }
}

/// Hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

/// The name under which qemu's packages register an architecture.
fn qemu(architecture: &str) -> String {
    let qemu = match architecture {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        "loong64" => "loongarch64",
        "mips64le" => "mips64el",
        "mipsle" => "mipsel",
        other => other,
    };
    format!("qemu-{qemu}")
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(os) => write!(f, "programs for {os} do not run on Linux"),
            Self::Narrow => f.write_str("this kernel runs no 32-bit programs"),
            Self::Unknown { architecture } => {
                let name = qemu(architecture);
                write!(f, "the kernel has no handler `{name}` in {FOLDER}, nor one for the like")
            }
            Self::Hidden { architecture } => write!(
                f,
                "programs for {architecture} do not run here, and whether there is a handler as \
                 `{}` cannot be seen: binfmt_misc is not mounted on {FOLDER}",
                qemu(architecture)
            ),
            Self::Disabled { handler } => {
                write!(f, "the handler `{handler}` in {FOLDER} is disabled")
            }
            Self::Loose { handler, interpreter } => write!(
                f,
                "the handler `{handler}` in {FOLDER} has no flag F, so that its interpreter \
                 {interpreter} would have to be in the image"
            ),
        }
    }
}

impl Foreign {
    /// How to have such programs run.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::System(_) => "only Linux runs here".to_owned(),
            Self::Narrow => "boot it with ia32_emulation=on, or register qemu-i386".to_owned(),
            Self::Unknown { .. } | Self::Hidden { .. } => {
                "register one on the host as root: install qemu-user-static (with systemd or \
                 binfmt-support), or run `docker run --privileged tonistiigi/binfmt --install all`"
                    .to_owned()
            }
            Self::Disabled { handler } => {
                format!("as root: `echo 1 >{FOLDER}/status; echo 1 >{FOLDER}/{handler}`")
            }
            Self::Loose { handler, .. } => format!(
                "register it anew with flag F, as qemu-user-static of Debian 12, Ubuntu 20.04 and \
                 later does: as root `echo -1 >{FOLDER}/{handler}`, add F behind the last colon of \
                 its line in /usr/lib/binfmt.d, `systemctl restart systemd-binfmt`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as the kernel showed them, for what Debian 12's qemu-user-static registers.
    fn recorded() -> Handlers {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/binfmt");
        Handlers::of(&root)
    }

    #[test]
    fn handlers_are_known_by_what_they_take() {
        let handlers = recorded();
        assert!(handlers.visible && handlers.enabled);
        let found: Vec<(&str, Vec<&str>, bool)> = handlers
            .all
            .iter()
            .map(|one| (one.name.as_str(), one.architectures().collect(), one.is_fixed()))
            .collect();
        assert_eq!(
            found,
            [
                ("jar", vec![], false),
                ("odd-name", vec!["arm64"], false),
                ("qemu-aarch64", vec!["arm64"], true),
                ("qemu-arm", vec!["arm"], true),
                ("qemu-loongarch64", vec!["loong64"], true),
                ("qemu-mips", vec!["mips"], true),
                ("qemu-mips64el", vec!["mips64le"], true),
                ("qemu-mipsn32", vec![], true),
                ("qemu-ppc64le", vec!["ppc64le"], false),
                ("qemu-riscv64", vec!["riscv64"], true),
                ("qemu-s390x", vec!["s390x"], true),
            ]
        );
    }

    #[test]
    fn judgements() {
        let handlers = recorded();
        for architecture in ["arm64", "arm", "mips", "mips64le", "loong64", "riscv64"] {
            assert_eq!(handlers.judge(architecture), Ok(()), "{architecture}");
        }
        for (architecture, why, says, hint) in [
            ("mips64", "Unknown", "no handler `qemu-mips64`", "qemu-user-static"),
            ("vax", "Unknown", "no handler `qemu-vax`", "qemu-user-static"),
            ("s390x", "Disabled", "`qemu-s390x` in /proc", "echo 1 >/proc"),
            ("ppc64le", "Loose", "/usr/bin/qemu-ppc64le-static", "flag F"),
        ] {
            let found = handlers.judge(architecture).unwrap_err();
            assert!(format!("{found:?}").starts_with(why), "{found:?}");
            assert!(found.to_string().contains(says), "{found}");
            assert!(found.hint().contains(hint), "{}", found.hint());
        }
        let off = Handlers { enabled: false, ..handlers };
        assert!(matches!(off.judge("arm64"), Err(Foreign::Disabled { .. })));
        let none = Handlers::of(Path::new("/nowhere"));
        assert!(matches!(none.judge("arm64"), Err(Foreign::Hidden { .. })));
    }

    #[test]
    fn files_that_are_no_handlers() {
        for text in [
            "",
            "enabled\n",
            "on\ninterpreter /x\n",
            "enabled\ninterpreter /x\nflags: F\n",
            "enabled\nmagic 7f\n",
            "enabled\ninterpreter /x\nflags: \noffset 0\nmagic 7\n",
            "enabled\ninterpreter /x\nflags: \noffset 0\nmagic 7f45\nmask ff\n",
            "enabled\ninterpreter /x\nflags: \noffset -1\nmagic 7f45\n",
        ] {
            assert_eq!(Handler::parse("x".into(), text), None, "{text:?}");
        }
        let far = "enabled\ninterpreter /x\nflags: \noffset 18446744073709551615\nmagic 7f\n";
        assert!(!Handler::parse("x".into(), far).unwrap().takes_programs_of("arm64"));
    }

    #[test]
    fn platforms_of_this_machine() {
        assert_eq!(can_run(&Platform::host()), Ok(()));
        let windows = Platform::new("windows", &Platform::host().architecture);
        let why = can_run(&windows).unwrap_err();
        assert!(why.to_string().contains("windows"), "{why}");
    }
}
