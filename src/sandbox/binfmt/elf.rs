//! The smallest program of each architecture: it ends with code 0. Its head is what
//! binfmt_misc looks at, and executing it tells what this machine can run.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

/// What tells one architecture's programs from another's, and its code to end.
struct Machine {
    /// As platforms name it.
    name: &'static str,
    bits: Bits,
    order: Order,
    /// `e_machine` and `e_flags` of elf(5).
    machine: u16,
    flags: u32,
    code: Code,
}

#[derive(Clone, Copy, PartialEq)]
enum Bits {
    Of32,
    Of64,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Little,
    Big,
}

/// Instructions: bytes, or words in the machine's order.
enum Code {
    Bytes(&'static [u8]),
    Words([u32; 3]),
}

use Bits::{Of32, Of64};
use Order::{Big, Little};

const fn machine(
    name: &'static str,
    bits: Bits,
    order: Order,
    (machine, flags): (u16, u32),
    code: Code,
) -> Machine {
    Machine { name, bits, order, machine, flags, code }
}

/// exit(0) of the o32 and of the n64 ABI.
const MIPS: Code = Code::Words([0x2402_0fa1, 0x0000_2025, 0x0000_000c]);
const MIPS64: Code = Code::Words([0x2402_13c2, 0x0000_2025, 0x0000_000c]);
const POWER: Code = Code::Words([0x3800_0001, 0x3860_0000, 0x4400_0002]);

const MACHINES: [Machine; 13] = [
    machine("386", Of32, Little, (3, 0), Code::Bytes(b"\x31\xdb\x31\xc0\x40\xcd\x80")),
    machine("amd64", Of64, Little, (62, 0), Code::Bytes(b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05")),
    machine(
        "arm",
        Of32,
        Little,
        (40, 0x0500_0200),
        Code::Words([0xe3a0_0000, 0xe3a0_7001, 0xef00_0000]),
    ),
    machine("arm64", Of64, Little, (183, 0), Code::Words([0xd280_0ba8, 0xd280_0000, 0xd400_0001])),
    machine(
        "loong64",
        Of64,
        Little,
        (258, 0),
        Code::Words([0x0381_740b, 0x0015_0004, 0x002b_0000]),
    ),
    machine("mips", Of32, Big, (8, 0x5000_1000), MIPS),
    machine("mipsle", Of32, Little, (8, 0x5000_1000), MIPS),
    machine("mips64", Of64, Big, (8, 0x8000_0000), MIPS64),
    machine("mips64le", Of64, Little, (8, 0x8000_0000), MIPS64),
    machine("ppc64", Of64, Big, (21, 2), POWER),
    machine("ppc64le", Of64, Little, (21, 2), POWER),
    machine(
        "riscv64",
        Of64,
        Little,
        (243, 0),
        Code::Words([0x05d0_0893, 0x0000_0513, 0x0000_0073]),
    ),
    machine("s390x", Of64, Big, (22, 0), Code::Bytes(b"\xa7\x29\x00\x00\x0a\x01")),
];

/// The architectures whose programs are known.
pub(super) fn architectures() -> impl Iterator<Item = &'static str> {
    MACHINES.iter().map(|machine| machine.name)
}

/// A program of this architecture, if it is known.
pub(super) fn program(architecture: &str) -> Option<Vec<u8>> {
    MACHINES.iter().find(|machine| machine.name == architecture).map(Machine::program)
}

/// Whether a program of this architecture can be executed here, found by doing it.
/// `None` if that could not be found out.
pub(super) fn runs(architecture: &str) -> Option<bool> {
    let program = program(architecture)?;
    match execute(&program) {
        Ok(ended_well) => Some(ended_well),
        // No interpreter is there, or the kernel does not know the format.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOEXEC | libc::ENOENT)) => {
            Some(false)
        }
        // As where files in memory may not be executed (vm.memfd_noexec).
        Err(_) => None,
    }
}

fn execute(program: &[u8]) -> io::Result<bool> {
    let file = memfd_create("kiln-probe", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(program)?;
    // As its standard input the file is still open for an interpreter that is given
    // its path.
    let status = Command::new("/proc/self/fd/0")
        .env_clear()
        .stdin(OwnedFd::from(file))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

impl Machine {
    /// A header, one segment that is the whole file, the code.
    fn program(&self) -> Vec<u8> {
        let wide = self.bits == Of64;
        let (header, segment, base): (u16, u16, u64) =
            if wide { (64, 56, 0x40_0000) } else { (52, 32, 0x1_0000) };
        let start = u64::from(header + segment);
        let code = self.code();
        let size = start + code.len() as u64;
        let mut file = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }];
        file.extend([if self.order == Little { 1 } else { 2 }, 1]);
        file.resize(16, 0);
        let mut out = Writer { file, wide, order: self.order };
        // ET_EXEC, EV_CURRENT.
        out.half(2).half(self.machine).word(1);
        out.address(base + start).address(u64::from(header)).address(0);
        out.word(self.flags).half(header).half(segment).half(1).half(0).half(0).half(0);
        // PT_LOAD, readable and executable; the flags' place depends on the class.
        out.word(1);
        if wide {
            out.word(5);
        }
        out.address(0).address(base).address(base).address(size).address(size);
        if !wide {
            out.word(5);
        }
        out.address(0x1_0000);
        out.file.extend(code);
        out.file
    }

    fn code(&self) -> Vec<u8> {
        match &self.code {
            Code::Bytes(bytes) => bytes.to_vec(),
            Code::Words(words) => words
                .iter()
                .flat_map(|word| match self.order {
                    Little => word.to_le_bytes(),
                    Big => word.to_be_bytes(),
                })
                .collect(),
        }
    }
}

struct Writer {
    file: Vec<u8>,
    wide: bool,
    order: Order,
}

impl Writer {
    fn put(&mut self, value: u64, bytes: usize) -> &mut Self {
        match self.order {
            Little => self.file.extend(value.to_le_bytes().iter().take(bytes)),
            Big => self.file.extend(value.to_be_bytes().iter().skip(8 - bytes)),
        }
        self
    }

    fn half(&mut self, value: u16) -> &mut Self {
        self.put(value.into(), 2)
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.put(value.into(), 4)
    }

    fn address(&mut self, value: u64) -> &mut Self {
        let bytes = if self.wide { 8 } else { 4 };
        self.put(value, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    #[test]
    fn the_own_program_runs() {
        assert_eq!(runs(&Platform::host().architecture), Some(true));
        assert_eq!(runs("vax"), None);
        // Not a program of any machine.
        let error = execute(b"\x7fELF").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
    }

    /// Sizes and heads as elf(5) has them; each was run by qemu.
    #[test]
    fn programs() {
        for (name, size, head) in [
            ("386", 91, "7f454c4601010100000000000000000002000300"),
            ("amd64", 129, "7f454c4602010100000000000000000002003e00"),
            ("arm64", 132, "7f454c460201010000000000000000000200b700"),
            ("mips64", 132, "7f454c4602020100000000000000000000020008"),
            ("s390x", 126, "7f454c4602020100000000000000000000020016"),
        ] {
            let program = program(name).unwrap();
            let hex: String = program.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((program.len(), hex.as_str()), (size, head), "{name}");
        }
    }
}
