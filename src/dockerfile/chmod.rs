//! `--chmod`: an octal number, or changes by letters as chmod(1) has them.
//!
//! Letters are read as the BSD's setmode(3) reads them, which is what BuildKit
//! uses; no file creation mask takes part.

use std::fmt;

/// How a copied file's mode comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chmod {
    /// As written, its variables filled in.
    text: String,
    change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// For folders and files alike.
    To(u32),
    Steps(Vec<Step>),
}

/// One operator with what it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    op: Op,
    /// The bits that may change.
    who: u32,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Bits(u32),
    /// `X`: execution, if it is a folder or somebody may execute it.
    Executable,
    /// What the owner (6), the group (3) or others (0) have: how far it is shifted.
    CopyOf(u32),
}

/// Why a text is no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChmodError {
    #[error("an octal mode is a number up to 7777, such as 755")]
    Octal,
    #[error("neither an octal number such as 755 nor letters such as u=rwX,go=rX")]
    Letters,
}

const ALL: u32 = 0o777;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const STANDARD: u32 = ALL | SETUID | SETGID;

impl std::str::FromStr for Chmod {
    type Err = ChmodError;

    fn from_str(text: &str) -> Result<Self, ChmodError> {
        let change = if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| ChmodError::Octal)?;
            Change::To(Some(mode).filter(|mode| *mode <= 0o7777).ok_or(ChmodError::Octal)?)
        } else {
            let mut steps = Vec::new();
            for clause in text.split(',') {
                read(clause, &mut steps).ok_or(ChmodError::Letters)?;
            }
            Change::Steps(steps)
        };
        Ok(Self { text: text.to_owned(), change })
    }
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Chmod {
    /// The mode of a file that had `mode`.
    #[must_use]
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match &self.change {
            Change::To(mode) => *mode,
            Change::Steps(steps) => {
                let executable = is_dir || mode & 0o111 != 0;
                steps.iter().fold(mode, |now, step| step.apply(now, executable))
            }
        }
    }

    /// The mode of folders that are made on the way: letters do not go for them, and
    /// they get no set-ID and sticky bits.
    #[must_use]
    pub fn made_folder(&self) -> u32 {
        match self.change {
            Change::To(mode) => mode & 0o777,
            Change::Steps(_) => 0o755,
        }
    }
}

impl Step {
    fn apply(self, mode: u32, executable: bool) -> u32 {
        let bits = match self.what {
            What::Bits(bits) => bits,
            What::Executable if executable => 0o111,
            What::Executable => 0,
            What::CopyOf(shift) => {
                let of = (mode >> shift) & 0o7;
                of << 6 | of << 3 | of
            }
        };
        let bits = bits & self.who;
        match (self.op, self.what) {
            (Op::Add, _) => mode | bits,
            (Op::Remove, _) => mode & !bits,
            // A copy leaves the special bits alone, and so does what follows it.
            (Op::Set, What::CopyOf(_)) => mode & !(self.who & ALL) | bits,
            (Op::Set, _) => mode & !self.who | bits,
        }
    }
}

