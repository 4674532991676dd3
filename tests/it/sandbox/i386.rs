//! Programs for i386: their calls have other numbers and forms, and mean the same.
//!
//! The program is put together here, call by call, so that no compiler for it is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use kiln::sandbox::{Exit, Ids, Tier};

use super::fixture::Fixture;

const BASE: u32 = 0x0804_8000;
const HEADERS: u32 = 84;
/// Code and data share one segment; the data lies behind the longest code used here.
const DATA: u32 = BASE + 0x1000;
const SIZE: u32 = 0x3000;

/// A program that makes calls, one after the other, and writes all it was told.
struct Program {
    code: Vec<u8>,
    data: Vec<u8>,
}

impl Program {
    fn new() -> Self {
        Self { code: Vec::new(), data: Vec::new() }
    }

    /// Puts bytes into the program, and gives their address.
    fn bytes(&mut self, bytes: &[u8]) -> u32 {
        let at = DATA + u32::try_from(self.data.len()).unwrap();
        self.data.extend_from_slice(bytes);
        at
    }

    fn text(&mut self, text: &str) -> u32 {
        self.bytes(&[text.as_bytes(), b"\0"].concat())
    }

    /// Makes a call; its answer goes to where the result says.
    fn call(&mut self, number: u32, arguments: &[u32]) -> u32 {
        // mov into ebx, ecx, edx, esi, edi.
        for (register, argument) in [0xbb, 0xb9, 0xba, 0xbe, 0xbf].into_iter().zip(arguments) {
            self.code.push(register);
            self.code.extend_from_slice(&argument.to_le_bytes());
        }
        // mov eax, number; int 0x80; mov [answer], eax.
        self.code.push(0xb8);
        self.code.extend_from_slice(&number.to_le_bytes());
        self.code.extend_from_slice(&[0xcd, 0x80, 0xa3]);
        let answer = self.bytes(&[0xee; 4]);
        self.code.extend_from_slice(&answer.to_le_bytes());
        answer
    }

    /// The executable file, whose last calls write the data and exit.
    fn file(mut self) -> Vec<u8> {
        let length = u32::try_from(self.data.len()).unwrap();
        let data = self.data.clone();
        self.call(4, &[1, DATA, length]);
        self.call(1, &[0]);
        assert!(self.code.len() < (DATA - BASE - HEADERS) as usize);
        let word = |value: u32| value.to_le_bytes();
        let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        // An executable for i386; one program header.
        file.extend_from_slice(&[2, 0, 3, 0, 1, 0, 0, 0]);
        for value in [BASE + HEADERS, 52, 0, 0] {
            file.extend_from_slice(&word(value));
        }
        file.extend_from_slice(&[52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        // Loaded as one readable, writable, executable segment.
        for value in [1, 0, BASE, BASE, SIZE, SIZE, 7, 0x1000] {
            file.extend_from_slice(&word(value));
        }
        file.extend_from_slice(&self.code);
        file.resize((DATA - BASE) as usize, 0);
        file.extend_from_slice(&data);
        file.resize(SIZE as usize, 0);
        file
    }
}

/// What a program for i386 was told, by the addresses it asked for.
struct Told(Vec<u8>);

impl Told {
    fn bytes(&self, address: u32, count: usize) -> &[u8] {
        let at = (address - DATA) as usize;
        &self.0[at..at + count]
    }

    fn word(&self, address: u32) -> i32 {
        i32::from_le_bytes(self.bytes(address, 4).try_into().unwrap())
    }

    fn short(&self, address: u32) -> u16 {
        u16::from_le_bytes(self.bytes(address, 2).try_into().unwrap())
    }
}

/// Runs it as `/i386`; `None` where the machine has no such programs.
fn run(fixture: &Fixture, program: Program, user: Ids) -> Option<Told> {
    let path = fixture.path("lower/i386");
    fs::write(&path, program.file()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = fixture.script("/i386 >/dev/shm/told; echo $?; base64 /dev/shm/told");
    spec.user = user;
    let (exit, text) = fixture.run(&spec);
    assert_eq!(exit, Exit::Code(0), "{text}");
    let (code, told) = text.split_once('\n').unwrap();
    if code == "126" || text.contains("Exec format") {
        crate::support::machine_lacks("programs for i386");
        return None;
    }
    assert_eq!(code, "0", "{text}");
    use base64::Engine as _;
    let told: String = told.split_whitespace().collect();
    Some(Told(base64::engine::general_purpose::STANDARD.decode(told).unwrap()))
}

#[test]
fn identities() {
    let fixture = Fixture::new(Tier::SingleId);
    let mut program = Program::new();
    let uid = program.call(199, &[]);
    let short_gid = program.call(47, &[]);
    let three = program.bytes(&[0; 12]);
    program.call(209, &[three, three + 4, three + 8]);
    let list = program.bytes(&[0; 8]);
    let groups = program.call(205, &[2, list]);
    let root = program.call(213, &[0]);
    // The short form of "leave it", and an ID of one's own.
    let same = program.call(70, &[0xffff, 70]);
    let limit = program.bytes(&[0; 8]);
    let limited = program.call(191, &[10, limit]);
    let Some(told) = run(&fixture, program, Ids { uid: 70, gid: 80, groups: vec![81, 82] }) else {
        return;
    };
    assert_eq!((told.word(uid), told.word(short_gid)), (70, 80));
    assert_eq!([0, 4, 8].map(|at| told.word(three + at)), [70; 3]);
    assert_eq!((told.word(groups), told.word(list), told.word(list + 4)), (2, 81, 82));
    assert_eq!((told.word(root), told.word(same)), (-1, 0));
    assert_eq!((told.word(limited), told.bytes(limit, 8)), (0, &[0xff; 8][..]));
}

#[test]
fn files() {
    let fixture = Fixture::new(Tier::SingleId);
    let mut program = Program::new();
    let path = program.text("/tmp-file");
    let folder = program.text("/folder");
    let node = program.text("/node");
    let made = program.call(8, &[path, 0o640]);
    program.call(39, &[folder, 0o755]);
    // chown32, and the first chown with 16 bits.
    let owned = program.call(212, &[path, 70_000, 80]);
    let short = program.call(182, &[folder, 7, 0xffff]);
    let device = program.call(14, &[node, 0o060_600, 0x0811]);
    let large = program.bytes(&[0; 96]);
    program.call(195, &[path, large]);
    let first = program.bytes(&[0; 64]);
    program.call(106, &[path, first]);
    let second = program.bytes(&[0; 96]);
    program.call(300, &[u32::MAX - 99, node, second, 0]);
    let extended = program.bytes(&[0; 256]);
    program.call(383, &[u32::MAX - 99, folder, 0, 0x7ff, extended]);
    let ring = program.call(425, &[1, 0]);
    let Some(told) = run(&fixture, program, Ids::default()) else { return };
    assert!(told.word(made) > 2);
    assert_eq!([owned, short, device].map(|at| told.word(at)), [0; 3]);
    // The mode, links, uid and gid of `struct stat64`.
    assert_eq!([16, 20, 24, 28].map(|at| told.word(large + at)), [0o100_640, 1, 70_000, 80]);
    // An ID that does not fit the old `struct stat` is nobody's.
    assert_eq!((told.short(first + 12), told.short(first + 14)), (65534, 80));
    assert_eq!((told.word(second + 16), told.word(second + 32)), (0o060_600, 0x0811));
    // `stx_uid`, `stx_gid`.
    assert_eq!((told.word(extended + 20), told.word(extended + 24)), (7, 0));
    assert_eq!(told.word(ring), -38);
}