/// Reads `[ugoa]*([+-=][rwxXst]*|[+-=][ugo])…`.
fn read(clause: &str, steps: &mut Vec<Step>) -> Option<()> {
    let operators = clause.find(['+', '-', '='])?;
    let mut who = 0;
    for c in clause[..operators].chars() {
        who |= match c {
            'a' => STANDARD,
            'u' => SETUID | 0o700,
            'g' => SETGID | 0o070,
            'o' => 0o007,
            _ => return None,
        };
    }
    let mut rest = clause[operators..].chars().peekable();
    while let Some(op) = rest.next() {
        let op = match op {
            '+' => Op::Add,
            '-' => Op::Remove,
            '=' => Op::Set,
            _ => return None,
        };
        let mut pending = Pending { op, who, bits: 0, executable: false };
        let mut copied = false;
        while let Some(c) = rest.next_if(|c| !matches!(c, '+' | '-' | '=')) {
            match c {
                'r' => pending.bits |= 0o444,
                'w' => pending.bits |= 0o222,
                'x' => pending.bits |= 0o111,
                'X' if op == Op::Remove => pending.bits |= 0o111,
                'X' => pending.executable = true,
                's' | 't' if who != 0 && who & !0o007 == 0 => {}
                's' => pending.bits |= SETUID | SETGID,
                // From here on the sticky bit is among what may change; where
                // nobody was named, it is all.
                't' => {
                    pending.who |= STICKY;
                    pending.bits |= STICKY;
                }
                'u' | 'g' | 'o' => {
                    pending.flush(steps);
                    copied = true;
                    let shift = match c {
                        'u' => 6,
                        'g' => 3,
                        _ => 0,
                    };
                    let who = if pending.who == 0 { STANDARD } else { pending.who };
                    steps.push(Step { op, who, what: What::CopyOf(shift) });
                }
                _ => return None,
            }
        }
        if op == Op::Set && pending.bits == 0 && !copied {
            // `=` alone takes everything away, and so does `=X` before it adds.
            steps.push(Step { op, who: pending.whom(), what: What::Bits(0) });
        }
        pending.flush(steps);
    }
    Some(())
}

/// Letters that were read behind an operator and are no step yet. A copy splits
/// them: what stands before it happens before it.
struct Pending {
    op: Op,
    /// 0 if nobody was named.
    who: u32,
    bits: u32,
    executable: bool,
}

impl Pending {
    fn whom(&self) -> u32 {
        if self.who == 0 { STANDARD } else { self.who }
    }
    fn flush(&mut self, steps: &mut Vec<Step>) {
        let who = self.whom();
        match std::mem::take(&mut self.bits) {
            0 => {}
            bits => steps.push(Step { op: self.op, who, what: What::Bits(bits) }),
        }
        if std::mem::take(&mut self.executable) {
            steps.push(Step { op: Op::Add, who, what: What::Executable });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        // Text, mode before, as a file, as a folder.
        for (text, before, file, dir) in [
            ("755", 0o644, 0o755, 0o755),
            ("0", 0o644, 0, 0),
            ("07777", 0o644, 0o7777, 0o7777),
            ("u=rwX,go=rX", 0o640, 0o644, 0o755),
            ("u=rwX,go=", 0o644, 0o600, 0o700),
            ("u=rwX,go=", 0o755, 0o700, 0o700),
            ("+x", 0o644, 0o755, 0o755),
            ("a+x", 0o644, 0o755, 0o755),
            ("go-w", 0o666, 0o644, 0o644),
            ("-X", 0o755, 0o644, 0o644),
            ("u+s,g+s", 0o755, 0o6755, 0o6755),
            ("+t", 0o755, 0o1755, 0o1755),
            ("o+t", 0o755, 0o755, 0o755),
            ("u+x,g=u-w,+t", 0o644, 0o1754, 0o1754),
            ("g=u", 0o750, 0o770, 0o770),
            ("go=u-w", 0o700, 0o755, 0o755),
            ("=rw", 0o755, 0o666, 0o666),
            ("=", 0o6755, 0, 0),
            ("u=", 0o4755, 0o055, 0o055),
            ("o=rwxgu", 0o644, 0o646, 0o646),
            ("u=gs", 0o755, 0o4055, 0o4055),
            ("g+Xu", 0o744, 0o774, 0o774),
            ("=grtxw", 0o4711, 0o5111, 0o5111),
            ("+xt", 0o644, 0o1644, 0o1644),
        ] {
            let chmod: Chmod = text.parse().unwrap();
            assert_eq!(chmod.apply(before, false), file, "{text} of {before:o}");
            assert_eq!(chmod.apply(before, true), dir, "{text} of folder {before:o}");
        }
    }

    #[test]
    fn no_modes() {
        for text in ["", "888", "10000", "0x1", "u+q", "x", "rwx", "u=r,", ",u=r", "z=r", "7a"] {
            assert!(text.parse::<Chmod>().is_err(), "{text}");
        }
    }
}
